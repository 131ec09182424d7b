"""What an instruction says, without where and how it is written: for comparing.

The formatter and the fixes must not change it; two instructions of equal meaning build the same.
"""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from buildtool.buildfile.instructions import Buildfile, Instruction

_FORM = frozenset({"span", "source"})


def meaning(instruction: Instruction) -> tuple[Any, ...]:
    """The instruction as nested tuples: all of it but places and the source text. Every character of a shell
    command, of an ONBUILD trigger and of a heredoc is in it.
    """
    values: tuple[Any, ...] = _values(instruction)
    return values


def meaning_of_file(buildfile: Buildfile) -> tuple[Any, ...]:
    """The same for a whole file: escape character, check options, global ARGs and all stages."""
    stages = [(meaning(stage.from_), tuple(map(meaning, stage.instructions))) for stage in buildfile.stages]
    directives = tuple(sorted(buildfile.directives.items()))
    return (buildfile.escape, directives, tuple(map(meaning, buildfile.global_args)), tuple(stages))


def _values(node: object) -> Any:
    if is_dataclass(node):
        kept = (field.name for field in fields(node) if field.name not in _FORM)
        return (type(node).__name__, *(_values(getattr(node, name)) for name in kept))
    if isinstance(node, tuple):
        return tuple(_values(item) for item in node)
    return node
