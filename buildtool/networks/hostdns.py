"""The host's resolver configuration, and what containers get of it. Pure but for reading the file."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from buildtool.networks.rules import DNS_ADDRESS

FALLBACK = ("8.8.8.8", "8.8.4.4")
"""What Docker gives containers when the host's own servers are on its loopback addresses only."""
_STUB = "nameserver 127.0.0.53"
_UPSTREAM = Path("/run/systemd/resolve/resolv.conf")


@dataclass(frozen=True)
class ResolvConf:
    """The three things in a resolv.conf that matter here."""

    servers: tuple[str, ...] = ()
    search: tuple[str, ...] = ()
    options: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> ResolvConf:
        """Malformed lines do not count; the last `search` or `domain` does."""
        servers: list[str] = []
        search: tuple[str, ...] = ()
        options: list[str] = []
        for line in text.splitlines():
            key, *values = line.split("#")[0].split(";")[0].split() or [""]
            if key == "nameserver" and values:
                servers.append(values[0])
            elif key in ("search", "domain") and values:
                search = tuple(values)
            elif key == "options":
                options += values
        return cls(tuple(servers), search, tuple(options))

    @classmethod
    def of_host(cls) -> ResolvConf:
        """The host's; systemd-resolved's real servers where the file only names its stub, as Docker does."""
        text = _read(Path("/etc/resolv.conf"))
        if _STUB in text and _UPSTREAM.exists():
            text = _read(_UPSTREAM)
        return cls.parse(text)

    def replaced(self, servers: Sequence[str], search: Sequence[str], options: Sequence[str]) -> ResolvConf:
        """With a container's own settings in the place of the host's; search domain `.` means none."""
        own_search = () if list(search) == ["."] else tuple(search)
        return ResolvConf(
            tuple(servers) or self.servers, own_search if search else self.search, tuple(options) or self.options
        )

    def reachable(self, *, ipv6: bool) -> ResolvConf:
        """Without servers that only the host itself reaches; the fallback when none is left."""
        kept = tuple(server for server in self.servers if _reachable(server, ipv6=ipv6))
        return ResolvConf(kept or FALLBACK, self.search, self.options)

    def embedded(self) -> ResolvConf:
        """What a container with a name server of its own gets: that server, which knows single names."""
        own = [option for option in self.options if not option.startswith("ndots:")]
        given = [option for option in self.options if option.startswith("ndots:")]
        return ResolvConf((DNS_ADDRESS,), self.search, (*own, *(given or ["ndots:0"])))

    def text(self) -> str:
        """The file."""
        lines = [f"nameserver {server}" for server in self.servers]
        if self.search:
            lines.append("search " + " ".join(self.search))
        if self.options:
            lines.append("options " + " ".join(self.options))
        return "".join(line + "\n" for line in lines)


def _reachable(server: str, *, ipv6: bool) -> bool:
    try:
        address = ipaddress.ip_address(server.partition("%")[0])
    except ValueError:
        return False
    return not address.is_loopback and (ipv6 or address.version == 4)


def _read(path: Path) -> str:
    try:
        return path.read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
