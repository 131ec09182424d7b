"""Images in: docker-archive and OCI layout archives, verified whole before anything becomes an image."""

from __future__ import annotations

import hashlib
import io
import threading
from collections.abc import Callable, Generator, Iterator
from typing import TYPE_CHECKING, Any, BinaryIO, TypeVar, cast

from buildtool.cache.compression import decompress
from buildtool.cache.snapshots import SnapshotId
from buildtool.cache.store import Store
from buildtool.errors import Corrupt, InvalidInput
from buildtool.images.archive import CHUNK, Archive, ChunkReader, Member
from buildtool.images.archived_indexes import FoundIndex, contents_of
from buildtool.images.layouts import FoundImage, FoundLayer
from buildtool.images.loaded_statements import predicates_in
from buildtool.images.model import LayerSource
from buildtool.oci import Descriptor, Digest, Platform, Reference, media_types, sha256

if TYPE_CHECKING:
    from buildtool.images.service import Images

T = TypeVar("T")
Progress = dict[str, Any]

_INTERVAL = 0.1
_BLOB_FORMS = ("", "gzip", "zstd")


def load(
    images: Images, stream: BinaryIO, *, platform: Platform | None = None, quiet: bool = False
) -> Iterator[Progress]:
    """See Images.load."""
    store = images.store
    with store.leases.hold("load"), Archive(stream, store.blobs) as archive:
        contents = contents_of(archive, platform)
        found = contents.images
        unpacked: dict[Digest, LayerSource] = {}
        for image in found:
            snapshots: list[SnapshotId] = []
            for layer in image.layers:
                known = unpacked.get(layer.diff_id)
                if known is None:
                    known = unpacked[layer.diff_id] = yield from _unpack(store, layer, snapshots, quiet)
                if known.snapshot is not None:
                    snapshots.append(known.snapshot)
        committed = {layer.diff_id: layer.member for image in found for layer in image.layers}
        for diff_id, source in unpacked.items():
            if source.blob is not None:
                _commit(store, source, committed[diff_id])
        store.snapshots.sync()
        grouped = {image.config_bytes for index in contents.indexes for image in index.members}
        for image in found:
            yield from _register(images, image, unpacked, archive, quiet=image.config_bytes in grouped)
        for index in contents.indexes:
            yield from _register_index(images, index)


def _register_index(images: Images, index: FoundIndex) -> Iterator[Progress]:
    members = [images.get(sha256(image.config_bytes)) for image in index.members]
    old = images.find(str(index.name))
    images.name_index(members, [index.name], index.notes)
    if old is not None and old.id not in {image.id for image in members}:
        yield _renamed(index.name, old.id)
    yield {"stream": f"Loaded image: {index.name.familiar}\n"}


def _renamed(name: Reference, old: Digest) -> Progress:
    text = f"The image {name.familiar} already exists, renaming the old one with ID {old} to empty string\n"
    return {"stream": text}


def _register(
    images: Images, image: FoundImage, unpacked: dict[Digest, LayerSource], archive: Archive, *, quiet: bool
) -> Iterator[Progress]:
    layers = [unpacked[layer.diff_id] for layer in image.layers]
    before = {name: images.find(str(name)) for name in image.names}
    manifest = image.manifest if all(layer.compression in _BLOB_FORMS for layer in image.layers) else None
    added = images.add(
        image.config_bytes, layers, references=image.names, manifest=manifest, local=False, durable=True
    )
    if image.manifest is not None:
        seen: dict[str, int] = {}
        for kind, predicate in predicates_in(archive, sha256(image.manifest)):
            number = seen[kind] = seen.get(kind, -1) + 1
            images.attestations.put(added.id, kind, predicate, str(number) if number else "")
    for name, old in before.items():
        if old is not None and old.id != added.id:
            yield _renamed(name, old.id)
        yield {"stream": f"Loaded image: {name.familiar}\n"}
    if not before and not quiet:
        yield {"stream": f"Loaded image ID: {added.id}\n"}
    images.notify("load", added)


