"""Instructions that change only the image's config: ENV, LABEL, CMD, EXPOSE and their like.

History texts are BuildKit's. Source: ../shared/reference/build.md, table 1.2.
"""

from __future__ import annotations

import ipaddress
import re
import signal
from collections.abc import Sequence

from buildtool.buildfile import expand_words
from buildtool.buildfile.instructions import (
    Arg,
    Cmd,
    Command,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    OnBuild,
    Shell,
    StopSignal,
    User,
    Volume,
    Word,
)
from buildtool.errors import InvalidInput
from buildtool.graph.gofmt import duration, quoted_list
from buildtool.graph.scope import shown_value
from buildtool.graph.state import StageState
from buildtool.oci import HealthConfig

_RANGE = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_PROTOCOLS = ("tcp", "udp", "sctp")


def configure(state: StageState, instruction: Instruction) -> bool:
    """Fold an instruction into the state; False when it is none of those that touch the config only."""
    match instruction:
        case Arg():
            _arg(state, instruction)
        case Env():
            view = state.scope.view()
            pairs = {state.scope.expand_name(k, view): state.scope.expand(v, view) for k, v in instruction.pairs}
            state.set_env(pairs)
            state.note(f"ENV {_pairs(pairs)}")
        case Label():
            view = state.scope.view()
            pairs = {state.scope.expand_name(k, view): state.scope.expand(v, view) for k, v in instruction.pairs}
            state.set(labels=(state.config.labels or {}) | pairs)
            state.note(f"LABEL {_pairs(pairs)}")
        case Maintainer():
            state.author = instruction.name.text
            state.note(f"MAINTAINER {state.author}")
        case Cmd():
            argv = _argv(state, instruction.command)
            state.set(cmd=argv, args_escaped=True)
            state.cmd_set = True
            state.note(f"CMD {quoted_list(argv)}")
        case Entrypoint():
            argv = _argv(state, instruction.command)
            state.set(entrypoint=argv)
            if not state.cmd_set:
                state.set(cmd=None)
            state.note(f"ENTRYPOINT {quoted_list(argv)}")
        case User():
            state.set(user=state.scope.expand(instruction.user))
            state.note(f"USER {state.config.user}")
        case Expose():
            _expose(state, instruction)
        case Volume():
            _volume(state, instruction)
        case StopSignal():
            state.set(stop_signal=_signal(state, instruction.signal))
            state.note(f"STOPSIGNAL {state.config.stop_signal}")
        case Shell():
            state.set(shell=list(instruction.argv))
            state.note(f"SHELL [{' '.join(instruction.argv)}]")
        case HealthCheck():
            _healthcheck(state, instruction)
        case OnBuild():
            state.set(on_build=[*(state.config.on_build or ()), instruction.trigger])
        case _:
            return False
    return True


def _arg(state: StageState, instruction: Arg) -> None:
    shown = []
    for name, default in instruction.pairs:
        value = state.scope.declare(name.text, default)
        shown.append(name.text if value is None else f"{name.text}={shown_value(name.text, value)}")
    state.note(f"ARG {' '.join(shown)}")


def _pairs(pairs: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in pairs.items())


def _argv(state: StageState, command: Command) -> list[str]:
    if command.shell is not None:
        return [*state.shell, command.shell]
    return list(command.exec_form or ())


def _split(state: StageState, words: Sequence[Word]) -> list[tuple[str, Word]]:
    view = state.scope.view()
    return [(text, word) for word in words for text in expand_words(word, view)]


def _expose(state: StageState, instruction: Expose) -> None:
    ports = [port for text, word in _split(state, instruction.ports) for port in _ports(text, word)]
    known: dict[str, dict[str, object]] = dict(state.config.exposed_ports or {})
    known.update({port: {} for port in ports})
    state.set(exposed_ports=dict(sorted(known.items())))
    state.note(f"EXPOSE [{' '.join(ports)}]")


def _ports(text: str, word: Word) -> list[str]:
    """The ports of `[[IP:]HOST:]FIRST[-LAST][/PROTOCOL]`. A host is checked, and has no meaning here."""
    *host, port = text.rsplit(":", 2)
    number, _, protocol = port.partition("/")
    protocol = protocol.lower() or "tcp"
    ranges = [_port_range(each) for each in (number, *host[-1:]) if each]
    good = bool(number) and protocol in _PROTOCOLS and all(ranges) and (len(host) < 2 or _is_address(host[0]))
    if not good or not ranges[0]:
        hint = "write PORT, FIRST-LAST or PORT/tcp|udp|sctp"
        raise InvalidInput(f"EXPOSE: invalid port {text!r}", where=word.span, hint=hint)
    inside, *outside = [each for each in ranges if each]
    if len(inside) > 1 and any(len(each) != len(inside) for each in outside):
        raise InvalidInput(f"EXPOSE: {text!r}: the ranges of container and host differ in length", where=word.span)
    return [f"{each}/{protocol}" for each in inside]


def _port_range(text: str) -> range | None:
    match = _RANGE.fullmatch(text)
    if match is None:
        return None
    first, last = int(match[1]), int(match[2] or match[1])
    return range(first, last + 1) if first <= last <= 65535 else None


def _is_address(text: str) -> bool:
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
    except ValueError:
        return not text
    return True


def _volume(state: StageState, instruction: Volume) -> None:
    view = state.scope.view()
    paths = []
    for word in instruction.paths:
        path = state.scope.expand(word, view)
        if not path.strip():
            raise InvalidInput("VOLUME specified can not be an empty string", where=word.span)
        paths.append(path)
    volumes: dict[str, dict[str, object]] = dict(state.config.volumes or {})
    volumes.update({path: {} for path in paths})
    state.set(volumes=dict(sorted(volumes.items())))
    state.note(f"VOLUME [{' '.join(paths)}]")


def _signal(state: StageState, word: Word) -> str:
    text = state.scope.expand(word)
    name = text.upper().removeprefix("SIG")
    known = name.isdigit() and int(name) > 0
    known = (
        known or bool(re.fullmatch(r"RTMIN(\+\d+)?|RTMAX(-\d+)?", name)) or f"SIG{name}" in signal.Signals.__members__
    )
    if not known:
        raise InvalidInput(
            f"STOPSIGNAL: invalid signal: {text}", where=word.span, hint="write SIGTERM, SIGINT or a number"
        )
    return text


def _healthcheck(state: StageState, instruction: HealthCheck) -> None:
    command = instruction.command
    test = ["NONE"]
    if command is not None:
        test = ["CMD-SHELL", command.shell] if command.shell is not None else ["CMD", *(command.exec_form or ())]
    health = HealthConfig(
        test=test,
        interval=instruction.interval,
        timeout=instruction.timeout,
        start_period=instruction.start_period,
        start_interval=instruction.start_interval,
        retries=instruction.retries,
    )
    state.set(healthcheck=health)
    times = (
        f"Interval:{duration(health.interval)} Timeout:{duration(health.timeout)} "
        f"StartPeriod:{duration(health.start_period)} StartInterval:{duration(health.start_interval)}"
    )
    state.note(f"HEALTHCHECK {{Test:[{' '.join(test)}] {times} Retries:{health.retries}}}")
