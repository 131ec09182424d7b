"""Uploads in progress: bytes on their way into the store, known by an id that only their beginner is told.

They live in memory and in the store's ingest folder: a server that is started again knows none of them, clients begin
anew then.
"""

from __future__ import annotations

import asyncio
import logging
import time
import uuid
from dataclasses import dataclass, field

from buildtool.aio import offload
from buildtool.cache import Ingest, Store
from buildtool.registry.server.errors import ApiError

log = logging.getLogger(__name__)


@dataclass
class Upload:
    """One upload. `id` is a random UUID: nobody else guesses it. `lock` is held while a request writes to it."""

    id: str
    repository: str
    user: str
    ingest: Ingest
    used: float = field(default_factory=time.monotonic)
    lock: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def location(self) -> str:
        return f"/v2/{self.repository}/blobs/uploads/{self.id}"

    @property
    def range(self) -> str:
        """What the Range header says: inclusive, and `0-0` for nothing."""
        return f"0-{max(0, self.ingest.written - 1)}"

    @property
    def headers(self) -> dict[str, str]:
        return {"Location": self.location, "Range": self.range, "Docker-Upload-UUID": self.id}


class Uploads:
    """The uploads of one server. `idle` seconds without a request end one."""

    def __init__(self, store: Store, *, idle: float = 3600.0, limit: int = 1000) -> None:
        self._store = store
        self._idle = idle
        self._limit = limit
        self._open: dict[str, Upload] = {}

    def __len__(self) -> int:
        return len(self._open)

    async def begin(self, repository: str, user: str, *, session: bool = True) -> Upload:
        """A new one; `session`: more requests will follow. Raises ApiError TOOMANYREQUESTS."""
        if len(self._open) >= self._limit:
            await self.expire()
        if len(self._open) >= self._limit:
            raise ApiError("TOOMANYREQUESTS", "too many uploads are open", headers={"Retry-After": "5"})
        upload = Upload(str(uuid.uuid4()), repository, user, await offload(self._store.blobs.ingest))
        self._open[upload.id] = upload
        return upload

    async def get(self, identity: str, repository: str, user: str) -> Upload:
        """The upload, for who began it. Raises ApiError BLOB_UPLOAD_UNKNOWN."""
        upload = self._open.get(identity)
        if upload is None or (upload.repository, upload.user) != (repository, user):
            raise ApiError("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"upload": identity[:100]})
        upload.used = time.monotonic()
        return upload

    async def catch_up(self, upload: Upload) -> None:
        """Under the upload's lock: it is still open, and what other servers were sent of it is here.

        Raises ApiError BLOB_UPLOAD_UNKNOWN when another request has ended it meanwhile.
        """
        if self._open.get(upload.id) is not upload:
            raise ApiError("BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", {"upload": upload.id})

    async def keep(self, upload: Upload) -> None:
        """A request brought something: let other servers have it. Under the upload's lock."""

    async def end(self, upload: Upload) -> None:
        """Forget it; what was not committed is removed."""
        self._open.pop(upload.id, None)
        await offload(upload.ingest.__exit__, None, None, None)

    async def expire(self, idle: float | None = None) -> int:
        """End those that nobody has written to for so long; how many."""
        limit = time.monotonic() - (self._idle if idle is None else idle)
        old = [upload for upload in self._open.values() if upload.used < limit and not upload.lock.locked()]
        for upload in old:
            log.info("upload %s to %s ended: nothing came for a long time", upload.id[:8], upload.repository)
            await self.end(upload)
        return len(old)

    async def close(self) -> None:
        """End all."""
        for upload in list(self._open.values()):
            await self.end(upload)
