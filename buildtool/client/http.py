"""HTTP/1.1 over one socket, as much of it as the Engine API needs.

Requests with a known or streamed body, responses with Content-Length, chunked coding or until the connection ends,
keep-alive, and the hand-over of the raw connection after `101 UPGRADED` (or the older `200`).
Source: RFC 9112; Docker Engine API, "attach", "Hijacking".

The socket is the bare one of CPython: the module `socket` around it costs every command 3 ms more.
"""

from __future__ import annotations

import _socket

from buildtool.client.address import Address
from buildtool.client.quickjson import loads, raw_decode
from buildtool.errors import BuildtoolError, DaemonUnreachable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from typing import Any

_RECV = 1 << 16
_MAX_HEAD = 1 << 20


class ConnectionLost(BuildtoolError):
    """The daemon closed the connection before its answer was complete."""

    http_status = 503


class Connection:
    """One connection to a daemon. Not thread-safe; one request at a time.

    `used` tells that it has already answered a request: only then may the peer have closed it while it idled.
    `broken` tells that a request could not be sent whole: nothing may follow on this connection.
    """

    def __init__(self, sock: _socket.socket, host_header: str) -> None:
        self.sock = sock
        self.used = False
        self.broken = False
        self._host = host_header
        self._buffer = b""

    @classmethod
    def open(cls, address: Address, timeout: float | None = 10.0) -> Connection:
        """Connect, or raise OSError as the kernel says it (the caller knows what to make of it)."""
        if address.path:
            sock = _socket.socket(_socket.AF_UNIX, _socket.SOCK_STREAM)
            try:
                sock.connect(address.path)
            except OSError:
                sock.close()
                raise
            return cls(sock, "buildtool")
        if address.ssh:
            from buildtool.client.tunnel import by_ssh

            return cls(by_ssh(address), "docker.example.com")
        from socket import create_connection

        connection = create_connection((address.host, address.port), timeout)
        connection.settimeout(None)
        connection.setsockopt(_socket.IPPROTO_TCP, _socket.TCP_NODELAY, 1)
        if address.tls is not None:
            from buildtool.client.tunnel import by_tls

            connection = by_tls(address, connection, timeout or 60.0)
        return cls(connection, f"{address.host}:{address.port}")

    def close(self) -> None:
        """Close the socket; a response still being read ends with it."""
        self.sock.close()

    def send(
        self, method: str, target: str, headers: dict[str, str], body: bytes | Iterable[bytes] | None = None
    ) -> None:
        """Write one request. An iterable body goes out in chunks as it comes, but for a given Content-Length."""
        lines = [f"{method} {target} HTTP/1.1", f"Host: {self._host}", "User-Agent: buildtool"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        fixed = body is None or isinstance(body, bytes)
        if isinstance(body, bytes):
            lines.append(f"Content-Length: {len(body)}")
        elif body is None and method in ("POST", "PUT"):
            lines.append("Content-Length: 0")
        elif not fixed and "Content-Length" not in headers:
            lines.append("Transfer-Encoding: chunked")
        head = ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
        if fixed:
            self.sock.sendall(head + body if isinstance(body, bytes) else head)
            return
        assert body is not None and not isinstance(body, bytes)
        self.sock.sendall(head)
        self._send_stream(body, chunked="Content-Length" not in headers)

    def _send_stream(self, body: Iterable[bytes], chunked: bool) -> None:
        """Send the parts; a peer that answers early and stops reading ends the sending, not the request."""
        try:
            for part in body:
                if not part:
                    continue
                if chunked:
                    self.sock.sendall(b"%x\r\n" % len(part))
                    self.sock.sendall(part)
                    self.sock.sendall(b"\r\n")
                else:
                    self.sock.sendall(part)
            if chunked:
                self.sock.sendall(b"0\r\n\r\n")
        except (BrokenPipeError, ConnectionResetError):
            self.broken = True

    def read_head(self) -> Response:
        """Read status line and headers of the next response (interim 1xx answers but 101 are skipped)."""
        while True:
            head = self._read_until_blank_line()
            status_line, *lines = head.decode("latin-1").split("\r\n")
            parts = status_line.split(" ", 2)
            if not parts[0].startswith("HTTP/1.") or len(parts) < 2 or not parts[1].isdecimal():
                raise ConnectionLost(f"the daemon's answer is not HTTP: {status_line[:80]!r}")
            headers: dict[str, str] = {}
            for line in lines:
                name, _, value = line.partition(":")
                headers[name.strip().lower()] = value.strip()
            status = int(parts[1])
            if status >= 200 or status == 101:
                self.used = True
                return Response(self, status, headers)

    def _read_until_blank_line(self) -> bytes:
        while True:
            head, separator, rest = self._buffer.partition(b"\r\n\r\n")
            if separator:
                self._buffer = rest
                return head
            if len(self._buffer) > _MAX_HEAD:
                raise ConnectionLost("the daemon's answer has an endless header")
            data = self._receive(_RECV)
            if not data:
                raise ConnectionLost("the daemon closed the connection without an answer")
            self._buffer += data

    def read_some(self, limit: int = _RECV) -> bytes:
        """What has arrived, at least one byte and at most `limit`; b"" at the end of the connection."""
        if self._buffer:
            data, self._buffer = self._buffer[:limit], self._buffer[limit:]
            return data
        return self._receive(min(limit, _RECV))

    def _receive(self, limit: int) -> bytes:
        try:
            return self.sock.recv(limit)
        except ConnectionResetError as error:
            raise ConnectionLost("the connection to the daemon was reset: it died or was stopped") from error

    def read_line(self) -> bytes:
        """One line without its line end (chunk headers)."""
        while b"\n" not in self._buffer:
            data = self._receive(_RECV)
            if not data:
                raise ConnectionLost("the daemon closed the connection in the middle of an answer")
            self._buffer += data
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.rstrip(b"\r")

    @property
    def pending(self) -> bool:
        """Whether bytes have been received that nobody has read yet: poll() cannot know of them."""
        return bool(self._buffer)

    def take_buffer(self) -> bytes:
        """Bytes that came behind the header in the same segment, for whoever takes the raw connection over."""
        data, self._buffer = self._buffer, b""
        return data


class Response:
    """An answer whose body is read on demand. `done` is true when the body has been read to its end."""

    def __init__(self, connection: Connection, status: int, headers: dict[str, str]) -> None:
        self.connection = connection
        self.status = status
        self.headers = headers
        self._chunked = headers.get("transfer-encoding", "").lower() == "chunked"
        self._left = -1  # bytes left of the body or of the current chunk; -1 = until the connection ends
        self.done = False
        if self._chunked:
            self._left = 0
        elif status in (101, 204, 304):
            self.done = True
        elif "content-length" in headers:
            self._left = int(headers["content-length"])
            self.done = self._left == 0

    def without_body(self) -> Response:
        """This response, to a HEAD request: headers speak of a body that does not come."""
        self.done = True
        return self

    @property
    def reusable(self) -> bool:
        """Whether the connection can carry the next request."""
        asked_to_close = self.headers.get("connection", "").lower() == "close"
        return self.done and self.status != 101 and not asked_to_close and not self.connection.broken

    def read_some(self) -> bytes:
        """The next bytes of the body as they come; b"" at its end."""
        if self.done:
            return b""
        if self._chunked and self._left == 0:
            self._left = self._next_chunk()
            if self._left == 0:
                self.done = True
                return b""
        data = self.connection.read_some(self._left if self._left > 0 else _RECV)
        if not data:
            if self._left >= 0:
                raise ConnectionLost("the daemon closed the connection in the middle of an answer")
            self.done = True
            self.headers["connection"] = "close"
            return b""
        if self._left > 0:
            self._left -= len(data)
            if self._left == 0:
                if self._chunked:
                    self.connection.read_line()
                else:
                    self.done = True
        return data

    def _next_chunk(self) -> int:
        line = self.connection.read_line()
        try:
            size = int(line.partition(b";")[0], 16)
        except ValueError:
            raise ConnectionLost(f"the daemon sent a malformed chunk header {line[:40]!r}") from None
        if size == 0:
            while self.connection.read_line():
                pass
        return size

    def __iter__(self) -> Iterator[bytes]:
        while data := self.read_some():
            yield data

    def read(self) -> bytes:
        """The whole body."""
        return b"".join(self)

    def json(self) -> Any:
        """The whole body as JSON; None when it is empty."""
        data = self.read()
        if not data.strip():
            return None
        try:
            return loads(data)
        except ValueError:
            raise ConnectionLost(f"the daemon's answer is not JSON: {data[:120]!r}") from None

    def lines(self) -> Iterator[bytes]:
        """The body's lines as they come, without line ends, empty ones left out."""
        rest = b""
        for data in self:
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                if line.strip():
                    yield line
        if rest.strip():
            yield rest

    def objects(self) -> Iterator[Any]:
        """The body as a stream of JSON objects, each given out as soon as it is complete (they need no line ends)."""
        text = b""
        for data in self:
            text += data
            while True:
                text = text.lstrip()
                if not text:
                    break
                end = text.find(b"\n")
                candidate = text if end < 0 else text[:end]
                try:
                    value, used = raw_decode(candidate.decode())
                except ValueError:
                    if end < 0:
                        break
                    raise ConnectionLost(f"the daemon's answer is not JSON: {candidate[:120]!r}") from None
                yield value
                text = text[len(candidate.decode()[:used].encode()) :]


def unreachable(address: Address, error: OSError) -> DaemonUnreachable:
    """What the user is told when nobody answers at `address`."""
    source = f" (from {address.source})" if address.source else ""
    if isinstance(error, PermissionError):
        return DaemonUnreachable(
            f"permission denied while trying to connect to the daemon socket at {address}{source}",
            hint="Run the command as the user that owns the socket (root: sudo), or ask for membership in the group\n"
            "that may use it; without an address in the environment, buildtool runs a daemon of your own.",
        )
    reason = error.strerror or str(error)
    return DaemonUnreachable(
        f"cannot connect to the daemon at {address}{source}: {reason}",
        hint="Is the daemon running there? Start one with: buildtool daemon"
        if not address.foreign
        else "Is the daemon running there? Unset the address to use buildtool's own daemon, which starts by itself.",
    )
