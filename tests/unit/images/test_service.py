"""Looking up, naming, adding: the table of images and what it survives."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from buildtool.errors import Corrupt, InvalidInput, NotFound
from buildtool.images import Images, LayerSource
from buildtool.oci import Digest, Platform, parse_reference, sha256
from tests.unit.images.conftest import Maker, reference

HELLO = {"hello": b"hello\n"}


def test_an_image_is_found_by_every_name_it_has(images: Images, make: Maker) -> None:
    image = make(HELLO, tags=["app", "app:1"])
    images.record_digest(image.id, parse_reference(f"app@{image.manifest.digest}"))

    for name in (
        "app",
        "app:1",
        "docker.io/library/app:latest",
        image.id,
        image.id[7:],
        image.id[:19],
        image.id[7:19],
    ):
        assert images.get(name).id == image.id
    assert images.get(f"app@{image.manifest.digest}").id == image.id
    assert images.get(f"app:1@{image.manifest.digest}").id == image.id
    assert [str(name) for name in images.get("app").references] == [
        "docker.io/library/app:1",
        "docker.io/library/app:latest",
    ]


def test_a_local_image_is_found_by_its_manifest_digest(images: Images, make: Maker) -> None:
    image = make(HELLO, tags=["app:1"])
    assert images.get(f"app@{image.manifest.digest}").id == image.id
    assert images.find(f"other@{image.manifest.digest}") is None


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nothing", "No such image: nothing:latest"),
        ("a/b:c", "No such image: a/b:c"),
        ("0" * 64, f"No such image: sha256:{'0' * 64}"),
        ("0123abcd", "No such image: 0123abcd:latest"),
    ],
)
def test_an_unknown_name_is_dockers_not_found(images: Images, name: str, message: str) -> None:
    with pytest.raises(NotFound) as caught:
        images.get(name)
    assert caught.value.message == message
    assert images.find(name) is None


def test_a_malformed_name_is_invalid(images: Images) -> None:
    with pytest.raises(InvalidInput, match="invalid reference format"):
        images.get("a//b")
    assert images.find("a//b") is None


def test_an_ambiguous_prefix_finds_nothing_and_says_so(images: Images, make: Maker) -> None:
    made = [make({"n": str(n).encode()}) for n in range(17)]
    firsts = [image.id[7] for image in made]
    common = next(first for first in firsts if firsts.count(first) > 1)
    with pytest.raises(NotFound, match="image ids begin with"):
        images.get(common)


def test_a_name_moves_and_leaves_the_old_image_dangling(images: Images, make: Maker) -> None:
    old = make(HELLO, tags=["app"])
    new = make({"hello": b"other"}, tags=["app"])
    assert images.get("app").id == new.id
    assert images.get(old.id).references == []


def test_tags_that_cannot_be_are_refused_with_dockers_words(images: Images, make: Maker) -> None:
    image = make(HELLO)
    with pytest.raises(InvalidInput, match="refusing to create a tag with a digest reference"):
        images.tag(image.id, parse_reference(f"app@{sha256(b'')}"))
    with pytest.raises(InvalidInput, match="refusing to create an ambiguous tag using digest algorithm as name"):
        images.tag(image.id, parse_reference("sha256:abc"))
    with pytest.raises(NotFound):
        images.tag(sha256(b""), parse_reference("app"))


def test_events_are_told(images: Images, make: Maker) -> None:
    seen: list[tuple[str, str, dict[str, str]]] = []
    images.events = lambda action, image, attributes: seen.append((action, image, attributes))
    image = make(HELLO, labels={"a": "b"})
    images.tag(image.id, parse_reference("app"))
    images.delete("app")
    assert [(action, attributes["name"]) for action, _, attributes in seen] == [
        ("tag", "app:latest"),
        ("untag", image.id),
        ("delete", image.id),
    ]
    assert all(attributes["a"] == "b" for *_, attributes in seen)


def test_the_same_image_twice_is_one_and_keeps_its_time(images: Images, make: Maker) -> None:
    first = make(HELLO, tags=["one"], local=True)
    second = make(HELLO, tags=["two"], local=True)
    assert second.id == first.id
    assert second.created_locally == first.created_locally > 0
    assert {name.path for name in second.references} == {"library/one", "library/two"}


def test_created_is_when_it_was_built_here_else_what_the_config_says(images: Images, make: Maker) -> None:
    built = make(HELLO, local=True)
    brought = make({"x": b""}, created="2020-01-01T00:00:00Z")
    assert built.created == built.created_locally
    assert brought.created == 1577836800
    assert brought.created_locally == 0


def test_adding_what_does_not_fit_is_refused(images: Images, make: Maker) -> None:
    image = make(HELLO)
    config = images.store.blobs.read(image.id)
    with pytest.raises(InvalidInput, match="names other layers"):
        images.add(config, [])
    with pytest.raises(InvalidInput, match="neither a snapshot nor a blob"):
        images.add(config, [LayerSource(image.diff_ids[0], 1)])
    with pytest.raises(Corrupt, match="invalid image config"):
        images.add(b"{}", [])


def test_everything_is_there_again_after_a_restart(tmp_path: Path, make: Maker, images: Images) -> None:
    image = make(HELLO, {"b": b"2"}, tags=["app:1", "host:5000/a/b"], labels={"k": "v"}, local=True)
    before = images.get("app:1")
    again = Images(images.store)
    assert again.get(image.id) == before
    assert again.get("host:5000/a/b").id == image.id


def test_an_image_whose_layer_was_lost_is_forgotten(images: Images, make: Maker) -> None:
    whole = make(HELLO, tags=["whole"])
    lost = make({"x": b"x"}, tags=["lost"])
    snapshot = lost.layers[0].snapshot
    assert snapshot is not None
    images.store.snapshots.delete(snapshot)

    again = Images(images.store)

    assert again.find("whole") is not None
    assert again.find("lost") is None
    assert [image.id for image in Images(images.store).list()] == [whole.id]


def test_check_tells_what_an_image_lacks_and_repair_forgets_it(images: Images, make: Maker) -> None:
    make(HELLO, tags=["whole"])
    broken = make({"x": b"x"}, tags=["broken"])
    images.store.blobs.path(broken.manifest.digest).unlink()

    (problem,) = images.check()
    assert (problem.kind, problem.subject, problem.repaired) == ("image", broken.id, False)
    assert problem.message == f"image broken:latest: its manifest {broken.manifest.digest} is missing"

    assert images.check(repair=True)[0].repaired
    assert images.check() == []
    assert images.find("broken") is None


def test_an_index_that_cannot_be_written_does_not_undo_the_change(
    images: Images, make: Maker, caplog: pytest.LogCaptureFixture
) -> None:
    (images.store.root / "index.json.tmp").mkdir()
    image = make(HELLO, tags=["app"])
    assert images.get("app").id == image.id
    assert "could not be brought up to date" in caplog.text
    (images.store.root / "index.json.tmp").rmdir()
    images.tag(image.id, reference("app:2"))
    assert "app:2" in (images.store.root / "index.json").read_text()


def test_the_root_is_an_image_layout_with_every_name(images: Images, make: Maker) -> None:
    image = make(HELLO, tags=["app:1", "app:2"])
    make({"x": b"x"})
    index = json.loads((images.store.root / "index.json").read_text())
    names = [entry.get("annotations", {}).get("org.opencontainers.image.ref.name") for entry in index["manifests"]]
    assert sorted(name for name in names if name) == ["app:1", "app:2"]
    assert names.count(None) == 1
    manifest = json.loads(images.store.blobs.read(image.manifest.digest))
    assert manifest["config"]["digest"] == image.id
    assert [layer["digest"] for layer in manifest["layers"]] == image.diff_ids


def test_pins_keep_what_images_need_and_nothing_else(images: Images, make: Maker) -> None:
    image = make(HELLO, tags=["keep"])
    gone = make({"x": b"x"}, tags=["gone"])
    images.delete("gone")
    images.store.leases.drop_all()
    report = images.store.gc(_aged(images))
    assert gone.layers[0].snapshot in report.snapshots
    assert images.store.blobs.has(image.id)
    assert images.store.snapshots.has(images.snapshots(image)[0])
    assert images.store.check() == []


def _aged(images: Images) -> object:
    """Pins of a moment when all that was made is old enough for gc."""
    pins = images.pins()
    return type(pins)(pins.blobs, pins.snapshots, pins.taken + 60)


def test_a_failed_change_leaves_memory_as_the_disk(
    images: Images, make: Maker, monkeypatch: pytest.MonkeyPatch
) -> None:
    image = make(HELLO, tags=["app"])
    with monkeypatch.context() as patch:
        patch.setattr(images.table._images, "put", _full)
        with pytest.raises(OSError, match="full"):
            images.tag(image.id, reference("other"))
    assert images.find("other") is None
    assert images.get("app").id == image.id


def _full(*args: object) -> None:
    raise OSError("full")


def test_an_image_without_layers_has_no_snapshots(images: Images, make: Maker) -> None:
    image = make(tags=["empty"])
    assert images.snapshots(image) == []
    assert image.size == 0


def test_platform_is_the_configs(make: Maker) -> None:
    assert make(HELLO).config.platform == Platform("amd64", "linux")
    assert isinstance(make(HELLO).id, str) and Digest(make(HELLO).id)
