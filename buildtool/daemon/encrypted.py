"""TCP connections with mutual TLS: each gets a thread that decrypts it for the server (see `buildtool.tls`)."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
import ssl
import threading
from collections.abc import Callable
from typing import Any

from buildtool import tls
from buildtool.daemon.hijack import HijackableServer

log = logging.getLogger("buildtool.daemon")
_HANDSHAKE_SECONDS = 10.0
_MOST_STRANGERS = 64  # connections that have not shown a certificate yet


class EncryptedServer:
    """Accepts connections on `listener` until `close`."""

    def __init__(self, server: HijackableServer, listener: socket.socket, context: ssl.SSLContext) -> None:
        self._server, self._listener, self._context = server, listener, context
        self._loop = asyncio.get_running_loop()
        self._strangers = 0
        self._loop.add_reader(listener.fileno(), self._accept)

    def close(self) -> None:
        """Take no further connections."""
        self._loop.remove_reader(self._listener.fileno())

    def _accept(self) -> None:
        try:
            wire, address = self._listener.accept()
        except OSError:
            return
        if self._strangers >= _MOST_STRANGERS:
            wire.close()
            return
        self._strangers += 1
        thread = threading.Thread(target=self._live, args=(wire, f"{address[0]}:{address[1]}"), daemon=True)
        thread.start()

    def _live(self, wire: socket.socket, peer: str) -> None:
        """A connection's thread."""
        relay = tls.Relay(wire, self._context, server_side=True)
        try:
            wire.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            relay.handshake(_HANDSHAKE_SECONDS)
        except OSError as error:
            wire.close()
            log.warning("refused a connection from %s: %s", peer, tls.reason(error))
            return
        finally:
            self._tell(self._known)
        name = _common_name(relay.tls)
        inner, outer = socket.socketpair()
        self._tell(self._introduce, inner, f"{peer} ({name})")
        relay.run(outer)

    def _tell(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    def _known(self) -> None:
        self._strangers -= 1

    def _introduce(self, inner: socket.socket, peer: str) -> None:
        inner.setblocking(False)
        self._server.peers[inner.fileno()] = peer
        self._loop.create_task(self._loop.connect_accepted_socket(self._server, inner))


def _common_name(connection: ssl.SSLObject) -> str:
    """Who the client's certificate says it is."""
    subject: Any = (connection.getpeercert() or {}).get("subject", ())
    pairs = [pair for part in subject for pair in part]
    return next((str(value) for key, value in pairs if key == "commonName"), "no name")
