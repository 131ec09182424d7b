"""Real stores, and images made of literal trees."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import pytest

from buildtool.cache.store import Store
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import ContainerConfig, History, ImageConfig, Reference, RootFS, encode, parse_reference


def make_tar(files: Mapping[str, bytes | str], mtime: int = 1_700_000_000) -> bytes:
    """A tar of regular files; a str value is a symlink's target, a name ending in `/` a directory."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.rstrip("/"))
            info.mtime, info.mode = mtime, 0o644
            if name.endswith("/"):
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def members(archive: bytes) -> dict[str, bytes]:
    """The regular files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        return {info.name: tar.extractfile(info).read() for info in tar if info.isreg()}  # type: ignore[union-attr]


def document(archive: bytes, name: str) -> object:
    """A JSON member of a tar."""
    return json.loads(members(archive)[name])


Maker = Callable[..., Image]


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    with Store.open(tmp_path / "root") as opened:
        yield opened


@pytest.fixture
def images(store: Store) -> Images:
    return Images(store)


@pytest.fixture
def make(images: Images) -> Maker:
    """Build an image: one layer a mapping of files, as a build would leave it (snapshots only)."""

    def build(
        *layers: Mapping[str, bytes | str],
        tags: Sequence[str] = (),
        created: str = "2024-01-02T03:04:05Z",
        parent: Image | None = None,
        local: bool = False,
        **config: object,
    ) -> Image:
        sources = []
        snapshots: list[object] = []
        for files in layers:
            snapshot = images.store.layers.unpack(io.BytesIO(make_tar(files)), compression="")
            diff_id, size = images.store.layers.diff_id(snapshot, 1_600_000_000)
            sources.append(LayerSource(diff_id, size, snapshot, epoch=1_600_000_000))
            snapshots.append(snapshot)
        image_config = ImageConfig(
            architecture="amd64",
            os="linux",
            rootfs=RootFS("layers", [source.diff_id for source in sources]),
            config=ContainerConfig(**config),  # type: ignore[arg-type]
            created=created,
            history=[History(created=created, created_by=f"COPY {n}") for n in range(len(layers))]
            + [History(created=created, created_by='CMD ["sh"]', empty_layer=True)],
        )
        return images.add(
            encode(image_config),
            sources,
            references=[reference(tag) for tag in tags],
            parent=parent.id if parent else None,
            local=local,
        )

    return build


def reference(text: str) -> Reference:
    return parse_reference(text).with_default_tag()


def saved(images: Images, *names: str) -> bytes:
    """The archive of these images."""
    out = io.BytesIO()
    images.save(names, out.write)
    return out.getvalue()


def load(images: Images, archive: bytes, **options: object) -> list[dict[str, object]]:
    """Load an archive to the end."""
    return list(images.load(io.BytesIO(archive), **options))  # type: ignore[arg-type]


def repack(archive: bytes, change: Mapping[str, bytes | str | None]) -> bytes:
    """The archive with members replaced, added, or (None) left out."""
    files: dict[str, bytes | str] = {**members(archive)}
    for name, content in change.items():
        if content is None:
            files.pop(name, None)
        else:
            files[name] = content
    return make_tar(files)
