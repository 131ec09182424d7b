"""`fmt`: Buildfiles in their standard form."""

from __future__ import annotations

import sys

from buildtool.cli.buildfiles import STDIN, complain, find_files, read_file, shown, write_file
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

CHANGED, FAILED = 1, 2


def fmt(call: Call) -> int:
    """Rewrite the files that are not in standard form and print their names; `-` goes from STDIN to STDOUT.

    Ends with 2 when a file could not be read or does not parse, else with 1 when --check found one to be changed.
    """
    from buildtool.buildfile.formatter import format_text

    only_look = call.switch("check") or call.switch("diff")
    changed = failed = False
    for path in find_files(call.arguments):
        try:
            before = read_file(path)
            after = format_text(before, shown(path))
            if path == STDIN and not only_look:
                sys.stdout.flush()
                sys.stdout.buffer.write(after.encode())
            elif after != before:
                changed = True
                if not only_look:
                    write_file(path, after)
                if call.switch("diff"):
                    sys.stdout.write(_diff(before, after, shown(path)))
                else:
                    print(shown(path))
        except BuildtoolError as error:
            complain(error)
            failed = True
    return FAILED if failed else CHANGED if changed and call.switch("check") else 0


def _diff(before: str, after: str, name: str) -> str:
    """A unified diff that `patch` takes."""
    import difflib

    pieces = difflib.unified_diff(_lines(before), _lines(after), name, name)
    return "".join(piece if piece.endswith("\n") else f"{piece}\n\\ No newline at end of file\n" for piece in pieces)


def _lines(text: str) -> list[str]:
    """The lines with their ends; only a newline ends one."""
    *lines, last = text.split("\n")
    return [f"{line}\n" for line in lines] + ([last] if last else [])
