"""A pull-through cache: repositories of other registries, fetched when somebody asks and kept.

What a digest names is fetched once. A tag is asked for again when its time is over; while the other registry does not
answer, what is here is served. Many who want the same at once cause one fetch, and get its bytes while they come in.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from buildtool.aio import offload
from buildtool.errors import BuildtoolError
from buildtool.oci import Descriptor, Digest, is_digest
from buildtool.registry.credentials import Credentials
from buildtool.registry.downloads import GrowingBlob, download
from buildtool.registry.errors import Missing, RegistryRefused
from buildtool.registry.progress import Progress
from buildtool.registry.referrers import referrers
from buildtool.registry.repository import Repository
from buildtool.registry.server import manifests
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import tag_order
from buildtool.registry.transport import Transport

if TYPE_CHECKING:
    from buildtool.registry.server.metrics import Metrics
    from buildtool.registry.server.repositories import Repositories

log = logging.getLogger("buildtool.registry")

TTL = 300.0
_USED = 60.0


@dataclass(frozen=True)
class Upstream:
    """Another registry. `prefix`: its repositories appear below this name here; "" is everything."""

    prefix: str
    domain: str
    credentials: Credentials = field(default_factory=Credentials)

    def path(self, name: str) -> str | None:
        """The name there of a repository here."""
        rest = name
        if self.prefix:
            if not name.startswith(f"{self.prefix}/"):
                return None
            rest = name.removeprefix(f"{self.prefix}/")
        return f"library/{rest}" if self.domain == "docker.io" and "/" not in rest else rest


class Fetching:
    """A blob on its way from the other registry: `size` bytes, readable while they come."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.growing = GrowingBlob()
        self.task: asyncio.Task[None] | None = None
        self.users = 1

    def release(self) -> None:
        """One user less; the last lets go of the file."""
        self.users -= 1
        if not self.users:
            self.growing.close()


