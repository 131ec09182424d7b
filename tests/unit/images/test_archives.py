"""Save, load and import: what goes out comes back, what is wrong leaves nothing behind."""

from __future__ import annotations

import gzip
import io
import json
import lzma
import os
import tarfile
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.cache.compression import compress
from buildtool.cache.store import Store
from buildtool.errors import BuildtoolError, Corrupt, InvalidInput, NotFound
from buildtool.images import Image, Images
from buildtool.oci import Platform, hex_of, media_types, parse_platform, sha256
from tests.unit.images.conftest import Maker, document, load, make_tar, members, reference, repack, saved

A = {"etc/": b"", "etc/hello": b"hello\n", "link": "etc/hello"}
B = {"etc/more": b"more" * 1000}


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Images]:
    """The images of a second, empty store."""
    with Store.open(tmp_path / "other") as store:
        yield Images(store)


def nothing_left(images: Images) -> bool:
    """Whether a failed load left no image, no blob, no half-written file (snapshots wait for gc)."""
    store = images.store
    assert images.list() == []
    assert list(store.blobs.list()) == []
    assert store.leftovers() == []
    pins = images.pins()
    store.gc(type(pins)(pins.blobs, pins.snapshots, pins.taken + 60))
    assert list(store.snapshots.all()) == []
    return store.check() == []


def test_what_is_saved_loads_as_the_same_image(images: Images, other: Images, make: Maker) -> None:
    image = make(A, B, tags=["app:1", "app:2"], cmd=["sh"])

    progress = load(other, saved(images, "app"))

    loaded = other.get("app:1")
    assert loaded.id == image.id
    assert loaded.manifest == image.manifest
    assert [str(name) for name in loaded.references] == [str(name) for name in other.get("app:2").references]
    assert [line["stream"] for line in progress if "stream" in line] == [
        "Loaded image: app:1\n",
        "Loaded image: app:2\n",
    ]
    layers = [line for line in progress if line.get("status") == "Loading layer"]
    assert {line["id"] for line in layers} == {diff_id[7:19] for diff_id in image.diff_ids}
    assert other.store.check() == []
    top = other.store.snapshots.fs(other.snapshots(loaded)[1])
    assert (top / "etc/more").read_bytes() == B["etc/more"]


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other owners take root")
def test_our_own_layers_are_not_kept_twice(images: Images, other: Images, make: Maker) -> None:
    make(A, B, tags=["app"])
    load(other, saved(images, "app"))
    assert all(layer.blob is None for layer in other.get("app").layers)
    assert saved(other, "app") == saved(images, "app")


def test_foreign_layers_keep_their_bytes(other: Images) -> None:
    archive = docker_archive(make_tar(A))
    load(other, archive)
    image = other.get("old:1")
    assert [layer.blob is not None for layer in image.layers] == [True]
    again = members(saved(other, "old:1"))
    assert again[f"blobs/sha256/{hex_of(image.diff_ids[0])}"] == make_tar(A)


