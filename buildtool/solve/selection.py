"""Which files a COPY or ADD takes, and the digest of them: path, mode, owner, link target, content; no time.

Source: ../shared/reference/build.md, table 1.2, COPY and ADD.
"""

from __future__ import annotations

import os
import posixpath
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from buildtool.buildfile import IgnoreRules, go_match
from buildtool.buildfile.glob import has_meta, match_glob
from buildtool.errors import InvalidInput
from buildtool.graph import Copy
from buildtool.oci import Digest, sha256
from buildtool.solve.files import FileSource
from buildtool.solve.fingerprints import Child, directory_digest, line_of, special_digest


class Entry:
    """A file to be copied. `name` is where it goes, relative to its parent; `host` the directory it is in.

    `digest` is the content's of a regular file, the target of a symlink, the device number of a device, the digest of
    the contents of a directory. `children` are loaded when they are asked for: a cached build never does.
    """

    __slots__ = ("_children", "_load", "content", "digest", "host", "is_directory", "name", "source_name", "status")

    def __init__(self, name: str, child: Child, digest: str, content: bytes | None = None) -> None:
        self.name = name
        self.source_name, self.status, self.host = child
        self.digest = digest
        self.content = content
        self.is_directory = stat.S_ISDIR(child[1].st_mode)
        self._children: list[Entry] = []
        self._load: Callable[[], list[Entry]] | None = None

    @property
    def children(self) -> list[Entry]:
        """What a directory holds, sorted by name."""
        if self._load is not None:
            self._children, self._load = self._load(), None
        return self._children

    def load_with(self, load: Callable[[], list[Entry]]) -> Entry:
        """Let the children come from a function."""
        self._load = load
        return self

    def add(self, entries: list[Entry], *, owned: bool) -> None:
        """Set the children of a directory, and the digest they give."""
        self._children = entries
        files = [line_of(e.name, e.status, e.digest, owned=owned) for e in entries if not e.is_directory]
        directories = [line_of(e.name, e.status, e.digest, owned=owned) for e in entries if e.is_directory]
        self.digest = directory_digest("\n".join(files).encode(errors="surrogateescape"), directories)


@dataclass
class Selection:
    """What was selected. Each root is a file, or a directory whose contents are meant (its `name` is empty).

    With --parents a root is a chain of directories with a name. `unmatched` are the wildcards that found nothing.
    """

    roots: list[Entry] = field(default_factory=list)
    unmatched: list[str] = field(default_factory=list)
    owned: bool = False

    @property
    def digest(self) -> Digest:
        """The digest of everything selected."""
        lines = (line_of(root.name, root.status, root.digest, owned=self.owned) for root in self.roots)
        return sha256("\n".join(lines).encode(errors="surrogateescape"))

    def lines(self) -> list[str]:
        """One line an entry: `path\\0mode owner digest` (directories without a digest), sorted as walked."""
        lines: list[str] = []
        for root in self.roots:
            self._describe(root, root.name, lines)
        return lines

    def _describe(self, entry: Entry, path: str, lines: list[str]) -> None:
        digest = "" if entry.is_directory else entry.digest
        lines.append(line_of(path, entry.status, digest, owned=self.owned))
        prefix = f"{path}/" if path else ""
        for child in entry.children:
            self._describe(child, prefix + child.name, lines)


def select(source: FileSource, step: Copy) -> Selection:
    """Find the files of a step and hash them.

    Raises FileNotFoundError with the source as its filename when a source without wildcards is not there (or is
    ignored) and the step does not say that it may, InvalidInput for a malformed pattern.
    """
    selector = _Selector(source, step)
    for name in step.sources:
        selector.add(name)
    for inline in step.inline:
        data = inline.content.encode()
        status = os.stat_result((stat.S_IFREG | 0o644, 0, 0, 1, 0, 0, len(data), 0, 0, 0))
        entry = Entry(inline.name, (inline.name, status, ""), sha256(data)[7:], data)
        selector.selection.roots.append(entry)
    return selector.selection


