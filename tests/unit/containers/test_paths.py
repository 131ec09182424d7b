from __future__ import annotations

import os
import stat

import pytest

from buildtool.containers.paths import ArchivePath, go_mode, path_stat


@pytest.mark.parametrize(
    ("text", "parent", "last", "name", "follows"),
    [
        ("/etc/passwd", "/etc", "passwd", "passwd", False),
        ("etc/passwd", "/etc", "passwd", "passwd", False),
        ("/etc/", "/etc", "", "etc", True),
        ("/etc/.", "/etc", "", ".", True),
        ("/", "/", "", "/", True),
        ("/.", "/", "", ".", True),
        (".", "/", "", ".", True),
        ("/a/../../b", "/", "b", "b", False),
        ("//x", "/", "x", "x", False),
    ],
)
def test_paths_mean_what_docker_means(text: str, parent: str, last: str, name: str, follows: bool) -> None:
    path = ArchivePath.parse(text)
    assert (path.parent, path.last, path.name, path.follows) == (parent, last, name, follows)


@pytest.mark.parametrize(
    ("mode", "expected"),
    [
        (stat.S_IFREG | 0o644, 0o644),
        (stat.S_IFDIR | 0o755, (1 << 31) | 0o755),
        (stat.S_IFLNK | 0o777, (1 << 27) | 0o777),
        (stat.S_IFDIR | 0o1777, (1 << 31) | (1 << 20) | 0o777),
        (stat.S_IFREG | 0o4755, (1 << 23) | 0o755),
        (stat.S_IFCHR | 0o666, (1 << 26) | (1 << 21) | 0o666),
    ],
)
def test_modes_are_gos(mode: int, expected: int) -> None:
    assert go_mode(mode) == expected


def test_the_stat_header() -> None:
    document = path_stat("tmp", os.lstat("/tmp"), "")
    assert document["name"] == "tmp"
    assert document["mode"] & (1 << 31)
    assert set(document) == {"name", "size", "mode", "mtime", "linkTarget"}
