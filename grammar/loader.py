"""Loads the grammars: once per process, on first use.

`lark` itself is imported here, inside the function: it costs 75 ms, and who only wants ignore rules shall not pay it.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lark import Lark

STARTS: dict[str, tuple[str, ...]] = {
    "instructions": ("atoms", "text", "pairs", "args", "check", "json_array"),
    "interpolation": ("text",),
    "words": ("word", "body"),
    "mounts": ("mount",),
    "gotemplate": ("start",),
}


@cache
def load(name: str, escape: str = "\\", lexer: Any = "contextual") -> Lark:
    """The LALR parser of `<name>.lark`, for files whose escape character is `escape` (a backslash or a backtick).

    `lexer` is a lexer class for a grammar that only declares its terminals.
    """
    from lark import Lark

    folder = Path(__file__).parent
    return Lark(
        (folder / f"{name}.lark").read_text(encoding="utf-8"),
        import_paths=[str(folder)],
        source_path=str(folder / f"{name}.lark"),
        parser="lalr",
        lexer=lexer,
        start=list(STARTS[name]),
        maybe_placeholders=False,
        propagate_positions=False,
        g_regex_flags=16,  # re.DOTALL: a carriage return or a heredoc's newline is a character like others
        edit_terminals=lambda terminal: _set_escape(terminal, "`" if escape == "`" else r"\\"),
    )


def _set_escape(terminal: Any, escape: str) -> Any:
    """Put the file's escape character where a terminal says `␛`."""
    terminal.pattern.value = terminal.pattern.value.replace("␛", escape)
    return terminal
