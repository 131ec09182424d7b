"""Blobs in: streamed into the store, hashed on the way, continued by Range, readable while they grow."""

from __future__ import annotations

import asyncio
import io
import logging
import os
import threading
from collections.abc import AsyncIterator
from typing import BinaryIO, cast

import aiohttp
from yarl import URL

from buildtool.cache import BlobStore, Ingest
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.oci import Descriptor
from buildtool.registry.errors import Missing, RegistryRefused, RegistryUnreachable
from buildtool.registry.progress import Progress
from buildtool.registry.repository import Repository
from buildtool.registry.transport import BROKEN
from buildtool.registry.work import settled

log = logging.getLogger(__name__)

CHUNK = 1 << 20
_MAX_BREAKS = 50


class Abandoned(Exception):
    """The writer has failed or was cancelled: what it failed with is told by its own side."""


class GrowingBlob:
    """A blob that one side writes and a thread reads from its start, waiting for what has not come yet.

    The reader meets the end only after `end()`: the writer calls that when the digest is verified.
    """

    def __init__(self) -> None:
        self._state = threading.Condition()
        self._fd = -1
        self._size = 0
        self._ended = False
        self._error: BaseException | None = None
        self._started = asyncio.Event()
        self.begun = False

    def begin(self, ingest: Ingest) -> None:
        """From here on there is something to read."""
        self._fd = os.open(ingest.path, os.O_RDONLY | os.O_CLOEXEC)
        self.begun = True
        self._started.set()

    def grown(self, size: int) -> None:
        """So many bytes are written."""
        with self._state:
            self._size = size
            self._state.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """Nothing more comes, or what has come is worth nothing."""
        with self._state:
            self._ended = True
            self._error = self._error or error
            self._state.notify_all()
        self._started.set()

    async def started(self) -> None:
        """Wait for `begin` or `end`."""
        await self._started.wait()

    def file(self) -> BinaryIO:
        """The reader's side."""
        return cast(BinaryIO, _Reader(self))

    def close(self) -> None:
        """Let go of the file."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def read_at(self, position: int, size: int) -> bytes:
        """What is there at this place, at least one byte but at the end. Raises what the writer failed with."""
        with self._state:
            while position >= self._size and not self._ended:
                self._state.wait()
            if self._error is not None:
                raise Abandoned(str(self._error)) from self._error
        return os.pread(self._fd, size, position)


class _Reader(io.RawIOBase):
    """Reads a growing blob from its start."""

    def __init__(self, blob: GrowingBlob) -> None:
        super().__init__()
        self._blob = blob
        self._position = 0

    def readable(self) -> bool:
        return True

    def read(self, size: int = CHUNK, /) -> bytes:
        data = self._blob.read_at(self._position, CHUNK if size is None or size < 0 else size)
        self._position += len(data)
        return data


async def download(
    repository: Repository, blobs: BlobStore, wanted: Descriptor, progress: Progress, growing: GrowingBlob
) -> None:
    """Fetch a blob into the store. Raises Corrupt, Missing, RegistryUnreachable; then nothing of it stays.

    `growing` begins with the first bytes: before, another source may be tried.
    """
    try:
        with blobs.ingest(wanted.digest, wanted.size) as ingest:
            await _fill(repository, wanted, ingest, progress, growing)
            progress.say("Verifying Checksum")
            if ingest.written != wanted.size or ingest.digest() != wanted.digest:
                raise Corrupt(
                    f"blob {wanted.digest} of {repository.name}: the registry sent {ingest.written} bytes "
                    f"with the digest {ingest.digest()}"
                )
            if not growing.begun:
                growing.begin(ingest)
            growing.end()
            await settled(ingest.commit)
    except BaseException as error:
        if growing.begun:
            growing.end(error)
        raise


async def _fill(
    repository: Repository, wanted: Descriptor, ingest: Ingest, progress: Progress, growing: GrowingBlob
) -> None:
    """All bytes into the ingest. After a break the rest is asked for; breaks without any progress are counted."""
    failures = breaks = 0
    while ingest.written < wanted.size:
        before = ingest.written
        try:
            await _fetch(repository, wanted, ingest, progress, growing)
            if ingest.written < wanted.size:
                raise aiohttp.ClientPayloadError(f"the answer ended after {ingest.written} bytes")
        except BROKEN as error:
            breaks += 1
            failures = 1 if ingest.written > before else failures + 1
            delay = repository.connection.retry.delay(failures)
            if delay is None or breaks > _MAX_BREAKS:
                raise RegistryUnreachable(
                    f"blob {wanted.digest} of {repository.name} broke off after {ingest.written} of {wanted.size} "
                    f"bytes, again and again: {error}"
                ) from error
            log.info("blob %s: %s; going on at %d in %.1f s", wanted.digest, error, ingest.written, delay)
            await asyncio.sleep(delay)


async def _fetch(
    repository: Repository, wanted: Descriptor, ingest: Ingest, progress: Progress, growing: GrowingBlob
) -> None:
    """One answer's worth."""
    offset = ingest.written
    try:
        async with repository.open_blob(wanted.digest, offset) as answer:
            await _copy(answer, wanted, ingest, progress, growing)
    except Missing as error:
        if not await _fetch_elsewhere(repository, wanted, ingest, progress, growing):
            raise error from None


