"""The sockets the daemon listens on: unix, TCP, or those a service manager hands over; and who may connect."""

from __future__ import annotations

import contextlib
import errno
import grp
import ipaddress
import os
import socket
import stat
from dataclasses import dataclass
from pathlib import Path

from buildtool.errors import Conflict, Forbidden, InvalidInput

_BACKLOG = 256
_FIRST_PASSED_FD = 3
_MAX_UNIX_PATH = 107


@dataclass(frozen=True, slots=True)
class Address:
    """Where to listen: a unix socket's `path`, or a TCP `host` and `port`."""

    path: str = ""
    host: str = ""
    port: int = 0

    def __str__(self) -> str:
        if self.path:
            return f"unix://{self.path}"
        return f"tcp://[{self.host}]:{self.port}" if ":" in self.host else f"tcp://{self.host}:{self.port}"


def parse_address(text: str) -> Address:
    """`unix:///path`, `/path`, `tcp://host:port`. Raises InvalidInput."""
    scheme, separator, rest = text.partition("://")
    if not separator and text.startswith("/"):
        scheme, rest = "unix", text
    if scheme == "unix":
        if not rest.startswith("/"):
            raise InvalidInput(f"cannot listen on {text!r}: the path of a unix socket must be absolute")
        if len(os.fsencode(rest)) > _MAX_UNIX_PATH:
            raise InvalidInput(
                f"cannot listen on {text!r}: the path is longer than the {_MAX_UNIX_PATH} bytes of a socket's address"
            )
        return Address(path=rest)
    if scheme == "tcp":
        host, _, port = rest.rpartition(":")
        if not port.isdecimal() or not 0 <= int(port) < 65536:
            raise InvalidInput(f"cannot listen on {text!r}: write tcp://ADDRESS:PORT")
        return Address(host=host.strip("[]") or "127.0.0.1", port=int(port))
    raise InvalidInput(f"cannot listen on {text!r}: use unix:///path/to/socket or tcp://127.0.0.1:PORT")


@dataclass(frozen=True, slots=True)
class Listener:
    """A listening socket and, for a unix socket, which file is its name."""

    address: Address
    socket: socket.socket
    identity: tuple[int, int, int] = (0, 0, 0)

    def remove_name(self) -> None:
        """Remove the name if it still is this socket's, so that new clients look for another daemon."""
        if not self.address.path:
            return
        with contextlib.suppress(FileNotFoundError):
            if _identity(self.address.path) == self.identity:
                os.unlink(self.address.path)  # noqa: PTH108

    def close(self) -> None:
        """Remove the name and stop listening."""
        self.remove_name()
        self.socket.close()


@dataclass(frozen=True, slots=True)
class Access:
    """Who may connect: a unix socket's group ("" = `docker` where there is one) and mode, and whether TCP is served.

    `tls`: connections by TCP are encrypted, and clients must show a certificate. `plain_tcp`: on loopback addresses
    they need not be.
    """

    group: str = ""
    mode: int = 0o660
    tls: bool = False
    plain_tcp: bool = False


def bind(address: Address, access: Access) -> Listener:
    """A listening socket. A unix socket nobody listens on any more is replaced.

    Raises Conflict when another daemon listens there, Forbidden for TCP addresses that `access` does not allow,
    InvalidInput for a group that does not exist.
    """
    if not address.path:
        check_tcp(address, access)
        return Listener(address, _bind_tcp(address))
    path = Path(address.path)
    path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        before = os.umask(0o777 & ~access.mode)
        try:
            listener.bind(address.path)
        finally:
            os.umask(before)
        _give_to_group(address.path, access.group)
        listener.listen(_BACKLOG)
        identity = _identity(address.path)
    except BaseException:
        listener.close()
        raise
    return Listener(address, listener, identity)


def passed_sockets(access: Access) -> list[Listener]:
    """Sockets handed over by socket activation (LISTEN_PID, LISTEN_FDS); the variables are removed for our
    children. Raises Forbidden for those that `access` does not allow."""
    pid, count = os.environ.pop("LISTEN_PID", ""), os.environ.pop("LISTEN_FDS", "0")
    os.environ.pop("LISTEN_FDNAMES", None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return []
    sockets = []
    for fd in range(_FIRST_PASSED_FD, _FIRST_PASSED_FD + int(count)):
        os.set_inheritable(fd, False)
        one = socket.socket(fileno=fd)
        address = Address()
        if one.family != socket.AF_UNIX:
            address = Address(host=one.getsockname()[0], port=one.getsockname()[1])
            check_tcp(address, access)
        sockets.append(Listener(address, one))
    return sockets


def _identity(path: str) -> tuple[int, int, int]:
    """Which file a name means; the time is in it because inode numbers are used again."""
    found = os.lstat(path)
    return found.st_dev, found.st_ino, found.st_mtime_ns


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise Conflict(f"cannot listen on {path}: a file that is not a socket is in the way")
    if _listens(path):
        raise Conflict(f"cannot listen on {path}: another daemon listens there")
    path.unlink(missing_ok=True)


def _listens(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(2)
        return probe.connect_ex(str(path)) not in (errno.ECONNREFUSED, errno.ENOENT)


def _give_to_group(path: str, name: str) -> None:
    if os.geteuid() != 0 and not name:
        return
    try:
        group = int(name) if name.isdecimal() else grp.getgrnam(name or "docker").gr_gid
    except KeyError:
        if name:
            raise InvalidInput(f"the group {name!r} of the socket does not exist") from None
        return
    try:
        os.chown(path, -1, group)
    except OSError as error:  # in a user namespace the group may not be mapped: then it stays ours alone
        if name:
            raise InvalidInput(f"the socket cannot be given to the group {name!r}: {error.strerror}") from None


def check_tcp(address: Address, access: Access) -> None:
    """Raises Forbidden unless connections by TCP are encrypted, or stay on this machine and were asked for."""
    if access.tls:
        return
    try:
        loopback = address.host == "localhost" or ipaddress.ip_address(address.host).is_loopback
    except ValueError:
        loopback = False
    if not loopback:
        raise Forbidden(
            f"refusing to listen on {address}: whoever reaches the API owns this machine",
            hint="Let clients show certificates (--tlsverify --tlscacert CA --tlscert CERT --tlskey KEY), or let\n"
            "them come by ssh (-H ssh://USER@HOST), which needs no listening port.",
        )
    if not access.plain_tcp:
        raise Forbidden(
            f"refusing to listen on {address}: every user of this machine could connect, and owned it then",
            hint="Say --plain-tcp when that is wanted, or use --tlsverify.",
        )


def _bind_tcp(address: Address) -> socket.socket:
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    listener = socket.socket(family, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address.host, address.port))
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise Conflict(f"cannot listen on {address}: {error.strerror}") from error
    return listener
