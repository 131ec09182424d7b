"""TLS for the Engine API, on both sides: a relay between an encrypted connection and a plain socket.

The API half-closes connections (the end of a container's stdin) and goes on reading, which neither asyncio's nor
ssl's own TLS sockets can do. So the encryption is done in a thread beside the protocol, on a socket pair: everything
else sees a plain socket, whose half-close becomes TLS's close_notify.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl

_CHUNK = 64 * 1024
_HIGH_WATER = 256 * 1024


def server_context(ca: str, certificate: str, key: str) -> ssl.SSLContext:
    """For a daemon: clients must show a certificate that this authority has signed. Raises OSError, ssl.SSLError."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(certificate, key)
    context.load_verify_locations(ca)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


def client_context(ca: str, certificate: str, key: str, *, verify: bool) -> ssl.SSLContext:
    """For a client; an empty path is left out. Raises OSError, ssl.SSLError."""
    context = ssl.create_default_context(cafile=ca or None)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    if certificate:
        context.load_cert_chain(certificate, key or None)
    if not verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class Relay:
    """One connection: `wire` is the encrypted side. `handshake`, then `run` until both directions have ended."""

    def __init__(
        self, wire: socket.socket, context: ssl.SSLContext, *, server_side: bool, name: str | None = None
    ) -> None:
        self._wire = wire
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_side=server_side, server_hostname=name)

    def handshake(self, seconds: float) -> None:
        """Agree with the peer, for at most so long between two messages. Raises OSError (ssl.SSLError is one)."""
        self._wire.settimeout(seconds)
        while True:
            try:
                self.tls.do_handshake()
            except ssl.SSLWantReadError:
                self._send_all()
                data = self._wire.recv(_CHUNK)
                if not data:
                    raise ConnectionResetError("the peer closed the connection during the TLS handshake") from None
                self._in.write(data)
            except ssl.SSLError:
                with contextlib.suppress(OSError):
                    self._send_all()  # the alert tells the peer why
                raise
            else:
                self._send_all()
                return

    def _send_all(self) -> None:
        if self._out.pending:
            self._wire.sendall(self._out.read())

    def run(self, plain: socket.socket) -> None:
        """Pass bytes both ways, then close both sockets."""
        with self._wire, plain, contextlib.suppress(OSError):
            self._wire.setblocking(False)
            plain.setblocking(False)
            _Pump(self._wire, plain, self.tls, self._in, self._out).run()


class _Pump:
    """The two directions: `outward` is from the plain socket to the wire."""

    def __init__(
        self,
        wire: socket.socket,
        plain: socket.socket,
        tls: ssl.SSLObject,
        incoming: ssl.MemoryBIO,
        outgoing: ssl.MemoryBIO,
    ) -> None:
        self._wire, self._plain, self._tls, self._in, self._out = wire, plain, tls, incoming, outgoing
        self._to_plain, self._to_wire = bytearray(), bytearray()
        self._inward_over = self._outward_over = False
        self._told_plain = False

    def run(self) -> None:
        self._decrypt()  # what came with the end of the handshake
        poll = select.poll()
        while not (self._inward_over and self._outward_over and not self._to_wire and not self._to_plain):
            self._finish_inward()
            self._watch(poll)
            for fd, events in poll.poll():
                if fd == self._wire.fileno():
                    self._on_wire(events)
                else:
                    self._on_plain(events)

    def _watch(self, poll: select.poll) -> None:
        for one, wants_in, wants_out in (
            (self._wire, not self._inward_over and len(self._to_plain) < _HIGH_WATER, self._to_wire),
            (self._plain, not self._outward_over and len(self._to_wire) < _HIGH_WATER, self._to_plain),
        ):
            events = (select.POLLIN if wants_in else 0) | (select.POLLOUT if wants_out else 0)
            if events:
                poll.register(one, events)
            else:  # a hang-up would be told all the same
                with contextlib.suppress(KeyError):
                    poll.unregister(one)

    def _on_wire(self, events: int) -> None:
        if events & select.POLLOUT:
            del self._to_wire[: self._wire.send(self._to_wire)]
        if events & select.POLLIN:
            data = self._wire.recv(_CHUNK)
            if data:
                self._in.write(data)
                self._decrypt()
            elif not self._inward_over:
                raise ConnectionResetError  # without close_notify: the connection is gone, or was cut
            else:
                self._outward_over = True
        elif events & (select.POLLHUP | select.POLLERR):
            raise ConnectionResetError

    def _on_plain(self, events: int) -> None:
        if events & select.POLLOUT:
            del self._to_plain[: self._plain.send(self._to_plain)]
        if events & select.POLLIN:
            data = self._plain.recv(_CHUNK)
            if data:
                self._tls.write(data)
            else:
                self._outward_over = True
                with contextlib.suppress(ssl.SSLError):  # it would like to wait for the peer's
                    self._tls.unwrap()
            self._to_wire += self._out.read()
        elif events & (select.POLLHUP | select.POLLERR):
            raise ConnectionResetError

    def _decrypt(self) -> None:
        try:
            while data := self._tls.read(_CHUNK):
                self._to_plain += data
            self._inward_over = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self._inward_over = True
        self._to_wire += self._out.read()

    def _finish_inward(self) -> None:
        if self._inward_over and not self._to_plain and not self._told_plain:
            self._told_plain = True
            with contextlib.suppress(OSError):
                self._plain.shutdown(socket.SHUT_WR)


def connect(wire: socket.socket, context: ssl.SSLContext, name: str, seconds: float) -> socket.socket:
    """A client's end: a plain socket for the encrypted connection `wire`. Raises OSError (ssl.SSLError)."""
    import threading

    relay = Relay(wire, context, server_side=False, name=name)
    relay.handshake(seconds)
    ours, theirs = socket.socketpair()
    threading.Thread(target=relay.run, args=(theirs,), name="tls", daemon=True).start()
    return ours


def reason(error: OSError) -> str:
    """What went wrong with a TLS connection, for the user."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"the certificate cannot be verified: {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {error.reason or error}"
    return error.strerror or str(error)
