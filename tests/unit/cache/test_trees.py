from __future__ import annotations

import errno
import os
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.cache import Tree
from buildtool.cache.overlay import mount_overlay, unmount
from tests.unit.cache.trees import OPERATIONS, contents, describe, perform


@pytest.fixture
def layers(tmp_path: Path) -> tuple[Path, Path]:
    """A base and a change to it, written as an overlay's upper directory has it."""
    base, change = tmp_path / "base", tmp_path / "change"
    (base / "usr/lib").mkdir(parents=True)
    (base / "usr/lib/libc").write_text("libc")
    (base / "lib").symlink_to("usr/lib")
    (base / "etc").mkdir()
    (base / "etc/passwd").write_text("root")
    (base / "etc/gone").write_text("gone")
    (base / "var/old").mkdir(parents=True)
    (change / "etc").mkdir(parents=True)
    (change / "etc/passwd").write_text("root, user")
    os.mknod(change / "etc/gone", 0o020000, 0)
    (change / "var").mkdir()
    os.setxattr(change / "var", "trusted.overlay.opaque", b"y")
    (change / "var/new").write_text("new")
    return base, change


def test_the_top_layer_wins_and_hides(layers: tuple[Path, Path]) -> None:
    tree = Tree(layers)

    assert tree.read_text("/etc/passwd") == "root, user"
    assert tree.listdir("etc") == ["passwd"]
    assert tree.listdir("/var/") == ["new"]
    assert tree.listdir("/") == ["etc", "lib", "usr", "var"]
    assert not tree.exists("/etc/gone")
    assert tree.real("/etc/passwd") == layers[1] / "etc/passwd"
    assert tree.real("/usr") == layers[0] / "usr"
    with pytest.raises(FileNotFoundError):
        tree.lstat("/etc/gone")
    with pytest.raises(FileNotFoundError):
        tree.lstat("/var/old")


def test_symlinks_are_followed_inside_only(layers: tuple[Path, Path]) -> None:
    base, _ = layers
    (base / "escape").symlink_to("../../../../etc")
    (base / "absolute").symlink_to("/etc/passwd")
    tree = Tree(layers)

    assert tree.resolve("/lib/libc") == "/usr/lib/libc"
    assert tree.read_text("lib/libc") == "libc"
    assert tree.resolve("/escape/passwd") == "/etc/passwd"
    assert tree.resolve("/../../etc/../usr/./lib") == "/usr/lib"
    assert tree.read_text("absolute") == "root, user"
    assert tree.readlink("/lib") == "usr/lib"
    assert tree.lstat("/lib").st_size == len("usr/lib")
    assert tree.lstat("/lib/").st_nlink >= 2
    assert tree.exists("/escape")


def test_what_is_missing_is_appended_or_an_error(layers: tuple[Path, Path]) -> None:
    tree = Tree(layers)

    assert tree.resolve("/lib/new/../other/file") == "/usr/lib/other/file"
    assert tree.resolve("/new/x") == "/new/x"
    with pytest.raises(FileNotFoundError):
        tree.resolve("/lib/new", strict=True)
    assert tree.read_text("/lib/new", "default") == "default"
    assert tree.read_text("/etc/passwd/x", "default") == "default"
    for call in (tree.open, tree.listdir, tree.readlink, tree.real):
        with pytest.raises(FileNotFoundError):
            call("/nowhere")


def test_loops_files_as_directories_and_directories_as_files(layers: tuple[Path, Path]) -> None:
    base, _ = layers
    (base / "loop").symlink_to("loop")
    (base / "a").symlink_to("b")
    (base / "b").symlink_to("a")
    tree = Tree(layers)

    for path in ("/loop", "/a/x", "b"):
        with pytest.raises(OSError, match="symbolic links") as caught:
            tree.resolve(path)
        assert caught.value.errno == errno.ELOOP
        assert not tree.exists(path)
    with pytest.raises(NotADirectoryError):
        tree.resolve("/etc/passwd/x")
    with pytest.raises(NotADirectoryError):
        tree.listdir("/etc/passwd")
    with pytest.raises(IsADirectoryError):
        tree.open("/etc")
    assert not tree.exists("/etc/passwd/x")


