"""Instructions that change only the image's config: ENV, LABEL, CMD, EXPOSE and their like.

History texts are BuildKit's. Source: ../shared/reference/build.md, table 1.2.
"""

from __future__ import annotations

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
from buildtool.graph.gofmt import duration, quoted, quoted_list
from buildtool.graph.scope import PREDEFINED
from buildtool.graph.state import StageState
from buildtool.oci import HealthConfig

_PORT = re.compile(r"(?:(?P<host>.*):)?(?P<first>\d+)(?:-(?P<last>\d+))?(?:/(?P<proto>[A-Za-z]+))?")
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
            state.set(cmd=argv)
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
    view = state.scope.view()
    shown = []
    for name, default in instruction.pairs:
        value = state.scope.declare(name.text, None if default is None else state.scope.expand(default, view))
        secret = value is None or name.text in PREDEFINED
        shown.append(name.text if secret else f"{name.text}={value}")
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
    ports: set[str] = set()
    for text, word in _split(state, instruction.ports):
        match = _PORT.fullmatch(text)
        protocol = (match["proto"] or "tcp").lower() if match else ""
        first, last = (int(match["first"]), int(match["last"] or match["first"])) if match else (1, 0)
        if protocol not in _PROTOCOLS or not 0 < first <= last <= 65535:
            raise InvalidInput(
                f"EXPOSE: invalid port {text!r}", where=word.span, hint="write PORT, FIRST-LAST or PORT/tcp|udp|sctp"
            )
        ports.update(f"{port}/{protocol}" for port in range(first, last + 1))
    known: dict[str, dict[str, object]] = dict(state.config.exposed_ports or {})
    known.update({port: {} for port in sorted(ports)})
    state.set(exposed_ports=dict(sorted(known.items())))
    state.note(f"EXPOSE [{' '.join(sorted(ports))}]")


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
    known = name.isdigit() and 0 < int(name) < 65
    known = (
        known or bool(re.fullmatch(r"RTMIN(\+\d+)?|RTMAX(-\d+)?", name)) or f"SIG{name}" in signal.Signals.__members__
    )
    if not known:
        raise InvalidInput(
            f"STOPSIGNAL: invalid signal: {text}", where=word.span, hint="write SIGTERM, SIGINT or a number"
        )
    return text


def _healthcheck(state: StageState, instruction: HealthCheck) -> None:
    if instruction.command is None:
        state.set(healthcheck=HealthConfig(test=["NONE"]))
        state.note('HEALTHCHECK &{["NONE"] "0s" "0s" "0s" "0s" \'\\x00\'}')
        return
    command = instruction.command
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
    times = (health.interval, health.timeout, health.start_period, health.start_interval)
    shown = " ".join(quoted(duration(value)) for value in times)
    state.note(f"HEALTHCHECK &{{{quoted_list(test)} {shown} '\\x{health.retries:02x}'}}")