def test_the_archive_is_both_formats(images: Images, make: Maker) -> None:
    image = make(A, tags=["app:1"])
    archive = saved(images, "app:1")
    assert document(archive, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
    assert document(archive, "manifest.json") == [
        {
            "Config": f"blobs/sha256/{hex_of(image.id)}",
            "RepoTags": ["app:1"],
            "Layers": [f"blobs/sha256/{hex_of(image.diff_ids[0])}"],
        }
    ]
    (descriptor,) = document(archive, "index.json")["manifests"]  # type: ignore[index]
    assert descriptor["digest"] == image.manifest.digest
    assert descriptor["platform"] == {"architecture": "amd64", "os": "linux"}
    assert descriptor["annotations"] == {
        "io.containerd.image.name": "docker.io/library/app:1",
        "org.opencontainers.image.ref.name": "1",
    }
    for name, data in members(archive).items():
        if name.startswith("blobs/"):
            assert name.endswith(hex_of(sha256(data)))


def test_the_same_images_save_as_the_same_bytes(images: Images, make: Maker) -> None:
    make(A, B, tags=["app"])
    assert saved(images, "app") == saved(images, "app")


def test_shared_layers_are_saved_once(images: Images, other: Images, make: Maker) -> None:
    make(A, tags=["base"])
    make(A, B, tags=["app"])
    archive = saved(images, "base", "app")
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        names = tar.getnames()
    assert len(names) == len(set(names))
    refs = [entry["annotations"]["org.opencontainers.image.ref.name"] for entry in _entries(archive)]
    assert refs == ["base:latest", "app:latest"]
    load(other, archive)
    assert {image.id for image in other.list()} == {image.id for image in images.list()}


def _entries(archive: bytes) -> list[dict[str, dict[str, str]]]:
    entries: list[dict[str, dict[str, str]]] = document(archive, "index.json")["manifests"]  # type: ignore[index]
    return entries


def test_names_to_save(images: Images, make: Maker) -> None:
    image = make(A, tags=["app:1", "app:2"])
    assert document(saved(images, "app:2"), "manifest.json")[0]["RepoTags"] == ["app:2"]  # type: ignore[index]
    assert document(saved(images, "app"), "manifest.json")[0]["RepoTags"] == ["app:1", "app:2"]  # type: ignore[index]
    assert document(saved(images, image.id[7:19]), "manifest.json")[0]["RepoTags"] is None  # type: ignore[index]


def test_an_unknown_name_writes_nothing(images: Images, make: Maker) -> None:
    make(A, tags=["app"])
    written: list[bytes] = []
    with pytest.raises(NotFound, match="No such image: nothing:latest"):
        images.save(["app", "nothing"], written.append)
    with pytest.raises(InvalidInput, match="no image was named"):
        images.save([], written.append)
    assert written == []


def test_a_snapshot_that_changed_is_found_out(images: Images, make: Maker) -> None:
    image = make(A, tags=["app"])
    snapshot = image.layers[0].snapshot
    assert snapshot is not None
    (images.store.snapshots.fs(snapshot) / "etc/hello").write_bytes(b"hullo\n")
    with pytest.raises(Corrupt, match="is damaged"):
        saved(images, "app")


@pytest.mark.parametrize("pack", [gzip.compress, lzma.compress, lambda data: b"".join(compress([data], "zstd"))])
def test_a_compressed_archive_loads(
    images: Images, other: Images, make: Maker, pack: Callable[[bytes], bytes]
) -> None:
    image = make(A, tags=["app"])
    load(other, pack(saved(images, "app")), quiet=True)
    assert other.get("app").id == image.id


def test_quiet_says_only_what_was_loaded(images: Images, other: Images, make: Maker) -> None:
    make(A, tags=["app"])
    assert load(other, saved(images, "app"), quiet=True) == [{"stream": "Loaded image: app:latest\n"}]


def test_an_image_without_a_name_tells_its_id(images: Images, other: Images, make: Maker) -> None:
    image = make(A)
    assert load(other, saved(images, image.id))[-1] == {"stream": f"Loaded image ID: {image.id}\n"}


def test_loading_a_name_takes_it_from_the_old_image(images: Images, other: Images, make: Maker) -> None:
    make(A, tags=["app"])
    load(other, saved(images, "app"))
    old = other.get("app")
    make(B, tags=["app"])
    progress = load(other, saved(images, "app"), quiet=True)
    assert progress[0] == {
        "stream": f"The image app:latest already exists, renaming the old one with ID {old.id} to empty string\n"
    }
    assert other.get(old.id).references == []


def test_loading_the_same_again_changes_nothing(images: Images, other: Images, make: Maker) -> None:
    make(A, tags=["app"])
    for _ in range(2):
        load(other, saved(images, "app"))
    assert len(other.list()) == 1
    assert len(list(other.store.snapshots.all())) == 1


def test_the_same_archive_loaded_many_times_at_once_is_one_image(images: Images, other: Images, make: Maker) -> None:
    image = make(A, B, tags=["app"])
    archives = [saved(images, "app"), docker_archive(make_tar(A), make_tar(B), tag="app:2")] * 3
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda archive: load(other, archive), archives))
    assert other.get("app").id == image.id
    assert len(other.list()) == 2
    assert other.store.check() == []
    assert other.check() == []


# Archives of others


def config_of(*layers: bytes, architecture: str = "amd64") -> bytes:
    return json.dumps(
        {
            "architecture": architecture,
            "os": "linux",
            "config": {"Cmd": ["sh"]},
            "rootfs": {"type": "layers", "diff_ids": [sha256(layer) for layer in layers]},
        }
    ).encode()


