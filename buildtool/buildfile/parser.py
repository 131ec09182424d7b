"""Buildfile text to typed instructions: the front door."""

from __future__ import annotations

import re

from buildtool.buildfile.arguments import Arguments
from buildtool.buildfile.checks import find, read_policy
from buildtool.buildfile.commands import Context, build
from buildtool.buildfile.instructions import Arg, Buildfile, From, Instruction, OnBuild, Stage
from buildtool.buildfile.scanner import Logical, scan
from buildtool.buildfile.suggest import did_you_mean
from buildtool.errors import InvalidInput

KEYWORDS = (
    "ADD", "ARG", "CMD", "COPY", "ENTRYPOINT", "ENV", "EXPOSE", "FROM", "HEALTHCHECK", "LABEL", "MAINTAINER",
    "ONBUILD", "RUN", "SHELL", "STOPSIGNAL", "USER", "VOLUME", "WORKDIR",
)  # fmt: skip
_KNOWN = frozenset(KEYWORDS)
_TRIGGER = re.compile(r"([^\t\v\f\r ]+)[\t\v\f\r ]*")


def parse(text: str, file: str = "Buildfile") -> Buildfile:
    """Parse a Buildfile. Pure; nothing is expanded.

    Raises InvalidInput, always with a span, on the first fault. Build checks that fire are in `warnings`.
    """
    scanned = scan(text, file)
    if "template" in scanned.directives:
        raise InvalidInput(
            "the file is a template",
            where=scanned.source.span(scanned.directive_lines["template"]),
            hint="`buildtool build` and `buildtool lint` render it, with --var and --var-file",
        )
    global_args: list[Arg] = []
    stages: list[tuple[From, list[Instruction]]] = []
    for line in scanned.lines:
        instruction = instruction_of(line)
        if isinstance(instruction, From):
            stages.append((instruction, []))
        elif stages:
            stages[-1][1].append(instruction)
        elif isinstance(instruction, Arg):
            global_args.append(instruction)
        else:
            raise InvalidInput(
                f"{instruction.keyword}: no build stage yet: the first instruction must be FROM or ARG",
                where=instruction.span,
                hint="begin with FROM IMAGE; only ARG may stand before it",
            )
    if not stages:
        last = len(scanned.source.lines)
        raise InvalidInput(
            "the file has no instructions" if not scanned.lines else "the file has no FROM instruction",
            where=scanned.source.span(1 if not scanned.lines else min(scanned.lines[-1].first_line, last)),
            hint="a Buildfile needs at least one stage: FROM IMAGE, or FROM scratch",
        )
    built = tuple(Stage(index, from_, tuple(rest)) for index, (from_, rest) in enumerate(stages))
    policy = read_policy(scanned)
    found = find(scanned, tuple(global_args), built)
    warnings = tuple(
        warning for warning in found if policy.allows(warning.rule, warning.span.line, warning.span.file)
    )
    return Buildfile(file, tuple(global_args), built, scanned.directives, warnings, scanned.escape, policy, found)


def parse_instruction(text: str, file: str = "<onbuild>") -> Instruction:
    """Parse one instruction that does not stand in a Buildfile: an image's ONBUILD trigger, or a `--change`."""
    scanned = scan(text, file, directives=False)
    if not scanned.lines:
        raise InvalidInput("the instruction is empty", where=scanned.source.span(1))
    if len(scanned.lines) > 1:
        line = scanned.lines[1]
        raise InvalidInput("only one instruction is allowed here", where=line.span(0, len(line.keyword)))
    instruction = instruction_of(scanned.lines[0])
    if isinstance(instruction, From):
        raise InvalidInput("FROM is not allowed here", where=instruction.span)
    return instruction


def instruction_of(line: Logical) -> Instruction:
    """The instruction that one logical line holds. Raises InvalidInput."""
    keyword = line.keyword.upper()
    if keyword != "ONBUILD":
        return _plain(line, line.keyword, 0, line.arguments)
    base = (line.span(0, len(line.keyword)), line.text, keyword)
    trigger = _TRIGGER.match(line.text, line.arguments)
    if trigger is None:
        raise InvalidInput("ONBUILD: an instruction is missing", where=base[0], hint="write ONBUILD INSTRUCTION")
    inner = trigger[1].upper()
    where = line.span(trigger.start(1), trigger.end(1))
    if inner == "ONBUILD":
        raise InvalidInput("ONBUILD: ONBUILD ONBUILD is not allowed", where=where)
    if inner in ("FROM", "MAINTAINER"):
        raise InvalidInput(f"ONBUILD: {inner} is not allowed as a trigger", where=where)
    instruction = _plain(line, trigger[1], trigger.start(1), trigger.end())
    text = line.text[line.arguments :] + "".join(f"\n{h.content}{h.name}" for h in line.heredocs)
    return OnBuild(*base, text, instruction)


def _plain(line: Logical, keyword: str, start: int, arguments: int) -> Instruction:
    upper = keyword.upper()
    where = line.span(start, start + len(keyword))
    if upper == "INCLUDE":
        raise InvalidInput(
            "INCLUDE has not been resolved",
            where=where,
            hint="`buildtool build` and `buildtool lint` read included files",
        )
    if upper not in _KNOWN:
        raise InvalidInput(
            f"unknown instruction {keyword!r}",
            where=where,
            hint=did_you_mean(
                keyword, KEYWORDS, otherwise="a line that continues the one above needs a \\ at its end"
            ),
        )
    return build(Context(Arguments(line, upper, arguments), (where, line.text[start:], upper)))
