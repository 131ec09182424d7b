"""The formatter: a Buildfile in its standard form, which means exactly the same.

Comments stay between the same lines and words. Nothing that gets into an image or into a cache key changes: a build
of the formatted file finds every step of the old one in the cache.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from buildtool.buildfile.include import INCLUDE
from buildtool.buildfile.layout import lay_out
from buildtool.buildfile.parser import instruction_of, parse
from buildtool.buildfile.scanner import DIRECTIVE, SPACES, Logical, Scanned, scan

BLANK, COMMENT, INSTRUCTION = "blank", "comment", "instruction"


class Block(NamedTuple):
    """A blank line, a comment line, or an instruction. `bodies` are heredoc lines, kept to the byte."""

    kind: str
    rows: list[str]
    bodies: list[str] = []  # noqa: RUF012 - never changed
    starts_stage: bool = False


def format_text(text: str, file: str = "Buildfile") -> str:
    """The file in standard form. Raises InvalidInput, with its place, when it is no valid Buildfile.

    Guarantees: formatting twice changes nothing more; the parsed file is the same but for spans and source texts.
    Lines end as the first one does (\\n or \\r\\n).
    """
    scanned = scan(text, file)
    if not _check_with_includes(scanned):
        parse(text, file)
    end = "\r\n" if scanned.source.lines[0].endswith("\r") else "\n"
    blocks = _separate_stages(list(_collapse(_blocks(scanned))))
    head = "".join(row + end for row in _head(scanned))
    return head + "".join(
        "".join(row + end for row in block.rows) + "".join(body + "\n" for body in block.bodies[:-1])
        + "".join(body.rstrip("\r") + end for body in block.bodies[-1:])
        for block in blocks
    )  # fmt: skip


def _check_with_includes(scanned: Scanned) -> bool:
    """Whether the file has INCLUDEs; then its stages are not all in it, and its instructions are looked at singly."""
    others = [line for line in scanned.lines if line.keyword.upper() != INCLUDE]
    if len(others) == len(scanned.lines) or "template" in scanned.directives:
        return False
    for line in others:
        instruction_of(line)
    return True


def _head(scanned: Scanned) -> Iterator[str]:
    """The `#!` line and the directives."""
    for text in scanned.source.lines[: _head_length(scanned)]:
        match = None if text.startswith("#!") else DIRECTIVE.match(text.strip())
        yield f"# {match[1].lower()}={match[2]}" if match else text.rstrip()


def _head_length(scanned: Scanned) -> int:
    return len(scanned.directives) + scanned.source.lines[0].startswith("#!")


def _blocks(scanned: Scanned) -> Iterator[Block]:
    number = _head_length(scanned)
    for line in [*scanned.lines, None]:
        upto = line.first_line - 1 if line is not None else len(scanned.source.lines)
        for text in scanned.source.lines[number:upto]:
            stripped = text.strip(SPACES)
            if stripped.startswith("#"):
                yield Block(COMMENT, [stripped.rstrip()])
            elif not stripped:
                yield Block(BLANK, [""])
        if line is not None:
            yield _instruction(line)
            number = line.last_line


def _instruction(line: Logical) -> Block:
    bodies = _bodies(line)
    return Block(INSTRUCTION, lay_out(line), bodies, line.keyword.upper() == "FROM")


def _bodies(line: Logical) -> list[str]:
    return line.source.lines[line.end_line : line.last_line]


def _collapse(blocks: Iterator[Block]) -> Iterator[Block]:
    """No two blank lines in a row, none at the end.

    The first line stays blank when a comment follows: without it the comment might become a directive.
    """
    held: Block | None = None
    first = True
    for block in blocks:
        if block.kind == BLANK:
            held = block
            continue
        if held is not None and (not first or block.kind == COMMENT):
            yield held
        yield block
        held, first = None, False


def _separate_stages(blocks: list[Block]) -> list[Block]:
    """A blank line before each stage but the first, above the comments that belong to its FROM."""
    result: list[Block] = []
    seen = False
    for block in blocks:
        if block.starts_stage and seen:
            place = len(result)
            while result[place - 1].kind == COMMENT:
                place -= 1
            if result[place - 1].kind != BLANK:
                result.insert(place, Block(BLANK, [""]))
        seen = seen or block.starts_stage
        result.append(block)
    return result
