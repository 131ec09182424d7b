"""`buildtool registry serve`: sockets, TLS, an orderly end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from contextlib import AsyncExitStack

from aiohttp import web

from buildtool.cache import Store
from buildtool.errors import BuildtoolError, Conflict, InvalidInput
from buildtool.registry.server.app import Server
from buildtool.registry.server.assembly import assemble
from buildtool.registry.server.options import Options, parse

log = logging.getLogger("buildtool.registry")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_BACKLOG = 512
_LOOK_AT_FILES = 30.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until told to stop; the exit code."""
    try:
        options = parse(sys.argv[1:] if arguments is None else arguments)
        logging.basicConfig(
            stream=sys.stderr,
            level=_LEVELS[options.log_level],
            format="%(asctime)s %(levelname)s %(name)s: %(message)s",
        )
        asyncio.run(serve(options))
        return 0
    except BuildtoolError as error:
        print(f"buildtool registry serve: {error}", file=sys.stderr)
        return error.exit_code
    except OSError as error:
        print(f"buildtool registry serve: {error.filename or ''}: {error.strerror or error}", file=sys.stderr)
        return 1


async def serve(options: Options) -> None:
    """Open everything, say where it listens on stdout, serve until SIGTERM or SIGINT, drain."""
    loop = asyncio.get_running_loop()
    stop, hangup = asyncio.Event(), asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    loop.add_signal_handler(signal.SIGHUP, hangup.set)
    tls = Certificate(options) if options.tls_cert is not None else None
    async with AsyncExitStack() as stack:
        listener = stack.enter_context(_listen(options.host, options.port))
        store = stack.enter_context(Store.open(options.root, readonly=options.share_store))
        server = assemble(options, store)
        protocol = await server.open()
        accepting = await loop.create_server(
            protocol, sock=listener, ssl=tls.context if tls else None, backlog=_BACKLOG
        )
        if options.metrics is not None:
            await _serve_metrics(stack, options.metrics, server)
        upkeep = asyncio.create_task(_keep_files_up(server, tls, hangup))
        _announce(options, listener)
        try:
            await stop.wait()
        finally:
            upkeep.cancel()
            await asyncio.gather(upkeep, return_exceptions=True)
            await _drain(options, server, protocol, accepting)


async def _drain(options: Options, server: Server, protocol: web.Server, accepting: asyncio.Server) -> None:
    """Not ready any more; then no new connections; requests that run may end."""
    server.draining = True
    await asyncio.sleep(options.drain_delay)
    accepting.close()
    protocol.pre_shutdown()
    if not await server.drained(options.drain_timeout):
        log.warning("some requests did not end in time: they are cut")
    await protocol.shutdown(1.0)
    await server.close()
    if server.settings.audit is not None:
        server.settings.audit.close()
    log.info("stopped")


async def _serve_metrics(stack: AsyncExitStack, place: tuple[str, int], server: Server) -> None:
    metrics = server.settings.metrics
    assert metrics is not None

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        if request.path != "/metrics":
            return web.Response(status=404, text="page not found\n")
        from buildtool.registry.server.metrics import CONTENT_TYPE

        return web.Response(body=metrics.text(), headers={"Content-Type": CONTENT_TYPE})

    listener = stack.enter_context(_listen(*place))
    protocol = web.Server(answer, access_log=None, logger=log)
    accepting = await asyncio.get_running_loop().create_server(protocol, sock=listener)
    stack.push_async_callback(protocol.shutdown, 1.0)
    stack.callback(accepting.close)


class Certificate:
    """The server's certificate, taken anew for new connections when its files change."""

    def __init__(self, options: Options) -> None:
        """Raises InvalidInput."""
        assert options.tls_cert is not None and options.tls_key is not None
        self._files = (options.tls_cert, options.tls_key)
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.minimum_version = ssl.TLSVersion.TLSv1_2
        if options.tls_client_ca is not None:
            try:
                self.context.load_verify_locations(cafile=options.tls_client_ca)
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(f"cannot use {options.tls_client_ca}: {error}") from None
            self.context.verify_mode = ssl.CERT_REQUIRED
        self._stamp = self._look()
        self._load()

    def _look(self) -> tuple[tuple[int, int], ...]:
        try:
            return tuple((status.st_mtime_ns, status.st_ino) for status in (path.stat() for path in self._files))
        except OSError:
            return ()

    def _load(self) -> None:
        try:
            self.context.load_cert_chain(*self._files)
        except (OSError, ssl.SSLError) as error:
            raise InvalidInput(f"cannot use {self._files[0]} with {self._files[1]}: {error}") from None

    def renew(self) -> None:
        """Look whether the files have changed; what cannot be used leaves the old certificate in place."""
        stamp = self._look()
        if stamp == self._stamp:
            return
        try:
            trial = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            trial.load_cert_chain(*self._files)
            self._load()
        except (InvalidInput, OSError, ssl.SSLError) as error:
            log.error("the certificate stays as it was: %s", error)
            return
        self._stamp = stamp
        log.info("%s: taken anew", self._files[0])


async def _keep_files_up(server: Server, tls: Certificate | None, hangup: asyncio.Event) -> None:
    """The certificate when it changes; at SIGHUP the audit log, too."""
    while True:
        try:
            await asyncio.wait_for(hangup.wait(), _LOOK_AT_FILES)
        except TimeoutError:
            pass
        if hangup.is_set():
            hangup.clear()
            if server.settings.audit is not None:
                server.settings.audit.reopen()
        if tls is not None:
            tls.renew()


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {host}:{port}: {error.strerror or error}") from None
    return listener


def _announce(options: Options, listener: socket.socket) -> None:
    scheme = "https" if options.tls_cert else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"listening on {scheme}://{host}:{listener.getsockname()[1]}, root {options.root}", flush=True)
    if options.is_public and not options.is_guarded and not options.share_store:
        log.warning("anybody who reaches this address may push and delete: use --htpasswd")
    if options.is_public and options.is_guarded and not options.tls_cert and not options.external_url:
        log.warning("passwords travel unencrypted: use --tls-cert and --tls-key, or a proxy that has TLS")


if __name__ == "__main__":
    sys.exit(main())
