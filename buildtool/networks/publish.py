"""Published ports on the host's side: sockets that hold them, and serve what the packet filter cannot.

Each published port is bound here, so that nobody else takes it and a taken one is refused with its holder's name. The
packet filter leads IPv4 traffic to the container before it gets here; connections over IPv6 to a container without an
IPv6 address, and to [::1], arrive at the sockets and are relayed.
"""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildtool.errors import BuildtoolError, Conflict
from buildtool.networks.model import PortMapping, PortRequest, Sandbox
from buildtool.networks.relay import MakeSocket, Relay

_ATTEMPTS = 64


@dataclass(eq=False)
class _Held:
    """One port of the host that a container has."""

    mapping: PortMapping
    socket: socket.socket | None
    owner: str
    relay: Relay | None = None


@dataclass
class Publisher:
    """All ports this daemon holds, by the sandbox that has them.

    `outward` makes sockets that reach containers; without `relays` the packet filter serves alone.
    """

    outward: MakeSocket = socket.socket
    relays: bool = True
    _held: dict[str, list[_Held]] = field(default_factory=dict)

    def reserve(self, sandbox: Sandbox, requests: Sequence[PortRequest]) -> None:
        """Bind the ports and note them in the sandbox; all or none. Raises BuildtoolError naming the holder."""
        held: list[_Held] = []
        try:
            for request in requests:
                held += self._reserve_one(request, sandbox)
        except BaseException:
            _close(held)
            raise
        sandbox.ports = [one.mapping for one in held]
        if held:
            self._held[sandbox.id] = held

    def adopt(self, sandbox: Sandbox) -> list[str]:
        """Hold the ports of a container that has gone on without a daemon; those that cannot be held any more."""
        held, lost = [], []
        for mapping in sandbox.ports:
            try:
                port = mapping.host_port
                bound = _bind(mapping.protocol, mapping.host_ip, port) if port else None
            except OSError as error:
                lost.append(f"{mapping.host_ip}:{mapping.host_port}/{mapping.protocol}: {error.strerror}")
                bound = None
            held.append(_Held(mapping, bound, sandbox.name))
        if held:
            self._held[sandbox.id] = held
        return lost

    def serve(self, sandbox: Sandbox) -> None:
        """Relay what arrives at the sockets to the container's address of now."""
        endpoint = sandbox.publishing_endpoint(4) or sandbox.publishing_endpoint(6)
        for one in self._held.get(sandbox.id, ()):
            if one.relay is not None:
                one.relay.close()
                one.relay = None
            relayed = self.relays and one.mapping.protocol != "sctp"
            if one.socket is not None and endpoint is not None and relayed:
                target = (endpoint.address or endpoint.address6, one.mapping.container_port)
                one.relay = Relay(one.socket, target, self.outward, udp=one.mapping.protocol == "udp")

    def release(self, sandbox: Sandbox) -> None:
        """Let the ports go."""
        _close(self._held.pop(sandbox.id, []))

    def close(self) -> None:
        """Let all go; the packet filter's part goes on."""
        for sandbox in list(self._held):
            _close(self._held.pop(sandbox))

    def _reserve_one(self, request: PortRequest, sandbox: Sandbox) -> list[_Held]:
        addresses = [request.host_ip] if request.host_ip else ["0.0.0.0", *(["::"] if _has_ipv6() else [])]
        opened = [one for one in addresses if ipaddress.ip_address(one).version in request.routed]
        addresses = [one for one in addresses if one not in opened]
        mappings = [PortMapping(request.container_port, request.protocol, one, 0) for one in opened]
        held = [_Held(mapping, None, sandbox.name) for mapping in mappings]
        return held + (self._reserve_bound(request, addresses, sandbox) if addresses else [])

    def _reserve_bound(self, request: PortRequest, addresses: Sequence[str], sandbox: Sandbox) -> list[_Held]:
        if request.first:
            candidates: Sequence[int] = range(request.first, request.last + 1)
        else:
            candidates = [0] * _ATTEMPTS
        failure: BuildtoolError | None = None
        for port in candidates:
            try:
                return self._bind_all(request, addresses, port, sandbox)
            except BuildtoolError as error:
                failure = error
        assert failure is not None
        raise failure

    def _bind_all(self, request: PortRequest, addresses: Sequence[str], port: int, sandbox: Sandbox) -> list[_Held]:
        held: list[_Held] = []
        try:
            for address in addresses:
                bound = _bind(request.protocol, address, port)
                if bound is not None:
                    port = port or bound.getsockname()[1]
                held.append(
                    _Held(PortMapping(request.container_port, request.protocol, address, port), bound, sandbox.name)
                )
        except OSError as error:
            _close(held)
            raise self._refusal(request.protocol, address, port, error) from error
        return held

    def _refusal(self, protocol: str, address: str, port: int, error: OSError) -> BuildtoolError:
        where = f"[{address}]" if ":" in address else address
        for held in self._held.values():
            for one in held:
                if one.mapping.protocol == protocol and one.mapping.host_port == port:
                    return _Taken(
                        f"Bind for {where}:{port} failed: port is already allocated",
                        hint=f'the container "{one.owner}" has it',
                    )
        text = (error.strerror or str(error)).lower()
        holder = holder_of(protocol, port) if error.errno == errno.EADDRINUSE else ""
        hint = f"{holder} has it" if holder else ""
        if error.errno == errno.EACCES:
            hint = "a plain user has the ports from 1024 on; sysctl net.ipv4.ip_unprivileged_port_start lowers that"
        message = f"failed to bind host port {where}:{port}/{protocol}: {text}"
        return _Taken(message, hint=hint)


