"""The server: from a request to its handler, errors to answers, upkeep in the background."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable

from aiohttp import web

from buildtool.aio import offload
from buildtool.cache import GcReport, Store
from buildtool.errors import BuildtoolError, StoreFull
from buildtool.registry.server import blobs, documents
from buildtool.registry.server.access import Access, Open
from buildtool.registry.server.answers import Call, json_answer
from buildtool.registry.server.content import Content
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import Target, parse_path
from buildtool.registry.server.repositories import Repositories
from buildtool.registry.server.uploads import Uploads

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
_READ_BUFFER = 1 << 20
_COLLECT_DELAY = 1.0


class Server:
    """One registry. `writable` is None when it only reads. Times in seconds."""

    def __init__(
        self,
        store: Store,
        *,
        content: Content | None = None,
        access: Access | None = None,
        upload_idle: float = 3600.0,
        grace: float = 86400.0,
        upkeep: float = 3600.0,
        max_blob: int = 1 << 40,
        delete: bool = True,
    ) -> None:
        self.writable = Repositories(store) if content is None else None
        self.content: Content = content or Repositories(store)
        self.access: Access = access or Open()
        self.uploads = Uploads(store, idle=upload_idle)
        self.max_blob = max_blob
        self._in_flight = 0
        self._idle = asyncio.Event()
        self._idle.set()
        self._store = store
        self._grace = grace
        self._upkeep = upkeep
        self._delete = delete
        self._collecting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

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
        await self.uploads.close()

    async def drained(self, seconds: float) -> bool:
        """Wait for the requests that run to end, no longer than so long; tells whether they did."""
        try:
            await asyncio.wait_for(self._idle.wait(), seconds)
        except TimeoutError:
            return False
        return True

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        began = time.monotonic()
        user = ""
        self._in_flight += 1
        self._idle.clear()
        try:
            target = parse_path(request.path)
            if target is None:
                return web.Response(status=404, text="page not found\n")
            user = await self._user(request)
            response = await self._answer(request, target, user)
        except (asyncio.CancelledError, ConnectionError):
            log.info("%s %s %s: the client went away", user or "-", request.method, request.path)
            raise
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the rest
            response = _error_answer(error)
            if response.prepared is False and not request.content.at_eof() and request.method not in _READS:
                response.force_close()  # the rest of the body is not worth reading
        finally:
            self._in_flight -= 1
            if not self._in_flight:
                self._idle.set()
        seconds = time.monotonic() - began
        log.info("%s %s %s: %d, %.3f s", user or "-", request.method, request.path, response.status, seconds)
        return response

    async def _user(self, request: web.BaseRequest) -> str:
        if isinstance(self.access, Open):
            return ""
        return await offload(self.access.user, request.headers)

    async def _answer(self, request: web.BaseRequest, target: Target, user: str) -> web.StreamResponse:
        self.access.check(user, write=request.method not in _READS or target.kind == "uploads")
        handler = _HANDLERS.get((target.kind, request.method))
        if handler is None:
            allowed = [method for kind, method in _HANDLERS if kind == target.kind]
            raise ApiError("UNSUPPORTED", "the operation is unsupported", headers={"Allow": ", ".join(allowed)})
        if request.method == "DELETE" and target.kind in ("blobs", "manifests") and not self._delete:
            raise ApiError("UNSUPPORTED", "deleting is not allowed on this registry")
        return await handler(Call(request, self, target, user))

    # Upkeep

    def collect_soon(self) -> None:
        """Something was deleted: collect garbage in a moment."""
        self._collecting.set()

    async def collect(self) -> GcReport:
        """Drop old links that no manifest needs, and blobs that nothing links to. Pushes may go on meanwhile."""
        assert self.writable is not None
        repositories = self.writable

        def work() -> GcReport:
            repositories.drop_unreferenced(self._grace)
            return self._store.gc(repositories.pins(), actions="all")

        report = await offload(work)
        if report.blobs:
            log.info("collected %d blobs, %d bytes", len(report.blobs), report.bytes)
        return report

    async def _keep_up(self) -> None:
        while True:
            try:
                await asyncio.wait_for(self._collecting.wait(), self._upkeep)
                await asyncio.sleep(_COLLECT_DELAY)
            except TimeoutError:
                pass
            self._collecting.clear()
            try:
                await self.uploads.expire()
                await self.collect()
            except BuildtoolError as error:
                log.warning("upkeep failed: %s", error)


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
