"""Cache mounts that travel: a directory as packs of neighbouring files, each named by what is in it.

Where one pack ends and the next begins depends on the paths, but for large files and packs: a file that changes
changes its pack and hardly more, and packs that a cache has already are not sent again. Times are no part of a pack's
name, so that a tool that touches what it uses sends nothing; a pack has the times of when it was made.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import shutil
import stat
import tarfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from buildtool.aio import offload
from buildtool.cache import Lease, Store, compress, decompress, extract
from buildtool.errors import BuildtoolError, Conflict, Corrupt
from buildtool.graph import Exec, Node
from buildtool.images import LayerSource
from buildtool.oci import Descriptor, Digest, media_types, sha256
from buildtool.oci.digest import CheckedDigest
from buildtool.solve.cache_mounts import CacheMounts, cache_mount_name
from buildtool.solve.caches.backend import CacheBackend
from buildtool.solve.caches.options import Fetch
from buildtool.solve.events import Tell
from buildtool.solve.threads import to_end, together

MOUNT = "application/vnd.buildtool.cache.mount.v1+json"
_LARGE = 1 << 20
_PACK_BYTES = 8 << 20
_CUT = 64
"""One path in so many ends a pack."""
_READ = 1 << 20
_AT_ONCE = 4


class PackRecord(msgspec.Struct, frozen=True):
    """A pack: `key` names its files with their contents, `blob` is a tar of them."""

    key: CheckedDigest
    blob: Descriptor
    size: int


class _Document(msgspec.Struct, frozen=True):
    version: int
    id: str
    packs: list[PackRecord]


@dataclass
class Pack:
    """Files that go together: relative paths with what `lstat` said and the digests of contents."""

    files: list[tuple[str, os.stat_result, str]] = field(default_factory=list)
    size: int = 0

    @property
    def key(self) -> Digest:
        """The digest of all that is in it but times."""
        lines = (
            f"{path}\0{status.st_mode:o} {status.st_uid}:{status.st_gid} {content}"
            for path, status, content in self.files
        )
        return sha256("\n".join(lines).encode(errors="surrogateescape"))


def mounts_of(nodes: Iterable[Node]) -> set[str]:
    """The ids of the cache mounts of these steps; those that begin as a tree of the build stay where they are."""
    steps = [node.step for node in nodes]
    return {
        mount.id
        for step in steps
        if isinstance(step, Exec)
        for mount in step.mounts
        if mount.type == "cache" and mount.input is None
    }


def packs_of(root: Path) -> list[Pack]:
    """All of a directory, the root itself first. Sockets, pipes and devices are left out."""
    packs = [Pack()]
    for path, status in _walk(str(root)):
        kind, content = stat.S_IFMT(status.st_mode), ""
        full = f"{root}/{path}"
        if kind == stat.S_IFREG:
            with open(full, "rb") as file:  # noqa: PTH123
                content = hashlib.file_digest(file, "sha256").hexdigest()
        elif kind == stat.S_IFLNK:
            content = os.readlink(full)  # noqa: PTH115
        elif kind != stat.S_IFDIR:
            continue
        large = kind == stat.S_IFREG and status.st_size >= _LARGE
        if large and packs[-1].files:
            packs.append(Pack())
        packs[-1].files.append((path, status, content))
        packs[-1].size += status.st_size if kind == stat.S_IFREG else 0
        if large or packs[-1].size >= _PACK_BYTES or _ends(path):
            packs.append(Pack())
    return [pack for pack in packs if pack.files]


def _ends(path: str) -> bool:
    return hashlib.sha256(path.encode(errors="surrogateescape")).digest()[0] % _CUT == 0


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    yield ".", os.lstat(root)
    pending = [""]
    while pending:
        folder = pending.pop()
        with os.scandir(f"{root}/{folder}") as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        below = []
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                below.append(path)
        pending.extend(reversed(below))


def pack_tar(root: Path, pack: Pack) -> Iterator[bytes]:
    """The pack's archive. Raises Conflict when a file is not any more what it was."""
    for path, status, content in pack.files:
        info = tarfile.TarInfo("./" if path == "." else path)
        info.mode, info.uid, info.gid = stat.S_IMODE(status.st_mode), status.st_uid, status.st_gid
        info.mtime = status.st_mtime
        if stat.S_ISDIR(status.st_mode):
            info.type = tarfile.DIRTYPE
        elif stat.S_ISLNK(status.st_mode):
            info.type, info.linkname = tarfile.SYMTYPE, content
        else:
            info.size = status.st_size
        yield info.tobuf(tarfile.PAX_FORMAT, errors="surrogateescape")
        if info.size:
            yield from _content(f"{root}/{path}", info.size, content)
    yield bytes(1024)


def _content(path: str, size: int, digest: str) -> Iterator[bytes]:
    hasher, left = hashlib.sha256(), size
    with open(path, "rb") as file:  # noqa: PTH123
        while left and (part := file.read(min(_READ, left))):
            hasher.update(part)
            left -= len(part)
            yield part
    if left or hasher.hexdigest() != digest:
        raise Conflict(f"{path} changed while the cache mount was exported")
    yield bytes(-size % 512)


