"""Port numbers as the Engine API writes them: `80/tcp`; what is published of them."""

from __future__ import annotations

import ipaddress
import re

from buildtool.containers.model import Config, HostConfig
from buildtool.errors import InvalidInput
from buildtool.networks import PortRequest

_PORT = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?(?:/([a-zA-Z]+))?")


def canonical(text: str) -> str:
    """`80` → `80/tcp`. Raises InvalidInput for anything that is not a port or a range of ports."""
    match = _PORT.fullmatch(text)
    if match is None:
        raise InvalidInput(f'invalid port specification: "{text}"')
    first, last, protocol = int(match[1]), int(match[2] or match[1]), (match[3] or "tcp").lower()
    if protocol not in ("tcp", "udp", "sctp"):
        raise InvalidInput(f"invalid proto: {protocol}")
    if not 0 < first <= last <= 65535:
        raise InvalidInput(f'invalid port specification: "{text}"')
    return f"{text.partition('/')[0]}/{protocol}"


def check_host_port(text: str) -> None:
    """Raises InvalidInput when the host side of a binding is not empty, a port or a range."""
    if not text:
        return
    match = _PORT.fullmatch(text)
    if match is None or match[3] or not 0 <= int(match[1]) <= int(match[2] or match[1]) <= 65535:
        raise InvalidInput(f'invalid port specification: "{text}"')


def check_host_ip(text: str) -> None:
    """Raises InvalidInput when the host address of a binding is neither empty nor an IP address."""
    if not text:
        return
    try:
        ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        raise InvalidInput(f"invalid IP address: {text}") from None


def requests(config: Config, host: HostConfig) -> list[PortRequest]:
    """The ports to publish: those bound, and with `publish_all_ports` the exposed ones that are not."""
    found = []
    for key, bindings in host.port_bindings.items():
        for number, protocol in numbers(key):
            for binding in bindings or ():
                first, _, last = binding.host_port.partition("-")
                low = int(first or 0)
                found.append(
                    PortRequest(number, protocol, binding.host_ip.strip("[]"), low, int(last or low) if low else 0)
                )
    if host.publish_all_ports:
        bound = {(request.container_port, request.protocol) for request in found}
        exposed = dict.fromkeys(port for key in config.exposed_ports or () for port in numbers(key))
        found += [PortRequest(number, protocol) for number, protocol in exposed if (number, protocol) not in bound]
    return found


def numbers(text: str) -> list[tuple[int, str]]:
    """A canonical port or range as single ports and their protocol."""
    span, _, protocol = text.partition("/")
    first, _, last = span.partition("-")
    return [(number, protocol) for number in range(int(first), int(last or first) + 1)]


def ip_version(text: str) -> int:
    """4 or 6; 0 for what is no IP address."""
    try:
        return ipaddress.ip_address(text).version
    except ValueError:
        return 0


def is_mac(text: str) -> bool:
    """Whether this is a MAC address that an interface can have."""
    return bool(re.fullmatch(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}", text)) and not int(text[:2], 16) & 1
