"""DNS messages (dnslib's), as far as a resolver for container names needs them. Pure.

Source: RFC 1035 section 4, RFC 6891 (the size that an EDNS0 client takes).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from dnslib import AAAA as AAAAData
from dnslib import PTR as PTRData
from dnslib import QTYPE, RCODE, RR, DNSHeader, DNSRecord
from dnslib import A as AData
from dnslib.dns import DNSError

A, PTR, AAAA, OPT, ANY = QTYPE.A, QTYPE.PTR, QTYPE.AAAA, QTYPE.OPT, QTYPE.ANY
NOERROR, FORMERR, SERVFAIL = RCODE.NOERROR, RCODE.FORMERR, RCODE.SERVFAIL
NXDOMAIN, NOTIMP, REFUSED = RCODE.NXDOMAIN, RCODE.NOTIMP, RCODE.REFUSED
TTL = 600
_DATA = {A: AData, AAAA: AAAAData, PTR: PTRData}
_PLAIN_SIZE = 512


@dataclass(frozen=True, slots=True)
class Query:
    """A question: `name` in lower case without the last dot; `size` what UDP may carry."""

    message: DNSRecord
    name: str
    type: int
    opcode: int
    size: int


def parse(data: bytes) -> Query:
    """Raises ValueError for anything but a message with one question."""
    try:
        message = DNSRecord.parse(data)
    except (DNSError, ValueError, LookupError, TypeError) as error:
        raise ValueError(f"not a DNS message: {error}") from error
    if message.header.qr or len(message.questions) != 1:
        raise ValueError("not a message with one question")
    name = b".".join(message.q.qname.label).decode("utf-8", "replace").lower()
    size = max([_PLAIN_SIZE, *(record.edns_len for record in message.ar if record.rtype == OPT)])
    return Query(message, name, message.q.qtype, message.header.opcode, size)


def answer(query: Query, records: Sequence[tuple[int, str]], *, code: int = NOERROR, udp: bool = True) -> bytes:
    """The answer with records of (type, address or name), all for the name asked.

    What UDP cannot carry is cut and marked. Raises ValueError for a name that is none.
    """
    reply = query.message.reply(aa=0)
    reply.header.rcode = code
    for kind, text in records:
        reply.add_answer(RR(query.message.q.qname, kind, rdata=_DATA[kind](text), ttl=TTL))
    try:
        data: bytes = reply.pack()
        if udp and len(data) > query.size:
            reply.rr, reply.header.tc = [], 1
            data = reply.pack()
    except DNSError as error:
        raise ValueError(str(error)) from error
    return data


def refusal(data: bytes, code: int) -> bytes:
    """An answer to a message that could not be understood."""
    packed: bytes = DNSRecord(DNSHeader(id=int.from_bytes(data[:2]), qr=1, aa=0, rd=0, ra=1, rcode=code)).pack()
    return packed


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
