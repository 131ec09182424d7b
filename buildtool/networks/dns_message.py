"""DNS messages, as far as a resolver for container names needs them. Pure.

Source: RFC 1035 section 4, RFC 6891 (the size that an EDNS0 client takes).
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Sequence
from dataclasses import dataclass

A, PTR, AAAA, OPT, ANY = 1, 12, 28, 41, 255
NOERROR, FORMERR, SERVFAIL, NXDOMAIN, NOTIMP, REFUSED = 0, 1, 2, 3, 4, 5
TTL = 600
_HEADER = struct.Struct("!HHHHHH")
_TAIL = struct.Struct("!HH")
_RECORD = struct.Struct("!HHHIH")  # the name is a pointer to the question's
_PLAIN_SIZE = 512


@dataclass(frozen=True, slots=True)
class Query:
    """A question: `name` in lower case without the last dot; `question` are its bytes; `size` what UDP may carry."""

    id: int
    flags: int
    name: str
    type: int
    question: bytes
    size: int = _PLAIN_SIZE


def parse(data: bytes) -> Query:
    """Raises ValueError for anything but a message with one question."""
    if len(data) < 12:
        raise ValueError("a DNS message has a header of 12 bytes")
    identity, flags, questions, _answers, _authority, additional = _HEADER.unpack_from(data)
    if flags & 0x8000 or questions != 1:
        raise ValueError("not a message with one question")
    labels = []
    offset = 12
    while True:
        if offset >= len(data):
            raise ValueError("the name is cut off")
        size = data[offset]
        offset += 1
        if size == 0:
            break
        if size > 63 or offset + size > len(data):
            raise ValueError("a label is longer than the message, or compressed")
        labels.append(data[offset : offset + size])
        offset += size
    if offset + 4 > len(data):
        raise ValueError("the question is cut off")
    kind, _class = _TAIL.unpack_from(data, offset)
    offset += 4
    size = _PLAIN_SIZE
    if additional and offset + 11 <= len(data) and data[offset] == 0:
        option, payload = _TAIL.unpack_from(data, offset + 1)
        if option == OPT:
            size = max(_PLAIN_SIZE, payload)
    name = b".".join(labels).decode("utf-8", "replace").lower()
    return Query(identity, flags, name, kind, data[12:offset], size)


def answer(query: Query, records: Sequence[tuple[int, bytes]], *, code: int = NOERROR, udp: bool = True) -> bytes:
    """The answer with records of (type, data), all for the name asked. What UDP cannot carry is cut and marked."""
    body = b"".join(_RECORD.pack(0xC00C, kind, 1, TTL, len(data)) + data for kind, data in records)
    count, flags = len(records), 0x8080 | (query.flags & 0x7900) | code
    if udp and 12 + len(query.question) + len(body) > query.size:
        body, count, flags = b"", 0, flags | 0x0200
    return _HEADER.pack(query.id, flags, 1, count, 0, 0) + query.question + body


def refusal(data: bytes, code: int) -> bytes:
    """An answer to a message that could not be understood."""
    identity = data[:2] if len(data) >= 2 else b"\0\0"
    return identity + struct.pack("!HHHHH", 0x8080 | code, 0, 0, 0, 0)


def encode_name(name: str) -> bytes:
    """A name as labels. Raises ValueError when a label is empty or too long."""
    out = b""
    for label in name.split("."):
        data = label.encode()
        if not 0 < len(data) < 64:
            raise ValueError(f"{name!r} is not a domain name")
        out += bytes([len(data)]) + data
    return out + b"\0"


def reverse_address(name: str) -> str:
    """The address that a PTR question is about; "" for other names."""
    labels = name.split(".")
    try:
        if name.endswith(".in-addr.arpa") and len(labels) == 6:
            return str(ipaddress.IPv4Address(".".join(reversed(labels[:4]))))
        if name.endswith(".ip6.arpa") and len(labels) == 34:
            digits = "".join(reversed(labels[:32]))
            return str(ipaddress.IPv6Address(bytes.fromhex(digits)))
    except ValueError:
        return ""
    return ""


def is_truncated(data: bytes) -> bool:
    """Whether an answer says that it did not fit."""
    return len(data) >= 4 and bool(data[2] & 0x02)
