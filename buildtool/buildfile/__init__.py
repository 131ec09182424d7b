"""The Buildfile language: text to typed instructions with source spans. Pure.

The names below load their module on first use: ignore rules do not pay for the parser.
"""

from __future__ import annotations

TYPE_CHECKING = False  # `typing` would cost the client more than the ignore rules
if TYPE_CHECKING:
    from buildtool.buildfile.glob import go_match, match_glob
    from buildtool.buildfile.ignore import IgnoreRules
    from buildtool.buildfile.mounts import Mount, parse_mount
    from buildtool.buildfile.parser import parse, parse_instruction
    from buildtool.buildfile.words import expand_name, expand_text, expand_word, expand_words

_MODULES = {
    "IgnoreRules": "ignore",
    "Mount": "mounts",
    "expand_name": "words",
    "expand_text": "words",
    "expand_word": "words",
    "expand_words": "words",
    "go_match": "glob",
    "match_glob": "glob",
    "parse": "parser",
    "parse_instruction": "parser",
    "parse_mount": "mounts",
}

__all__ = [
    "IgnoreRules", "Mount", "expand_name", "expand_text", "expand_word", "expand_words", "go_match",
    "match_glob", "parse", "parse_instruction", "parse_mount",
]  # fmt: skip


def __getattr__(name: str) -> object:
    from importlib import import_module

    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value
