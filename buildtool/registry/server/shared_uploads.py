"""Uploads that any server of a bucket can go on with.

What a request brought is put into the bucket before it is answered; the server that gets the next one brings it here
unless it has it. `uploads/<id>/info` says whose it is, `uploads/<id>/<offset>` are the bytes from there.
"""

from __future__ import annotations

import time
from collections.abc import Iterator

from buildtool.aio import offload
from buildtool.cache import Ingest, Store
from buildtool.registry.server.bucket import CHUNK, Bucket
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.uploads import Upload, Uploads


class SharedUploads(Uploads):
    """The uploads of all servers of one bucket, and the bytes that this one has of them."""

    def __init__(self, store: Store, bucket: Bucket, *, idle: float = 3600.0, limit: int = 1000) -> None:
        super().__init__(store, idle=idle, limit=limit)
        self._bucket = bucket
        self._kept: dict[str, int] = {}

    async def begin(self, repository: str, user: str, *, session: bool = True) -> Upload:
        upload = await super().begin(repository, user, session=session)
        if session:
            document = {"repository": repository, "user": user, "began": time.time()}
            await offload(self._bucket.put, f"uploads/{upload.id}/info", document)
            self._kept[upload.id] = 0
        return upload

    async def get(self, identity: str, repository: str, user: str) -> Upload:
        if not identity.replace("-", "").replace("_", "").isalnum() or len(identity) > 64:
            raise ApiError("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"upload": identity[:100]})
        info = await offload(self._bucket.get, f"uploads/{identity}/info")
        if info is None or (info["repository"], info["user"]) != (repository, user):
            raise ApiError("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"upload": identity[:100]})
        upload = self._open.get(identity)
        if upload is None:
            upload = Upload(identity, repository, user, await offload(self._store.blobs.ingest))
            upload = self._open.setdefault(identity, upload)
        self._kept.setdefault(identity, 0)
        upload.used = time.monotonic()
        return upload

    async def catch_up(self, upload: Upload) -> None:
        await super().catch_up(upload)
        self._kept[upload.id] = await offload(_catch_up, self._bucket, upload.id, upload.ingest)

    async def keep(self, upload: Upload) -> None:
        """Put what came into the bucket. Under the upload's lock."""
        since = self._kept.get(upload.id)
        if since is not None and since < upload.ingest.written:
            await offload(_keep, self._bucket, upload.id, upload.ingest, since)
            self._kept[upload.id] = upload.ingest.written

    async def end(self, upload: Upload) -> None:
        shared = self._kept.pop(upload.id, None) is not None
        await super().end(upload)
        if shared:
            await offload(_forget, self._bucket, upload.id)

    async def expire(self, idle: float | None = None) -> int:
        """Let go of what is here; another server may go on with it, garbage collection ends it else."""
        limit = time.monotonic() - (self._idle if idle is None else idle)
        old = [upload for upload in self._open.values() if upload.used < limit and not upload.lock.locked()]
        for upload in old:
            self._kept.pop(upload.id, None)
            await super().end(upload)
        return len(old)

    async def close(self) -> None:
        """Let go of what is here; other servers go on with it."""
        for upload in list(self._open.values()):
            self._kept.pop(upload.id, None)
            await super().end(upload)


def _parts(bucket: Bucket, identity: str) -> Iterator[tuple[int, int]]:
    """Offset and size of each part, in order."""
    for key, size, _ in list(bucket.list(f"uploads/{identity}")):
        if key.isdigit():
            yield int(key), size


def _catch_up(bucket: Bucket, identity: str, ingest: Ingest) -> int:
    for offset, size in _parts(bucket, identity):
        if offset == ingest.written:
            for chunk in bucket.stream(f"uploads/{identity}/{offset:016}", 0, size):
                ingest.write(chunk)
    return ingest.written


def _keep(bucket: Bucket, identity: str, ingest: Ingest, since: int) -> None:
    with ingest.path.open("rb") as file:
        file.seek(since)
        position = since
        while data := file.read(4 * CHUNK):
            bucket.write(f"uploads/{identity}/{position:016}", data)
            position += len(data)


def _forget(bucket: Bucket, identity: str) -> None:
    keys = [f"uploads/{identity}/{key}" for key, _, _ in list(bucket.list(f"uploads/{identity}"))]
    bucket.delete(*keys)
