"""Differences of images: each kind of them, and where streams of bytes differ."""

from __future__ import annotations

import gzip
import io
import tarfile
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.images import Image, Images, LayerSource
from buildtool.images.byte_ranges import differing_ranges
from buildtool.images.difference import image_differences
from buildtool.oci import ContainerConfig, Descriptor, History, ImageConfig, RootFS, encode, media_types


def layer(store: Any, *members: tuple[str, bytes, dict[str, Any]], form: int = tarfile.PAX_FORMAT) -> LayerSource:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as tar:
        for name, content, fields in members:
            info = tarfile.TarInfo(name)
            info.size = len(content)
            for key, value in fields.items():
                setattr(info, key, value)
            tar.addfile(info, io.BytesIO(content))
    from buildtool.oci import sha256

    data = stream.getvalue()
    digest = store.blobs.put(data)
    return LayerSource(sha256(data), len(data), blob=Descriptor(media_types.LAYER, digest, len(data)))


def image(images: Images, *layers: LayerSource, **config: Any) -> Image:
    history = [History(created_by=f"RUN {number}") for number in range(len(layers))]
    rootfs = RootFS("layers", [each.diff_id for each in layers])
    return images.add(
        encode(ImageConfig("amd64", "linux", rootfs, config=ContainerConfig(**config), history=history)), layers
    )


def found(images: Images, before: Image, now: Image) -> list[tuple[Any, ...]]:
    return [
        (each.kind, each.layer, each.name, each.field, each.before, each.now)
        for each in image_differences(images.store, before, now)
    ]


def test_the_same_image_has_no_differences(images: Images) -> None:
    one = image(images, layer(images.store, ("a", b"1", {})))
    assert image_differences(images.store, one, one) == []


def test_config_fields_by_their_path(images: Images) -> None:
    base = layer(images.store, ("a", b"1", {}))
    one = image(images, base, env=["A=1", "B=2"], cmd=["sh"])
    other = image(images, base, env=["A=1", "B=3", "C=4"], user="me")
    assert found(images, one, other) == [
        ("config", 0, "config.Cmd", "", '["sh"]', None),
        ("config", 0, "config.Env[1]", "", "B=2", "B=3"),
        ("config", 0, "config.Env[2]", "", None, "C=4"),
        ("config", 0, "config.User", "", None, "me"),
    ]


def test_files_by_what_differs_of_them(images: Images) -> None:
    one = layer(
        images.store,
        ("gone", b"", {}),
        ("mode", b"", {"mode": 0o600, "mtime": 5}),
        ("text", b"0123456789" * 10, {}),
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "a"}),
        ("x", b"", {"pax_headers": {"SCHILY.xattr.user.a": "1"}}),
    )
    other = layer(
        images.store,
        ("mode", b"", {"mode": 0o644, "mtime": 6, "uid": 1}),
        ("text", b"0123456789" * 5 + b"!!" + b"23456789" + b"0123456789" * 4, {}),
        ("link", b"", {"type": tarfile.SYMTYPE, "linkname": "b"}),
        ("x", b"", {}),
        ("new", b"", {"type": tarfile.DIRTYPE}),
    )
    differences = image_differences(images.store, image(images, one), image(images, other))
    shown = [(each.name, each.field, each.before, each.now) for each in differences if each.field != "content"]
    assert shown == [
        ("gone", "file", "file", None),
        ("link", "link", "a", "b"),
        ("mode", "mode", "0600", "0644"),
        ("mode", "owner", "0:0", "1:0"),
        ("mode", "time", "5", "6"),
        ("new", "file", None, "directory"),
        ("x", "xattr user.a", "31", None),
    ]
    (content,) = [each for each in differences if each.field == "content"]
    assert [(each.start, each.end, each.before, each.now) for each in content.ranges] == [(50, 52, "3031", "2121")]


def test_layers_that_only_one_has_and_those_after_them(images: Images) -> None:
    a, b, c = (layer(images.store, (name, b"", {})) for name in "abc")
    assert found(images, image(images, a, c), image(images, a, b, c))[-1] == (
        "layer", 2, "", "", None, f"{b.diff_id} (RUN 1)",
    )  # fmt: skip


def test_the_same_files_written_otherwise(images: Images) -> None:
    members = (("b", b"1", {}), ("a", b"2", {}))
    plain, turned = layer(images.store, *members), layer(images.store, *members[::-1])
    assert [each.kind for each in image_differences(images.store, image(images, plain), image(images, turned))] == [
        "order"
    ]
    gnu = layer(images.store, *members, form=tarfile.GNU_FORMAT)
    (only,) = image_differences(images.store, image(images, plain), image(images, gnu))
    assert only.kind == "archive" and only.ranges[1].start == 262  # behind "ustar" of the first header


@given(st.binary(max_size=200), st.binary(max_size=200), st.integers(1, 50))
def test_ranges_hold_every_difference_and_end_at_one(one: bytes, other: bytes, cut: int) -> None:
    """Outside of the ranges the bytes are the same; the first and last byte of each range differ."""
    chunks = [[data[i : i + cut] for i in range(0, len(data), cut)] for data in (one, other)]
    ranges = differing_ranges(*chunks, most=1000)
    inside = {index for each in ranges for index in range(each.start, each.end)}

    def differs(index: int) -> bool:
        return one[index : index + 1] != other[index : index + 1]

    assert all(index in inside for index in range(max(len(one), len(other))) if differs(index))
    assert all(differs(each.start) and differs(each.end - 1) for each in ranges)


@pytest.mark.parametrize(
    ("path", "a", "b", "cause"),
    [
        ("x/__pycache__/m.pyc", b"\xa7\r\r\n" + bytes(12), b"\xa7\r\r\n" + bytes(4) + b"1" + bytes(7), "bytecode"),
        ("a.gz", gzip.compress(b"x", mtime=1), gzip.compress(b"x", mtime=2), "gzip -n"),
        ("built", b"built 2024-05-01 10:00:00", b"built 2024-05-01 10:00:07", "date or time"),
        ("stamp", b"at 1700000000.", b"at 1700000060.", "date or time"),
        ("etc/machine-id", b"a" * 32, b"b" * 32, "every machine"),
        ("var/log/apt/history.log", b"a", b"b", "a log or a cache"),
        ("conf", b"dir=/tmp/ab1/x", b"dir=/tmp/zz9/x", "a path of the building machine"),
        ("plain", b"a", b"b", ""),
    ],
)
def test_usual_causes_are_named(images: Images, path: str, a: bytes, b: bytes, cause: str) -> None:
    one, other = (image(images, layer(images.store, (path, content, {}))) for content in (a, b))
    (content,) = image_differences(images.store, one, other)
    assert cause in content.cause and bool(cause) == bool(content.cause)


def test_an_equal_layer_that_is_compressed_otherwise(images: Images) -> None:
    plain = layer(images.store, ("a", b"1", {}))
    made = []
    for level in (1, 9):
        data = gzip.compress(images.store.blobs.read(plain.diff_id), level, mtime=level)
        blob = Descriptor(media_types.LAYER_GZIP, images.store.blobs.put(data), len(data))
        made.append(image(images, LayerSource(plain.diff_id, plain.size, blob=blob), user=str(level)))
    assert [(each.kind, each.layer) for each in image_differences(images.store, *made)] == [
        ("config", 0),
        ("compression", 1),
    ]
