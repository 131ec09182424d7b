"""What a build does not do: read layers, copy again, run again."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

from buildtool.errors import InvalidInput
from buildtool.oci import parse_reference
from buildtool.solve import solver
from tests.unit.solve.conftest import Workshop
from tests.unit.solve.fixtures import busybox_rootfs


def test_a_fully_cached_build_reads_no_layer_and_mounts_nothing(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The snapshots are moved away meanwhile: whoever looked into one, or mounted it, would fail."""
    shop.write(a="1", d__b="2")
    text = (
        "FROM busybox AS one\nRUN echo 1 > /one\nWORKDIR /w\nFROM busybox\nCOPY . /src\nCOPY --from=one /one /\n"
        "COPY --link a /linked\nRUN --mount=target=/ctx --mount=from=one,target=/o cat /ctx/a /o/one > /both\n"
    )
    first = shop.build(text)
    shop.run(shop.builder.close())
    snapshots = shop.store.snapshots.directory

    async def refuse(*arguments: Any) -> None:
        raise AssertionError("a container was started")

    monkeypatch.setattr(type(shop.runtime), "create", refuse)
    snapshots.rename(shop.root / "elsewhere")
    try:
        again = shop.build(text)
    finally:
        (shop.root / "elsewhere").rename(snapshots)
    assert all(again.cached)
    assert again.image.id == first.image.id


@pytest.mark.parametrize("flag", ["", "--link "])
def test_a_copied_layer_is_rebased_and_not_copied_again(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch, flag: str
) -> None:
    shop.write(a="1", d__b="2")
    text = f"FROM busybox\nCOPY {flag}. /src/\nADD {flag}a /added\n"
    first = shop.build(text)
    shop.images.import_tar(busybox_rootfs({"etc/extra": "x"}), reference=parse_reference("busybox"))

    def refuse(*arguments: Any) -> None:
        raise AssertionError("files were copied")

    monkeypatch.setattr(solver, "execute_copy", refuse)
    second = shop.build(text)
    assert second.image.id != first.image.id
    assert [layer.diff_id for layer in second.image.layers[-2:]] == [
        layer.diff_id for layer in first.image.layers[-2:]
    ]
    assert {"/etc/extra", "/src/a", "/src/d/b", "/added"} <= set(shop.tree(second.image))


def test_a_copy_through_a_symlink_of_the_target_is_made_for_it(shop: Workshop) -> None:
    shop.write(a="1")
    shop.build("FROM busybox\nRUN mkdir /real\nCOPY a /to/\n")
    linked = shop.build("FROM busybox\nRUN mkdir /real && ln -s /real /to\nCOPY a /to/\n")
    assert "/real/a" in shop.tree(linked.image)


def test_only_layers_of_exported_stages_are_serialised(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[int] = []
    store = type(shop.store.layers)
    whole = store.tar
    monkeypatch.setattr(
        store, "tar", lambda self, snapshot, *more: made.append(snapshot) or whole(self, snapshot, *more)
    )
    outcome = shop.build(
        "FROM busybox AS one\nRUN echo 1 > /one\nRUN echo 2 > /two\nFROM busybox\nCOPY --from=one /one /\n"
    )
    assert made == [outcome.image.layers[-1].snapshot]


def test_files_named_for_it_do_not_count_for_early_cutoff(shop: Workshop) -> None:
    text = "FROM busybox\nRUN mkdir -p /var/log; echo {0} > /var/log/x; echo y > /y\nRUN cat /y > /z\n"
    shop.build(text.format(1))
    assert shop.build(text.format(2)).cached == [True, False, False]
    assert shop.build(text.format(3), cutoff_ignore=("/var/log/**",)).cached == [True, False, True]
    other = text.replace("echo y", "echo other").format(4)
    assert shop.build(other, cutoff_ignore=("/var/log/**",)).cached == [True, False, False]
    with pytest.raises(InvalidInput):
        shop.build(text.format(5), cutoff_ignore=("[",))
    with pytest.raises(InvalidInput, match=r"--cutoff-ignore"):  # also when nothing has to be compared
        shop.build(text.format(3), cutoff_ignore=("[",))


def test_steps_that_change_nothing_do_not_count_for_early_cutoff(shop: Workshop) -> None:
    shop.build("FROM busybox\nRUN echo 1 > /one\nRUN cat /one > /two\n")
    assert shop.build("FROM busybox\nRUN true\nRUN echo 1 > /one; true\nRUN cat /one > /two\n").cached == [
        True,
        False,
        False,
        True,
    ]


def test_modes_as_git_has_them(shop: Workshop) -> None:
    """The umask of a checkout makes no difference: group and other bits are not what the repository says."""
    shop.put("plain", "1", 0o600)
    shop.put("tool", "1", 0o700)
    shop.put("d/f", "1", 0o664)
    (shop.context / "d").chmod(0o700)
    text = "FROM busybox\nCOPY . /src\n"
    first = shop.build(text, context_mode="git")
    tree = shop.tree(first.image)
    found = {name: tree[f"/src/{name}"].permissions for name in ("plain", "tool", "d", "d/f")}
    assert found == {"plain": 0o644, "tool": 0o755, "d": 0o755, "d/f": 0o644}
    for path, mode in (("plain", 0o664), ("tool", 0o775), ("d", 0o775), ("d/f", 0o600)):
        (shop.context / path).chmod(mode)
    assert shop.build(text, context_mode="git").cached == [True, True]
    (shop.context / "plain").chmod(0o755)
    assert shop.build(text, context_mode="git").cached == [True, False]
    assert shop.build(text).cached == [True, False], "kept modes are another content"
    with pytest.raises(InvalidInput, match="unknown context mode"):
        shop.build(text, context_mode="svn")


@pytest.mark.parametrize("what", ["content", "times", "inode", "mode"])
def test_the_fingerprint_sees_every_kind_of_change(shop: Workshop, what: str) -> None:
    """The same size and mtime do not hide a change: BuildKit's stale files."""
    path = shop.put("a", "one")
    status = path.stat()
    text = "FROM busybox\nCOPY a /a\n"
    shop.build(text)
    shop.build(text)
    if what == "content":
        path.write_text("two")
        os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    elif what == "inode":
        other = Path(f"{path}.new")
        other.write_text("two")
        os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
        other.rename(path)
    elif what == "mode":
        path.chmod(0o755)
    else:
        os.utime(path)
    assert shop.build(text).cached == [True, what == "times"]
