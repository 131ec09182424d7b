"""Log drivers that send output elsewhere: syslog and journald. Used in the shim, imported where one is asked for.

The lines go there beside the file that `logs` reads. A destination that fails never stops the container: a message
that cannot be delivered is tried once more over a new connection, then dropped and counted.
Source: RFC 3164, RFC 5424, RFC 6587 (framing); systemd's "Native Journal Protocol"; Docker's options of the drivers.
"""

from __future__ import annotations

import os
import socket
import struct
import time
from collections.abc import Callable
from typing import Any, Protocol

from buildtool.runtime.jsonlog import JsonLog, character_boundary

CUT = 16 * 1024
JOURNAL = "/run/systemd/journal/socket"
_DEV_LOG = ("/dev/log", "/var/run/syslog", "/var/run/log")
_SECONDS = 5.0
_INFO, _ERROR = 6, 3  # severities of stdout and stderr


class Destination(Protocol):
    """Where single lines go."""

    def send(self, stream: int, line: bytes, *, partial: bool) -> None:
        """A line of stream 1 or 2 without its newline; `partial` when more of it follows. Raises OSError."""

    def reconnect(self) -> None:
        """Connect (again). Raises OSError."""

    def close(self) -> None:
        """Give the connection back."""


class Forwarded:
    """A container's log that goes to a destination, and to a file as well where `logs` is to be answered."""

    def __init__(self, destination: Destination, kept: JsonLog | None) -> None:
        self._destination, self._kept = destination, kept
        self._partial = {1: b"", 2: b""}
        self.lost = 0

    def write(self, stream: int, data: bytes) -> None:
        """Log output; an unfinished last line waits for its rest or for `close`."""
        if self._kept is not None:
            self._kept.write(stream, data)
        *lines, rest = (self._partial[stream] + data).split(b"\n")
        for line in lines:
            self._send(stream, self._cut(stream, line), partial=False)
        self._partial[stream] = self._cut(stream, rest)

    def close(self) -> None:
        """Send what waits for its newline, and let go."""
        for stream, rest in self._partial.items():
            if rest:
                self._send(stream, rest, partial=False)
        self._destination.close()
        if self._kept is not None:
            self._kept.close()

    def _cut(self, stream: int, line: bytes) -> bytes:
        """Send what is too long for one message; the rest of it."""
        while len(line) > CUT:
            cut = character_boundary(line, CUT)
            self._send(stream, line[:cut], partial=True)
            line = line[cut:]
        return line

    def _send(self, stream: int, line: bytes, *, partial: bool) -> None:
        try:
            self._destination.send(stream, line, partial=partial)
        except OSError:
            try:
                self._destination.reconnect()
                self._destination.send(stream, line, partial=partial)
            except OSError:
                self.lost += 1


