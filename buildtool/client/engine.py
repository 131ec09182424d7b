"""Requests to a daemon: JSON in, JSON or a stream out, errors as exceptions.

Paths are sent without an API version: every engine serves those with its newest one, so no request has to ask first.
"""

from __future__ import annotations

import os

from buildtool.client.address import Address
from buildtool.client.http import Connection, ConnectionLost, Response, unreachable
from buildtool.client.quickjson import dumps, loads
from buildtool.client.streams import RawStream
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from typing import Any

    Query = Mapping[str, object]

_UNRESERVED = frozenset(b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_IN_PATH = _UNRESERVED | frozenset(b"/:@")
# Sockets of other engines: no daemon of ours is started there, whoever named them.
_FOREIGN_SOCKETS = ("docker.sock", "podman.sock", "containerd.sock")


class EngineError(BuildtoolError):
    """The daemon refused a request. `status` is its HTTP status, `document` the whole body it sent."""

    def __init__(self, status: int, message: str, document: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.status = status
        self.http_status = status
        self.document = document or {}


def quote(text: str, safe: frozenset[int] = _UNRESERVED) -> str:
    """Percent-encode for a URL; everything that is not unreserved, UTF-8."""
    data = text.encode("utf-8", "surrogateescape")
    return "".join(chr(byte) if byte in safe else f"%{byte:02X}" for byte in data)


def quote_path(text: str) -> str:
    """Percent-encode a name that stands in a path; image names keep their slashes and colons."""
    return quote(text, _IN_PATH)


def encode_query(query: Query) -> str:
    """The query string of a call, "" or with its "?".

    None and False are left out, True is 1, a mapping is JSON (`filters`, `buildargs`), a list repeats its key.
    """
    parts: list[str] = []
    for key, value in query.items():
        if value is None or value is False:
            continue
        if isinstance(value, list):
            parts += [f"{key}={quote(str(item))}" for item in value]
        elif isinstance(value, dict):
            parts.append(f"{key}={quote(dumps(value))}")
        else:
            parts.append(f"{key}={'1' if value is True else quote(str(value))}")
    return "?" + "&".join(parts) if parts else ""


class Client:
    """A caller of one daemon. Not thread-safe: give each thread its own.

    One connection is kept and reused; a call made while an earlier answer is still being read opens another. With
    `autostart`, a daemon of our own is started when nobody listens, unless BUILDTOOL_AUTOSTART=0.
    """

    def __init__(self, address: Address, *, autostart: bool = True) -> None:
        self.address = address
        socket_name = address.path.rpartition("/")[2]
        allowed = autostart and os.environ.get("BUILDTOOL_AUTOSTART", "1") != "0"
        self._autostart = allowed and not address.foreign and socket_name not in _FOREIGN_SOCKETS
        self._last: Response | None = None

    def close(self) -> None:
        """Close the kept connection."""
        if self._last is not None:
            self._last.connection.close()
            self._last = None

    def get(self, path: str, query: Query | None = None) -> Any:
        """GET, and the JSON of the answer."""
        return self.call("GET", path, query).json()

    def post(self, path: str, query: Query | None = None, document: object = None) -> Any:
        """POST, and the JSON of the answer (None when it is empty)."""
        return self.call("POST", path, query, document=document).json()

    def delete(self, path: str, query: Query | None = None) -> Any:
        """DELETE, and the JSON of the answer (None when it is empty)."""
        return self.call("DELETE", path, query).json()

    def call(
        self,
        method: str,
        path: str,
        query: Query | None = None,
        *,
        document: object = None,
        body: bytes | Iterable[bytes] | None = None,
        headers: dict[str, str] | None = None,
        dedicated: bool = False,
    ) -> Response:
        """Send one request and return its answer with the body unread.

        `document` is sent as JSON; `body` as it is. `dedicated` takes a connection of its own, which the caller
        closes or forgets. Raises EngineError for an answer of 400 and above, DaemonUnreachable, ConnectionLost.
        """
        sent_headers = dict(headers or {})
        if document is not None:
            body = dumps(document).encode()
            sent_headers.setdefault("Content-Type", "application/json")
        target = path + encode_query(query or {})
        response = self._exchange(method, target, sent_headers, body, dedicated)
        if response.status >= 400:
            raise _refusal(response)
        if not dedicated:
            self._last = response
        return response

    def dial(self) -> Connection:
        """A new connection that nothing has been sent on. Raises DaemonUnreachable."""
        return self._connect()

    def hijack(self, path: str, query: Query | None = None, document: object = None) -> RawStream:
        """POST with an upgrade of the connection, and the raw connection that comes of it."""
        response = self.call(
            "POST",
            path,
            query,
            document=document,
            headers={"Connection": "Upgrade", "Upgrade": "tcp"},
            dedicated=True,
        )
        return RawStream(response)

    def _exchange(
        self,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | Iterable[bytes] | None,
        dedicated: bool,
    ) -> Response:
        connection = self._connect() if dedicated else self._kept_connection() or self._connect()
        replayable = body is None or isinstance(body, bytes)
        may_retry = replayable and (connection.used or method in ("GET", "HEAD"))
        try:
            return _send_and_read(connection, method, target, headers, body)
        except (ConnectionLost, BrokenPipeError, ConnectionResetError) as error:
            connection.close()
            if self.address.ssh and not connection.used:
                raise unreachable(
                    self.address, OSError("ssh, or the program over there, ended without a word")
                ) from error
            if not may_retry:
                raise _lost(error) from error
        connection = self._connect()
        try:
            return _send_and_read(connection, method, target, headers, body)
        except (BrokenPipeError, ConnectionResetError) as error:
            raise _lost(error) from error

    def _kept_connection(self) -> Connection | None:
        last, self._last = self._last, None
        return last.connection if last is not None and last.reusable else None

    def _connect(self) -> Connection:
        try:
            return Connection.open(self.address)
        except OSError as error:
            absent = isinstance(error, (FileNotFoundError, ConnectionRefusedError))
            if not (absent and self._autostart and self.address.path):
                raise unreachable(self.address, error) from error
        from buildtool.client.autostart import start_daemon

        start_daemon(self.address)
        try:
            return Connection.open(self.address)
        except OSError as error:
            raise unreachable(self.address, error) from error


def _send_and_read(
    connection: Connection,
    method: str,
    target: str,
    headers: dict[str, str],
    body: bytes | Iterable[bytes] | None,
) -> Response:
    connection.send(method, target, headers, body)
    response = connection.read_head()
    return response.without_body() if method == "HEAD" else response


def _lost(error: Exception) -> ConnectionLost:
    if isinstance(error, ConnectionLost):
        return error
    return ConnectionLost(f"the connection to the daemon was lost: {error}")


def _refusal(response: Response) -> EngineError:
    data = response.read()
    response.connection.close()
    try:
        document = loads(data)
    except ValueError:
        document = None
    if isinstance(document, dict) and isinstance(document.get("message"), str):
        return EngineError(response.status, document["message"], document)
    text = data.decode("utf-8", "replace").strip()
    return EngineError(response.status, text or f"the daemon answered with status {response.status}")
