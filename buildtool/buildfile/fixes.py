"""Mending what build checks find, where that is safe.

A fix rewrites one place of the text. It is kept only if the file still parses, and, for rules about style, if it
means exactly what it meant.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

from buildtool.buildfile.analysis import check
from buildtool.buildfile.arguments import Arguments
from buildtool.buildfile.checks import by_place
from buildtool.buildfile.evaluation import Given
from buildtool.buildfile.instructions import Buildfile, Env, Label, Stage, Warning, Word
from buildtool.buildfile.meaning import meaning_of_file
from buildtool.buildfile.parser import instruction_of, parse
from buildtool.buildfile.scanner import Logical, scan
from buildtool.buildfile.sourcemap import raw_line
from buildtool.buildfile.words import expand_word, variables
from buildtool.errors import InvalidInput

AUTHORS = "org.opencontainers.image.authors"
_STYLE = frozenset({"ConsistentInstructionCasing", "FromAsCasing", "StageNameCasing", "NoEmptyContinuation"})
_SIMPLE = re.compile(r"""[A-Za-z0-9_./:=@%+,\-\s'"]+""")
_BUILTINS = frozenset({
    ".", ":", "alias", "bg", "break", "case", "cd", "command", "continue", "eval", "exit", "export", "fg", "for",
    "function", "getopts", "hash", "if", "jobs", "local", "read", "readonly", "return", "select", "set", "shift",
    "source", "time", "times", "trap", "type", "typeset", "ulimit", "umask", "unalias", "unset", "until", "wait",
    "while",
})  # fmt: skip


class Edit(NamedTuple):
    """Replace `length` characters from `column` (1-based) on `line`; with no text and `lines` set, whole lines."""

    line: int
    column: int
    length: int
    text: str
    lines: int = 0


class Proposal(NamedTuple):
    """What would mend one warning."""

    warning: Warning
    edits: list[Edit]


class Fixed(NamedTuple):
    """The new text, and the warnings that are gone because of it."""

    text: str
    warnings: list[Warning]


def fix_text(text: str, file: str = "Buildfile", given: Given | None = None) -> Fixed:
    """Mend what can be mended safely of what the checks find. Raises InvalidInput when the file does not parse.

    Skipped checks are not mended. A second run finds nothing more to do.
    """
    buildfile = parse(text, file)
    found = check(buildfile, given)
    mended: list[Warning] = []
    for rule in _FIXERS:
        while any(warning.rule == rule for warning in found):
            proposals = _proposals(text, buildfile, [warning for warning in found if warning.rule == rule])
            text, done = _accept(text, buildfile, rule, proposals)
            if not done:
                break
            buildfile = parse(text, file)
            found = check(buildfile, given)
            mended += done
    return Fixed(text, sorted(mended, key=by_place))


def _proposals(text: str, buildfile: Buildfile, warnings: Sequence[Warning]) -> list[Proposal]:
    """What would mend the warnings, in order; at most one for each instruction, the others come in the next round."""
    found: dict[int, Proposal] = {}
    if warnings:
        for line in scan(text, buildfile.file).lines:
            for warning in warnings:
                if line.first_line <= raw_line(warning.span) <= line.last_line and line.first_line not in found:
                    edits = list(_FIXERS[warning.rule](buildfile, line, warning))
                    if edits:
                        found[line.first_line] = Proposal(warning, edits)
    return list(found.values())


def _accept(text: str, buildfile: Buildfile, rule: str, proposals: Sequence[Proposal]) -> tuple[str, list[Warning]]:
    """Make the edits together; when that is not safe, each that is safe alone."""
    edits = [edit for proposal in proposals for edit in proposal.edits]
    changed = _edited(text, edits)
    if edits and _is_safe(buildfile, changed, rule):
        return changed, [proposal.warning for proposal in proposals]
    done: list[Warning] = []
    for proposal in reversed(proposals[: len(proposals) if len(proposals) > 1 else 0]):
        changed = _edited(text, proposal.edits)
        if _is_safe(parse(text, buildfile.file), changed, rule):
            text = changed
            done.append(proposal.warning)
    return text, done


def _is_safe(before: Buildfile, text: str, rule: str) -> bool:
    """Whether the new text parses, the rule fires less often in it and, for a rule of style, it means the same."""
    try:
        after = parse(text, before.file)
    except InvalidInput:
        return False
    if rule in _STYLE and meaning_of_file(after) != meaning_of_file(before):
        return False
    return sum(w.rule == rule for w in after.found) < sum(w.rule == rule for w in before.found)


def _edited(text: str, edits: Sequence[Edit]) -> str:
    mark = "\ufeff" if text.startswith("\ufeff") else ""
    lines = text.removeprefix("\ufeff").split("\n")
    for edit in sorted(edits, reverse=True):
        index = edit.line - 1
        if edit.lines:
            carriage = "\r" if lines[index].endswith("\r") else ""
            lines[index : index + edit.lines] = [edit.text + carriage] if edit.text else []
        else:
            old = lines[index]
            lines[index] = old[: edit.column - 1] + edit.text + old[edit.column - 1 + edit.length :]
    return mark + "\n".join(lines)


def _replace(line: Logical, start: int, end: int, text: str) -> Iterator[Edit]:
    """Replace a stretch of the logical line that stands on one physical line."""
    if any(start < each.offset < end for each in line.breaks):
        return
    number, column = line.place(start)
    yield Edit(number, column, end - start, text)


def _instruction_casing(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    convert = str.lower if "(lowercase)" in warning.message else str.upper
    yield from _replace(line, 0, len(line.keyword), convert(line.keyword))


def _from_as(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    atoms = [piece for kind, piece in Arguments(line, "FROM", line.arguments).words("atoms") if kind == "ATOM"]
    convert = str.lower if line.keyword == line.keyword.lower() else str.upper
    yield from _replace(line, atoms[1].start, atoms[1].end, convert(atoms[1].text))


def _stage_name(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    atoms = [piece for kind, piece in Arguments(line, "FROM", line.arguments).words("atoms") if kind == "ATOM"]
    yield from _replace(line, atoms[2].start, atoms[2].end, atoms[2].text.lower())


def _empty_lines(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    for number in line.empty_lines:
        yield Edit(number, 1, 0, "", lines=1)


def _maintainer(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    name = line.text[line.arguments :]
    keyword = "label" if line.keyword == line.keyword.lower() else "LABEL"
    if re.fullmatch(r'"[^"]*"', name):
        name = name[1:-1]
    quoted = "".join(line.escape + c if c in ('"', "$", line.escape) else c for c in name)
    yield _whole(line, f'{keyword} {AUTHORS}="{quoted}"')


def _legacy(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    instruction = instruction_of(line)
    if not isinstance(instruction, Env | Label):
        return
    ((key, value),) = instruction.pairs
    for written in _as_one_word(value):
        text = f"{line.keyword} {key.text}={written}"
        try:
            after = instruction_of(scan(text, "", directives=False, escape=line.escape).lines[0])
        except InvalidInput:
            continue
        if isinstance(after, Env | Label) and len(after.pairs) == 1 and _equal(after.pairs[0], (key, value)):
            yield _whole(line, text)
            return


def _as_one_word(value: Word) -> Iterator[str]:
    """Ways to write the value of the legacy form as one word, the nicest first."""
    yield value.text
    if not re.search(r"""["'\\`]""", value.text):
        yield f'"{value.text}"'
    escape = re.escape(value.escape)
    yield re.sub(
        rf"""'[^']*'|"(?:[^"{escape}]|{escape}.)*"|{escape}.|\s""",
        lambda match: value.escape + match[0] if match[0].isspace() else match[0],
        value.text,
    )


def _equal(pair: tuple[Word, Word], wanted: tuple[Word, Word]) -> bool:
    """Whether two pairs have the same name and values, whatever the variables in them are."""
    try:
        names = variables(wanted[1])
        samples: list[dict[str, str]] = [{}, dict.fromkeys(names, ""), {name: f" {name} '\" x" for name in names}]
        return pair[0].text == wanted[0].text and all(
            expand_word(pair[1], env) == expand_word(wanted[1], env) for env in samples
        )
    except InvalidInput:
        return False


def _json_args(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    """Only a plain command becomes an array; and not where ENTRYPOINT and CMD of one stage would begin to mix."""
    text = line.text[line.arguments :]
    stage = next(s for s in reversed(buildfile.stages) if raw_line(s.from_.span) <= raw_line(warning.span))
    if any(_has(each, other) for each, other in _mixing(buildfile, stage.index, line.keyword.upper())):
        return
    if not _SIMPLE.fullmatch(text):
        return
    try:
        words = shlex.split(text)
    except ValueError:
        return
    if words[:1] == ["exec"]:
        words = words[1:]
    if not words or "=" in words[0] or words[0] in _BUILTINS or any('"' in word for word in words):
        return
    array = ", ".join(f'"{word}"' for word in words)
    yield _whole(line, f"{line.keyword} [{array}]")


def _mixing(buildfile: Buildfile, index: int, keyword: str) -> Iterator[tuple[Stage, str]]:
    """The stages, with the keyword to look for there, where a JSON form would begin to mix with the other command:
    a CMD goes to the ENTRYPOINT of its stage or one below, an ENTRYPOINT takes the CMD of its stage or one above.
    """
    stages = buildfile.stages
    if keyword == "ENTRYPOINT":
        above = {index}
        for stage in stages[index + 1 :]:
            if _below(stages, stage) in above:
                above.add(stage.index)
        yield from ((stages[each], "CMD") for each in above)
        return
    below: int | None = index
    while below is not None:
        yield stages[below], "ENTRYPOINT"
        below = _below(stages, stages[below])


def _below(stages: Sequence[Stage], stage: Stage) -> int | None:
    """The stage that this one stands on."""
    name = stage.from_.image.text.lower()
    return next((each.index for each in reversed(stages[: stage.index]) if each.name == name), None)


def _has(stage: Stage, keyword: str) -> bool:
    return any(each.keyword == keyword for each in stage.instructions)


def _target_platform(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    words = Arguments(line, "FROM", line.arguments).words("atoms")
    (flag,) = [piece for kind, piece in words if kind == "FLAG"]
    behind = next(piece for kind, piece in words if piece.start >= flag.end)
    yield from _replace(line, flag.start, behind.start, "")


def _expose_protocol(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
    for _, piece in Arguments(line, "EXPOSE", line.arguments).words("atoms"):
        if line.place(piece.start) == (raw_line(warning.span), warning.span.column):
            yield from _replace(line, piece.start, piece.end, piece.text.lower())


def _whole(line: Logical, text: str) -> Edit:
    """Write the instruction anew, on one line; comments between its lines would be lost."""
    return Edit(line.first_line, 1, 0, text, lines=line.end_line - line.first_line + 1)


def _unless_commented(fixer: _Fixer) -> _Fixer:
    """Leave instructions alone that have comments between their lines."""

    def guarded(buildfile: Buildfile, line: Logical, warning: Warning) -> Iterator[Edit]:
        between = line.source.lines[line.first_line : line.end_line]
        if not any(text.lstrip().startswith("#") for text in between):
            yield from fixer(buildfile, line, warning)

    return guarded


_Fixer = Callable[[Buildfile, Logical, Warning], Iterator[Edit]]
_FIXERS: dict[str, _Fixer] = {
    "ConsistentInstructionCasing": _instruction_casing,
    "FromAsCasing": _from_as,
    "StageNameCasing": _stage_name,
    "RedundantTargetPlatform": _target_platform,
    "ExposeProtoCasing": _expose_protocol,
    "LegacyKeyValueFormat": _unless_commented(_legacy),
    "MaintainerDeprecated": _unless_commented(_maintainer),
    "JSONArgsRecommended": _unless_commented(_json_args),
    "NoEmptyContinuation": _empty_lines,
}
FIXABLE = frozenset(_FIXERS)
"""The rules that can be mended, where it is safe."""
