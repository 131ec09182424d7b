"""Blobs out: one request for small ones, a session that can be taken up again for large ones.

Source: OCI distribution-spec v1.1, "Pushing blobs".
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from functools import partial
from pathlib import Path

from aiohttp.payload import Payload
from yarl import URL

from buildtool.oci import Digest
from buildtool.registry.errors import RegistryRefused, RegistryUnreachable
from buildtool.registry.repository import Repository
from buildtool.registry.sending import FileBody
from buildtool.registry.transport import join

log = logging.getLogger(__name__)

_FINAL_ABOVE_500 = frozenset({501, 505, 507})
_MAX_BREAKS = 50
WHOLE = 8 << 20
"""Up to here a blob goes out in one PUT, and from its start again after a break."""

Report = Callable[[int], None]


async def upload(repository: Repository, path: Path, digest: Digest, report: Report, location: str = "") -> None:
    """Push a blob from a file. `location`: an upload that the registry has begun already.

    Raises RegistryRefused, RegistryUnreachable.
    """
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        size = os.fstat(fd).st_size
        if size <= WHOLE:
            await _upload_whole(repository, fd, size, digest, report, location)
        else:
            await _upload_resumable(repository, fd, size, digest, report, location)
    finally:
        os.close(fd)


async def begin(repository: Repository) -> URL:
    """Start an upload; where it goes on."""
    url = repository.connection.url(f"{repository.path}/blobs/uploads/")
    what = f"upload to {repository.name}"
    async with repository.connection.request(
        "POST", url, scopes=repository.scopes, headers={"Content-Length": "0"}, ok=(202,), what=what
    ) as answer:
        location = answer.headers.get("Location", "")
        if not location:
            raise RegistryRefused(f"{what}: the registry gave no Location", status=202)
        return join(answer.url, location)


async def _upload_whole(
    repository: Repository, fd: int, size: int, digest: Digest, report: Report, location: str
) -> None:
    retry = repository.connection.retry
    failures = 0
    while True:
        url = URL(location, encoded=True) if location else await begin(repository)
        location = ""
        try:
            await _finish(repository, url, fd, 0, size, digest, report)
            return
        except (RegistryUnreachable, RegistryRefused) as error:
            failures = await _again(error, failures, retry.delay(failures + 1), f"blob {digest}")


async def _upload_resumable(
    repository: Repository, fd: int, size: int, digest: Digest, report: Report, location: str
) -> None:
    """One PATCH with everything; after a break the registry is asked how far it is, and the rest follows."""
    connection = repository.connection
    failures = sent = breaks = 0
    url = URL(location, encoded=True) if location else None
    while True:
        try:
            if url is None:
                url, sent = await begin(repository), 0
            while sent < size:
                headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - sent)}
                if sent:
                    headers["Content-Range"] = f"{sent}-{size - 1}"
                async with connection.request(
                    "PATCH", url, scopes=repository.scopes, headers=headers, body=_body(fd, sent, size, report),
                    ok=(202,), attempts=1, what=f"upload of blob {digest}",
                ) as answer:  # fmt: skip
                    url = join(answer.url, answer.headers.get("Location", str(url)))
                    reached = _reached(answer.headers.get("Range", ""))
                    sent = size if reached is None else reached
            await _finish(repository, url, fd, size, size, digest, report)
            return
        except (RegistryUnreachable, RegistryRefused) as error:
            before, breaks = sent, breaks + 1
            if breaks > _MAX_BREAKS:
                raise
            url, sent = await _status(repository, url) if url is not None else (None, 0)
            if url is not None and sent > before:
                failures = 0
            failures = await _again(error, failures, connection.retry.delay(failures + 1), f"blob {digest}")


async def _finish(
    repository: Repository, url: URL, fd: int, start: int, size: int, digest: Digest, report: Report
) -> None:
    """The closing PUT, with the bytes from `start` on."""
    headers = {"Content-Type": "application/octet-stream", "Content-Length": str(size - start)}
    async with repository.connection.request(
        "PUT",
        with_digest(url, digest),
        scopes=repository.scopes,
        headers=headers,
        body=_body(fd, start, size, report) if start < size else b"",
        ok=(201, 204),
        attempts=1,
        what=f"upload of blob {digest}",
    ):
        return


async def _status(repository: Repository, url: URL) -> tuple[URL | None, int]:
    """Where the upload goes on and how many bytes the registry has of it; None when it has to begin anew."""
    try:
        async with repository.connection.request(
            "GET", url, scopes=repository.scopes, ok=(204, 202, 200), what="state of an upload"
        ) as answer:
            reached = _reached(answer.headers.get("Range", ""))
            if reached is None:
                return None, 0
            return join(answer.url, answer.headers.get("Location", str(url))), reached
    except (RegistryUnreachable, RegistryRefused):
        return None, 0


async def _again(error: RegistryUnreachable | RegistryRefused, failures: int, delay: float | None, what: str) -> int:
    """Wait before the next try, or raise: refusals that another try does not change are final."""
    if delay is None or (isinstance(error, RegistryRefused) and not _may_pass(error.status)):
        raise error
    log.info("upload of %s: %s; next try in %.1f s", what, error, delay)
    await asyncio.sleep(delay)
    return failures + 1


def _may_pass(status: int) -> bool:
    return status in (404, 408, 416, 429) or (status >= 500 and status not in _FINAL_ABOVE_500)


def with_digest(url: URL, digest: Digest) -> URL:
    """The upload's URL with the digest in its query; what the registry put there stays as it is."""
    text = str(url)
    return URL(f"{text}{'&' if '?' in text else '?'}digest={digest}", encoded=True)


def _body(fd: int, start: int, end: int, report: Report) -> Callable[[], Payload]:
    return partial(FileBody, fd, start, end, report)


def _reached(header: str) -> int | None:
    """Bytes received, from `Range: 0-1023` (inclusive end; `0-0` is what registries say of none)."""
    start, dash, end = header.removeprefix("bytes=").partition("-")
    if not dash or start != "0" or not end.isascii() or not end.isdigit():
        return None
    return 0 if end == "0" else int(end) + 1
