"""Buildfiles named on the command line: found, read, written."""

from __future__ import annotations

import os
import sys

from buildtool.errors import BuildtoolError, InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

STDIN = "-"
_NAMES = ("Buildfile", "Dockerfile")
_OTHERS = ("dockerignore", "j2")


def find_files(arguments: list[str]) -> list[str]:
    """The files that the arguments name, each once, in order: files as they are, directories searched through.

    In a directory these are Buildfile, Dockerfile, Buildfile.X and X.Buildfile (and the same with Dockerfile), but no
    templates; hidden directories are left out. Raises NotFound for a path that is not there and for a directory
    without any.
    """
    found: dict[str, None] = {}
    for argument in arguments or ["."]:
        if argument == STDIN or os.path.isfile(argument):
            found[argument] = None
        elif os.path.isdir(argument):
            below = [os.path.normpath(path) for path in _search(argument)]
            if not below:
                raise NotFound(f"no Buildfile or Dockerfile in {argument!r}")
            found.update(dict.fromkeys(below))
        else:
            raise NotFound(f"{argument}: no such file or directory")
    return list(found)


def _search(directory: str) -> Iterator[str]:
    for folder, folders, files in os.walk(directory):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (os.path.join(folder, name) for name in sorted(files) if _is_buildfile(name))


def _is_buildfile(name: str) -> bool:
    suffix = name.rpartition(".")[2]
    return name in _NAMES or suffix in _NAMES or (name.partition(".")[0] in _NAMES and suffix not in _OTHERS)


def read_file(path: str) -> str:
    """The text of a file, line ends as they are. Raises BuildtoolError when it cannot be read or is no text."""
    try:
        if path == STDIN:
            data = sys.stdin.buffer.read()
        else:
            with open(path, "rb") as file:
                data = file.read()
        return data.decode()
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise InvalidInput(f"{shown(path)}:{line}: the file is not UTF-8 text") from None
    except OSError as error:
        raise BuildtoolError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None


def write_file(path: str, text: str) -> None:
    """Replace a file's content, all or nothing; its mode stays, and a symlink stays one."""
    target = os.path.realpath(path)
    temporary = f"{target}.{os.getpid()}.tmp"
    try:
        mode = os.stat(target).st_mode & 0o7777
        with open(temporary, "wb") as file:
            os.fchmod(file.fileno(), mode)
            file.write(text.encode())
        os.replace(temporary, target)
    except OSError as error:
        if os.path.exists(temporary):
            os.unlink(temporary)
        raise BuildtoolError(f"{path}: {os.strerror(error.errno or 0).lower()}") from None


def shown(path: str) -> str:
    """The file as messages name it."""
    return "<stdin>" if path == STDIN else path


def complain(error: BuildtoolError) -> None:
    """Tell what is wrong with one file; the others go on."""
    sys.stdout.flush()
    print(f"buildtool: {error}", file=sys.stderr)
