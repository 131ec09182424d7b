"""A command line read by a table: flags and arguments of one command, as Docker's own parser (pflag) takes them.

`--flag=value`, `--flag value`, `-fvalue`, `-f value`, `-f=value`, clusters of short switches (`-it`),
`--switch=false`, and `--` before arguments. Nothing is imported here but what a well-formed call needs.
"""

from __future__ import annotations

from buildtool.cli import values
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

REPEATED = frozenset(("list", "filter", "map", "mount", "network", "ulimit", "gpu-request"))

_CONVERTERS: dict[str, Callable[[str], object]] = {
    "bool": values.parse_boolean,
    "int": values.parse_integer,
    "uint16": values.parse_integer,
    "bytes": values.parse_size,
    "bytes-or-unlimited": values.parse_memory_swap,
    "decimal": values.parse_cpus,
    "duration": values.parse_duration,
}


class UsageError(InvalidInput):
    """The command line is wrong. `exit_code` is 125 for flags and 1 for arguments, as with Docker."""

    exit_code = 125


class ArgumentCountError(UsageError):
    """Too many or too few arguments."""

    exit_code = 1


class Flag:
    """One flag: long name, one-letter name or "", kind (what `--help` shows), help text, default.

    Kinds: bool, string, int, uint16, bytes, bytes-or-unlimited, decimal, duration, and those that may be repeated:
    list, filter, map, mount, network, ulimit, gpu-request. A flag of Docker's that we do not have yet is `absent`: it
    is refused with its help text. `choices` serve completion, help and `Call.choice`.
    """

    __slots__ = ("choices", "default", "help", "hidden", "kind", "name", "short")

    def __init__(
        self,
        name: str,
        short: str,
        kind: str,
        help: str,
        *,
        default: object = None,
        choices: tuple[str, ...] = (),
        hidden: bool = False,
    ) -> None:
        self.name = name
        self.short = short
        self.kind = kind
        self.help = help
        self.choices = choices
        self.hidden = hidden
        self.default = default if default is not None or kind != "bool" else False

    @property
    def title(self) -> str:
        """The flag as error messages name it."""
        return f"-{self.short}, --{self.name}" if self.short else f"--{self.name}"


class Command:
    """One command: what it is called with and which function serves it.

    `usage` is what follows the command's name in its usage line, `handler` is `module:function` below
    `buildtool.cli.handlers`. `interspersed` tells whether flags may follow arguments (not for `run IMAGE COMMAND
    -x`).
    """

    __slots__ = ("flags", "handler", "help", "interspersed", "maximum", "minimum", "usage")

    def __init__(
        self,
        handler: str,
        usage: str,
        help: str,
        flags: tuple[Flag, ...] = (),
        *,
        minimum: int = 0,
        maximum: int | None = None,
        interspersed: bool = True,
    ) -> None:
        self.handler = handler
        self.usage = usage
        self.help = help
        self.flags = flags
        self.minimum = minimum
        self.maximum = maximum
        self.interspersed = interspersed


class HelpAsked(Exception):
    """`--help` stands in the command line."""


class Parsed:
    """What a command line said: values by flag name, and the arguments."""

    __slots__ = ("arguments", "values")

    def __init__(self) -> None:
        self.values: dict[str, object] = {}
        self.arguments: list[str] = []


def parse_flags(flags: tuple[Flag, ...], words: list[str], *, interspersed: bool) -> Parsed:
    """Read `words` by the flags' table. Raises UsageError with pflag's words, HelpAsked for `--help`."""
    parsed = Parsed()
    by_name = {flag.name: flag for flag in flags}
    by_short = {flag.short: flag for flag in flags if flag.short}
    position = 0
    while position < len(words):
        word = words[position]
        position += 1
        if word == "--":
            parsed.arguments += words[position:]
            break
        if len(word) < 2 or word[0] != "-":
            if not interspersed:
                parsed.arguments += words[position - 1 :]
                break
            parsed.arguments.append(word)
        elif word.startswith("--"):
            position = _read_long(word, words, position, by_name, parsed)
        else:
            position = _read_short(word, words, position, by_short, parsed)
    return parsed


def _read_long(word: str, words: list[str], position: int, by_name: dict[str, Flag], parsed: Parsed) -> int:
    name, separator, value = word[2:].partition("=")
    flag = by_name.get(name)
    if flag is None:
        if name == "help":
            raise HelpAsked
        raise UsageError(f"unknown flag: --{name}", hint=suggestion(name, list(by_name), "--"))
    if not separator:
        if flag.kind in ("bool", "absent"):
            value = "true"
        elif position < len(words):
            value = words[position]
            position += 1
        else:
            raise UsageError(f"flag needs an argument: --{name}")
    set_value(flag, value, parsed)
    return position


def _read_short(word: str, words: list[str], position: int, by_short: dict[str, Flag], parsed: Parsed) -> int:
    at = 1
    while at < len(word):
        letter = word[at]
        at += 1
        flag = by_short.get(letter)
        if flag is None:
            if letter == "h":
                raise HelpAsked
            raise UsageError(f"unknown shorthand flag: {letter!r} in {word}")
        if at < len(word) and word[at] == "=":
            value, at = word[at + 1 :], len(word)
        elif flag.kind in ("bool", "absent"):
            value = "true"
        elif at < len(word):
            value, at = word[at:], len(word)
        elif position < len(words):
            value = words[position]
            position += 1
        else:
            raise UsageError(f"flag needs an argument: {letter!r} in {word}")
        set_value(flag, value, parsed)
    return position


def set_value(flag: Flag, text: str, parsed: Parsed) -> None:
    """Record one occurrence of a flag. Raises UsageError when the text is no value of its kind."""
    if flag.kind == "absent":
        raise UsageError(f"--{flag.name} is not supported yet: {flag.help}")
    if flag.kind in REPEATED:
        if flag.kind == "filter" and "=" not in text:
            raise UsageError(
                f'invalid argument "{text}" for "{flag.title}" flag: bad format of filter (expected name=value)'
            )
        collected = parsed.values.setdefault(flag.name, [])
        assert isinstance(collected, list)
        collected.append(text)
        return
    converter = _CONVERTERS.get(flag.kind)
    try:
        parsed.values[flag.name] = text if converter is None else converter(text)
    except ValueError as error:
        raise UsageError(f'invalid argument "{text}" for "{flag.title}" flag: {error}') from None


def check_count(command: Command, name: str, count: int) -> None:
    """Raise ArgumentCountError with Docker's words when `count` arguments are not what the command takes."""
    low, high = command.minimum, command.maximum
    if low <= count and (high is None or count <= high):
        return
    if high == 0:
        raise ArgumentCountError(f"'{name}' accepts no arguments")
    plural = "" if (high if low == 0 or low == high else low) == 1 else "s"
    if low == high:
        raise ArgumentCountError(f"'{name}' requires {low} argument{plural}")
    if high is None:
        raise ArgumentCountError(f"'{name}' requires at least {low} argument{plural}")
    if low == 0:
        raise ArgumentCountError(f"'{name}' requires at most {high} argument{plural}")
    raise ArgumentCountError(f"'{name}' requires at least {low} and at most {high} arguments")


def suggestion(word: str, candidates: list[str], prefix: str = "") -> str:
    """`Did you mean …?` for a mistyped word, "" when nothing is near."""
    from difflib import get_close_matches

    near = get_close_matches(word, candidates, n=1, cutoff=0.7)
    return f"Did you mean {prefix}{near[0]}?" if near else ""
