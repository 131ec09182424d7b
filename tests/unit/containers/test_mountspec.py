from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from buildtool.containers import mountspec
from buildtool.containers.model import Config, HostConfig, Mount, MountPoint, decode
from buildtool.errors import InvalidInput, Unavailable


def _points(host: dict[str, Any], volumes: dict[str, Any] | None = None) -> dict[str, MountPoint]:
    others = {"other": [MountPoint("volume", "/v", "/shared", name="shared", driver="local")]}
    config = Config(volumes=volumes)
    found = mountspec.mount_points(config, decode(host, HostConfig, "HostConfig"), others.__getitem__)
    return {point.destination: point for point in found}


def test_binds_and_volumes() -> None:
    points = _points({"Binds": ["/host:/a:ro", "data:/b/", "/c"]})
    assert (points["/a"].type, points["/a"].source, points["/a"].rw) == ("bind", "/host", False)
    assert (points["/b"].type, points["/b"].name, points["/b"].rw) == ("volume", "data", True)
    assert points["/c"].anonymous
    assert len(points["/c"].name) == 64


@pytest.mark.parametrize(
    ("bind", "text"),
    [
        ("/a:/b:ro:x", "invalid volume specification"),
        (":/b", "invalid volume specification"),
        ("/a:b", "mount path must be absolute"),
        ("/a:/", "destination can't be '/'"),
        ("/a:/b:sideways", "invalid mode: sideways"),
        ("da ta:/b", "includes invalid characters for a local volume name"),
        ("/a:/b:nocopy", "invalid mode: nocopy"),
        ("/a:/b:ro,rw", "invalid mode: ro,rw"),
        ("/a:/b:rslave,shared", "invalid mode: rslave,shared"),
        ("aa:/b:z,Z", "invalid mode: z,Z"),
    ],
)
def test_malformed_binds_are_refused(bind: str, text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        mountspec.parse_bind(bind)


def test_two_mounts_on_one_place_are_refused() -> None:
    with pytest.raises(InvalidInput, match="Duplicate mount point: /a"):
        _points({"Binds": ["/x:/a"], "Tmpfs": {"/a/": ""}})


def test_the_images_volumes_fill_what_is_left() -> None:
    points = _points({"Binds": ["data:/data"]}, {"/data": {}, "/cache": {}})
    assert points["/data"].name == "data"
    assert points["/cache"].anonymous


def test_volumes_from_can_be_made_read_only_and_overridden() -> None:
    assert not _points({"VolumesFrom": ["other:ro"]})["/shared"].rw
    assert _points({"VolumesFrom": ["other"], "Binds": ["/x:/shared"]})["/shared"].type == "bind"
    with pytest.raises(InvalidInput, match="invalid mode: xx"):
        _points({"VolumesFrom": ["other:xx"]})


def test_parents_are_mounted_before_what_lies_in_them() -> None:
    assert list(_points({"Binds": ["/x:/a/b/c", "/y:/a"]})) == ["/a", "/a/b/c"]


def test_tmpfs_mounts_keep_their_options() -> None:
    mount = Mount("tmpfs", target="/t", tmpfs_options=None, read_only=True)
    assert mountspec.check_mount(mount).mode == "ro"
    sized = decode(
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1024, "Mode": 0o1770}}, Mount, "Mount"
    )
    assert mountspec.check_mount(sized).mode == "size=1024,mode=1770"


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        ({"Type": "x", "Target": "/a"}, "mount type unknown"),
        ({"Type": "volume"}, "field Target must not be empty"),
        ({"Type": "bind", "Target": "/a"}, "field Source must not be empty"),
        ({"Type": "bind", "Source": "x", "Target": "/a"}, "mount path must be absolute"),
        ({"Type": "bind", "Source": "/no/such", "Target": "/a"}, "bind source path does not exist: /no/such"),
        ({"Type": "tmpfs", "Source": "x", "Target": "/a"}, "field Source must not be specified"),
        ({"Type": "volume", "Target": "/a", "BindOptions": {}}, "field BindOptions must not be specified"),
        ({"Type": "volume", "Target": "a"}, "mount path must be absolute"),
        ({"Type": "volume", "Target": "/a", "VolumeOptions": {"Subpath": "../x"}}, "subpath must be a relative path"),
    ],
)
def test_malformed_mounts_are_refused_with_dockers_words(mount: dict[str, Any], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        mountspec.check_mount(decode(mount, Mount, "Mount"))


def test_missing_bind_sources_may_be_made_when_asked(tmp_path: Path) -> None:
    raw = {"Type": "bind", "Source": f"{tmp_path}/new", "Target": "/a", "BindOptions": {"CreateMountpoint": True}}
    assert mountspec.check_mount(decode(raw, Mount, "Mount")).source == f"{tmp_path}/new"


def test_other_volume_drivers_are_not_there() -> None:
    with pytest.raises(Unavailable, match='plugin "nfs" not found'):
        mountspec.parse_bind("data:/b", "nfs")
