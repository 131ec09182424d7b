"""Connections that are not plain sockets: through ssh, and TCP with TLS. Imported only where one is made."""

from __future__ import annotations

import socket
import subprocess

from buildtool import tls
from buildtool.client.address import Address
from buildtool.errors import DaemonUnreachable, InvalidInput

_CONNECT_SECONDS = 30
# What the other machine has: our own client, else docker's; both can lend their standard streams to the daemon.
_DIAL = "if command -v buildtool >/dev/null 2>&1; then exec buildtool {0}; else exec docker {0}; fi"


def by_ssh(address: Address) -> socket.socket:
    """A socket whose other end is `system dial-stdio` on the other machine. Raises DaemonUnreachable."""
    arguments = "system dial-stdio"
    if address.remote:
        arguments = f"--host unix://{_quoted(address.remote)} {arguments}"
    ours, theirs = socket.socketpair()
    command = ["ssh", "-o", f"ConnectTimeout={_CONNECT_SECONDS}", "-T", *address.ssh, _DIAL.format(arguments)]
    try:
        with theirs:
            process = subprocess.Popen(command, stdin=theirs.fileno(), stdout=theirs.fileno(), start_new_session=True)
    except FileNotFoundError:
        ours.close()
        raise DaemonUnreachable(
            f"cannot connect to the daemon at {address}: there is no ssh program here", hint="Install openssh-client."
        ) from None
    process.returncode = 0  # it ends with the connection; how is told by its own words on stderr
    return ours


def _quoted(text: str) -> str:
    quoted = text.replace("'", "'\\''")
    return f"'{quoted}'"


def by_tls(address: Address, wire: socket.socket, seconds: float) -> socket.socket:
    """A plain socket for an encrypted connection. Raises InvalidInput for unusable certificates, OSError."""
    settings = address.tls
    assert settings is not None
    try:
        context = tls.client_context(settings.ca, settings.certificate, settings.key, verify=settings.verify)
    except OSError as error:
        files = ", ".join(file for file in (settings.ca, settings.certificate, settings.key) if file)
        raise InvalidInput(f"the certificates for TLS ({files}) cannot be used: {tls.reason(error)}") from error
    try:
        return tls.connect(wire, context, address.host, seconds)
    except OSError as error:
        wire.close()
        raise DaemonUnreachable(
            f"cannot connect to the daemon at {address}: {tls.reason(error)}",
            hint="--tlscacert, --tlscert and --tlskey (or DOCKER_CERT_PATH) name the files to use.",
        ) from error