def test_a_fifo_is_never_opened(layers: tuple[Path, Path]) -> None:
    os.mkfifo(layers[0] / "fifo")

    with pytest.raises(OSError, match="not a regular file"):
        Tree(layers).open("/fifo")


def test_a_walk_is_sorted_and_each_directory_comes_first(layers: tuple[Path, Path]) -> None:
    paths = [path for path, _ in Tree(layers).walk()]

    assert paths == ["/", "/etc", "/etc/passwd", "/lib", "/usr", "/usr/lib", "/usr/lib/libc", "/var", "/var/new"]
    assert [path for path, _ in Tree(layers).walk("/etc/passwd")] == ["/etc/passwd"]
    assert [path for path, _ in Tree(layers).walk("lib/")] == ["/usr/lib", "/usr/lib/libc"]


def test_a_tree_without_layers_is_empty() -> None:
    with pytest.raises(FileNotFoundError):
        Tree([]).lstat("/")
    assert not Tree([]).exists("/x")


@settings(max_examples=40, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(st.lists(OPERATIONS, min_size=2, max_size=4))
def test_it_shows_what_the_kernel_shows(changes: list[list[tuple[object, ...]]]) -> None:
    """Law: for layers made by any operations on real overlays, a Tree over them equals their overlay mount."""
    with TemporaryDirectory(prefix="cache-tree-") as temporary:
        root = Path(temporary)
        lower: list[Path] = []
        for number, operations in enumerate(changes):
            upper, work, merged = (root / f"{kind}{number}" for kind in ("upper", "work", "merged"))
            for directory in (upper, work, merged):
                directory.mkdir()
            if lower:
                mount_overlay(
                    str(merged), [*map(str, lower[::-1])], str(upper), str(work), userxattr=False, volatile=True
                )
                try:
                    perform(merged, operations)
                    expected = contents(merged, times=False)
                finally:
                    unmount(str(merged))
            else:
                perform(upper, operations)
                expected = contents(upper, times=False)
            lower.append(upper)
            tree = Tree(lower)
            walked = [(path, status) for path, status in tree.walk() if path != "/"]
            seen = {path: describe(tree.real(path), status, times=False) for path, status in walked}
            assert _without_links(seen) == _without_links(expected)
            for path in expected:
                parent, _, name = path.rpartition("/")
                assert name in tree.listdir(parent or "/")


def _without_links(described: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """An overlay's link counts are its own business."""
    return {path: (*entry[:4], *entry[5:]) for path, entry in described.items()}


def test_a_view_of_immutable_layers_shows_the_same(tmp_path: Path) -> None:
    """What roots hold is remembered; whiteouts, opaque directories and missing names are seen as before."""
    from buildtool.cache.overlay import opaque_xattr

    layers = [tmp_path / str(number) / "fs" for number in range(3)]
    (layers[0] / "a").mkdir(parents=True)
    (layers[0] / "a" / "below").touch()
    (layers[0] / "gone").touch()
    (layers[1] / "a").mkdir(parents=True)
    (layers[1] / "a" / "above").touch()
    os.setxattr(layers[1] / "a", opaque_xattr(), b"y")
    layers[2].mkdir(parents=True)
    os.mknod(layers[2] / "gone", 0o020000)
    plain, remembering = Tree(layers), Tree(layers, immutable=True)
    for tree in (plain, remembering, Tree(layers, immutable=True)):
        assert [path for path, _ in tree.walk()] == ["/", "/a", "/a/above"]
        assert not tree.exists("/gone")
        assert not tree.exists("/never")
        assert not tree.exists("/a/below")