def docker_archive(*layers: bytes, tag: str = "old:1") -> bytes:
    """As Docker before 25 wrote it: <id>/layer.tar, later layers that are equal being links."""
    config = config_of(*layers)
    files: dict[str, bytes | str] = {}
    first: dict[bytes, int] = {}
    for number, layer in enumerate(layers):
        known = first.setdefault(layer, number)
        files[f"{number:064x}/layer.tar"] = layer if known == number else f"../{known:064x}/layer.tar"
    files[f"{hex_of(sha256(config))}.json"] = config
    names = [f"{number:064x}/layer.tar" for number in range(len(layers))]
    table = [{"Config": f"{hex_of(sha256(config))}.json", "RepoTags": [tag], "Layers": names}]
    return make_tar({**files, "manifest.json": json.dumps(table).encode(), "repositories": b"{}"})


def descriptor(data: bytes, media_type: str, **more: object) -> dict[str, object]:
    return {"mediaType": media_type, "digest": sha256(data), "size": len(data), **more}


class Layout:
    """An OCI layout being written."""

    def __init__(self) -> None:
        self.files: dict[str, bytes | str] = {"oci-layout": b'{"imageLayoutVersion": "1.0.0"}'}

    def blob(self, data: bytes, media_type: str, **more: object) -> dict[str, object]:
        self.files[f"blobs/sha256/{hex_of(sha256(data))}"] = data
        return descriptor(data, media_type, **more)

    def image(
        self,
        layer: bytes,
        packed: bytes | None = None,
        media_type: str = media_types.LAYER,
        architecture: str = "amd64",
    ) -> bytes:
        config = config_of(layer, architecture=architecture)
        manifest = {
            "schemaVersion": 2,
            "config": self.blob(config, media_types.CONFIG),
            "layers": [self.blob(layer if packed is None else packed, media_type)],
        }
        return json.dumps(manifest).encode()

    def index(self, platforms: Mapping[str, Mapping[str, bytes]], name: str = "multi:1") -> dict[str, object]:
        """An index of images with these files, all of it annotated."""
        entries = []
        for platform, files in platforms.items():
            architecture = platform.partition("/")[2]
            image = self.image(make_tar(files), architecture=architecture)
            own = {"os": "linux", "architecture": architecture}
            entries.append(self.blob(image, media_types.MANIFEST, platform=own, annotations={"of": platform}))
        document = {"schemaVersion": 2, "manifests": entries, "annotations": {"of": "index"}}
        notes = {"io.containerd.image.name": f"docker.io/library/{name}", "of": "it"}
        return self.blob(json.dumps(document).encode(), media_types.INDEX, annotations=notes)

    def archive(self, *manifests: dict[str, object]) -> bytes:
        index = json.dumps({"schemaVersion": 2, "manifests": list(manifests)}).encode()
        return make_tar({"index.json": index, **self.files})


def test_an_old_docker_archive_with_linked_layers_loads(other: Images) -> None:
    layer = make_tar(A)
    load(other, docker_archive(layer, make_tar(B), layer))
    image = other.get("old:1")
    assert image.diff_ids == [sha256(layer), sha256(make_tar(B)), sha256(layer)]
    assert image.manifest.media_type == media_types.MANIFEST
    assert len(other.snapshots(image)) == 3


@pytest.mark.parametrize("compression", ["gzip", "zstd"])
def test_an_oci_layout_with_compressed_layers_keeps_its_manifest(other: Images, compression: str) -> None:
    layout, layer = Layout(), make_tar(A)
    packed = b"".join(compress([layer], compression))
    manifest = layout.image(layer, packed, media_types.layer_type(compression))
    archive = layout.archive(
        layout.blob(manifest, media_types.MANIFEST, annotations={"org.opencontainers.image.ref.name": "team/app:3"})
    )
    load(other, archive)
    image = other.get("team/app:3")
    assert image.manifest.digest == sha256(manifest)
    assert image.size == len(layer)
    assert other.store.blobs.read(sha256(packed)) == packed
    assert load(other, archive, quiet=True) == [{"stream": "Loaded image: team/app:3\n"}]

    again = document(saved(other, "team/app:3"), "manifest.json")[0]["Layers"]  # type: ignore[index]
    assert again == [f"blobs/sha256/{hex_of(sha256(packed if compression == 'gzip' else layer))}"]


