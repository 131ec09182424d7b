"""The packet filter's table as text: one table a daemon, nobody else's is ever named. Pure.

Published ports are elements of maps, so that a container's ports come and go without touching anything else; the rest
depends on the bridges only and is written whole.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from buildtool.networks.model import PortMapping

PROTOCOLS = ("tcp", "udp", "sctp")
DNS_TABLE = "buildtool-dns"
DNS_ADDRESS = "127.0.0.11"


@dataclass(frozen=True)
class BridgeRules:
    """What the rules must know of one bridge network; "" = it has no subnet of that version."""

    bridge: str
    subnet: str
    subnet6: str = ""
    internal: bool = False
    icc: bool = True
    masquerade: bool = True
    modes: tuple[str, str] = ("nat", "nat")
    """The gateway modes of IPv4 and IPv6."""


@dataclass(frozen=True)
class Target:
    """A published port and the container's address that it leads to, of the same IP version as `host_ip`."""

    port: PortMapping
    address: str


@dataclass(frozen=True, order=True)
class LinkedPort:
    """A port of one container that another one may reach although those of their network are apart. IPv4."""

    source: str
    target: str
    protocol: str
    port: int


def table(
    name: str, bridges: Sequence[BridgeRules], targets: Iterable[Target], linked: Iterable[LinkedPort] = ()
) -> str:
    """One transaction that puts this table in the place of what was there under its name."""
    names = [one.bridge for one in bridges]
    parts = [
        f"table inet {name} {{",
        *(line for protocol in PROTOCOLS for version in (4, 6) for line in _maps(protocol, version)),
        *(f"set open{v} {{ type ipv{v}_addr . inet_proto . inet_service; }}" for v in (4, 6)),
        "set linked { type ipv4_addr . ipv4_addr . inet_proto . inet_service; }",
        _set("bridges", "ifname", [f'"{one}"' for one in names]),
        _set("internal", "ifname", [f'"{one.bridge}"' for one in bridges if one.internal]),
        _set("within", "ifname . ifname", [f'"{one.bridge}" . "{one.bridge}"' for one in bridges if one.icc]),
        _set("apart", "ifname . ifname", [f'"{one.bridge}" . "{one.bridge}"' for one in bridges if not one.icc]),
        _set("hairpin", "ifname . ifname", [f'"{one}" . "{one}"' for one in names]),
        # Loopback publishing lets 127.0.0.0/8 be routed to the bridges: nobody may come from there.
        "chain guard { type filter hook prerouting priority raw;",
        "  ip daddr 127.0.0.0/8 iifname @bridges drop",
        "  ip saddr 127.0.0.0/8 iifname @bridges drop",
        "}",
        "chain publish {",
        *(rule for protocol in PROTOCOLS for version in (4, 6) for rule in _translations(protocol, version)),
        "}",
        "chain prerouting { type nat hook prerouting priority dstnat; fib daddr type local jump publish; }",
        # The kernel routes nothing from ::1 to a bridge: the sockets that hold the ports relay it.
        "chain output { type nat hook output priority -100;",
        "  ip6 daddr ::1 accept",
        "  fib daddr type local jump publish",
        "}",
        "chain postrouting { type nat hook postrouting priority srcnat;",
        "  iifname . oifname @hairpin ct status dnat masquerade",
        "  ip saddr 127.0.0.0/8 oifname @bridges masquerade",
        *(line for one in bridges for line in _masquerade(one)),
        "}",
        "chain forward { type filter hook forward priority filter;",
        "  ct state established,related accept",
        "  iifname != @bridges oifname != @bridges accept",
        "  iifname . oifname @within accept",
        "  iifname @internal drop",
        "  oifname @internal drop",
        "  ct status dnat accept",
        "  iifname . oifname @apart ip saddr . ip daddr . meta l4proto . th dport @linked accept",
        "  iifname . oifname @apart drop",
        *(f"  {ip} daddr . meta l4proto . th dport @open{v} accept" for ip, v in (("ip", 4), ("ip6", 6))),
        *(line for one in bridges for line in _unprotected(one)),
        "  oifname @bridges drop",
        "}",
        "}",
    ]
    members = elements("add", name, targets) + _links(name, linked)
    return f"table inet {name}\ndelete table inet {name}\n" + "\n".join(parts) + "\n" + members