class _Selector:
    def __init__(self, source: FileSource, step: Copy) -> None:
        self.source = source
        self.parents = step.parents
        self.if_exists = step.if_exists
        self.excludes = IgnoreRules.parse("\n".join(step.excludes), "--exclude") if step.excludes else None
        self.selection = Selection(owned=source.owned)

    def add(self, name: str) -> None:
        pivot, path = "", name
        if self.parents and "/./" in name:
            pivot, _, path = name.partition("/./")
        pattern = path if pivot in ("", ".") else f"{pivot}/{path}"
        if pattern == ".":
            pattern = ""
        if not has_meta(pattern):
            self._take(pattern, pivot)
            return
        try:
            matches = list(_glob(self.source, pattern, deep=self.parents))
        except ValueError as error:
            raise InvalidInput(str(error)) from None
        if not matches and not self.if_exists:
            self.selection.unmatched.append(name)
        for match in matches:
            self._take(match, pivot)

    def _take(self, path: str, pivot: str) -> None:
        try:
            real = self.source.resolve(path)
            child = self.source.find(real)
        except (FileNotFoundError, NotADirectoryError):
            if self.if_exists:
                return
            raise FileNotFoundError(path) from None
        is_directory = stat.S_ISDIR(child[1].st_mode)
        base = posixpath.basename(path)
        if not is_directory and self.excludes is not None and self.excludes.excludes(base):
            return
        if self.parents:
            below = path.removeprefix(f"{pivot}/") if pivot not in ("", ".") else path
            entry = self._entry("" if not below else base, child, real, "")
            self._place(entry, below, path)
            return
        self.selection.roots.append(self._entry("" if is_directory else base, child, real, ""))

    def _place(self, entry: Entry, below: str, path: str) -> None:
        """Put an entry into the chain of its parent directories, shared with earlier entries."""
        chain: list[Entry] = []
        siblings = self.selection.roots
        names = below.split("/")[:-1]
        top = path[: len(path) - len(below)]
        for depth, name in enumerate(names):
            known = next((e for e in siblings if e.name == name and e.is_directory), None)
            if known is None:
                here = top + "/".join(names[: depth + 1])
                known = Entry(name, self.source.find(self.source.resolve(here)), "")
                siblings.append(known)
            chain.append(known)
            siblings = known.children
        siblings[:] = [e for e in siblings if e.name != entry.name or not names] + [entry]
        for parent in reversed(chain):
            parent.add(sorted(parent.children, key=_name), owned=self.source.owned)

    def _entry(self, name: str, child: Child, path: str, relative: str) -> Entry:
        """The entry and all below it. `relative` is the path that --exclude sees."""
        mode = child[1].st_mode
        if stat.S_ISREG(mode):
            return Entry(name, child, self.source.digest(path, child))
        if not stat.S_ISDIR(mode):
            return Entry(name, child, special_digest(child))
        if self.excludes is None:
            entry = Entry(name, child, self.source.tree_digest(path))
            return entry.load_with(lambda: self._children(path, relative))
        entry = Entry(name, child, "")
        entry.add(self._children(path, relative), owned=self.source.owned)
        return entry

    def _children(self, path: str, relative: str) -> list[Entry]:
        children: list[Entry] = []
        prefix = path + "/" if path else ""
        shown = relative + "/" if relative else ""
        for found in self.source.children(path):
            name, status, _ = found
            if stat.S_ISSOCK(status.st_mode):
                continue
            below = shown + name
            if self.excludes is not None and self.excludes.excludes(below):
                if stat.S_ISDIR(status.st_mode) and self.excludes.may_contain_included(below):
                    kept = self._entry(name, found, prefix + name, below)
                    if kept.children:
                        children.append(kept)
                continue
            children.append(self._entry(name, found, prefix + name, below))
        return children


def _name(entry: Entry) -> str:
    return entry.name


def _glob(source: FileSource, pattern: str, *, deep: bool) -> Iterator[str]:
    """The paths that match, sorted. Symlinks to directories are followed. With `deep`, `**` crosses directories."""
    go_match(pattern, "")
    if deep and "**" in pattern.split("/"):
        fixed = []
        for part in pattern.split("/"):
            if has_meta(part):
                break
            fixed.append(part)
        yield from (path for path in _walk(source, "/".join(fixed)) if match_glob(pattern, path))
        return
    yield from _match_parts(source, "", pattern.split("/"))


def _match_parts(source: FileSource, directory: str, parts: list[str]) -> Iterator[str]:
    prefix = directory + "/" if directory else ""
    first, rest = parts[0], parts[1:]
    try:
        names = [child[0] for child in source.children(source.resolve(directory))] if has_meta(first) else [first]
    except (FileNotFoundError, NotADirectoryError):
        return
    for name in names:
        if has_meta(first) and not go_match(first, name):
            continue
        path = prefix + name
        if rest:
            yield from _match_parts(source, path, rest)
        elif has_meta(first) or _exists(source, path):
            yield path


def _exists(source: FileSource, path: str) -> bool:
    try:
        source.find(source.resolve(path))
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _walk(source: FileSource, directory: str) -> Iterator[str]:
    try:
        children = source.children(directory)
    except (FileNotFoundError, NotADirectoryError):
        return
    prefix = directory + "/" if directory else ""
    for name, status, _ in children:
        yield prefix + name
        if stat.S_ISDIR(status.st_mode):
            yield from _walk(source, prefix + name)
