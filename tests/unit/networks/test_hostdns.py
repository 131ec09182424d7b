"""resolv.conf of the host and of containers."""

from __future__ import annotations

from buildtool.networks.hostdns import FALLBACK, ResolvConf

TEXT = """# by hand
domain old
nameserver 127.0.0.53
nameserver 10.0.0.3 ; inside
search a.example b.example
options edns0
"""


def test_a_file_is_read_without_its_comments() -> None:
    found = ResolvConf.parse(TEXT + "nonsense\nnameserver\n")
    assert found == ResolvConf(("127.0.0.53", "10.0.0.3"), ("a.example", "b.example"), ("edns0",))


def test_servers_on_the_hosts_loopback_are_left_out() -> None:
    assert ResolvConf.parse(TEXT).reachable(ipv6=False).servers == ("10.0.0.3",)
    assert ResolvConf(("127.0.0.1", "::1")).reachable(ipv6=True).servers == FALLBACK
    assert ResolvConf(("fd00::1", "10.0.0.3")).reachable(ipv6=False).servers == ("10.0.0.3",)


def test_a_containers_own_settings_replace_the_hosts() -> None:
    own = ResolvConf.parse(TEXT).replaced(["1.2.3.4"], ["."], ["rotate"])
    assert own.text() == "nameserver 1.2.3.4\noptions rotate\n"
    assert ResolvConf.parse(TEXT).replaced([], [], []) == ResolvConf.parse(TEXT)


def test_the_embedded_server_takes_single_names() -> None:
    assert ResolvConf.parse(TEXT).embedded().text() == (
        "nameserver 127.0.0.11\nsearch a.example b.example\noptions edns0 ndots:0\n"
    )
    assert ResolvConf((), (), ("ndots:2",)).embedded().options == ("ndots:2",)