def test_a_bare_tag_names_no_image(other: Images) -> None:
    layout = Layout()
    manifest = layout.image(make_tar(A))
    archive = layout.archive(
        layout.blob(manifest, media_types.MANIFEST, annotations={"org.opencontainers.image.ref.name": "latest"})
    )
    progress = load(other, archive, quiet=True)
    assert progress == [{"stream": f"Loaded image ID: {other.list()[0].id}\n"}]


def multi_platform(layout: Layout) -> bytes:
    """An index in an index, with an attestation."""
    arm = layout.image(make_tar({"arm": b"arm"}))
    amd = layout.image(make_tar({"amd": b"amd"}))
    attestation = layout.image(make_tar({"attestation": b"x"}))
    inner = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                layout.blob(attestation, media_types.MANIFEST, platform={"os": "unknown", "architecture": "unknown"}),
                layout.blob(arm, media_types.MANIFEST, platform={"os": "linux", "architecture": "arm64"}),
                layout.blob(amd, media_types.MANIFEST, platform={"os": "linux", "architecture": "amd64"}),
            ],
        }
    ).encode()
    named = {"io.containerd.image.name": "docker.io/library/multi:1"}
    return layout.archive(layout.blob(inner, media_types.INDEX, annotations=named))


def test_of_several_platforms_the_wanted_one_is_loaded(other: Images) -> None:
    archive = multi_platform(Layout())
    load(other, archive, platform=parse_platform("linux/arm64"))
    assert other.get("multi:1").diff_ids == [sha256(make_tar({"arm": b"arm"}))]
    load(other, archive, platform=Platform("amd64", "linux"))
    assert other.get("multi:1").diff_ids == [sha256(make_tar({"amd": b"amd"}))]


def test_a_platform_that_is_not_there_is_named_with_those_that_are(other: Images) -> None:
    with pytest.raises(InvalidInput) as caught:
        load(other, multi_platform(Layout()), platform=Platform("s390x", "linux"))
    assert "does not provide linux/s390x" in str(caught.value)
    assert "linux/amd64, linux/arm64" in str(caught.value)
    assert nothing_left(other)


def test_an_index_is_loaded_with_all_its_images(other: Images) -> None:
    layout = Layout()
    index = layout.index({"linux/arm64": {"arm": b"arm"}, "linux/amd64": {"amd": b"amd"}})
    progress = load(other, layout.archive(index), quiet=True)
    assert progress == [{"stream": "Loaded image: multi:1\n"}]
    arm, amd = other.members("multi:1")
    assert [image.config.architecture for image in (arm, amd)] == ["arm64", "amd64"]
    assert other.get("multi:1", parse_platform("linux/arm64")).id == arm.id
    group = other.group("multi:1")
    assert group is not None and group.notes.index == {"of": "index"} and group.notes.descriptor == {"of": "it"}
    assert group.notes.entries[arm.id] == {"of": "linux/arm64"}


def test_what_is_saved_of_an_index_loads_as_the_same_index(images: Images, other: Images) -> None:
    layout = Layout()
    index = layout.index({"linux/arm64": {"arm": b"arm"}, "linux/amd64": {"amd": b"amd"}})
    load(images, layout.archive(index))
    archive = saved(images, "multi:1")
    assert len(document(archive, "manifest.json")) == 1  # type: ignore[arg-type]
    load(other, archive)
    assert other.group("multi:1") == images.group("multi:1")
    assert saved(other, "multi:1") == archive


def test_of_an_archive_in_both_forms_the_wanted_platform_is_loaded(images: Images, other: Images) -> None:
    layout = Layout()
    load(images, layout.archive(layout.index({"linux/arm64": {"arm": b"arm"}, "linux/amd64": {"amd": b"amd"}})))
    archive = saved(images, "multi:1")
    load(other, archive, platform=parse_platform("linux/arm64"))
    assert other.group("multi:1") is None and other.get("multi:1").config.architecture == "arm64"
    assert len(other.list()) == 1
    with pytest.raises(InvalidInput, match="does not provide linux/s390x"):
        load(other, archive, platform=parse_platform("linux/s390x"))


