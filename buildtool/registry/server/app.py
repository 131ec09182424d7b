"""The server: from a request to its handler, errors to answers, upkeep in the background."""

from __future__ import annotations

import asyncio
import logging
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from aiohttp import web

from buildtool.aio import offload
from buildtool.cache import Store
from buildtool.errors import BuildtoolError, StoreFull
from buildtool.registry.server import blobs, documents
from buildtool.registry.server.access import ANYBODY, Access, Guarded, Identity, Open
from buildtool.registry.server.answers import Call, json_answer
from buildtool.registry.server.content import Content, Writable
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import Target, parse_path
from buildtool.registry.server.repositories import Repositories
from buildtool.registry.server.rules import RuleSet
from buildtool.registry.server.uploads import Uploads

if TYPE_CHECKING:
    from buildtool.registry.server.audit import Audit
    from buildtool.registry.server.limits import RateLimit
    from buildtool.registry.server.metrics import Metrics
    from buildtool.registry.server.mirror import Mirror

log = logging.getLogger("buildtool.registry")

Handler = Callable[[Call], Awaitable[web.StreamResponse]]

_HANDLERS: dict[tuple[str, str], Handler] = {
    ("base", "GET"): documents.base,
    ("base", "HEAD"): documents.base,
    ("catalog", "GET"): documents.catalog,
    ("tags", "GET"): documents.tags,
    ("referrers", "GET"): documents.referrers,
    ("manifests", "GET"): documents.get_manifest,
    ("manifests", "HEAD"): documents.get_manifest,
    ("manifests", "PUT"): documents.put_manifest,
    ("manifests", "DELETE"): documents.delete_manifest,
    ("blobs", "GET"): blobs.get_blob,
    ("blobs", "HEAD"): blobs.get_blob,
    ("blobs", "DELETE"): blobs.delete_blob,
    ("uploads", "POST"): blobs.begin_upload,
    ("uploads", "PATCH"): blobs.patch_upload,
    ("uploads", "PUT"): blobs.finish_upload,
    ("uploads", "GET"): blobs.upload_state,
    ("uploads", "DELETE"): blobs.cancel_upload,
}
_READS = frozenset({"GET", "HEAD"})
_READ_BUFFER = 256 << 10  # of each connection; twice as much may pile up
_BATCH = 1 << 20
_COLLECT_DELAY = 1.0


@dataclass
class Settings:
    """What a server is told. Times in seconds, sizes in bytes.

    `grace`: blobs without a manifest are kept so long; `untagged`: manifests that nothing names, None for ever;
    `mirror_keep`: mirrored images that nobody pulls, None for ever.
    """

    access: Access = field(default_factory=Open)
    upload_idle: float = 3600.0
    grace: float = 86400.0
    untagged: float | None = None
    mirror_keep: float | None = None
    upkeep: float = 3600.0
    max_blob: int = 1 << 40
    delete: bool = True
    pages: bool = True
    immutable: Callable[[], RuleSet] = RuleSet
    rate: RateLimit | None = None
    audit: Audit | None = None
    metrics: Metrics | None = None
    mirror: Mirror | None = None


@dataclass
class _Told:
    """What is known of a request when it is logged."""

    kind: str = "other"
    target: Target | None = None
    who: Identity = ANYBODY


