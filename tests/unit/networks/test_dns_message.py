"""DNS messages."""

from __future__ import annotations

import ipaddress
import struct

import dnslib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.networks import dns_message as dns

LABEL = st.text("abcdefghijklmnopqrstuvwxyz0123456789-_", min_size=1, max_size=20)


def question(name: str, kind: int = dns.A, *, identity: int = 7, edns: int = 0) -> bytes:
    asked = dnslib.DNSRecord(dnslib.DNSHeader(id=identity, rd=1), q=dnslib.DNSQuestion(name, kind))
    if edns:
        asked.add_ar(dnslib.EDNS0(udp_len=edns))
    data: bytes = asked.pack()
    return data


@given(st.lists(LABEL, min_size=1, max_size=5), st.integers(0, 65535))
def test_a_question_is_read_as_it_was_asked(labels: list[str], identity: int) -> None:
    """parse inverts encoding, whatever the name."""
    name = ".".join(labels)
    query = dns.parse(question(name, dns.AAAA, identity=identity))
    assert (query.message.header.id, query.name, query.type, query.size) == (identity, name, dns.AAAA, 512)


@given(st.lists(st.ip_addresses(), max_size=12), st.booleans())
def test_an_answer_is_read_as_it_was_given(addresses: list[ipaddress.IPv4Address], udp: bool) -> None:
    """Every address of an answer that was not cut comes back, of both versions, in order."""
    records = [(dns.A if one.version == 4 else dns.AAAA, str(one)) for one in addresses]
    reply = dns.answer(dns.parse(question("web", dns.ANY, edns=1232)), records, udp=udp)
    read = dnslib.DNSRecord.parse(reply)
    assert [ipaddress.ip_address(str(one.rdata)) for one in read.rr] == addresses


@given(
    st.one_of(st.binary(max_size=80), st.binary(max_size=80).map(lambda tail: question("web", edns=512)[:-2] + tail))
)
def test_nonsense_is_refused_or_read_but_never_breaks(data: bytes) -> None:
    """parse either answers or raises ValueError."""
    try:
        dns.parse(data)
    except ValueError:
        assert dns.refusal(data, dns.FORMERR)[3] & 0x0F == dns.FORMERR


def test_an_answer_repeats_the_question_and_points_to_its_name() -> None:
    query = dns.parse(question("web"))
    reply = dns.answer(query, [(dns.A, "10.0.0.2")])
    identity, flags, questions, answers, _, _ = struct.unpack_from("!HHHHHH", reply)
    assert (identity, questions, answers) == (7, 1, 1)
    assert flags & 0x8000 and flags & 0x0100 and flags & 0x000F == 0
    assert reply.endswith(b"\xc0\x0c\0\1\0\1" + struct.pack("!I", dns.TTL) + b"\0\4\x0a\0\0\2")


def test_what_udp_cannot_carry_is_cut_and_marked() -> None:
    records = [(dns.A, f"10.0.0.{n}") for n in range(60)]
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


def test_a_name_that_is_none_is_refused() -> None:
    with pytest.raises(ValueError, match="label"):
        dns.answer(dns.parse(question("2.0.18.172.in-addr.arpa", dns.PTR)), [(dns.PTR, "a" * 64 + ".net")])
