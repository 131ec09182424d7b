from __future__ import annotations

import contextlib
import errno
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildtool.cache import overlay
from buildtool.cache.overlay import mount_overlay, option_string, overlay_mount_data, unmount


@pytest.fixture
def target(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "mnt"
    path.mkdir()
    yield path
    with contextlib.suppress(OSError):  # os.path.ismount does not see bind mounts
        unmount(str(path))


def layers(tmp_path: Path, count: int) -> list[str]:
    """Directories, bottom first, each with its own file and a version of the common one."""
    made = []
    for number in range(count):
        directory = tmp_path / f"layer with : , \\ in it {number}"
        directory.mkdir()
        (directory / f"only-{number}").write_text("x")
        (directory / "common").write_text(str(number))
        made.append(str(directory))
    return made


def test_parameters_are_in_order_and_never_redirect() -> None:
    data = overlay_mount_data(["/top", "/bottom"], "/up", "/work", userxattr=False, volatile=True)

    assert data == [
        ("lowerdir+", "/top"),
        ("lowerdir+", "/bottom"),
        ("upperdir", "/up"),
        ("workdir", "/work"),
        ("volatile", None),
        ("index", "off"),
        ("redirect_dir", "off"),
        ("metacopy", "off"),
    ]


def test_an_option_string_is_relative_to_the_common_directory_and_escaped() -> None:
    data = overlay_mount_data(["/s/snap/2/fs", "/s/snap/1:x/fs"], "/s/up,1", "/s/w", userxattr=True, volatile=False)

    assert option_string(data) == (
        "/s",
        "lowerdir=snap/2/fs:snap/1\\:x/fs,upperdir=up\\,1,workdir=w,index=off,userxattr",
    )


@pytest.mark.parametrize(
    ("lower", "upper", "work"),
    [([], "/u", "/w"), (["/l"] * 501, "/u", "/w"), (["/l"], "/u", None), (["/l"], None, "/w")],
)
def test_impossible_overlays_are_refused(lower: list[str], upper: str | None, work: str | None) -> None:
    with pytest.raises(ValueError, match="overlay"):
        overlay_mount_data(lower, upper, work, userxattr=False, volatile=False)


@pytest.mark.parametrize("by_options", [False, True])
def test_an_overlay_shows_the_top_and_writes_to_the_upper(
    tmp_path: Path, target: Path, monkeypatch: pytest.MonkeyPatch, by_options: bool
) -> None:
    if by_options:
        monkeypatch.setattr(overlay, "_mount_by_fsconfig", _refuse)
    lower = layers(tmp_path, 3)
    upper, work = tmp_path / "up", tmp_path / "work"
    upper.mkdir()
    work.mkdir()
    before = os.getcwd()

    mount_overlay(str(target), lower[::-1], str(upper), str(work), userxattr=False, volatile=True)

    assert os.getcwd() == before
    assert (target / "common").read_text() == "2"
    assert sorted(os.listdir(target)) == ["common", "only-0", "only-1", "only-2"]
    (target / "new").write_text("x")
    assert os.listdir(upper) == ["new"]


def _refuse(*arguments: object, **named: object) -> None:
    raise overlay._NotSupportedError


@pytest.mark.parametrize("count", [300, 500])
def test_more_layers_than_an_option_string_holds(tmp_path: Path, target: Path, count: int) -> None:
    lower = layers(tmp_path, count)
    with pytest.raises(ValueError, match="do not fit"):
        option_string(overlay_mount_data(lower, None, None, userxattr=False, volatile=False))

    mount_overlay(str(target), lower[::-1], None, None, userxattr=False)

    assert (target / "common").read_text() == str(count - 1)
    assert len(os.listdir(target)) == count + 1
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").write_text("x")


def test_a_single_layer_is_shown_readonly(tmp_path: Path, target: Path) -> None:
    mount_overlay(str(target), layers(tmp_path, 1), None, None, userxattr=False)

    assert (target / "common").read_text() == "0"
    with pytest.raises(OSError, match="Read-only"):
        (target / "new").write_text("x")


def test_paths_longer_than_the_kernel_takes_in_one_value(tmp_path: Path, target: Path) -> None:
    deep = tmp_path.joinpath(*["d" * 100] * 3)
    deep.mkdir(parents=True)
    lower = layers(deep, 2)

    mount_overlay(str(target), lower[::-1], None, None, userxattr=False)

    assert (target / "common").read_text() == "1"


def test_the_kernels_explanation_is_in_the_error(tmp_path: Path, target: Path) -> None:
    with pytest.raises(OSError, match="nowhere") as caught:
        mount_overlay(str(target), ["/nowhere", "/nowhere/either"], None, None, userxattr=False)

    assert caught.value.errno == errno.ENOENT


def test_it_works_in_a_user_namespace(tmp_path: Path) -> None:
    code = f"""if True:
        import io, os, sys, tarfile
        from pathlib import Path
        from buildtool.cache import Store, Tree
        from buildtool.cache.overlay import mount_overlay, in_user_namespace
        sys.path.insert(0, {str(Path(__file__).parents[3])!r})
        from tests.unit.cache.conftest import Tar
        root = Path({str(tmp_path)!r})
        target = root / "mnt"
        target.mkdir()
        with Store.open(root / "store") as store:
            assert store.squash_ids and in_user_namespace()
            base = Tar().directory("d", uid=7).file("d/x", b"1", uid=1000).file("e").add("null", tarfile.CHRTYPE)
            lower = store.layers.unpack(base.stream())
            change = Tar().file("d/.wh..wh..opq").file(".wh.e").file("f")
            middle = store.layers.unpack(change.stream(), parents=[lower])
            with store.snapshots.prepare([lower, middle]) as draft:
                paths = [str(store.snapshots.fs(number)) for number in (middle, lower)]
                mount_overlay(str(target), paths, str(draft.fs), str(draft.work), userxattr=True, volatile=True)
                assert sorted(os.listdir(target)) == ["d", "f"], os.listdir(target)
                assert os.listdir(target / "d") == []
                tree = Tree([store.snapshots.fs(lower), store.snapshots.fs(middle)])
                assert [path for path, _ in tree.walk()] == ["/", "/d", "/f"]
                (target / "f").unlink()
                (target / "f").mkdir()
                os.system(f"umount {{target}}")
                upper = draft.commit()
            archive = tarfile.open(fileobj=io.BytesIO(b"".join(store.layers.tar(upper))))
            assert archive.getnames() == ["f", "f/.wh..wh..opq"], archive.getnames()
            assert store.check() == []
        """
    command = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c", code]
    subprocess.run(command, check=True)
