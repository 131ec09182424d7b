"""Docker's rules for the paths of `cp`: what a path means, how its entry is named, what `stat` says. Pure."""

from __future__ import annotations

import os
import posixpath
import stat
from dataclasses import dataclass
from typing import Any

from buildtool.containers import times

_GO_BITS = (
    (stat.S_ISDIR, 1 << 31),
    (stat.S_ISLNK, 1 << 27),
    (stat.S_ISFIFO, 1 << 25),
    (stat.S_ISSOCK, 1 << 24),
    (stat.S_ISBLK, 1 << 26),
    (stat.S_ISCHR, 1 << 26 | 1 << 21),
)


@dataclass(frozen=True)
class ArchivePath:
    """A path of a request: absolute, with a trailing `/` or `/.` kept, which means "the directory itself"."""

    text: str

    @classmethod
    def parse(cls, text: str) -> ArchivePath:
        """Relative paths are taken from `/`; `..` never leads above it."""
        cleaned = posixpath.normpath("/" + text)
        if cleaned.startswith("//"):
            cleaned = cleaned[1:]
        if text.endswith("/.") or text == ".":
            cleaned = cleaned.rstrip("/") + "/."
        elif text.endswith("/"):
            cleaned = cleaned.rstrip("/") + "/"
        return cls(cleaned)

    @property
    def follows(self) -> bool:
        """Whether a symlink at the end is followed."""
        return self.text.endswith(("/", "/."))

    @property
    def parent(self) -> str:
        """The directory in which the entry is looked up."""
        return self.text.rpartition("/")[0] or "/"

    @property
    def last(self) -> str:
        """The last component, empty when the path follows to a directory."""
        name = self.text.rpartition("/")[2]
        return "" if name == "." else name

    @property
    def name(self) -> str:
        """Go's filepath.Base of the path: how the archive's entry is called."""
        if self.text.endswith("/."):
            return "."
        return self.text.rstrip("/").rpartition("/")[2] or "/"


def path_stat(name: str, status: os.stat_result, link_target: str) -> dict[str, Any]:
    """The object in the X-Docker-Container-Path-Stat header."""
    return {
        "name": name,
        "size": status.st_size,
        "mode": go_mode(status.st_mode),
        "mtime": times.rfc3339nano(status.st_mtime_ns),
        "linkTarget": link_target,
    }


def go_mode(mode: int) -> int:
    """A Unix mode as Go's os.FileMode."""
    value = stat.S_IMODE(mode) & 0o777
    for test, bits in _GO_BITS:
        if test(mode):
            value |= bits
    for flag, bit in ((stat.S_ISUID, 1 << 23), (stat.S_ISGID, 1 << 22), (stat.S_ISVTX, 1 << 20)):
        if mode & flag:
            value |= bit
    return value
