"""A bucket as the server uses it: small JSON documents and blobs under keys. Blocking, thread-safe.

It is one of S3 or of what speaks it, or a folder. S3 is strongly consistent: what was put is in the next listing.
Errors of the storage become StorageFailed, or StoreFull.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

import msgspec

from buildtool.errors import BuildtoolError, InvalidInput, StoreFull, Unavailable

if TYPE_CHECKING:
    from obstore.store import ClientConfig, LocalStore, S3Config, S3Store

CHUNK = 8 << 20
_STREAMS = 4
_SIGNED = timedelta(minutes=20)
_PLAIN = re.compile(r"[A-Za-z0-9._!-]+")
_FULL = re.compile(r"os error (28|122)\b|\b507\b.*Insufficient|StorageFull|QuotaExceeded", re.IGNORECASE)
"""How errors say that nothing more goes in: ENOSPC and EDQUOT of a folder, the codes of S3's compatibles."""


class StorageFailed(BuildtoolError):
    """The bucket does not do what it was asked for."""

    http_status = 503


class Exists(Exception):
    """There is such an object already."""


class Bucket:
    """Objects below one prefix."""

    def __init__(self, store: S3Store | LocalStore) -> None:
        self._store = store

    @classmethod
    def open(cls, url: str, options: Mapping[str, str], *, retries: int = 5) -> Bucket:
        """`s3://BUCKET[/PREFIX]`; credentials and region from the environment (AWS_…) or the options.
        `file:///FOLDER`: a folder that all servers see (a local or network file system) in its place.

        Raises InvalidInput, Unavailable without the library.
        """
        try:
            from obstore.exceptions import BaseError
            from obstore.store import LocalStore, S3Store
        except ImportError:
            raise Unavailable(
                "--bucket needs the library obstore, which is not installed", hint="pip install 'buildtool[s3]'"
            ) from None
        scheme, _, rest = url.partition("://")
        if scheme not in ("s3", "file") or not rest or (scheme == "file" and not rest.startswith("/")):
            raise InvalidInput(f"--bucket {url!r}: write s3://BUCKET, s3://BUCKET/PREFIX or file:///FOLDER")
        config: dict[str, Any] = dict(options)
        client: ClientConfig = {"allow_http": config.get("endpoint", "").startswith("http://")}
        try:
            if scheme == "file":
                if config:
                    raise InvalidInput(f"--bucket-option {next(iter(config))} means nothing for a folder")
                return cls(LocalStore(rest, mkdir=True))
            return cls(
                S3Store.from_url(
                    url.rstrip("/"),
                    config=cast("S3Config", config),
                    client_options=client,
                    retry_config={"max_retries": retries},
                )
            )
        except (BaseError, ValueError, TypeError, OSError) as error:
            raise InvalidInput(f"--bucket {url}: {_first_line(error)}") from None

    @property
    def signs(self) -> bool:
        """Whether clients can be sent to the bucket itself."""
        from obstore.store import S3Store

        return isinstance(self._store, S3Store)

    # Documents

    def get(self, key: str) -> dict[str, Any] | None:
        """A document, None when there is none."""
        data = self.read(key)
        return None if data is None else msgspec.json.decode(data)

    def put(self, key: str, document: Mapping[str, Any]) -> None:
        """Store a document."""
        self.write(key, msgspec.json.encode(document))

    def create(self, key: str, document: Mapping[str, Any]) -> None:
        """Store a document where there is none. Raises Exists."""
        import obstore
        from obstore.exceptions import AlreadyExistsError, PreconditionError

        with _told():
            try:
                obstore.put(self._store, key, msgspec.json.encode(document), mode="create")
            except (AlreadyExistsError, PreconditionError):
                raise Exists(key) from None

    def delete(self, *keys: str) -> None:
        """Delete objects; those that are not there are no problem."""
        import obstore

        if keys:
            with _told():
                try:
                    obstore.delete(self._store, list(keys))
                except FileNotFoundError:
                    return

    # Bytes

    def read(self, key: str) -> bytes | None:
        """All bytes of an object, None when there is none."""
        import obstore

        with _told():
            try:
                return bytes(obstore.get(self._store, key).bytes())
            except FileNotFoundError:
                return None

    def write(self, key: str, data: bytes) -> None:
        """Store bytes."""
        import obstore

        with _told():
            obstore.put(self._store, key, data)

    def upload(self, key: str, path: Path) -> None:
        """Store a file, in parts at once when it is large."""
        import obstore

        with _told():
            obstore.put(self._store, key, path, chunk_size=CHUNK, max_concurrency=_STREAMS)

    def move(self, key: str, to: str) -> None:
        """Give an object another key."""
        import obstore

        with _told():
            obstore.copy(self._store, key, to)
            obstore.delete(self._store, key)

    def stream(self, key: str, start: int = 0, count: int | None = None) -> Iterator[bytes]:
        """Bytes of an object, in chunks. Raises StorageFailed, FileNotFoundError."""
        import obstore

        with _told():
            if count is None:
                yield from (bytes(chunk) for chunk in obstore.get(self._store, key).stream(min_chunk_size=1 << 20))
                return
            position, end = start, start + count
            while position < end:
                size = min(CHUNK, end - position)
                yield bytes(obstore.get_range(self._store, key, start=position, length=size))
                position += size

    def head(self, key: str) -> tuple[int, datetime] | None:
        """Size and time of the last change, None when there is no such object."""
        import obstore

        with _told():
            try:
                meta = obstore.head(self._store, key)
            except FileNotFoundError:
                return None
        return meta["size"], meta["last_modified"]

    def signed(self, key: str) -> str:
        """A URL at which anybody can read the object for twenty minutes."""
        import obstore

        assert self.signs
        with _told():
            return obstore.sign(cast("S3Store", self._store), "GET", key, _SIGNED)

    def list(self, folder: str, after: str = "") -> Iterator[tuple[str, int, datetime]]:
        """Keys (below the folder), sizes and times, sorted, after a key."""
        import obstore

        prefix = f"{folder}/"
        plain = _PLAIN.fullmatch(after) is not None and after not in (".", "..")
        offset = f"{prefix}{after}" if plain else None  # keys have no other characters, whatever clients ask for
        with _told():
            found = (meta for chunk in obstore.list(self._store, prefix, offset=offset) for meta in chunk)
            in_order = found if self.signs else sorted(found, key=lambda meta: meta["path"])  # a folder has none
            for meta in in_order:
                key = meta["path"].removeprefix(prefix)
                if key > after:
                    yield key, meta["size"], meta["last_modified"]


@contextmanager
def _told() -> Iterator[None]:
    from obstore.exceptions import BaseError

    try:
        yield
    except FileNotFoundError:
        raise
    except (BaseError, OSError) as error:
        if _FULL.search(str(error)):
            raise StoreFull(f"the object storage is full: {_first_line(error)}") from error
        raise StorageFailed(f"the object storage failed: {_first_line(error)}") from error


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