def test_platforms_of_an_index_that_are_not_in_the_archive_are_left_out(other: Images) -> None:
    layout = Layout()
    index = layout.index(
        {"linux/arm64": {"arm": b"arm"}, "linux/amd64": {"amd": b"amd"}, "linux/riscv64": {"riscv": b"riscv"}}
    )
    gone = f"blobs/sha256/{hex_of(sha256(make_tar({'riscv': b'riscv'})))}"
    load(other, repack(layout.archive(index), {gone: None}))
    assert [image.config.architecture for image in other.members("multi:1")] == ["arm64", "amd64"]
    with Store.open(other.store.root.parent / "third") as store:
        third = Images(store)
        gone = f"blobs/sha256/{hex_of(sha256(make_tar({'arm': b'arm'})))}"
        riscv = f"blobs/sha256/{hex_of(sha256(make_tar({'riscv': b'riscv'})))}"
        load(third, repack(layout.archive(index), {gone: None, riscv: None}))
        assert third.group("multi:1") is None and third.get("multi:1").config.architecture == "amd64"


def test_xz_layers_become_plain_ones(other: Images) -> None:
    layer = make_tar(A)
    config = config_of(layer)
    table = [{"Config": "config.json", "RepoTags": ["xz:1"], "Layers": ["layer.tar.xz"]}]
    archive = make_tar(
        {"config.json": config, "layer.tar.xz": lzma.compress(layer), "manifest.json": json.dumps(table).encode()}
    )
    load(other, archive)
    image = other.get("xz:1")
    assert image.layers[0].size == len(layer)
    assert other.store.blobs.read(image.diff_ids[0]) == layer


# What is wrong


def good() -> bytes:
    return docker_archive(make_tar(A), make_tar(B))


def layer_name(number: int) -> str:
    return f"{number:064x}/layer.tar"


def table(**change: object) -> bytes:
    (item,) = json.loads(members(good())["manifest.json"])
    return json.dumps([{**item, **change}]).encode()


CONFIG = f"{hex_of(sha256(config_of(make_tar(A), make_tar(B))))}.json"


