"""Blobs and uploads: end-2, end-4 to end-6, end-10, end-11, end-13, end-14 of the specification."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, BinaryIO

from aiohttp import web

from buildtool.aio import offload
from buildtool.errors import BuildtoolError
from buildtool.registry.downloads import Abandoned
from buildtool.registry.sending import send_file
from buildtool.registry.server.answers import Call, expect_body, nothing
from buildtool.registry.server.content import StoredBlob
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import check_digest, check_name, is_digest
from buildtool.registry.server.uploads import Upload
from buildtool.registry.work import settled

if TYPE_CHECKING:
    from buildtool.registry.server.metrics import Metrics
    from buildtool.registry.server.mirror import Mirror
    from buildtool.registry.server.repositories import Repositories

_SMALL = 64 * 1024
_CHUNK = 1 << 20
_RANGE = re.compile(r"bytes=(\d*)-(\d*)")
_CONTENT_RANGE = re.compile(r"(?:bytes[ =])?(\d+)-(\d+)(?:/.*)?")
_TOUCH = 600.0
_SENDERS = 64


async def get_blob(call: Call) -> web.StreamResponse:
    """GET and HEAD, whole or one range of it."""
    name, digest = call.target.name, check_digest(call.target.reference)
    if call.mirror is not None and call.server.local is not None:
        fetched = await _from_mirror(call, call.mirror, call.server.local)
        if fetched is not None:
            return fetched
    blob = await offload(call.server.content.blob, name, digest)
    if blob is None:
        raise ApiError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})
    tag = f'"{digest}"'
    headers = {
        "Content-Type": "application/octet-stream",
        "Docker-Content-Digest": digest,
        "ETag": tag,
        "Cache-Control": "max-age=31536000",
    }
    if digest in call.header("If-None-Match") or call.header("If-None-Match") == "*":
        return nothing(304, headers)
    if call.request.method == "HEAD":
        if call.server.writable is not None:
            await offload(call.server.writable.touch_blob, name, digest, _TOUCH)
        return nothing(200, headers | {"Content-Length": str(blob.size), "Accept-Ranges": "bytes"})
    if blob.url is not None and blob.size > _SMALL:
        return nothing(307, {"Location": await offload(blob.url), "Docker-Content-Digest": digest})
    if blob.path is None and blob.part is None:
        return await _send_made(call, blob, headers)
    wanted = _range(call.header("Range"), blob.size) if call.header("If-Range") in ("", tag) else None
    headers["Accept-Ranges"] = "bytes"
    if wanted is None:
        return await _send_file(call, blob, headers, 200, 0, blob.size)
    start, end = wanted
    headers["Content-Range"] = f"bytes {start}-{end}/{blob.size}"
    return await _send_file(call, blob, headers, 206, start, end - start + 1)


async def _from_mirror(call: Call, mirror: Mirror, store: Repositories) -> web.StreamResponse | None:
    """A blob that is being fetched, sent while it comes in; None when it is here."""
    name, digest = call.target.name, call.target.reference
    headers = {"Content-Type": "application/octet-stream", "Docker-Content-Digest": digest, "ETag": f'"{digest}"'}
    if call.request.method == "HEAD":
        if await offload(store.blob, name, digest) is not None:
            return None
        return nothing(200, headers | {"Content-Length": str(await mirror.size(name, digest))})
    fetching = await mirror.blob(store, name, digest)
    if fetching is None:
        return None
    try:
        if call.header("Range"):
            if fetching.task is not None:
                await asyncio.wait([fetching.task])
            return None
        await fetching.growing.started()
        response = web.StreamResponse(headers=headers | {"Content-Length": str(fetching.size)})
        position = 0
        while position < fetching.size:
            try:
                data = await settled(fetching.growing.read_at, position, _CHUNK)
                if position + len(data) >= fetching.size:  # the end is sent when all is known to be right
                    await settled(fetching.growing.read_at, fetching.size, 1)
            except Abandoned as error:
                if not response.prepared:
                    raise ApiError("UNKNOWN", "the mirrored registry broke off", status=502) from error
                raise ConnectionResetError("the mirrored registry broke off") from error
            if not response.prepared:
                await response.prepare(call.request)
            await response.write(data)
            position += len(data)
        await response.write_eof()
        return response
    finally:
        fetching.release()


def _range(header: str, size: int) -> tuple[int, int] | None:
    """First and last byte of a single range; None for none that is understood. Raises ApiError (416)."""
    match = _RANGE.fullmatch(header.replace(" ", ""))
    if match is None or match.groups() == ("", ""):
        return None
    first, last = match.groups()
    if not first:
        start, end = max(0, size - int(last)), size - 1
    else:
        start, end = int(first), min(int(last), size - 1) if last else size - 1
        if last and int(last) < start:
            return None
    if start >= size or (not first and int(last) == 0):
        headers = {"Content-Range": f"bytes */{size}"}
        raise ApiError("SIZE_INVALID", "the range is not within the blob", status=416, headers=headers)
    return start, end


async def _send_file(
    call: Call, blob: StoredBlob, headers: dict[str, str], status: int, start: int, count: int
) -> web.StreamResponse:
    """Small pieces in one write, large ones by sendfile(2)."""
    if blob.path is None:
        assert blob.part is not None
        return await _send_chunks(call, blob.part(start, count), status, headers | {"Content-Length": str(count)})
    try:
        file: BinaryIO = await settled(blob.path.open, "rb")
    except FileNotFoundError:
        raise ApiError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": call.target.reference}) from None
    with file:
        if count <= _SMALL:
            data = await settled(_read, file, start, count)
            return web.Response(body=data, status=status, headers=headers)
        response = web.StreamResponse(status=status, headers=headers | {"Content-Length": str(count)})
        await response.prepare(call.request)
        if call.server.settings.metrics is not None:
            call.server.settings.metrics.sent.inc(count)
        await _send_body(call, file, start, count)
        await response.write_eof()
        return response


async def _send_body(call: Call, file: BinaryIO, start: int, count: int) -> None:
    """From threads, where a file that is not in memory stops nobody else; beyond so many of them from the loop."""
    transport, server = call.request.transport, call.server
    if transport is None:
        raise ConnectionResetError("the client has gone")
    plain = transport.get_extra_info("sslcontext") is None and not transport.get_write_buffer_size()
    if plain and server.senders < _SENDERS:
        server.senders += 1
        try:
            await send_file(transport, file.fileno(), start, start + count)
        except (OSError, BuildtoolError) as error:
            raise ConnectionResetError(str(error)) from None
        finally:
            server.senders -= 1
        return
    try:
        await asyncio.get_running_loop().sendfile(transport, file, start, count, fallback=True)
    except RuntimeError as error:
        raise ConnectionResetError(str(error)) from None


def _read(file: BinaryIO, start: int, count: int) -> bytes:
    file.seek(start)
    return file.read(count)


async def _send_made(call: Call, blob: StoredBlob, headers: dict[str, str]) -> web.StreamResponse:
    """A layer that is made of its snapshot while it is sent."""
    assert blob.make is not None
    return await _send_chunks(call, blob.make(), 200, headers | {"Content-Length": str(blob.size)})


async def _send_chunks(
    call: Call, chunks: Iterator[bytes], status: int, headers: dict[str, str]
) -> web.StreamResponse:
    response = web.StreamResponse(status=status, headers=headers)
    try:
        first = await settled(_next, chunks)
    except FileNotFoundError:
        raise ApiError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": call.target.reference}) from None
    await response.prepare(call.request)
    while first:
        await response.write(first)
        first = await settled(_next, chunks)
    await response.write_eof()
    return response


def _next(chunks: Iterator[bytes]) -> bytes:
    return next(chunks, b"")


async def delete_blob(call: Call) -> web.StreamResponse:
    """DELETE: the link goes at once, the bytes with the next garbage collection."""
    digest = check_digest(call.target.reference)
    if not await offload(call.store.delete_blob, call.target.name, digest):
        raise ApiError("BLOB_UNKNOWN", "blob unknown to registry", {"digest": digest})
    call.server.collect_soon()
    return nothing(202, {"Docker-Content-Digest": digest})


async def begin_upload(call: Call) -> web.StreamResponse:
    """POST: mount, whole upload in one request, or the beginning of a session."""
    name, store = call.target.name, call.store
    mount, digest = call.query("mount"), call.query("digest")
    if mount and is_digest(mount) and call.query("from"):
        source = check_name(call.query("from"))
        if await offload(call.may, "pull", source) and await settled(store.mount, name, mount, source):
            return _created(name, mount)
    if digest:
        check_digest(digest)
    upload = await call.server.uploads.begin(name, call.user, session=not digest)
    if not digest:
        return nothing(202, upload.headers)
    try:
        async with upload.lock:
            await _receive(call, upload)
            return await _commit(call, upload, digest)
    finally:
        await call.server.uploads.end(upload)


async def patch_upload(call: Call) -> web.StreamResponse:
    """PATCH: the next bytes."""
    upload = await _upload(call)
    async with upload.lock:
        await call.server.uploads.catch_up(upload)
        _check_range(call, upload)
        await _receive(call, upload)
        await call.server.uploads.keep(upload)
    return nothing(202, upload.headers)


async def finish_upload(call: Call) -> web.StreamResponse:
    """PUT: the last bytes, if any, and the digest."""
    upload = await _upload(call)
    digest = check_digest(call.query("digest"))
    async with upload.lock:
        await call.server.uploads.catch_up(upload)
        _check_range(call, upload)
        await _receive(call, upload)
        try:
            return await _commit(call, upload, digest)
        finally:
            await call.server.uploads.end(upload)


async def upload_state(call: Call) -> web.StreamResponse:
    """GET: how far it is."""
    upload = await _upload(call)
    async with upload.lock:
        await call.server.uploads.catch_up(upload)
    return nothing(204, upload.headers)


async def cancel_upload(call: Call) -> web.StreamResponse:
    """DELETE: forget it."""
    upload = await _upload(call)
    async with upload.lock:
        await call.server.uploads.catch_up(upload)
        await call.server.uploads.end(upload)
    return nothing(204)


async def _upload(call: Call) -> Upload:
    return await call.server.uploads.get(call.target.reference, call.target.name, call.user)


async def _commit(call: Call, upload: Upload, digest: str) -> web.StreamResponse:
    await settled(call.store.add_blob, upload.repository, upload.ingest, digest)
    return _created(upload.repository, digest)


def _created(name: str, digest: str) -> web.StreamResponse:
    return nothing(201, {"Location": f"/v2/{name}/blobs/{digest}", "Docker-Content-Digest": digest})


def _check_range(call: Call, upload: Upload) -> None:
    """Content-Range must go on where the upload is, and be as long as the body. Raises ApiError."""
    header = call.header("Content-Range")
    if not header:
        return
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        raise ApiError("BLOB_UPLOAD_INVALID", f"the Content-Range {header[:80]!r} is malformed")
    first, last = map(int, match.groups())
    if first != upload.ingest.written:
        raise ApiError(
            "BLOB_UPLOAD_INVALID",
            f"the upload goes on at {upload.ingest.written}, the chunk begins at {first}",
            status=416,
            headers=upload.headers,
        )
    length = call.request.content_length
    if last < first or (length is not None and last - first + 1 != length):
        raise ApiError("SIZE_INVALID", "Content-Range and Content-Length do not agree")


@dataclass
class _Batch:
    """Small pieces of a body, written together."""

    upload: Upload
    limit: int
    enough: int = _CHUNK
    metrics: Metrics | None = None
    size: int = 0

    def __post_init__(self) -> None:
        self.parts: list[bytes] = []

    def add(self, data: bytes) -> bool:
        """Take a piece; tells whether there is enough to write. Raises ApiError SIZE_INVALID."""
        self.parts.append(data)
        self.size += len(data)
        if self.upload.ingest.written + self.size > self.limit:
            raise ApiError("SIZE_INVALID", f"blobs here have no more than {self.limit} bytes", status=413)
        return self.size >= self.enough

    async def write(self) -> None:
        """Write what there is."""
        if self.parts:
            data = b"".join(self.parts)
            self.parts, self.size = [], 0
            await settled(self.upload.ingest.write, data)
            if self.metrics is not None:
                self.metrics.received.inc(len(data))


async def _receive(call: Call, upload: Upload) -> None:
    """The request's body into the upload. What came before a break is kept: the client may go on from there.

    An upload that could not be written is ended: nobody knows what is in it.
    """
    await expect_body(call.request)
    batch = _Batch(upload, call.server.max_blob, call.server.batch, call.server.settings.metrics)
    try:
        try:
            async for data in call.request.content.iter_any():
                if batch.add(data):
                    await batch.write()
        finally:
            await batch.write()
    except BuildtoolError:
        await call.server.uploads.end(upload)
        raise
