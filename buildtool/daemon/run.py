"""The daemon's life on the event loop: open services, listen, wait for the end, close."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import signal
import socket
import time
from typing import TYPE_CHECKING

from buildtool.daemon import listen
from buildtool.daemon.api import make_router
from buildtool.daemon.hijack import HijackableServer
from buildtool.daemon.listen import Listener
from buildtool.daemon.options import Options
from buildtool.daemon.server import Dispatcher, make_server
from buildtool.daemon.services import Services
from buildtool.errors import InvalidInput, StoreLocked

if TYPE_CHECKING:
    from ssl import SSLContext

    from buildtool.daemon.encrypted import EncryptedServer

log = logging.getLogger("buildtool.daemon")

_GRACE_SECONDS = 5.0
_LAST_CALL_SECONDS = 0.02  # for clients that connected before the name went
_LOCK_SECONDS = 3.0


async def run(options: Options) -> int:
    """Serve until SIGTERM, SIGINT or the idle timeout; 0 after an orderly stop.

    Raises StoreLocked when the data root is taken, Conflict when the socket is.
    """
    begin = time.monotonic()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, _asked_to_stop, stop, number)
    passed = listen.passed_sockets(options.access)
    context = _tls_context(options)
    options.run_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    services = await _open_services(options)
    services.entitlements = frozenset(options.entitlements)
    listeners: list[Listener] = []
    try:
        with contextlib.ExitStack() as stack:
            for one in passed or (listen.bind(address, options.access) for address in options.addresses):
                stack.callback(one.close)
                listeners.append(one)
            await _serve(services, listeners, stop, options, begin, context)
    finally:
        await services.close()
    log.info("stopped")
    return 0


async def _open_services(options: Options) -> Services:
    """Open them; a daemon that is just stopping gets a moment to let go of the data root."""
    deadline = time.monotonic() + _LOCK_SECONDS
    while True:
        try:
            return await Services.open(options.root, options.run_dir)
        except StoreLocked:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


async def _serve(
    services: Services,
    listeners: list[Listener],
    stop: asyncio.Event,
    options: Options,
    begin: float,
    context: SSLContext | None,
) -> None:
    dispatcher = Dispatcher(services, make_router())
    server = make_server(dispatcher)
    accepting = [await _accept(server, one, context) for one in listeners]
    gc.collect()
    gc.freeze()
    _notify("READY=1")
    where = ", ".join(str(one.address) for one in listeners)
    log.info(
        "listening on %s, data root %s, ready in %.0f ms", where, options.root, 1000 * (time.monotonic() - begin)
    )
    idle = asyncio.create_task(_stop_when_idle(services, dispatcher, options.idle_timeout, stop))
    try:
        await stop.wait()
    finally:
        _notify("STOPPING=1")
        idle.cancel()
        for one in listeners:
            one.remove_name()
        await asyncio.sleep(_LAST_CALL_SECONDS)
        for listener in accepting:
            listener.close()
        server.pre_shutdown()
        await dispatcher.finish(_GRACE_SECONDS)
        await server.shutdown(0.2)
        await asyncio.gather(idle, return_exceptions=True)


def _tls_context(options: Options) -> SSLContext | None:
    """What TCP connections are encrypted with. Raises InvalidInput."""
    if not options.access.tls:
        return None
    from buildtool import tls

    try:
        return tls.server_context(*options.certificates)
    except OSError as error:
        names = ", ".join(options.certificates)
        raise InvalidInput(f"the certificates for TLS ({names}) cannot be used: {tls.reason(error)}") from error


async def _accept(
    server: HijackableServer, one: Listener, context: SSLContext | None
) -> asyncio.Server | EncryptedServer:
    loop = asyncio.get_running_loop()
    one.socket.setblocking(False)
    if one.socket.family == socket.AF_UNIX:
        return await loop.create_unix_server(server, sock=one.socket)
    if context is not None:
        from buildtool.daemon.encrypted import EncryptedServer

        return EncryptedServer(server, one.socket, context)
    log.warning("%s is open to every user of this machine: whoever connects has root's power", one.address)
    return await loop.create_server(server, sock=one.socket)


def _asked_to_stop(stop: asyncio.Event, number: int) -> None:
    log.info("stopping on %s", signal.Signals(number).name)
    stop.set()


async def _stop_when_idle(services: Services, dispatcher: Dispatcher, timeout: float, stop: asyncio.Event) -> None:
    """Set `stop` after `timeout` seconds without requests and running containers."""
    if timeout <= 0:
        return
    while True:
        quiet = time.monotonic() - dispatcher.last_end
        if dispatcher.in_flight or quiet < timeout:
            await asyncio.sleep(timeout if dispatcher.in_flight else max(0.1, timeout - quiet))
        elif services.containers.running():
            await asyncio.sleep(min(timeout, 60.0))
        else:
            log.info("stopping after %.0f s without work", quiet)
            stop.set()
            return


def _notify(message: str) -> None:
    """Tell the service manager (NOTIFY_SOCKET), when there is one."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.sendto(message.encode(), address)