class Syslog:
    """A syslog daemon: `settings` are `address` (scheme and place), `facility`, `format`, `tag`, `tls`, `wait`."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._settings = settings
        self._format: Callable[[int, str], str] = {
            "": self._local,
            "rfc3164": self._rfc3164,
            "rfc5424": self._rfc5424,
            "rfc5424micro": self._rfc5424_micro,
        }[settings["format"]]
        self._scheme = str(settings["scheme"])
        self._host = socket.gethostname()
        self._pid = os.getpid()
        self._socket: socket.socket | None = None
        self.reconnect()

    def send(self, stream: int, line: bytes, *, partial: bool) -> None:
        severity = _ERROR if stream == 2 else _INFO
        head = self._format(self._settings["facility"] << 3 | severity, self._settings["tag"])
        message = head.encode("utf-8", "replace") + line
        if self._socket is None:
            raise OSError("not connected")
        if self._scheme in ("udp", "unixgram"):
            self._socket.send(message)
            return
        if self._scheme == "tcp+tls" and self._settings["format"].startswith("rfc5424"):
            message = b"%d %s" % (len(message), message)  # octet counting
        else:
            message += b"\n"
        self._socket.sendall(message)

    def reconnect(self) -> None:
        self.close()
        place = self._settings["place"]
        if self._scheme in ("unix", "unixgram"):
            kind = socket.SOCK_STREAM if self._scheme == "unix" else socket.SOCK_DGRAM
            self._socket = self._open(socket.AF_UNIX, kind, place)
            return
        host, port = place
        kind = socket.SOCK_DGRAM if self._scheme == "udp" else socket.SOCK_STREAM
        problem: OSError = OSError(f"no address for {host}")
        for family, _, _, _, address in socket.getaddrinfo(host, port, type=kind):
            try:
                self._socket = self._open(family, kind, address)
                return
            except OSError as error:
                problem = error
        raise problem

    def _open(self, family: int, kind: int, address: Any) -> socket.socket:
        one = socket.socket(family, kind | socket.SOCK_CLOEXEC)
        try:
            one.settimeout(_SECONDS)
            one.connect(address)
            if self._scheme == "tcp+tls":
                one = self._encrypted(one)
            if not self._settings["wait"]:
                one.settimeout(0.0)
        except OSError:
            one.close()
            raise
        return one

    def _encrypted(self, plain: socket.socket) -> socket.socket:
        import ssl

        wanted = self._settings["tls"]
        context = ssl.create_default_context(cafile=wanted["ca"] or None)
        if wanted["cert"]:
            context.load_cert_chain(wanted["cert"], wanted["key"] or None)
        if wanted["skip_verify"]:
            context.check_hostname = False
            context.verify_mode = ssl.CERT_NONE
        return context.wrap_socket(plain, server_hostname=self._settings["place"][0])

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _local(self, priority: int, tag: str) -> str:
        return f"<{priority}>{time.strftime('%b %e %H:%M:%S')} {tag}[{self._pid}]: "

    def _rfc3164(self, priority: int, tag: str) -> str:
        return f"<{priority}>{time.strftime('%b %e %H:%M:%S')} {self._host} {tag}[{self._pid}]: "

    def _rfc5424(self, priority: int, tag: str) -> str:
        return self._rfc5424_at(priority, tag, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))

    def _rfc5424_micro(self, priority: int, tag: str) -> str:
        second, fraction = divmod(time.time_ns(), 1_000_000_000)
        moment = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return self._rfc5424_at(priority, tag, f"{moment}.{fraction // 1000:06d}Z")

    def _rfc5424_at(self, priority: int, tag: str, moment: str) -> str:
        return f"<{priority}>1 {moment} {self._host} {tag} {self._pid} {tag} - "


class Journal:
    """systemd's journal: `fields` go with each message."""

    def __init__(self, settings: dict[str, Any]) -> None:
        self._path = settings.get("path") or JOURNAL
        self._fields = b"".join(_field(name, str(value).encode()) for name, value in settings["fields"].items())
        self._socket: socket.socket | None = None
        self.reconnect()

    def send(self, stream: int, line: bytes, *, partial: bool) -> None:
        if self._socket is None:
            raise OSError("not connected")
        message = _field("MESSAGE", line) + _field("PRIORITY", b"%d" % (_ERROR if stream == 2 else _INFO))
        if partial:
            message += _field("CONTAINER_PARTIAL_MESSAGE", b"true")
        self._socket.send(message + self._fields)

    def reconnect(self) -> None:
        self.close()
        one = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
        try:
            one.settimeout(_SECONDS)
            one.connect(self._path)
        except OSError:
            one.close()
            raise
        self._socket = one

    def close(self) -> None:
        if self._socket is not None:
            self._socket.close()
            self._socket = None


def _field(name: str, value: bytes) -> bytes:
    """One field of the native protocol: text as it is, with its length in front when it has line ends."""
    encoded = name.encode()
    if b"\n" in value:
        return encoded + b"\n" + struct.pack("<Q", len(value)) + value + b"\n"
    return encoded + b"=" + value + b"\n"


def open_sink(settings: dict[str, Any], kept: JsonLog | None) -> Forwarded:
    """The log for these settings. Raises OSError when the destination cannot be reached."""
    if settings["kind"] == "journald":
        return Forwarded(Journal(settings), kept)
    return Forwarded(Syslog(settings), kept)


def local_syslog() -> tuple[str, str]:
    """Scheme and path of this machine's own syslog. Raises OSError when there is none."""
    for path in _DEV_LOG:
        for scheme, kind in (("unixgram", socket.SOCK_DGRAM), ("unix", socket.SOCK_STREAM)):
            with socket.socket(socket.AF_UNIX, kind) as probe:
                if probe.connect_ex(path) == 0:
                    return scheme, path
    raise OSError("Unix syslog delivery error")
