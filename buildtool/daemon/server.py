"""The HTTP server: finds the route of a request, calls it, answers its errors."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Coroutine
from typing import TYPE_CHECKING, Any

from aiohttp import web

from buildtool.daemon import answers
from buildtool.daemon.call import Call
from buildtool.daemon.hijack import HijackableProtocol, HijackableServer
from buildtool.daemon.negotiate import negotiate, split_version
from buildtool.daemon.routing import Route, Router
from buildtool.errors import InvalidInput, NotFound

if TYPE_CHECKING:
    from buildtool.daemon.services import Services

log = logging.getLogger("buildtool.daemon")

_READ_BUFFER = 256 * 1024


class Dispatcher:
    """Turns requests into calls. Knows how many are in flight and when the last one ended, for the idle stop."""

    def __init__(self, services: Services, router: Router) -> None:
        self._services = services
        self._router = router
        self._owned: set[asyncio.Task[Any]] = set()
        self.in_flight = 0
        self.last_end = time.monotonic()

    async def __call__(self, request: web.BaseRequest) -> web.StreamResponse:
        """Answer one request."""
        self.in_flight += 1
        try:
            response = await self._answer(request)
        finally:
            self.in_flight -= 1
            self.last_end = time.monotonic()
        protocol = request.protocol
        if isinstance(protocol, HijackableProtocol) and not protocol.release():
            response.force_close()
        return response

    async def _answer(self, request: web.BaseRequest) -> web.StreamResponse:
        text, path = split_version(request.path)
        try:
            version = negotiate(text)
            if "%00" in request.raw_path:
                raise InvalidInput("a NUL byte in the request's address: no name has one")
            found = self._router.find(request.method, path)
            if found is None:
                raise NotFound("page not found")
            route, names = found
            _tell(request)
            return await self._run(route, Call(request, self._services, version, names))
        except asyncio.CancelledError:
            raise
        except ConnectionError:
            raise
        except web.HTTPException as error:
            return answers.json_answer({"message": error.text or error.reason}, error.status)
        except Exception as error:  # noqa: BLE001 - whatever it is, the client gets an answer and the log the traceback
            answer = answers.error_answer(error)
            if answer.status >= 500:
                log.warning("%s %s: %d: %s", request.method, request.path, answer.status, error)
            return answer

    async def _run(self, route: Route, call: Call) -> web.StreamResponse:
        if route.stream:
            return await route.handler(call)
        task = asyncio.ensure_future(self._own(route.handler(call)))
        self._owned.add(task)
        task.add_done_callback(self._disown)
        return await asyncio.shield(task)

    async def _own(self, work: Coroutine[Any, Any, web.StreamResponse] | Any) -> web.StreamResponse:
        result: web.StreamResponse = await work
        return result

    def _disown(self, task: asyncio.Task[Any]) -> None:
        self._owned.discard(task)
        if not task.cancelled():
            task.exception()

    async def finish(self, seconds: float) -> None:
        """Wait for the calls that run to their end, no longer than so many seconds; then cancel them."""
        if self._owned:
            await asyncio.wait(self._owned, timeout=seconds)
        for task in self._owned:
            task.cancel()


def _tell(request: web.BaseRequest) -> None:
    """Log the request; what others than the daemon's own user change is told by default."""
    protocol = request.protocol
    if not isinstance(protocol, HijackableProtocol):
        return
    changing = request.method not in ("GET", "HEAD")
    level = logging.INFO if changing and protocol.stranger else logging.DEBUG
    log.log(level, "%s %s by %s", request.method, request.path if changing else request.path_qs, protocol.peer)


def make_server(dispatcher: Dispatcher) -> HijackableServer:
    """The server around a dispatcher; sockets are given to it by the event loop's `create_server`."""
    return HijackableServer(
        dispatcher,
        handler_cancellation=True,
        request_factory=_make_request,
        access_log=None,
        auto_decompress=False,
        read_bufsize=_READ_BUFFER,
        max_line_size=64 * 1024,
        max_field_size=64 * 1024,
        keepalive_timeout=300.0,
        lingering_time=2.0,
        logger=log,
    )


def _make_request(message: Any, payload: Any, protocol: Any, writer: Any, task: Any) -> web.BaseRequest:
    return web.BaseRequest(message, payload, protocol, writer, task, asyncio.get_running_loop(), client_max_size=0)
