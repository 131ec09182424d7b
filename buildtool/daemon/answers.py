"""Answers of the usual kinds: a JSON document, nothing, an error, lines of JSON, bytes as they come."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import msgspec
from aiohttp import web

from buildtool.daemon.call import Call
from buildtool.daemon.negotiate import STANDARD_HEADERS, Version
from buildtool.errors import BuildtoolError, StepFailed, StoreFull

log = logging.getLogger("buildtool.daemon")

MULTIPLEXED = "application/vnd.docker.multiplexed-stream"
RAW = "application/vnd.docker.raw-stream"
NDJSON = "application/x-ndjson"


def stream_type(version: Version, *, tty: bool) -> str:
    """The content type of output: clients before API 1.42 know one for both kinds."""
    return RAW if tty or version < (1, 42) else MULTIPLEXED


def json_answer(document: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> web.Response:
    """The document as JSON, a line feed after it as Docker writes."""
    return web.Response(
        body=msgspec.json.encode(document) + b"\n",
        status=status,
        headers={**STANDARD_HEADERS, "Content-Type": "application/json", **(headers or {})},
    )


def nothing(status: int = 204) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status, headers=STANDARD_HEADERS)


def text_answer(text: str, headers: Mapping[str, str] | None = None) -> web.Response:
    """A plain text body."""
    return web.Response(
        body=text.encode(),
        headers={**STANDARD_HEADERS, "Content-Type": "text/plain; charset=utf-8", **(headers or {})},
    )


def error_answer(error: BaseException) -> web.Response:
    """The error document, with the error's own status."""
    status = error.http_status if isinstance(error, BuildtoolError) else 500
    if status == 304:
        return nothing(304)
    document = {"message": message_of(error)}
    code = getattr(error, "code", None)
    if isinstance(code, str):
        document["code"] = code
    return json_answer(document, status)


def message_of(error: BaseException) -> str:
    """What the user is told. An error that is not one of ours is logged with its traceback and told in one line."""
    if isinstance(error, BuildtoolError):
        return str(error)
    if isinstance(error, OSError) and error.errno in (28, 122):
        return str(StoreFull(f"no space left on the daemon's disk: {error}"))
    log.error("unexpected error", exc_info=error)
    return f"internal error of the daemon: {type(error).__name__}: {error} (its log has the details)"


class Stream:
    """A body that is sent piece by piece, each at once. The header goes out with `open` or the first piece."""

    def __init__(self, call: Call, content_type: str, headers: Mapping[str, str] | None = None) -> None:
        self.response = web.StreamResponse(
            headers={**STANDARD_HEADERS, "Content-Type": content_type, **(headers or {})}
        )
        self._call = call

    @property
    def begun(self) -> bool:
        """Whether the header has been sent."""
        return self.response.prepared

    async def open(self) -> None:
        """Send the header."""
        if not self.response.prepared:
            await self.response.prepare(self._call.request)

    async def write(self, data: bytes) -> None:
        """Send bytes; waits while the client is slow."""
        await self.open()
        if data:
            await self.response.write(data)

    async def line(self, document: Any) -> None:
        """Send one JSON document and a line end."""
        await self.write(msgspec.json.encode(document) + b"\r\n")


@asynccontextmanager
async def json_lines(call: Call, content_type: str = "application/json") -> AsyncIterator[Stream]:
    """A progress stream as Docker's: an error after the first line becomes the last line; before it, an error
    answer."""
    stream = Stream(call, content_type)
    try:
        yield stream
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        if not stream.begun:
            raise
        await stream.line(error_line(error))
    else:
        await stream.open()


def error_line(error: BaseException) -> dict[str, Any]:
    """The last line of a stream that failed."""
    message = message_of(error)
    detail: dict[str, Any] = {"message": message}
    if isinstance(error, StepFailed) and error.exit_code_of_step:
        detail = {"code": error.exit_code_of_step, "message": message}
    return {"errorDetail": detail, "error": message}


async def byte_stream(
    call: Call, content_type: str, chunks: AsyncIterator[bytes], headers: Mapping[str, str] | None = None
) -> web.StreamResponse:
    """Send chunks as they come. An error before the first is an error answer; a later one cuts the connection, so
    that
    no client takes a part for the whole."""
    stream = Stream(call, content_type, headers)
    try:
        first = await anext(chunks, b"")
        await stream.write(first)
        async for chunk in chunks:
            await stream.write(chunk)
    except (asyncio.CancelledError, ConnectionError):
        raise
    except Exception as error:
        if not stream.begun:
            raise
        message_of(error)
        abort(call)
    finally:
        closer = getattr(chunks, "aclose", None)
        if closer is not None:
            await closer()
    return stream.response


def abort(call: Call) -> None:
    """Cut the connection in the middle of an answer."""
    transport = call.request.transport
    if transport is not None:
        transport.abort()