@pytest.mark.parametrize(
    ("archive", "error", "message"),
    [
        (b"", InvalidInput, "not an image archive|damaged or no tar"),
        (b"not a tar at all" * 100, InvalidInput, "damaged or no tar"),
        (make_tar(A), InvalidInput, "neither manifest.json nor index.json"),
        (make_tar({"repositories": b"{}", "x/layer.tar": b""}), InvalidInput, "before Docker 1.10"),
        (good()[:1500], InvalidInput, "damaged or no tar|ends within"),
        (gzip.compress(good())[:-20], InvalidInput, "gzip stream is (truncated|damaged)"),
        (repack(good(), {layer_name(1): None}), InvalidInput, "names the layer '0*1/layer.tar' and does not contain"),
        (repack(good(), {CONFIG: None}), InvalidInput, "names the config .* and does not contain it"),
        (repack(good(), {layer_name(0): make_tar(B)}), Corrupt, "has the diff_id sha256:.*, the config says"),
        (repack(good(), {CONFIG: config_of(make_tar(A))}), Corrupt, "is damaged: its bytes have the digest"),
        (repack(good(), {CONFIG: b"{}", "manifest.json": table(Config="c")}), InvalidInput, "does not contain it"),
        (repack(good(), {"c": b"{}", "manifest.json": table(Config="c")}), Corrupt, "invalid image config"),
        (repack(good(), {"manifest.json": table(Layers=[layer_name(0)])}), InvalidInput, "length mismatch"),
        (repack(good(), {"manifest.json": b"[]"}), InvalidInput, "names no image"),
        (repack(good(), {"manifest.json": b"{"}), InvalidInput, "invalid manifest.json"),
        (
            repack(good(), {"manifest.json": table(Layers="x")}),
            InvalidInput,
            r"invalid manifest.json .*\$\[0\].Layers",
        ),
        (repack(good(), {"manifest.json": table(RepoTags=["Bad:1"])}), InvalidInput, "must be lowercase"),
        (repack(good(), {"manifest.json": table(RepoTags=["untagged"])}), InvalidInput, "no name with a tag"),
        (
            repack(good(), {"manifest.json": table(Config="../../etc/passwd")}),
            InvalidInput,
            "leads out of the archive",
        ),
        (repack(good(), {"../evil": b"x"}), InvalidInput, "leads out of the archive"),
        (repack(good(), {"evil": "../../etc/shadow"}), InvalidInput, "leads out of the archive"),
        (repack(good(), {"a": "b", "b": "a", "manifest.json": table(Config="a")}), InvalidInput, "too many links"),
        (Layout().archive(), InvalidInput, "names no image"),
        (make_tar({"oci-layout": b"{}", "index.json": b'{"schemaVersion":2}'}), Corrupt, "invalid image index"),
        (
            repack(Layout().archive({"mediaType": "x", "digest": sha256(b""), "size": 1}), {"oci-layout": b"[]"}),
            InvalidInput,
            "unknown version None",
        ),
        (
            Layout().archive({"mediaType": media_types.MANIFEST, "digest": sha256(b""), "size": 0}),
            InvalidInput,
            "does not contain the manifest sha256:",
        ),
        (
            Layout().archive({"mediaType": media_types.MANIFEST, "digest": "sha256:../../x", "size": 0}),
            Corrupt,
            r"\$.manifests\[0\].digest",
        ),
    ],
)
def test_a_wrong_archive_is_refused_and_leaves_nothing(
    other: Images, archive: bytes, error: type[BuildtoolError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(other, archive)
    assert nothing_left(other)


def oci(change: Callable[[Layout, dict[str, object]], bytes | None]) -> bytes:
    """An OCI layout of one image, spoilt."""
    layout = Layout()
    manifest = json.loads(layout.image(make_tar(A)))
    data = change(layout, manifest) or json.dumps(manifest).encode()
    return layout.archive(layout.blob(data, media_types.MANIFEST))


def _break_blob(layout: Layout, manifest: dict[str, object]) -> None:
    layer = manifest["layers"][0]  # type: ignore[index]
    layout.files[f"blobs/sha256/{layer['digest'][7:]}"] = make_tar(B)


def _wrong_size(layout: Layout, manifest: dict[str, object]) -> None:
    manifest["layers"][0]["size"] = 7  # type: ignore[index]


def _unknown_layer(layout: Layout, manifest: dict[str, object]) -> None:
    manifest["layers"][0]["mediaType"] = "application/x-brotli"  # type: ignore[index]


def _artifact(layout: Layout, manifest: dict[str, object]) -> None:
    manifest["config"]["mediaType"] = "application/vnd.cncf.helm.config.v1+json"  # type: ignore[index]


def _packed_lie(layout: Layout, manifest: dict[str, object]) -> None:
    manifest["layers"] = [layout.blob(gzip.compress(make_tar(B)), media_types.LAYER_GZIP)]


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (_break_blob, Corrupt, "the layer sha256:.* in the archive is damaged"),
        (_wrong_size, Corrupt, "bytes, not 7"),
        (_unknown_layer, InvalidInput, "unknown media type 'application/x-brotli'"),
        (_artifact, InvalidInput, "only artifacts: .*helm"),
        (_packed_lie, Corrupt, "diff_id"),
    ],
)
def test_a_wrong_layout_is_refused_and_leaves_nothing(
    other: Images, change: Callable[[Layout, dict[str, object]], None], error: type[BuildtoolError], message: str
) -> None:
    with pytest.raises(error, match=message):
        load(other, oci(change))  # type: ignore[arg-type]
    assert list(other.store.blobs.list()) == []
    assert nothing_left(other)


def test_a_compressed_layer_that_lies_is_found_out_even_when_its_layer_is_known(other: Images) -> None:
    layout = Layout()
    load(other, layout.archive(layout.blob(layout.image(make_tar(A)), media_types.MANIFEST)))
    with pytest.raises(Corrupt, match="has the diff_id"):
        load(other, oci(_packed_lie))  # type: ignore[arg-type]
    assert len(other.list()) == 1


@pytest.mark.parametrize("name", ["../../../tmp/evil", "/../evil", "a/../../evil"])
def test_a_hostile_layer_is_refused_by_name(other: Images, name: str, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo(name))
    with pytest.raises(InvalidInput, match=r"layer .*evil"):
        load(other, docker_archive(make_tar(A), buffer.getvalue()))
    assert nothing_left(other)


def test_a_load_given_up_leaves_nothing(images: Images, other: Images, make: Maker) -> None:
    make(A, B, tags=["app"])
    progress = other.load(io.BytesIO(saved(images, "app")))
    next(iter(progress))
    progress.close()  # type: ignore[attr-defined]
    assert nothing_left(other)


