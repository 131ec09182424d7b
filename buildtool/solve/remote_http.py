"""Files from http(s): conditional requests, checksums, redirects, proxies.

Source: ../shared/reference/build.md, table 1.2 (ADD); RFC 9110 section 13 (conditional requests).
"""

from __future__ import annotations

import hashlib
import os
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from buildtool.aio import offload
from buildtool.buildfile.remotes import without_secrets
from buildtool.cache import Draft, FullDisk, Lease, Store
from buildtool.cache.compression import decompress
from buildtool.cache.tar_in import Unpacker
from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.graph import Remote, digest_of
from buildtool.oci import Digest
from buildtool.solve.archives import is_tar
from buildtool.solve.remotes import Access, Fetched, FetchFailed, Tell, known, remember
from buildtool.solve.threads import to_end

if TYPE_CHECKING:
    import aiohttp

_REDIRECTS = 10
_CHUNK = 1 << 20
_LARGEST = 64 << 30
"""Bytes: more than that is no file to be added but a stream without an end."""
_CONNECT_SECONDS, _SILENCE_SECONDS = 30.0, 120.0


async def fetch_http(store: Store, step: Remote, access: Access, lease: Lease, tell: Tell) -> Fetched:
    """The file, as `<name>` in a snapshot of its own; with `unpack` what a tar archive holds.

    One that was fetched before is asked for conditionally, and not at all when `checksum` says which one it has to
    be. Raises FetchFailed.
    """
    import aiohttp

    key = digest_of({"remote": "http", "url": step.url, "name": step.name, "unpack": step.unpack})
    before = known(store, key, lease)
    algorithm = step.checksum.partition(":")[0] or "sha256"
    if before is not None and step.checksum and before[1].get(algorithm) == step.checksum:
        return before[0]
    shown = without_secrets(step.url)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=_CONNECT_SECONDS, sock_read=_SILENCE_SECONDS)
    try:
        async with (
            aiohttp.ClientSession(
                timeout=timeout, auto_decompress=False, cookie_jar=aiohttp.DummyCookieJar(), read_bufsize=_CHUNK
            ) as session,
            session.get(
                step.url,
                headers=_headers(step, access, None if before is None else before[1]),
                proxy=access.proxy(step.url) or None,
                max_redirects=_REDIRECTS,
            ) as answer,
        ):
            if answer.status == 304 and before is not None:
                fetched, notes = before
                if step.checksum and algorithm not in notes:
                    notes[algorithm] = await offload(_digest_again, store, fetched, step, algorithm)
                    remember(store, key, fetched, notes)
                _check(step, notes[algorithm], shown)
                return fetched
            if answer.status != 200:
                raise FetchFailed(f"{shown}: the server answers {answer.status} {answer.reason}")
            tell(f"downloading {shown}")
            return await _download(store, key, step, answer, lease)
    except aiohttp.TooManyRedirects:
        raise FetchFailed(f"{shown}: redirected more than {_REDIRECTS} times") from None
    except TimeoutError:
        raise FetchFailed(f"{shown}: the server does not answer in time") from None
    except (aiohttp.ClientError, ConnectionError, ValueError) as error:
        raise FetchFailed(f"{shown}: {error}", hint="is the URL right, and the host reachable from here?") from error


def _headers(step: Remote, access: Access, notes: dict[str, str] | None) -> dict[str, str]:
    from buildtool import __version__

    headers = {"User-Agent": f"buildtool/{__version__}", "Accept-Encoding": "identity"}
    host = urlsplit(step.url).hostname or ""
    if header := access.secret(f"HTTP_AUTH_HEADER_{host}"):
        headers["Authorization"] = header
    elif token := access.secret(f"HTTP_AUTH_TOKEN_{host}"):
        headers["Authorization"] = f"Bearer {token}"
    if notes is not None:
        if notes.get("etag"):
            headers["If-None-Match"] = notes["etag"]
        elif notes.get("modified"):
            headers["If-Modified-Since"] = notes["modified"]
    return headers


async def _download(store: Store, key: Digest, step: Remote, answer: aiohttp.ClientResponse, lease: Lease) -> Fetched:
    shown = without_secrets(step.url)
    wanted = step.checksum.partition(":")[0]
    hashers = {name: hashlib.new(name) for name in {"sha256", *([wanted] if wanted else [])}}
    with store.snapshots.prepare() as draft, FullDisk(draft.directory):
        path = draft.directory / "download"
        with path.open("wb") as file:

            def take(data: bytes) -> None:
                for hasher in hashers.values():
                    hasher.update(data)
                file.write(data)

            size = 0
            async for data in answer.content.iter_chunked(_CHUNK):
                size += len(data)
                if size > _LARGEST:
                    raise FetchFailed(f"{shown}: it is larger than {_LARGEST >> 30} GiB")
                await to_end(take, data)
        notes = {name: f"{name}:{hasher.hexdigest()}" for name, hasher in hashers.items()}
        notes |= {"etag": answer.headers.get("ETag", ""), "modified": answer.headers.get("Last-Modified", "")}
        if wanted:
            _check(step, notes[wanted], shown)
        epoch = _epoch(notes["modified"])
        archive = await to_end(_settle, draft, path, step, epoch, store.squash_ids)
        snapshot = await to_end(draft.commit)
    lease.snapshot(snapshot)
    content = f"http:{notes['sha256'].removeprefix('sha256:')}:{'' if archive else step.name}"
    fetched = Fetched(content, snapshot, epoch, archive)
    await offload(remember, store, key, fetched, notes)
    return fetched


def _settle(draft: Draft, path: Path, step: Remote, epoch: int | None, squash_ids: bool) -> bool:
    """Put the file into the snapshot, unpacked when it is to be and is an archive; whether it was."""
    if step.unpack and is_tar(path):
        try:
            with path.open("rb") as file:
                Unpacker(draft.fs, layer=False, squash_ids=squash_ids).unpack(decompress(file))
        except InvalidInput as error:
            raise FetchFailed(f"{without_secrets(step.url)}: {error.message}", hint=error.hint) from error
        path.unlink()
        return True
    path.chmod(0o600)
    seconds = 0 if epoch is None else epoch
    os.utime(path, (seconds, seconds))
    path.rename(draft.fs / step.name)
    return False


def _check(step: Remote, digest: str, shown: str) -> None:
    if step.checksum and digest != step.checksum:
        raise FetchFailed(
            f"{shown}: the checksum does not match: expected {step.checksum}, got {digest}",
            hint="the file changed, or the checksum is another file's",
        )


def _digest_again(store: Store, fetched: Fetched, step: Remote, algorithm: str) -> str:
    if fetched.archive:
        raise BuildtoolError("a context has no checksum")
    with (store.snapshots.fs(fetched.snapshot) / step.name).open("rb") as file:
        hasher: Any = hashlib.file_digest(file, algorithm)
    return f"{algorithm}:{hasher.hexdigest()}"


def _epoch(modified: str) -> int | None:
    try:
        return int(parsedate_to_datetime(modified).timestamp()) if modified else None
    except (ValueError, TypeError, OverflowError):
        return None
