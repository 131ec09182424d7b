"""The files a Copy takes, and the error when they are not there: with its place, ignored or misspelt."""

from __future__ import annotations

import difflib
import functools
import stat
from dataclasses import dataclass

from buildtool.errors import BuildtoolError, InvalidInput, NotFound
from buildtool.graph import Copy, Node
from buildtool.oci import Digest
from buildtool.solve.files import FileSource
from buildtool.solve.selection import Selection, select

_LOOK_AT = 2000


@dataclass
class Selected:
    """What a Copy takes: the files, and the digest of them."""

    selection: Selection
    digest: Digest

    @functools.cached_property
    def lines(self) -> list[str]:
        """A line for each file; see Selection.lines."""
        return self.selection.lines()


def select_files(source: FileSource, node: Node, where: str) -> Selected:
    """The files a Copy takes. Raises NotFound with place and remedy when one is missing."""
    step = node.step
    assert isinstance(step, Copy)
    try:
        selection = select(source, step)
    except FileNotFoundError as error:
        raise _missing(source, node, str(error), where) from None
    except OSError as error:
        message = f"{_keyword(node)}: cannot read {error.filename or where}: {error.strerror}"
        raise InvalidInput(message, where=node.span) from error
    except BuildtoolError as error:
        error.where = error.where or node.span
        raise
    return Selected(selection, selection.digest)


def _missing(source: FileSource, node: Node, path: str, where: str) -> NotFound:
    """The error for a source that is not there: ignored, or misspelt."""
    places = dict(node.places)
    span = places.get(path, node.span)
    keyword = _keyword(node)
    shown = next((name for name, place in node.places if place == span), path) or "."
    if source.is_ignored(path):
        return NotFound(
            f'{keyword}: "{shown}" is excluded from {where} by the ignore file',
            where=span,
            hint=f"add !{path} to the ignore file, or copy something else",
        )
    return NotFound(f'{keyword}: no such file in {where}: "{shown}"', where=span, hint=_meant(source, path))


def _keyword(node: Node) -> str:
    return "ADD" if isinstance(node.step, Copy) and node.step.unpack is not False else "COPY"


def _meant(source: FileSource, path: str) -> str:
    """Close names: beside it first, then anywhere in the first directories."""
    directory, _, name = path.rpartition("/")
    candidates: list[str] = []
    try:
        candidates = [f"{directory}/{child[0]}".lstrip("/") for child in source.children(directory)]
    except (FileNotFoundError, NotADirectoryError):
        directory = ""
    if path in candidates:
        return "it is a symbolic link that leads nowhere"
    close = difflib.get_close_matches(path, candidates, n=1)
    if not close:
        everywhere = _some_paths(source)
        same = [candidate for candidate in everywhere if candidate.rpartition("/")[2] == name]
        close = same[:1] or difflib.get_close_matches(path, everywhere, n=1)
    return f'did you mean "{close[0]}"?' if close else "paths are relative to the root of the build context"


def _some_paths(source: FileSource) -> list[str]:
    found: list[str] = []
    pending = [""]
    while pending and len(found) < _LOOK_AT:
        directory = pending.pop(0)
        try:
            children = source.children(directory)
        except (FileNotFoundError, NotADirectoryError):
            continue
        for name, status, _ in children:
            path = f"{directory}/{name}".lstrip("/")
            found.append(path)
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
    return found
