"""Archives in files and pipes: written whole or not at all, read as they come."""

from __future__ import annotations

import os
import sys

from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import BinaryIO

_READ = 1 << 20


def write_stream(parts: Iterable[bytes], path: str, what: str) -> int:
    """Write to a file (through a temporary one beside it) or, with path "", to STDOUT, if it is no terminal."""
    if not path:
        refuse_terminal(what)
        for part in parts:
            sys.stdout.buffer.write(part)
        sys.stdout.buffer.flush()
        return 0
    check_output(path)
    if os.path.exists(path) and not os.path.isfile(path):
        with open(path, "wb") as device:
            for part in parts:
                device.write(part)
        return 0
    temporary = f"{path}.{os.getpid()}.tmp"
    try:
        with open(temporary, "wb") as file:
            for part in parts:
                file.write(part)
        os.replace(temporary, path)
    except OSError as error:
        raise InvalidInput(f"cannot write {path}: {error.strerror or error}") from error
    finally:
        if os.path.exists(temporary):
            os.unlink(temporary)
    return 0


def refuse_terminal(what: str) -> None:
    """Raise InvalidInput when an archive would go to a terminal."""
    if sys.stdout.isatty():
        raise InvalidInput(f"cowardly refusing to save {what} to a terminal. Use the -o flag or redirect")


def check_output(path: str) -> None:
    """Raise InvalidInput, in Docker's words, when nothing can be written there."""
    folder = os.path.dirname(path)
    if folder and not os.path.isdir(folder):
        raise InvalidInput(f'invalid output path: directory "{folder}" does not exist')
    if os.path.isdir(path):
        raise InvalidInput(f'invalid output path: "{path}" is a directory')


def open_input(path: str) -> BinaryIO:
    """The file to read, or STDIN for "" and "-". Raises InvalidInput when it cannot be opened."""
    if path in ("", "-"):
        return sys.stdin.buffer
    try:
        return open(path, "rb")
    except OSError as error:
        raise InvalidInput(f"open {path}: {(error.strerror or str(error)).lower()}") from error


def read_parts(file: BinaryIO) -> Iterator[bytes]:
    """A file's bytes as they come."""
    reader = getattr(file, "read1", file.read)
    while part := reader(_READ):
        yield part