_GOOD = good()


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, len(_GOOD) - 1), st.integers(0, 255), st.booleans())
def test_a_flipped_or_cut_archive_loads_whole_or_not_at_all(other: Images, at: int, byte: int, cut: bool) -> None:
    """Law: a damaged archive raises InvalidInput or Corrupt, or the image it makes is one whose digests all hold."""
    damaged = _GOOD[:at] if cut else _GOOD[:at] + bytes([byte]) + _GOOD[at + 1 :]
    try:
        load(other, damaged, quiet=True)
    except (InvalidInput, Corrupt):
        pass
    for image in other.list():
        assert sha256(other.store.blobs.read(image.id)) == image.id
        for layer in image.layers:
            assert layer.blob is None or sha256(other.store.blobs.read(layer.blob.digest)) == layer.diff_id
        other.delete(image.id, force=True)


# Import


def test_an_imported_root_file_system_is_a_one_layer_image(images: Images) -> None:
    image = images.import_tar(
        io.BytesIO(gzip.compress(make_tar(A, mtime=1_650_000_000))),
        reference=reference("base"),
        changes=[
            'CMD ["sh"]',
            "ENV A=1 B=$A",
            "EXPOSE 80 90/udp",
            "WORKDIR /srv",
            "WORKDIR app",
            "USER nobody",
            "LABEL a=b",
        ],
        message="from somewhere",
    )
    assert images.get("base").id == image.id
    config = image.container_config
    assert config.cmd == ["sh"]
    assert config.env == ["A=1", "B="]
    assert config.exposed_ports == {"80/tcp": {}, "90/udp": {}}
    assert config.working_dir == "/srv/app"
    assert config.user == "nobody"
    assert config.labels == {"a": "b"}
    assert image.config.created == "2022-04-15T05:20:00Z"
    assert images.history(image)[0]["Comment"] == "from somewhere"
    assert image.created_locally > 0
    tree = images.store.snapshots.fs(images.snapshots(image)[0])
    assert (tree / "etc/hello").read_bytes() == b"hello\n"


@pytest.mark.skipif(os.geteuid() != 0, reason="files of other owners take root")
def test_the_same_root_file_system_is_the_same_image_however_it_is_packed(images: Images, other: Images) -> None:
    backwards = dict(reversed(A.items()))
    first = images.import_tar(io.BytesIO(make_tar(A)))
    second = other.import_tar(io.BytesIO(lzma.compress(make_tar(backwards))))
    assert first.id == second.id


def test_an_imported_image_saves_and_loads(images: Images, other: Images) -> None:
    image = images.import_tar(io.BytesIO(make_tar(A)), reference=reference("base"))
    load(other, saved(images, "base"))
    assert other.get("base").id == image.id


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("FROM scratch", "FROM"),
        ("RUN true", "run is not a valid change command"),
        ("COPY a b", "copy is not a valid change command"),
        ('SHELL ["sh"]', "shell is not a valid change command"),
        ("NONSENSE x", "(?i)unknown instruction"),
        ("EXPOSE eighty", "invalid port"),
    ],
)
def test_changes_that_make_no_sense_are_refused_before_reading(images: Images, change: str, message: str) -> None:
    stream = io.BytesIO(make_tar(A))
    with pytest.raises(InvalidInput, match=message):
        images.import_tar(stream, changes=[change])
    assert stream.tell() == 0
    assert nothing_left(images)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the archive is empty"),
        (b"junk" * 1000, "layer archive"),
        (gzip.compress(make_tar(A), mtime=0)[:-30], "gzip stream"),
        (make_tar({"../../evil": b"x"}), "evil"),
    ],
    ids=["empty", "junk", "cut", "outside"],
)
@pytest.mark.skipif(os.geteuid() != 0, reason="files of other owners take root")
def test_a_wrong_root_file_system_is_refused_and_leaves_nothing(images: Images, data: bytes, message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        images.import_tar(io.BytesIO(data))
    assert nothing_left(images)


def test_where_owners_cannot_be_kept_the_tar_is(
    images: Images, other: Images, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(images.store, "squash_ids", True)
    image: Image = images.import_tar(io.BytesIO(make_tar(A)), reference=reference("base"))
    assert image.diff_ids == [sha256(make_tar(A))]
    load(other, saved(images, "base"))
    assert other.get("base").id == image.id
