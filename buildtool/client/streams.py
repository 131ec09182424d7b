"""The raw connection after a hijack, and Docker's multiplexed frames on it.

A frame is 8 bytes `{stream: 0 stdin, 1 stdout, 2 stderr; 0; 0; 0; length: uint32 big endian}` and then the payload.
Source: Docker Engine API, "Attach to a container", "Stream format".
"""

from __future__ import annotations

import _socket

from buildtool.client.http import Response
from buildtool.errors import Corrupt

_HEADER = 8
_RECV = 1 << 16


class RawStream:
    """Both directions of a hijacked connection. Ending one's own side leaves the other open."""

    def __init__(self, response: Response) -> None:
        self._sock = response.connection.sock
        self._first = response.connection.take_buffer()
        self.multiplexed: bool | None = None
        kind = response.headers.get("content-type", "")
        if kind.endswith("multiplexed-stream"):
            self.multiplexed = True

    def fileno(self) -> int:
        """For poll(); look at `pending` first: bytes may have come together with the header."""
        return self._sock.fileno()

    @property
    def pending(self) -> bool:
        """Whether `receive` has something at hand that poll() cannot know of."""
        return bool(self._first)

    def receive(self) -> bytes:
        """What has arrived; b"" when the other side has ended (or died)."""
        if self._first:
            data, self._first = self._first, b""
            return data
        try:
            return self._sock.recv(_RECV)
        except ConnectionResetError:
            return b""

    def send_some(self, data: bytes) -> int:
        """Send what fits without waiting; how much that was, or -1 when the other side takes no input any more."""
        try:
            return self._sock.send(data, _socket.MSG_DONTWAIT)
        except BlockingIOError:
            return 0
        except (BrokenPipeError, ConnectionResetError):
            return -1

    def end_input(self) -> None:
        """Half-close: the process sees the end of its stdin, its output goes on."""
        try:
            self._sock.shutdown(_socket.SHUT_WR)
        except OSError:
            pass  # it is gone already: there is no input to end

    def close(self) -> None:
        """Close both directions."""
        self._sock.close()


class Demultiplexer:
    """Cuts a byte stream of frames into payloads, whatever pieces it comes in."""

    def __init__(self) -> None:
        self._buffer = b""
        self._left = 0
        self._stream = 0

    def feed(self, data: bytes) -> list[tuple[int, bytes]]:
        """The payload pieces that `data` completes or continues, as (stream, bytes), in order.

        Raises Corrupt when what should be a frame header is none.
        """
        if not self._buffer and self._left == 0 and len(data) >= _HEADER:
            length = int.from_bytes(data[4:8], "big")
            if length == len(data) - _HEADER and data[0] <= 2:
                return [(data[0], data[_HEADER:])]
        out: list[tuple[int, bytes]] = []
        self._buffer += data
        at = 0
        while at < len(self._buffer):
            if self._left == 0:
                header = self._buffer[at : at + _HEADER]
                if len(header) < _HEADER:
                    break
                if header[0] > 3 or header[1:4] != b"\0\0\0":
                    raise Corrupt(f"malformed stream: {header!r} is not the header of a frame")
                self._stream = header[0]
                self._left = int.from_bytes(header[4:8], "big")
                at += _HEADER
                continue
            payload = self._buffer[at : at + self._left]
            at += len(payload)
            self._left -= len(payload)
            out.append((self._stream, payload))
        self._buffer = self._buffer[at:]
        return out