class _Taken(Conflict):
    """A port that cannot be had. Docker answers it with 500."""

    http_status = 500


def holder_of(protocol: str, port: int) -> str:
    """The process that listens on a port of this machine, as `name (pid n)`; "" when it cannot be found."""
    inodes = set()
    for version in ("", "6"):
        with contextlib.suppress(OSError):
            for line in Path(f"/proc/net/{protocol}{version}").read_text().splitlines()[1:]:
                fields = line.split()
                if int(fields[1].rpartition(":")[2], 16) == port and (protocol != "tcp" or fields[3] == "0A"):
                    inodes.add(f"socket:[{fields[9]}]")
    if not inodes:
        return ""
    for pid in filter(str.isdigit, os.listdir("/proc")):
        with contextlib.suppress(OSError):
            for fd in os.listdir(f"/proc/{pid}/fd"):
                if str(Path(f"/proc/{pid}/fd/{fd}").readlink()) in inodes:
                    return f"the process {Path(f'/proc/{pid}/comm').read_text().strip()} (pid {pid})"
    return ""


def _bind(protocol: str, address: str, port: int) -> socket.socket | None:
    """A socket that holds the port; None where the kernel has no such protocol (the packet filter serves alone)."""
    family = socket.AF_INET6 if ipaddress.ip_address(address).version == 6 else socket.AF_INET
    kind = socket.SOCK_DGRAM if protocol == "udp" else socket.SOCK_STREAM
    number = socket.IPPROTO_SCTP if protocol == "sctp" else 0
    try:
        bound = socket.socket(family, kind, number)
    except OSError:
        if protocol == "sctp":
            return None
        raise
    try:
        if protocol == "tcp":
            bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if family == socket.AF_INET6:
            bound.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        bound.setblocking(False)
        bound.bind((address, port))
        if protocol != "udp":
            bound.listen(128)
    except BaseException:
        bound.close()
        raise
    return bound


def _has_ipv6() -> bool:
    try:
        return bool(Path("/proc/net/if_inet6").read_text())
    except OSError:
        return False


def _close(held: Sequence[_Held]) -> None:
    for one in held:
        if one.relay is not None:
            one.relay.close()
        if one.socket is not None:
            one.socket.close()
