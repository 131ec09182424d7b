"""`buildtool registry serve`: options, sockets, TLS, an orderly end."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import signal
import socket
import ssl
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from aiohttp import web

from buildtool.cache import Store
from buildtool.errors import BuildtoolError, Conflict, InvalidInput
from buildtool.places import default_root
from buildtool.registry.config import is_loopback
from buildtool.registry.server.access import Access, Htpasswd, Open
from buildtool.registry.server.app import Server
from buildtool.registry.server.content import Content

log = logging.getLogger("buildtool.registry")

_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warn": logging.WARNING, "error": logging.ERROR}
_DRAIN_SECONDS = 30.0
_BACKLOG = 512


@dataclass(frozen=True)
class Options:
    """What a server is started with."""

    root: Path
    host: str
    port: int
    share_store: bool = False
    htpasswd: Path | None = None
    anonymous_pull: bool = False
    tls_cert: Path | None = None
    tls_key: Path | None = None
    delete: bool = True
    upload_idle: float = 3600.0
    grace: float = 86400.0
    log_level: str = "info"

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.host)


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Ends the process with usage and code 2 for wrong flags; InvalidInput for the rest."""
    parser = argparse.ArgumentParser(
        prog="buildtool registry serve", description="Serve the OCI distribution API. SIGTERM and SIGINT stop it."
    )
    add = parser.add_argument
    add("--root", default="", metavar="DIR", help="where everything is kept (default: the data root's -registry)")
    add("--share-store", action="store_true", help="publish the daemon's images, read-only, without a copy")
    add("--addr", default="127.0.0.1:5000", metavar="HOST:PORT", help="where to listen (default: 127.0.0.1:5000)")
    add("--htpasswd", default="", metavar="FILE", help="users and their bcrypt hashes; without it anybody may push")
    add("--anonymous-pull", action="store_true", help="with --htpasswd: pulling needs no login")
    add("--tls-cert", default="", metavar="FILE", help="certificate chain, PEM")
    add("--tls-key", default="", metavar="FILE", help="its private key, PEM")
    add("--no-delete", action="store_true", help="refuse to delete manifests and blobs")
    add("--upload-timeout", type=float, default=3600.0, metavar="SECONDS", help="end uploads nobody goes on with")
    add("--gc-grace", type=float, default=86400.0, metavar="SECONDS", help="keep blobs without a manifest so long")
    add("--log-level", default="info", choices=tuple(_LEVELS), help="default: info (one line a request)")
    given = parser.parse_args(arguments)
    if bool(given.tls_cert) != bool(given.tls_key):
        raise InvalidInput("--tls-cert and --tls-key go together")
    if given.anonymous_pull and not given.htpasswd:
        raise InvalidInput("--anonymous-pull means nothing without --htpasswd")
    host, port = _address(given.addr)
    return Options(
        root=_root(given.root, share=given.share_store),
        host=host,
        port=port,
        share_store=given.share_store,
        htpasswd=Path(given.htpasswd) if given.htpasswd else None,
        anonymous_pull=given.anonymous_pull,
        tls_cert=Path(given.tls_cert) if given.tls_cert else None,
        tls_key=Path(given.tls_key) if given.tls_key else None,
        delete=not given.no_delete,
        upload_idle=given.upload_timeout,
        grace=given.gc_grace,
        log_level=given.log_level,
    )


def _root(given: str, *, share: bool) -> Path:
    if given:
        return Path(given).absolute()
    if share:
        return Path(os.environ.get("BUILDTOOL_ROOT") or default_root()).absolute()
    return Path(f"{default_root()}-registry")


def _address(text: str) -> tuple[str, int]:
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"cannot listen on {text!r}: write HOST:PORT, like 127.0.0.1:5000 or :5000")
    return host.strip("[]") or "0.0.0.0", int(port)


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
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    access: Access = Open()
    if options.htpasswd is not None:
        access = Htpasswd(options.htpasswd, anonymous_pull=options.anonymous_pull)
    tls = _tls(options)
    listener = _listen(options)
    with listener, Store.open(options.root, readonly=options.share_store) as store:
        server = Server(
            store,
            content=_shared(store) if options.share_store else None,
            access=access,
            upload_idle=options.upload_idle,
            grace=options.grace,
            delete=options.delete,
        )
        protocol = await server.open()
        accepting = await asyncio.get_running_loop().create_server(protocol, sock=listener, ssl=tls, backlog=_BACKLOG)
        _announce(options, listener)
        try:
            await stop.wait()
        finally:
            await _drain(server, protocol, accepting)


async def _drain(server: Server, protocol: web.Server, accepting: asyncio.Server) -> None:
    """No new connections; requests that run may end."""
    accepting.close()
    protocol.pre_shutdown()
    if not await server.drained(_DRAIN_SECONDS):
        log.warning("some requests did not end in time: they are cut")
    await protocol.shutdown(1.0)
    await server.close()
    log.info("stopped")


def _shared(store: Store) -> Content:
    from buildtool.registry.server.shared import SharedImages

    return SharedImages(store)


def _listen(options: Options) -> socket.socket:
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((options.host, options.port))
        listener.listen(_BACKLOG)
        listener.setblocking(False)
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {options.host}:{options.port}: {error.strerror or error}") from None
    return listener


def _tls(options: Options) -> ssl.SSLContext | None:
    if options.tls_cert is None or options.tls_key is None:
        return None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(options.tls_cert, options.tls_key)
    except (OSError, ssl.SSLError) as error:
        raise InvalidInput(f"cannot use {options.tls_cert} with {options.tls_key}: {error}") from None
    return context


def _announce(options: Options, listener: socket.socket) -> None:
    scheme = "https" if options.tls_cert else "http"
    host = f"[{options.host}]" if ":" in options.host else options.host
    print(f"listening on {scheme}://{host}:{listener.getsockname()[1]}, root {options.root}", flush=True)
    if options.is_public and options.htpasswd is None and not options.share_store:
        log.warning("anybody who reaches this address may push and delete: use --htpasswd")
    if options.is_public and options.htpasswd is not None and not options.tls_cert:
        log.warning("passwords travel unencrypted: use --tls-cert and --tls-key, or a proxy that has TLS")


if __name__ == "__main__":
    sys.exit(main())
