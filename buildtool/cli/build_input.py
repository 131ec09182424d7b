"""What a build is made from: the context, the Buildfile's text and the ignore file that applies."""

from __future__ import annotations

import os
import sys

from buildtool.encoding import decode_file
from buildtool.errors import InvalidInput, NotFound

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import BinaryIO

DEFAULT_FILES = ("Buildfile", "Dockerfile", "dockerfile")
_ARCHIVE_MARKS = (b"\x1f\x8b\x08", b"BZh", b"\xfd7zXZ\x00", b"\x28\xb5\x2f\xfd")
_TAR_MAGIC = slice(257, 262)


class BuildInput:
    """One build's input. Either `directory` is the context, `archive` is a tar stream of it, `remote` its URL, or
    there is none. `elsewhere` tells that the Buildfile is in the archive or behind the URL: the daemon reads it.

    `text` is the Buildfile's, `name` how errors name it, `path` where it lies ("" when it came by STDIN), `given`
    what `-f` said. `ignore` is the text of the ignore file or None, `ignore_name` where it lies.
    """

    __slots__ = (
        "archive",
        "begun",
        "directory",
        "elsewhere",
        "given",
        "ignore",
        "ignore_name",
        "name",
        "path",
        "remote",
        "text",
    )

    def __init__(self) -> None:
        self.directory = ""
        self.archive: BinaryIO | None = None
        self.begun = b""
        self.remote = ""
        self.elsewhere = False
        self.text = ""
        self.name = "Buildfile"
        self.path = ""
        self.given = ""
        self.ignore: str | None = None
        self.ignore_name = ""


def read_input(context: str, file: str) -> BuildInput:
    """Look at the context and read the Buildfile. Raises InvalidInput or NotFound, and says what would do."""
    source = BuildInput()
    source.given = file
    if context == "-":
        if file == "-":
            raise InvalidInput("invalid argument: can't use stdin for both build context and Buildfile")
        return _read_stdin(source)
    if _is_remote(context):
        return _remote(source, context, file)
    if os.path.isfile(context):
        return _read_archive(source, context)
    if not os.path.isdir(context):
        problem = "is not a directory" if os.path.exists(context) else "not found"
        raise NotFound(f"unable to prepare context: path {context!r} {problem}")
    source.directory = os.path.abspath(context)
    _read_file(source, context, file)
    _read_ignore(source)
    return source


def _is_remote(context: str) -> bool:
    if "://" not in context and "@" not in context and not context.startswith("github.com/"):
        return False
    if os.path.isdir(context):
        return False
    from buildtool.buildfile.remotes import is_remote

    if "://" in context and not is_remote(context):
        raise InvalidInput(
            f"unable to prepare context: {context} is of no kind that is known",
            hint="There are directories, tar files, git URLs and http(s) URLs of a tar or a Buildfile.",
        )
    return is_remote(context)


def _remote(source: BuildInput, context: str, file: str) -> BuildInput:
    """The daemon fetches the context, and reads the Buildfile in it unless that comes by STDIN."""
    source.remote = context
    if file == "-":
        _read_file(source, "", file)
        return source
    source.elsewhere = True
    return source


def _read_archive(source: BuildInput, path: str) -> BuildInput:
    """A tar file on this machine."""
    opened = open(path, "rb")  # noqa: SIM115 - it is read while it is sent
    begin = opened.read(512)
    if not begin.startswith(_ARCHIVE_MARKS) and begin[_TAR_MAGIC] != b"ustar":
        opened.close()
        raise NotFound(
            f"unable to prepare context: path {path!r} is not a directory, nor a tar archive",
            hint="Name a Buildfile with -f FILE, and its directory as the context.",
        )
    source.archive, source.begun, source.elsewhere = opened, begin, True
    return source


def _read_stdin(source: BuildInput) -> BuildInput:
    """STDIN is either a tar of a context, compressed or not, or the Buildfile itself."""
    stdin = sys.stdin.buffer
    if sys.stdin.isatty():
        print("Reading the Buildfile from STDIN; end it with Ctrl-D", file=sys.stderr)
    begin = stdin.read(512)
    if begin.startswith(_ARCHIVE_MARKS) or begin[_TAR_MAGIC] == b"ustar":
        source.archive, source.begun, source.elsewhere = stdin, begin, True
        return source
    source.text = decode_file(begin + stdin.read(), "<stdin>")
    source.name = "<stdin>"
    if not source.text.strip():
        raise InvalidInput("the Buildfile cannot be empty: nothing came by STDIN")
    return source


def _read_file(source: BuildInput, context: str, file: str) -> None:
    if file == "-":
        source.text, source.name = decode_file(sys.stdin.buffer.read(), "<stdin>"), "<stdin>"
        return
    if file:
        # Docker: relative to the working directory; if it is not there, to the context.
        candidates = [file] if os.path.isabs(file) else [file, os.path.join(context, file)]
    else:
        candidates = [os.path.join(context, name) for name in DEFAULT_FILES]
    for candidate in candidates:
        if os.path.isfile(candidate):
            source.path = os.path.abspath(candidate)
            source.name = os.path.normpath(candidate)
            with open(candidate, "rb") as opened:
                source.text = decode_file(opened.read(), candidate)
            return
    if file:
        raise NotFound(f"unable to find the Buildfile {file!r}", hint="-f takes a path from the working directory.")
    raise NotFound(f"unable to find a Buildfile or Dockerfile in {context!r}", hint="Name another file with -f FILE.")


def _read_ignore(source: BuildInput) -> None:
    """`<file>.dockerignore` beside the Buildfile, else `.dockerignore` of the context."""
    candidates = [f"{source.path}.dockerignore"] if source.path else []
    for candidate in [*candidates, os.path.join(source.directory, ".dockerignore")]:
        try:
            with open(candidate, "rb") as file:
                source.ignore = decode_file(file.read(), candidate)
        except (FileNotFoundError, IsADirectoryError):
            continue
        source.ignore_name = candidate
        return
