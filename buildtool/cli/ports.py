"""Ports: how published ports are written in flags, and shown in lists."""

from __future__ import annotations

from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_PROTOCOLS = ("tcp", "udp", "sctp")


def published(specs: list[str]) -> dict[str, list[dict[str, str]]]:
    """`-p [[ip:]hostPort:]containerPort[/proto]`, with ranges, as the API's PortBindings.

    Raises InvalidInput with Docker's words.
    """
    bindings: dict[str, list[dict[str, str]]] = {}
    for spec in specs:
        for port, binding in _publish_one(spec):
            bindings.setdefault(port, []).append(binding)
    return bindings


def _publish_one(spec: str) -> list[tuple[str, dict[str, str]]]:
    if "=" in spec:
        fields = dict(part.partition("=")[::2] for part in spec.split(","))
        spec = f"{fields.get('published', '')}:{fields.get('target', '')}/{fields.get('protocol', 'tcp')}"
    ports, _, protocol = spec.partition("/")
    protocol = protocol or "tcp"
    if protocol.lower() not in _PROTOCOLS:
        raise InvalidInput(f"invalid proto: {protocol}")
    rest, _, container = ports.rpartition(":")
    ip, separator, host = rest.rpartition(":")
    if not separator:
        ip, host = "", rest
    ip = ip[1:-1] if ip.startswith("[") and ip.endswith("]") else ip
    if not container:
        raise InvalidInput(f"no port specified: {spec}<empty>")
    if ip and not is_address(ip):
        raise InvalidInput(f"invalid IP address: {ip}")
    first, last = port_range(container, "invalid containerPort")
    host_first, host_last = port_range(host, "invalid hostPort") if host else (0, -1)
    count, host_count = last - first + 1, host_last - host_first + 1
    if host and count != host_count and count != 1:
        raise InvalidInput(f"invalid ranges specified for container and host Ports: {container} and {host}")
    pairs = []
    for offset in range(count):
        wanted = ""
        if host:
            wanted = host if count == 1 else str(host_first + offset)
        pairs.append((f"{first + offset}/{protocol.lower()}", {"HostIp": ip, "HostPort": wanted}))
    return pairs


def is_address(text: str) -> bool:
    """Whether this is an IPv4 or IPv6 address."""
    import socket

    for family in (socket.AF_INET, socket.AF_INET6):
        try:
            socket.inet_pton(family, text)
            return True
        except OSError:
            continue
    return False


def port_range(text: str, problem: str) -> tuple[int, int]:
    """`80` or `80-90`. Raises InvalidInput that begins with `problem`."""
    first, separator, last = text.partition("-")
    last = last if separator else first
    if not (first.isdecimal() and last.isdecimal()) or not 0 <= int(first) <= int(last) <= 65535:
        raise InvalidInput(f"{problem}: {text}")
    return int(first), int(last)


def exposed(specs: list[str]) -> dict[str, dict[str, str]]:
    """`--expose 80`, `53/udp`, `8000-8010` as the API's ExposedPorts."""
    ports: dict[str, dict[str, str]] = {}
    for spec in specs:
        number, _, protocol = spec.partition("/")
        if ":" in number:
            raise InvalidInput(f"invalid port format for --expose: {spec}")
        first, last = port_range(number, "invalid range format for --expose")
        for port in range(first, last + 1):
            ports[f"{port}/{protocol or 'tcp'}"] = {}
    return ports


def displayable_ports(ports: list[dict[str, Any]]) -> str:
    """The PORTS column: `0.0.0.0:8080->80/tcp, 443/tcp`, neighbouring ports as ranges."""
    groups: dict[tuple[str, str], list[tuple[int, int]]] = {}
    for port in sorted(ports, key=lambda p: (p.get("PrivatePort", 0), p.get("IP") or "", p.get("Type", ""))):
        key = (port.get("IP") or "", port.get("Type", "tcp"))
        groups.setdefault(key, []).append((port["PrivatePort"], port.get("PublicPort") or 0))
    shown: list[tuple[int, str]] = []
    for (ip, kind), pairs in groups.items():
        pairs.sort()
        start = 0
        for index in range(1, len(pairs) + 1):
            if index < len(pairs) and _continues(pairs[index - 1], pairs[index]):
                continue
            shown.append((pairs[start][0], _group_text(ip, kind, pairs[start], pairs[index - 1])))
            start = index
    return ", ".join(text for _, text in sorted(shown, key=lambda item: item[0]))


def _continues(before: tuple[int, int], port: tuple[int, int]) -> bool:
    next_public = before[1] + 1 if before[1] else 0
    return port == (before[0] + 1, next_public)


def _group_text(ip: str, kind: str, first: tuple[int, int], last: tuple[int, int]) -> str:
    private = str(first[0]) if first == last else f"{first[0]}-{last[0]}"
    if not first[1]:
        return f"{private}/{kind}"
    public = str(first[1]) if first == last else f"{first[1]}-{last[1]}"
    host = f"[{ip}]" if ":" in ip else ip or "0.0.0.0"
    return f"{host}:{public}->{private}/{kind}"