def removal(name: str) -> str:
    """Remove the table, whether it is there or not."""
    return f"table inet {name}\ndelete table inet {name}\n"


def elements(action: str, name: str, targets: Iterable[Target]) -> str:
    """`add` or `delete` published ports."""
    lines = []
    for target in targets:
        port, host = target.port, ipaddress.ip_address(target.port.host_ip)
        if not port.host_port:
            element = f"{target.address} . {port.protocol} . {port.container_port}"
            lines.append(f"{action} element inet {name} open{host.version} {{ {element} }}\n")
            continue
        map_name = f"{port.protocol}{host.version}"
        key = str(port.host_port)
        if host.is_unspecified:
            map_name += "_any"
        else:
            key = f"{host} . {key}"
        lines.append(
            f"{action} element inet {name} {map_name} {{ {key} : {target.address} . {port.container_port} }}\n"
        )
    return "".join(lines)


def links(name: str, linked: Iterable[LinkedPort]) -> str:
    """Put these linked ports in the place of those before."""
    return f"flush set inet {name} linked\n" + _links(name, linked)


def _links(name: str, linked: Iterable[LinkedPort]) -> str:
    members = [f"{one.source} . {one.target} . {one.protocol} . {one.port}" for one in sorted(set(linked))]
    return f"add element inet {name} linked {{ {', '.join(members)} }}\n" if members else ""


def resolver(udp: int, tcp: int, *, fresh: bool) -> str:
    """The table in a container's own namespace that leads port 53 of its resolver's address to the real ports.

    Unless it is a `fresh` namespace there may be one already, which goes: that takes the kernel 20 ms.
    """
    return (
        ("" if fresh else f"table ip {DNS_TABLE}\ndelete table ip {DNS_TABLE}\n")
        + f"table ip {DNS_TABLE} {{\nchain output {{ type nat hook output priority -100;\n"
        f"  ip daddr {DNS_ADDRESS} udp dport 53 dnat to {DNS_ADDRESS}:{udp}\n"
        f"  ip daddr {DNS_ADDRESS} tcp dport 53 dnat to {DNS_ADDRESS}:{tcp}\n"
        "}\n}\n"
    )


def _maps(protocol: str, version: int) -> list[str]:
    kind = f"ipv{version}_addr"
    return [
        f"map {protocol}{version} {{ type {kind} . inet_service : {kind} . inet_service; }}",
        f"map {protocol}{version}_any {{ type inet_service : {kind} . inet_service; }}",
    ]


def _translations(protocol: str, version: int) -> list[str]:
    ip = "ip" if version == 4 else "ip6"
    start = f"meta nfproto ipv{version} meta l4proto {protocol} dnat {ip} to"
    name = f"{protocol}{version}"
    return [
        f"  {start} {ip} daddr . {protocol} dport map @{name}",
        f"  {start} {protocol} dport map @{name}_any",
    ]


def _set(name: str, kind: str, members: list[str]) -> str:
    inner = f" elements = {{ {', '.join(members)} }};" if members else ""
    return f"set {name} {{ type {kind};{inner} }}"


def _masquerade(one: BridgeRules) -> list[str]:
    if one.internal or not one.masquerade:
        return []
    pairs = (("ip", one.subnet, one.modes[0]), ("ip6", one.subnet6, one.modes[1]))
    return [
        f'  {ip} saddr {subnet} oifname != "{one.bridge}" masquerade'
        for ip, subnet, mode in pairs
        if subnet and mode != "routed"
    ]


def _unprotected(one: BridgeRules) -> list[str]:
    """What else comes from outside: everything, or in mode `routed` the messages of ICMP."""
    lines = []
    for version, icmp, mode in ((4, "icmp", one.modes[0]), (6, "ipv6-icmp", one.modes[1])):
        start = f'  oifname "{one.bridge}" meta nfproto ipv{version}'
        if mode == "nat-unprotected":
            lines.append(f"{start} accept")
        elif mode == "routed":
            lines.append(f"{start} meta l4proto {icmp} accept")
    return lines
