"""Port numbers as the Engine API writes them: `80/tcp`."""

from __future__ import annotations

import ipaddress
import re

from buildtool.errors import InvalidInput

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