def _unpack(
    store: Store, layer: FoundLayer, parents: list[SnapshotId], quiet: bool
) -> Generator[Progress, None, LayerSource]:
    """Unpack one layer and find out in which form its bytes are kept."""
    counter = _Counter(layer.member)
    total = layer.member.size

    def work() -> LayerSource:
        with counter:
            plain = ChunkReader(decompress(cast(BinaryIO, counter), layer.compression))
            snapshot = store.layers.unpack(
                cast(BinaryIO, plain), compression="", parents=parents, expected_diff_id=layer.diff_id
            )
            size = plain.count or _plain_size(layer)
        return _source(store, layer, snapshot, size)

    if quiet:
        return work()
    yield _progress(layer, 0, total)
    source = yield from _watch(work, counter, lambda: _progress(layer, counter.count, total))
    yield _progress(layer, total, total)
    return source


def _plain_size(layer: FoundLayer) -> int:
    """The length of the uncompressed layer; the layer was not read, so that it is verified here. Raises Corrupt."""
    if not layer.compression:
        return layer.member.size
    hasher = hashlib.sha256()
    size = 0
    with layer.member.open() as file:
        for chunk in decompress(file, layer.compression):
            hasher.update(chunk)
            size += len(chunk)
    if f"sha256:{hasher.hexdigest()}" != layer.diff_id:
        raise Corrupt(
            f"layer {layer.member.name} in the archive has the diff_id sha256:{hasher.hexdigest()}, "
            f"the config says {layer.diff_id}"
        )
    return size


def _source(store: Store, layer: FoundLayer, snapshot: SnapshotId, size: int) -> LayerSource:
    """The archive's form of the layer is kept as a blob, unless the snapshot gives the very same bytes again."""
    if layer.compression in _BLOB_FORMS:
        if not layer.compression and _same_bytes(store, snapshot, layer.member):
            return LayerSource(layer.diff_id, size, snapshot)
        media_type = media_types.layer_type(layer.compression)
        blob = Descriptor(media_type, layer.member.digest, layer.member.size)
    else:
        blob = Descriptor(media_types.LAYER, layer.diff_id, size)
    return LayerSource(layer.diff_id, size, snapshot, blob)


def _same_bytes(store: Store, snapshot: SnapshotId, member: Member) -> bool:
    """Whether the snapshot, made a tar, is this member. Ends at the first difference, which is early for most."""
    if store.squash_ids:
        return False
    try:
        with member.open() as file:
            same = all(file.read(len(chunk)) == chunk for chunk in store.layers.tar(snapshot))
            return same and not file.read(1)
    except InvalidInput:
        return False


def _commit(store: Store, source: LayerSource, member: Member) -> None:
    """Make the blob that the source names: the member as it is, or plain when OCI cannot say how it is compressed."""
    if source.blob is None:
        return
    if source.blob.digest == member.digest:
        member.commit(store.blobs)
    else:
        with member.open() as file, store.blobs.ingest(source.diff_id, source.size) as ingest:
            for chunk in decompress(file, "auto"):
                ingest.write(chunk)
            ingest.commit()
    store.layers.remember_blob(source.diff_id, source.blob)


def _progress(layer: FoundLayer, current: int, total: int) -> Progress:
    return {
        "status": "Loading layer",
        "progressDetail": {"current": current, "total": total},
        "id": layer.diff_id[7:19],
    }


class _Abandoned(Exception):
    """The reader of the progress went away."""


class _Counter(io.RawIOBase):
    """A member being read; counts, and stops the reading thread when told to."""

    def __init__(self, member: Member) -> None:
        super().__init__()
        self.count = 0
        self.abandoned = False
        self._member = member
        self._file: BinaryIO | None = None

    def __enter__(self) -> _Counter:
        self._file = self._member.open()
        return self

    def __exit__(self, *exc: object) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None

    def read(self, size: int = CHUNK, /) -> bytes:
        if self.abandoned or self._file is None:
            raise _Abandoned
        data = self._file.read(size)
        self.count += len(data)
        return data


def _watch(work: Callable[[], T], counter: _Counter, report: Callable[[], Progress]) -> Generator[Progress, None, T]:
    """Run `work` in a thread and report while it runs. Ends the thread when the caller goes away."""
    results: list[T] = []
    errors: list[BaseException] = []
    done = threading.Event()

    def run() -> None:
        try:
            results.append(work())
        except BaseException as error:  # noqa: BLE001 - raised again by the generator
            errors.append(error)
        finally:
            done.set()

    thread = threading.Thread(target=run, name="load-layer", daemon=True)
    thread.start()
    try:
        while not done.wait(_INTERVAL):
            yield report()
    finally:
        counter.abandoned = not done.is_set()
        thread.join()
    if errors:
        raise errors[0]
    return results[0]
