"""DNS messages."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.networks import dns_message as dns

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)


def question(name: str, kind: int = dns.A, *, identity: int = 7, edns: int = 0) -> bytes:
    tail = b"\0" + struct.pack("!HHIH", dns.OPT, edns, 0, 0) if edns else b""
    header = struct.pack("!HHHHHH", identity, 0x0100, 1, 0, 0, 1 if edns else 0)
    return header + dns.encode_name(name) + struct.pack("!HH", kind, 1) + tail


@given(st.lists(LABEL, min_size=1, max_size=5), st.integers(0, 65535))
def test_a_question_is_read_as_it_was_asked(labels: list[str], identity: int) -> None:
    """parse inverts encoding, whatever the name."""
    query = dns.parse(question(".".join(labels), dns.AAAA, identity=identity))
    assert (query.id, query.name, query.type, query.size) == (identity, ".".join(labels), dns.AAAA, 512)


@given(st.binary(max_size=80))
def test_nonsense_is_refused_or_read_but_never_breaks(data: bytes) -> None:
    """parse either answers or raises ValueError."""
    try:
        dns.parse(data)
    except ValueError:
        assert dns.refusal(data, dns.FORMERR)[3] & 0x0F == dns.FORMERR


def test_an_answer_repeats_the_question_and_points_to_its_name() -> None:
    query = dns.parse(question("web"))
    reply = dns.answer(query, [(dns.A, b"\x0a\0\0\2")])
    identity, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", reply)
    assert (identity, questions, answers) == (7, 1, 1)
    assert flags & 0x8000 and flags & 0x0100 and flags & 0x000F == 0
    assert reply.endswith(b"\xc0\x0c\0\1\0\1" + struct.pack("!I", dns.TTL) + b"\0\4\x0a\0\0\2")


def test_what_udp_cannot_carry_is_cut_and_marked() -> None:
    records = [(dns.A, bytes([10, 0, 0, n])) for n in range(60)]
    cut = dns.answer(dns.parse(question("web")), records)
    assert dns.is_truncated(cut) and len(cut) <= 512
    assert not dns.is_truncated(dns.answer(dns.parse(question("web", edns=1232)), records))
    assert not dns.is_truncated(dns.answer(dns.parse(question("web")), records, udp=False))


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("2.0.18.172.in-addr.arpa", "172.18.0.2"),
        ("2." + "0." * 30 + "f.ip6.arpa", "f000::2"),
        ("x.0.18.172.in-addr.arpa", ""),
        ("web", ""),
    ],
)
def test_reverse_names_become_addresses(name: str, address: str) -> None:
    assert dns.reverse_address(name) == address