class Server:
    """One registry. `writable` is None when it only reads."""

    def __init__(
        self,
        store: Store,
        settings: Settings | None = None,
        *,
        content: Content | None = None,
        writable: Writable | None = None,
        uploads: Uploads | None = None,
    ) -> None:
        """`content`: what to read from instead of the store; `writable`: what to read from and write to."""
        self.settings = settings or Settings()
        self.local = Repositories(store, self.settings.immutable) if content is None and writable is None else None
        self.writable: Writable | None = writable or self.local
        self.content: Content = content or self.writable or Repositories(store)
        self.access: Access = self.settings.access
        self.mirror = self.settings.mirror
        self.uploads = Uploads(store, idle=self.settings.upload_idle) if uploads is None else uploads
        self.max_blob = self.settings.max_blob
        self.in_flight = 0
        self.senders = 0
        self.draining = False
        self._idle = asyncio.Event()
        self._idle.set()
        self._collecting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        if self.settings.metrics is not None:
            self.settings.metrics.watch(self)

    async def open(self) -> web.Server:
        """Begin the upkeep; the protocol factory for the event loop's `create_server`."""
        if self.writable is not None:
            self._task = asyncio.create_task(self._keep_up())
        return web.Server(
            self.handle,
            handler_cancellation=True,
            access_log=None,
            auto_decompress=False,
            read_bufsize=_READ_BUFFER,
            keepalive_timeout=75.0,
            lingering_time=5.0,
            logger=log,
        )

    async def close(self) -> None:
        """End the upkeep and the uploads."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        if self.mirror is not None:
            await self.mirror.close()
        await self.uploads.close()

    async def drained(self, seconds: float) -> bool:
        """Wait for the requests that run to end, no longer than so long; tells whether they did."""
        self.draining = True
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        began = time.monotonic()
        told = _Told()
        self.in_flight += 1
        self._idle.clear()
        try:
            response = await self._route(request, told)
        except (asyncio.CancelledError, ConnectionError):
            log.info("%s %s %s: the client went away", told.who.name or "-", request.method, request.path)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the rest
            response = _error_answer(error)
            if response.prepared is False and not request.content.at_eof() and request.method not in _READS:
                response.force_close()  # the rest of the body is not worth reading
        finally:
            self.in_flight -= 1
            if not self.in_flight:
                self._idle.set()
        self._record(request, told, response, time.monotonic() - began)
        return response

    def _record(self, request: web.BaseRequest, told: _Told, response: web.StreamResponse, seconds: float) -> None:
        status, user = response.status, told.who.name
        log.info("%s %s %s: %d, %.3f s", user or "-", request.method, request.path, status, seconds)
        settings = self.settings
        if settings.metrics is not None:
            settings.metrics.request(request.method, told.kind, status, seconds)
        if settings.audit is not None and (told.target is not None or told.kind == "token") and told.kind != "base":
            settings.audit.write(
                user=user,
                address=request.remote or "",
                method=request.method,
                kind=told.kind,
                repository=told.target.name if told.target else "",
                reference=told.target.reference if told.target and told.kind != "uploads" else "",
                mounted_from=request.query.get("from", ""),
                digest=response.headers.get("Docker-Content-Digest", ""),
                status=status,
                seconds=round(seconds, 3),
            )

    @property
    def batch(self) -> int:
        """How many bytes of a body are written at once: less when many send, so that memory stays in bounds."""
        return max(_BATCH // 8, _BATCH // max(1, self.in_flight // 4))

    # Routing

    async def _route(self, request: web.BaseRequest, told: _Told) -> web.StreamResponse:
        path = request.path
        if path in ("/healthz", "/readyz"):
            told.kind = "health"
            return await self._health(ready=path == "/readyz")
        if path == "/token" and isinstance(self.access, Guarded) and self.access.signer is not None:
            return await self._token(request, self.access, told)
        if path == "/v2" or path.startswith("/v2/"):
            target = parse_path(path)
            if target is None:
                return web.Response(status=404, text="page not found\n")
            told.kind, told.target = target.kind, target
            told.who = await self._identify(request, target)
            return await self._answer(request, target, told.who)
        if self.settings.pages:
            from buildtool.registry.server.pages import answer

            told.kind = "page"
            told.who = await self._identify(request, None)
            return await answer(request, self, told.who)
        return web.Response(status=404, text="page not found\n")

    async def _health(self, *, ready: bool) -> web.StreamResponse:
        """/healthz: this process answers. /readyz: it serves, and goes on doing so."""
        if ready and self.draining:
            return web.Response(status=503, text="draining\n")
        if ready:
            try:
                await offload(self.content.repositories, "", 1)
            except (BuildtoolError, OSError) as error:
                log.warning("not ready: %s", error)
                return web.Response(status=503, text="the storage does not answer\n")
        return web.Response(text="ok\n")

    async def _token(self, request: web.BaseRequest, access: Guarded, told: _Told) -> web.StreamResponse:
        from buildtool.registry.server.token_service import token

        told.kind = "token"
        try:
            response, told.who = await token(request, access)
        except ApiError as error:
            if error.code == "UNAUTHORIZED":
                self._limit(request.remote or "")
            raise
        self._limit(told.who.name or request.remote or "")
        return response

    async def _identify(self, request: web.BaseRequest, target: Target | None) -> Identity:
        if not self.access.asks:
            who = ANYBODY
        else:
            try:
                basic = request.headers.get("Authorization", "")[:6].lower() == "basic "
                identify = self.access.identify
                who = await offload(identify, request.headers) if basic else identify(request.headers)
            except ApiError as error:
                self._limit(request.remote or "")
                error.headers |= self._challenge(request, target)
                raise
        self._limit(who.name or request.remote or "")
        return who

    def _limit(self, client: str) -> None:
        """Raises ApiError TOOMANYREQUESTS."""
        wait = self.settings.rate.take(client) if self.settings.rate is not None else 0.0
        if wait:
            raise ApiError(
                "TOOMANYREQUESTS", "too many requests", headers={"Retry-After": str(max(1, math.ceil(wait)))}
            )

    def _challenge(
        self, request: web.BaseRequest, target: Target | None, *, insufficient: bool = False
    ) -> dict[str, str]:
        scope = ""
        if target is not None and target.name:
            action = _action(target, request.method)
            scope = f"repository:{target.name}:{'pull,push' if action == 'push' else action}"
        elif target is not None and target.kind == "catalog":
            scope = "registry:catalog:*"
        return self.access.challenge(f"{request.scheme}://{request.host}", scope, insufficient=insufficient)

    async def _answer(self, request: web.BaseRequest, target: Target, who: Identity) -> web.StreamResponse:
        if self.access.asks:
            await self._authorize(request, target, who)
        handler = _HANDLERS.get((target.kind, request.method))
        if handler is None:
            allowed = [method for kind, method in _HANDLERS if kind == target.kind]
            raise ApiError("UNSUPPORTED", "the operation is unsupported", headers={"Allow": ", ".join(allowed)})
        if request.method == "DELETE" and target.kind in ("blobs", "manifests") and not self.settings.delete:
            raise ApiError("UNSUPPORTED", "deleting is not allowed on this registry")
        return await handler(Call(request, self, target, who))

    async def _authorize(self, request: web.BaseRequest, target: Target, who: Identity) -> None:
        """Before anything is looked at: what may not be seen answers as what is not there."""
        if target.name:
            if await offload(self.access.allows, who, _action(target, request.method), target.name):
                return
        elif self.access.admits(who):
            return
        if who == ANYBODY:
            message = "authentication required"
            raise ApiError("UNAUTHORIZED", message, headers=self._challenge(request, target))
        message = "requested access to the resource is denied"
        if who.grants is not None and isinstance(self.access, Guarded) and self.access.exchange:
            headers = self._challenge(request, target, insufficient=True)
            raise ApiError("DENIED", message, status=401, headers=headers)
        raise ApiError("DENIED", message)

    # Upkeep

    def collect_soon(self) -> None:
        """Something was deleted: collect garbage in a moment."""
        self._collecting.set()

    async def collect(self) -> None:
        """Drop old links that no manifest needs, and blobs that nothing links to. Pushes may go on meanwhile."""
        assert self.writable is not None
        if self.local is not None and self.settings.mirror_keep is not None:
            await offload(self.local.drop_unused, self.settings.mirror_keep)
        blobs, size = await offload(self.writable.collect, self.settings.grace, self.settings.untagged)
        if blobs:
            log.info("collected %d blobs, %d bytes", blobs, size)
        if self.settings.metrics is not None:
            self.settings.metrics.collected.inc(size)

    async def _keep_up(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._collecting.wait(), self.settings.upkeep)
                await asyncio.sleep(_COLLECT_DELAY)
            except TimeoutError:
                pass
            self._collecting.clear()
            try:
                await self.uploads.expire()
                await self.collect()
            except BuildtoolError as error:
                log.warning("upkeep failed: %s", error)


def _action(target: Target, method: str) -> str:
    """What the request needs the right to."""
    if target.kind == "uploads":
        return "push"
    if method == "DELETE":
        return "delete"
    return "pull" if method in _READS else "push"


def _error_answer(error: Exception) -> web.Response:
    if isinstance(error, StoreFull):
        error = ApiError("UNKNOWN", "the registry's disk is full", status=507)
    if isinstance(error, BuildtoolError) and not isinstance(error, ApiError):
        log.warning("%s", error)
        error = ApiError("UNKNOWN", "the registry failed at it", status=error.http_status)
    if not isinstance(error, ApiError):
        log.error("unexpected error", exc_info=error)
        error = ApiError("UNKNOWN", "internal error of the registry; its log has the details")
    return json_answer(error.document(), error.status, error.headers)