async def _fetch_elsewhere(
    repository: Repository, wanted: Descriptor, ingest: Ingest, progress: Progress, growing: GrowingBlob
) -> bool:
    """A foreign layer, from the first of its addresses that has it; False when none does."""
    offset = ingest.written
    headers = {"Range": f"bytes={offset}-"} if offset else {}
    for url in (URL(text) for text in wanted.urls or ()):
        if url.scheme not in ("http", "https"):
            continue
        try:
            async with repository.connection.request(
                "GET", url, headers=headers, ok=(200, 206), what=str(url)
            ) as answer:
                await _copy(answer, wanted, ingest, progress, growing)
                return True
        except (RegistryRefused, RegistryUnreachable) as error:
            log.info("blob %s is not to be had at %s: %s", wanted.digest, url, error)
    return False


async def _copy(
    answer: aiohttp.ClientResponse, wanted: Descriptor, ingest: Ingest, progress: Progress, growing: GrowingBlob
) -> None:
    skip = ingest.written
    if answer.status == 206:
        if _range_start(answer) != skip:
            raise aiohttp.ClientPayloadError("the registry sent another range than it was asked for")
        skip = 0
    async for data in _chunks(answer, skip):
        try:
            await settled(ingest.write, data)
        except OSError as error:  # not the connection's: another try would not help
            raise BuildtoolError(f"cannot write blob {wanted.digest} into the store: {error}") from error
        if not growing.begun:
            growing.begin(ingest)
        growing.grown(ingest.written)
        progress.update("Downloading", ingest.written, wanted.size)


async def _chunks(answer: aiohttp.ClientResponse, skip: int) -> AsyncIterator[bytes]:
    """The body in pieces of about 1 MiB, without its first `skip` bytes; what came before a break comes too."""
    parts: list[bytes] = []
    size = 0
    try:
        async for data in answer.content.iter_any():
            if skip:
                data, skip = data[skip:], max(0, skip - len(data))
            parts.append(data)
            size += len(data)
            if size >= CHUNK:
                yield b"".join(parts)
                parts, size = [], 0
    except BROKEN:
        if parts:
            yield b"".join(parts)
        raise
    if parts:
        yield b"".join(parts)


def _range_start(answer: aiohttp.ClientResponse) -> int:
    unit, _, interval = answer.headers.get("Content-Range", "").partition(" ")
    start = interval.partition("-")[0]
    return int(start) if unit == "bytes" and start.isascii() and start.isdigit() else -1
