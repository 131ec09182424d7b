"""Calls made of command lines, for tests of handlers and of what they send."""

from __future__ import annotations

from buildtool.cli import table
from buildtool.cli.call import Call
from buildtool.cli.parse import parse_flags


def make_call(line: str | list[str], host: str = "") -> Call:
    """The call that this command line makes, without its handler."""
    verb, *words = line.split() if isinstance(line, str) else line
    command = table.load(verb)
    parsed = parse_flags(command.flags, words, interspersed=command.interspersed)
    return Call(f"buildtool {verb}", command, parsed, host=host)