def decode_mount(data: bytes, id: str) -> list[PackRecord]:
    """The packs of a mount's document. Raises Corrupt."""
    try:
        document = msgspec.json.decode(data, type=_Document)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise Corrupt(f"it is no document of a cache mount: {error}") from None
    if document.version != 1 or document.id != id:
        raise Corrupt(f"it is the document of another cache mount ({document.id!r})")
    return document.packs


def named(backend: CacheBackend, id: str) -> CacheBackend:
    """Where the cache keeps a mount."""
    return backend.named(f"mount-{cache_mount_name(id)[:16]}")


async def export_mount(
    store: Store, lease: Lease, mounts: CacheMounts, backend: CacheBackend, id: str, tell: Tell
) -> bool:
    """Send what is new of a cache mount; False when there is none here. Raises BuildtoolError."""
    name = cache_mount_name(id)
    root = mounts.root / name / "data"
    if not await offload(root.is_dir):
        return False
    if mounts.busy(name):
        raise Conflict(f"the cache mount {id!r} is in use by a running step")
    place = named(backend, id)
    loaded = await place.load()
    known: Mapping[Digest, PackRecord] = {}
    if loaded and loaded[0][1] == MOUNT:
        try:
            known = {pack.key: pack for pack in decode_mount(loaded[0][0], id)}
        except Corrupt:
            known = {}  # it is written anew
    packs = {pack.key: pack for pack in await to_end(packs_of, root)}
    if packs.keys() == known.keys():
        tell(f"cache mount {id}: nothing is new")
        return True
    slots = asyncio.Semaphore(_AT_ONCE)

    async def send(key: Digest, pack: Pack) -> PackRecord:
        if key in known:
            return known[key]
        async with slots:
            blob = await to_end(_make_blob, store, lease, root, pack)
            if not await place.has_blob(blob.digest):
                await place.put_blob(blob, store.blobs.path(blob.digest))
        return PackRecord(key, blob, pack.size)

    records = await together(send(key, pack) for key, pack in packs.items())
    data = msgspec.json.encode(_Document(1, id, records), order="deterministic")
    blobs = {record.blob.digest: record.blob for record in records}
    await place.put_bundle(data, MOUNT, list(blobs.values()))
    fresh = [record for record in records if record.key not in known]
    tell(
        f"exported cache mount {id}: {len(fresh)} of {len(records)} packs, "
        f"{sum(record.blob.size for record in fresh)} bytes were new"
    )
    return True


def _make_blob(store: Store, lease: Lease, root: Path, pack: Pack) -> Descriptor:
    with store.blobs.ingest() as ingest:
        for chunk in compress(pack_tar(root, pack), "zstd"):
            ingest.write(chunk)
        lease.blob(ingest.digest())
        return Descriptor(media_types.LAYER_ZSTD, ingest.commit(), ingest.written)


async def import_mount(
    store: Store, lease: Lease, mounts: CacheMounts, backend: CacheBackend, id: str, fetch: Fetch, tell: Tell
) -> None:
    """Make a cache mount of what the cache has of it, unless there is one here. Raises BuildtoolError."""
    loaded = await named(backend, id).load()
    if not loaded or loaded[0][1] != MOUNT:
        return
    packs = decode_mount(loaded[0][0], id)
    slots = asyncio.Semaphore(_AT_ONCE)

    async def get(pack: PackRecord) -> None:
        async with slots:
            await offload(lease.blob, pack.blob.digest)
            if not await offload(store.blobs.has, pack.blob.digest):
                await fetch(LayerSource(pack.key, pack.size, blob=pack.blob, sources=(backend.source,)), tell)

    await together(get(pack) for pack in packs)
    await to_end(_unpack, store, mounts, id, packs)
    tell(f"imported cache mount {id}: {sum(pack.size for pack in packs)} bytes")


def _unpack(store: Store, mounts: CacheMounts, id: str, packs: Sequence[PackRecord]) -> None:
    name = cache_mount_name(id)
    mounts.root.mkdir(mode=0o700, parents=True, exist_ok=True)
    fresh = mounts.root / f".import.{os.getpid()}.{name}"
    shutil.rmtree(fresh, ignore_errors=True)
    try:
        data = fresh / "data"
        data.mkdir(parents=True)
        (fresh / "id").write_text(id)
        for pack in packs:
            with store.blobs.open(pack.blob.digest) as file:
                extract(decompress(file), data, squash_ids=store.squash_ids)
        with mounts.guard:
            if not (mounts.root / name).exists():
                fresh.rename(mounts.root / name)
    except OSError as error:
        raise BuildtoolError(f"{error.filename}: {error.strerror}") from error
    finally:
        shutil.rmtree(fresh, ignore_errors=True)