class Mirror:
    """All mirrored repositories of a server."""

    def __init__(
        self,
        upstreams: list[Upstream],
        transport: Transport,
        *,
        ttl: float = TTL,
        metrics: Metrics | None = None,
    ) -> None:
        self._upstreams = sorted(upstreams, key=lambda one: -len(one.prefix))
        self._transport = transport
        self._ttl = ttl
        self._metrics = metrics
        self._fetching: dict[str, Fetching] = {}
        self._flights: dict[tuple[str, str], asyncio.Task[None]] = {}

    async def close(self) -> None:
        """End what is being fetched."""
        tasks = [one.task for one in self._fetching.values() if one.task] + list(self._flights.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._transport.close()

    def covers(self, name: str) -> bool:
        """Whether the repository is another registry's."""
        return any(one.path(name) is not None for one in self._upstreams)

    async def _repository(self, name: str) -> Repository | None:
        for one in self._upstreams:
            path = one.path(name)
            if path is not None:
                return Repository(await self._transport.connect(one.domain, one.credentials), path)
        return None

    # Manifests

    async def manifest(self, store: Repositories, name: str, reference: str) -> None:
        """See that a manifest is here, and a tag as it is there. Raises ApiError when it is neither."""
        known = await offload(store.manifest, name, reference)
        if known is not None and (is_digest(reference) or await offload(store.is_fresh, name, reference, self._ttl)):
            self._count("hit")
            await offload(store.use_manifest, name, known.digest, _USED)
            return
        try:
            await self._once((name, reference), self._bring(store, name, reference, known.digest if known else ""))
        except RegistryRefused as error:
            if error.status < 500 and error.status != 429:
                self._count("unknown")
                raise ApiError("MANIFEST_UNKNOWN", f"manifest unknown: {error.message}") from error
            self._stale(known is not None, name, reference, error)
        except BuildtoolError as error:
            self._stale(known is not None, name, reference, error)

    def _stale(self, known: bool, name: str, reference: str, error: BuildtoolError) -> None:
        """The other registry fails: what is here has to do."""
        if not known:
            self._count("error")
            raise ApiError("UNKNOWN", f"the mirrored registry failed: {error.message}", status=502) from error
        log.warning("%s:%s is served as it was: %s", name, reference, error.message)
        self._count("stale")

    async def _bring(self, store: Repositories, name: str, reference: str, known: str) -> None:
        repository = await self._repository(name)
        assert repository is not None
        if known and await repository.manifest_digest(reference) == known:
            await offload(store.refresh_tag, name, reference)
            await offload(store.use_manifest, name, known, _USED)
            self._count("revalidated")
            return
        fetched = await repository.manifest(reference)
        parsed = manifests.parse(fetched.data, fetched.media_type)
        tag = "" if is_digest(reference) else reference
        await offload(store.cache_manifest, name, tag, fetched.data, parsed)
        self._count("miss")

    # Blobs

    async def blob(self, store: Repositories, name: str, digest: str) -> Fetching | None:
        """None when the blob is here; else it is being fetched (release it). Raises ApiError."""
        if await offload(store.blob, name, digest) is not None:
            self._count("hit")
            return None
        running = self._fetching.get(digest)
        if running is None:
            size = await self.size(name, digest)
            running = self._fetching.get(digest)  # somebody may have begun meanwhile
            if running is None:
                running = self._fetching[digest] = Fetching(size)
                running.task = asyncio.create_task(self._download(store, name, digest, running))
                self._count("miss")
        running.users += 1
        return running

    async def size(self, name: str, digest: str) -> int:
        """How long the blob is there. Raises ApiError."""
        repository = await self._asked(name)
        try:
            size = await repository.blob_size(Digest(digest)) if is_digest(digest) else None
        except RegistryRefused as error:
            raise self._failed(error) from error
        if size is None:
            raise ApiError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})
        return size

    async def _asked(self, name: str) -> Repository:
        try:
            repository = await self._repository(name)
        except BuildtoolError as error:
            raise self._failed(error) from error
        assert repository is not None
        return repository

    async def _download(self, store: Repositories, name: str, digest: str, fetching: Fetching) -> None:
        wanted = Descriptor("application/octet-stream", Digest(digest), fetching.size)
        try:
            repository = await self._asked(name)
            await download(repository, store.store.blobs, wanted, Progress(lambda _: None, ""), fetching.growing)
            await offload(store.link, name, digest, fetching.size)
        except BuildtoolError as error:
            fetching.growing.end(error)
            log.warning("blob %s of %s: %s", digest, name, error)
        except BaseException as error:
            fetching.growing.end(error)
            raise
        finally:
            del self._fetching[digest]
            fetching.release()

    # Lists

    async def tags(self, name: str) -> list[str] | None:
        """All tags there; None when nobody answers."""
        try:
            repository = await self._asked(name)
            return sorted(await repository.tags(), key=tag_order)
        except Missing:
            return []
        except BuildtoolError as error:
            log.warning("tags of %s: %s", name, error.message)
            return None

    async def referrers(self, name: str, digest: str) -> list[dict[str, Any]] | None:
        """Descriptors of what refers to a digest there; None when nobody answers."""
        import msgspec

        try:
            repository = await self._asked(name)
            return [msgspec.to_builtins(one) for one in await referrers(repository, Digest(digest))]
        except BuildtoolError as error:
            log.warning("referrers of %s@%s: %s", name, digest, error.message)
            return None

    async def _once(self, key: tuple[str, str], work: Coroutine[Any, Any, None]) -> None:
        """Everybody who wants the same waits for one; a client that goes away does not end it."""
        task = self._flights.get(key)
        if task is None:
            task = self._flights[key] = asyncio.create_task(work)
            task.add_done_callback(lambda _: self._flights.pop(key, None))
        else:
            work.close()
        await asyncio.shield(task)

    def _failed(self, error: BuildtoolError) -> ApiError:
        status = getattr(error, "status", 0)
        if status in (401, 403, 404):
            return ApiError("BLOB_UNKNOWN", f"blob unknown to registry: {error.message}")
        self._count("error")
        return ApiError("UNKNOWN", f"the mirrored registry failed: {error.message}", status=502)

    def _count(self, outcome: str) -> None:
        if self._metrics is not None:
            self._metrics.mirror.labels(outcome).inc()
