"""Builder flags: which instruction takes which, of what kind, and their values.

A value's quotes and backslashes are taken away here, as the builder does before it looks at it; what is left may hold
variables, which are expanded later.
Source: ../shared/reference/build.md, table 1.2. Not in Dockerfiles: RUN --cache-ttl, --no-cache, --retry, --timeout;
COPY --if-exists.
"""

from __future__ import annotations

from collections.abc import Sequence

from buildtool.buildfile.instructions import Word
from buildtool.buildfile.scanner import Logical
from buildtool.buildfile.suggest import did_you_mean
from buildtool.errors import InvalidInput

BOOL, STRING, STRINGS = "bool", "string", "strings"
_ADD = {
    "chown": STRING, "chmod": STRING, "link": BOOL, "exclude": STRINGS, "checksum": STRING, "keep-git-dir": BOOL,
    "unpack": BOOL,
}  # fmt: skip
FLAGS: dict[str, dict[str, str]] = {
    "FROM": {"platform": STRING},
    "RUN": {
        "mount": STRINGS, "network": STRING, "security": STRING, "device": STRINGS,
        "cache-ttl": STRING, "no-cache": BOOL, "retry": STRING, "timeout": STRING,
    },
    "COPY": {
        "from": STRING, "chown": STRING, "chmod": STRING, "link": BOOL, "parents": BOOL, "exclude": STRINGS,
        "if-exists": BOOL,
    },
    "ADD": _ADD,
    "HEALTHCHECK": {
        "interval": STRING, "timeout": STRING, "start-period": STRING, "start-interval": STRING, "retries": STRING,
    },
}  # fmt: skip

UNREAD = ("ARG", "STOPSIGNAL")
"""BuildKit takes flags of these off and never looks at them; so does a HEALTHCHECK NONE."""


class Flag:
    """One flag as written: `text[start:end]` is all of it; `value` is None when there is no `=`."""

    __slots__ = ("end", "line", "name", "offsets", "start", "value", "value_start")

    def __init__(self, line: Logical, name: str, value: str | None, start: int, end: int, value_start: int) -> None:
        self.line = line
        self.name = name
        self.start = start
        self.end = end
        self.value_start = value_start
        self.offsets: Sequence[int] | None = None
        if value is not None and ("'" in value or '"' in value or "\\" in value):
            value, self.offsets = _unquote(value)
        self.value = value

    def offset(self, index: int) -> int:
        """Where in the logical line character `index` of the value stands."""
        return self.value_start + (index if self.offsets is None else self.offsets[index])

    def word(self) -> Word:
        return Word(self.value or "", self.line.span(self.value_start, self.end), self.line.escape)


class Flags:
    """The flags of one instruction, checked against its table."""

    __slots__ = ("_flags", "line")

    def __init__(self, line: Logical, keyword: str, flags: Sequence[Flag]) -> None:
        self.line = line
        self._flags: dict[str, list[Flag]] = {}
        table = FLAGS.get(keyword, {})
        for flag in flags if keyword not in UNREAD else ():
            self._add(flag, keyword, table)

    def _add(self, flag: Flag, keyword: str, table: dict[str, str]) -> None:
        kind = table.get(flag.name)
        where = self.line.span(flag.start, flag.end)
        if kind is None:
            known = ", ".join(f"--{name}" for name in sorted(table))
            raise InvalidInput(
                f"{keyword}: unknown flag --{flag.name}",
                where=where,
                hint=did_you_mean(
                    flag.name,
                    table,
                    show="--{}",
                    otherwise=f"{keyword} takes {known}"
                    if known
                    else f"{keyword} takes no flags; write -- before arguments that begin with --",
                ),
            )
        if flag.name in self._flags and kind != STRINGS:
            raise InvalidInput(
                f"{keyword}: flag --{flag.name} is given twice", where=where, hint="remove one of them"
            )
        if flag.value is None and kind != BOOL:
            raise InvalidInput(
                f"{keyword}: flag --{flag.name} needs a value", where=where, hint=f"write --{flag.name}=VALUE"
            )
        if kind == BOOL and flag.value is not None and flag.value.lower() not in ("true", "false"):
            raise InvalidInput(
                f"{keyword}: flag --{flag.name} is either true or false, not {flag.value!r}",
                where=where,
                hint=f"write --{flag.name} or --{flag.name}=false",
            )
        self._flags.setdefault(flag.name, []).append(flag)

    def get(self, name: str) -> Flag | None:
        flags = self._flags.get(name)
        return flags[0] if flags else None

    def all(self, name: str) -> list[Flag]:
        return self._flags.get(name, [])

    def word(self, name: str) -> Word | None:
        flag = self.get(name)
        return flag.word() if flag else None

    def words(self, name: str) -> tuple[Word, ...]:
        return tuple(flag.word() for flag in self.all(name))

    def is_set(self, name: str) -> bool | None:
        """The value of a boolean flag; None when it is not given."""
        flag = self.get(name)
        return None if flag is None else flag.value is None or flag.value.lower() == "true"


def _unquote(raw: str) -> tuple[str, list[int]]:
    """Take quotes and backslash escapes away; with the result goes each character's index in `raw`.

    One index more than characters, so that the end has a place too.
    """
    characters: list[str] = []
    offsets: list[int] = []
    quote = ""
    index = 0
    while index < len(raw):
        character = raw[index]
        if character == "\\":
            index += 1
            if index == len(raw):
                break
            character = raw[index]
        elif character == quote:
            quote = ""
            index += 1
            continue
        elif not quote and character in "'\"":
            quote = character
            index += 1
            continue
        characters.append(character)
        offsets.append(index)
        index += 1
    offsets.append(len(raw))
    return "".join(characters), offsets
