"""Helpers for the tests of the language."""

from __future__ import annotations

from typing import TypeVar

from buildtool.buildfile import parse
from buildtool.buildfile.instructions import Base, Instruction, Word
from buildtool.errors import InvalidInput, Span

T = TypeVar("T", bound=Base)


def one(text: str, kind: type[T]) -> T:
    """The first instruction behind `FROM scratch`, of the wanted kind."""
    instruction = parse(f"FROM scratch\n{text}").stages[0].instructions[0]
    assert isinstance(instruction, kind)
    return instruction


def refused(text: str, file: str = "Buildfile") -> InvalidInput:
    """The error that a file gives."""
    try:
        buildfile = parse(text, file)
    except InvalidInput as error:
        assert error.where is not None
        return error
    raise AssertionError(f"accepted: {buildfile.stages}")


def word(text: str, escape: str = "\\") -> Word:
    return Word(text, Span("f", 1, 1, len(text), text), escape)


def texts(words: tuple[Word, ...]) -> list[str]:
    return [w.text for w in words]


def all_instructions(text: str) -> list[Instruction]:
    return [i for stage in parse(text).stages for i in stage.instructions]
