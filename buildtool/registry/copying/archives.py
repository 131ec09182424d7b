"""`oci-archive:` and `docker-archive:`: tars, read into and written from a layout in a temporary folder."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import msgspec

from buildtool.cache import BlobStore, compress, decompress
from buildtool.errors import InvalidInput, NotFound
from buildtool.images.archive import Archive
from buildtool.images.layouts import FoundImage, FoundLayer, images_in
from buildtool.images.saving import TarWriter
from buildtool.oci import (
    Descriptor,
    Index,
    Manifest,
    decode_config,
    decode_manifest,
    encode,
    hex_of,
    media_types,
    parse_reference,
)
from buildtool.registry.copying.layout import REFERENCE, LayoutPlace, write_whole
from buildtool.registry.copying.remote import new_blob_store
from buildtool.registry.repository import Fetched
from buildtool.registry.work import settled

CHUNK = 1 << 20


class ArchivePlace(LayoutPlace):
    """A tar. `docker`: Docker's archive, with one platform an image and plain layers; else a layout's."""

    def __init__(self, path: Path, *, docker: bool, write: bool = False) -> None:
        """Raises NotFound, InvalidInput."""
        self.path = path
        self.docker = docker
        self._named: list[tuple[str, Fetched]] = []
        if write:
            _refuse_existing(path)
        elif not path.is_file():
            raise NotFound(f"{path} does not exist" if not path.exists() else f"{path} is no file")
        self._folder = tempfile.TemporaryDirectory(prefix="buildtool-copy-")
        try:
            root = Path(self._folder.name)
            if not write:
                _read(path, root, docker=docker)
            super().__init__(root, write=write)
        except BaseException:
            self._folder.cleanup()
            raise
        self.multi = not docker

    async def put_manifest(self, name: str, fetched: Fetched) -> None:
        await super().put_manifest(name, fetched)
        if name:
            self._named.append((name, fetched))

    def name_nothing(self, fetched: Fetched) -> None:
        super().name_nothing(fetched)
        self._named.append(("", fetched))

    async def finish(self) -> None:
        await super().finish()
        await settled(self._write)

    def _write(self) -> None:
        temporary = self.path.with_name(f".{self.path.name}.tmp")
        try:
            with temporary.open("wb") as out:
                writer = TarWriter(lambda data: _write_all(out, data))
                if self.docker:
                    self._write_docker(writer)
                else:
                    self._write_layout(writer)
                writer.end()
            temporary.rename(self.path)
        finally:
            temporary.unlink(missing_ok=True)

    def _write_layout(self, writer: TarWriter) -> None:
        for name in ("oci-layout", "index.json"):
            writer.file(name, (self.root / name).read_bytes())
        writer.directory("blobs")
        for folder in sorted((self.root / "blobs").iterdir()):
            writer.directory(f"blobs/{folder.name}")
            for path in sorted(folder.iterdir()):
                writer.stream(f"blobs/{folder.name}/{path.name}", path.stat().st_size, _chunks(path))

    def _write_docker(self, writer: TarWriter) -> None:
        table: dict[str, dict[str, object]] = {}
        layers: dict[str, Descriptor] = {}
        for name, fetched in self._named:
            manifest = decode_manifest(fetched.data)
            config = self._path(manifest.config.digest).read_bytes()
            item = f"{hex_of(manifest.config.digest)}.json"
            if item not in table:
                writer.file(item, config)
                diff_ids = decode_config(config).rootfs.diff_ids
                pairs = list(zip(diff_ids, manifest.layers, strict=True))
                table[item] = {
                    "Config": item,
                    "RepoTags": None,
                    "Layers": [f"{hex_of(diff_id)}.tar" for diff_id, _ in pairs],
                }
                layers.update({f"{hex_of(diff_id)}.tar": layer for diff_id, layer in pairs})
            if name:
                known = table[item]["RepoTags"] or []
                assert isinstance(known, list)
                table[item]["RepoTags"] = [*known, parse_reference(name).with_default_tag().familiar]
        for file, layer in layers.items():
            path = self._path(layer.digest)
            size = sum(map(len, _plain(path)))
            writer.stream(file, size, _plain(path))
        writer.file("manifest.json", msgspec.json.encode(list(table.values())))

    async def close(self) -> None:
        self._folder.cleanup()


def _refuse_existing(path: Path) -> None:
    if path.exists() and (not path.is_file() or path.stat().st_size):
        raise InvalidInput(f"{path} exists already", hint="remove it first: archives are not changed in place")
    if not path.parent.is_dir():
        raise NotFound(f"there is no folder {path.parent}")


def _read(path: Path, root: Path, *, docker: bool) -> None:
    """The archive's content as a layout."""
    blobs = new_blob_store(root)
    with path.open("rb") as stream, Archive(stream, blobs) as archive:
        if docker:
            images = images_in(archive)
            _write_index(root, [entry for image in images for entry in _stored(blobs, image)])
            return
        index = archive.document("index.json")
        version = archive.document("oci-layout")
        if index is None or version is None:
            raise InvalidInput(
                f"{path} is no OCI archive: there is no {'index.json' if index is None else 'oci-layout'} in it",
                hint="for what `docker save` wrote use docker-archive:" if archive.find("manifest.json") else "",
            )
        for member in archive.members():
            if member.name.startswith("blobs/sha256/") and hex_of(member.digest) == Path(member.name).name:
                member.commit(blobs)
        write_whole(root / "oci-layout", version)
        write_whole(root / "index.json", index)


def _write_index(root: Path, entries: list[Descriptor]) -> None:
    write_whole(root / "oci-layout", b'{"imageLayoutVersion":"1.0.0"}')
    write_whole(root / "index.json", encode(Index(2, media_types.INDEX, entries)))


def _stored(blobs: BlobStore, image: FoundImage) -> Iterator[Descriptor]:
    """The image in the store, its layers compressed; its entries in the index."""
    config = blobs.put(image.config_bytes)
    if image.manifest is not None and all(layer.compression for layer in image.layers):
        data = image.manifest
        for layer in image.layers:
            layer.member.commit(blobs)
    else:
        layers = [_compressed(blobs, layer) for layer in image.layers]
        descriptor = Descriptor(media_types.CONFIG, config, len(image.config_bytes))
        data = encode(Manifest(2, media_types.MANIFEST, descriptor, layers))
    digest = blobs.put(data)
    media_type = decode_manifest(data).media_type
    plain = Descriptor(media_type, digest, len(data))
    if not image.names:
        yield plain
    for name in image.names:
        yield msgspec.structs.replace(plain, annotations={REFERENCE: str(name)})


def _compressed(blobs: BlobStore, layer: FoundLayer) -> Descriptor:
    if layer.compression in ("gzip", "zstd"):
        layer.member.commit(blobs)
        return Descriptor(media_types.layer_type(layer.compression), layer.member.digest, layer.member.size)
    with blobs.ingest() as ingest, layer.member.open() as file:
        for chunk in compress(decompress(file), "gzip"):
            ingest.write(chunk)
        return Descriptor(media_types.LAYER_GZIP, ingest.commit(), ingest.written)


def _chunks(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from iter(lambda: file.read(CHUNK), b"")


def _plain(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from decompress(file)


def _write_all(out: BinaryIO, data: bytes) -> None:
    out.write(data)
