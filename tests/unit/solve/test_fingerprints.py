"""The index of a context's digests: which statuses it trusts, and which files it reads again."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from buildtool.solve.fingerprints import FileIndex

_OLD_ENOUGH = 0.05
"""Seconds; more than the clock's granularity."""


class Context:
    """A directory with one file, and what is remembered of it."""

    def __init__(self, root: Path) -> None:
        self.index, self.root = root / "index", root / "context"
        self.root.mkdir()
        self.file = self.root / "a"

    def look(self) -> tuple[int, bytes]:
        """How many files were read, and the digest."""
        index = FileIndex(self.index, "context", self.root)
        found = index.look("", [("a", os.lstat(self.file), str(self.root))])
        index.save()
        return index.hashed, found.digests


@pytest.fixture
def context(tmp_path: Path) -> Context:
    return Context(tmp_path)


def test_racy_git_a_status_as_young_as_the_look_is_not_trusted(context: Context) -> None:
    """It could change again within the same tick of the clock, and nothing would tell."""
    context.file.write_text("one")
    looks = [context.look()[0] for _ in range(2)]
    time.sleep(_OLD_ENOUGH)
    looks += [context.look()[0] for _ in range(3)]
    assert looks == [1, 1, 1, 0, 0]


def test_racy_git_also_when_only_the_status_changed_youngly(context: Context) -> None:
    """The change time counts as the modification time does: that one anybody may set back."""
    context.file.write_text("one")
    time.sleep(_OLD_ENOUGH)
    context.look()
    status = context.file.stat()
    context.file.write_text("two")
    os.utime(context.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    first, before = context.look()
    context.file.write_text("six")
    os.utime(context.file, ns=(status.st_atime_ns, status.st_mtime_ns))
    second, after = context.look()
    assert (first, second) == (1, 1)
    assert before != after


def test_what_is_damaged_or_of_another_place_is_read_again(context: Context, tmp_path: Path) -> None:
    context.file.write_text("one")
    time.sleep(_OLD_ENOUGH)
    assert [context.look()[0] for _ in range(2)] == [1, 0]
    for path in context.index.iterdir():
        path.write_bytes(path.read_bytes()[:-3])
    assert [context.look()[0] for _ in range(2)] == [1, 0]
    context.root = context.root.rename(tmp_path / "elsewhere")
    context.file = context.root / "a"
    assert context.look()[0] == 1
