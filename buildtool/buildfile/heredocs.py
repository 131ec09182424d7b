"""Finding `<<[-]NAME` in an instruction.

Only RUN, COPY and ADD (also behind ONBUILD) open heredocs, and not in their JSON form. A mark is a word of its own
(`3<<EOF`, `<<-'EOF'`); a quoted name switches expansion off.
Source: ../shared/reference/build.md, table 1.1, "Heredocs".
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

_OPENERS = frozenset({"RUN", "COPY", "ADD"})
_WORD = re.compile(r"""(?:[^\s'"\\]|\\.|\\$|'[^']*'|"(?:[^"\\]|\\.)*")+|['"]""", re.DOTALL)
_MARK = re.compile(r"(\d*)<<(-?)\s*([^<]*)", re.DOTALL)
_UNQUOTE = re.compile(r"""\\(.)|'([^']*)'|"((?:[^"\\]|\\.)*)"|\\$""", re.DOTALL)
_FLAGS = re.compile(r"""(?:--(?:[^\s'"\\]|\\.|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")*\s+)*""", re.DOTALL)


class Mark(NamedTuple):
    """`text[start:end]` is the mark as written; `name` is without quotes."""

    name: str
    chomp: bool
    expand: bool
    fd: int
    start: int
    end: int


def parse_mark(word: str, start: int = 0) -> Mark | None:
    """The heredoc that a blank-separated word opens, or None."""
    match = _MARK.fullmatch(word) if "<<" in word else None
    if match is None or not match[3]:
        return None
    quoted = match[3]
    name = _UNQUOTE.sub(lambda m: m[1] or m[2] or re.sub(r'\\(["$\\])', r"\1", m[3] or ""), quoted)
    if not name:
        return None
    expand = not ("'" in quoted or '"' in quoted)
    return Mark(name, match[2] == "-", expand, int(match[1][:6] or 0), start, start + len(word))


def heredoc_marks(text: str, keyword: str, arguments: int) -> list[Mark]:
    """The heredocs that a logical line opens, in order; none when a quote is left open.

    `text` is the line, `keyword` its first word and `arguments` the offset behind it.
    """
    if keyword.upper() == "ONBUILD":
        inner = re.compile(r"(\S+)\s*").match(text, arguments)
        if inner is None:
            return []
        keyword, arguments = inner[1], inner.end()
    if keyword.upper() not in _OPENERS or _is_exec_form(text, arguments):
        return []
    marks: list[Mark] = []
    for match in _WORD.finditer(text, arguments):
        if match[0] in ("'", '"'):
            return []
        if "<<" in match[0] and (mark := parse_mark(match[0], match.start())):
            marks.append(mark)
    return marks


def _is_exec_form(text: str, arguments: int) -> bool:
    flags = _FLAGS.match(text, arguments)
    rest = text[flags.end() if flags else arguments :]
    if not rest.startswith("["):
        return False
    try:
        return isinstance(json.loads(rest), list)
    except (ValueError, RecursionError):
        return False
