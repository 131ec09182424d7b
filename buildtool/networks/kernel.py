"""Bridges and veth pairs in the kernel. Blocking; everything made here is found again by its name or its alias."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import functools
import hashlib
import os
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TypeVar

from buildtool.errors import BuildtoolError, Conflict, InvalidInput, Unavailable
from buildtool.networks.model import MACVLAN, Endpoint, NetworkRecord, Sandbox
from buildtool.networks.netlink import Link, Netlink, Network, Peer
from buildtool.runtime import syscalls as sc

T = TypeVar("T")
_DEFAULT_ROOT = "/var/lib/buildtool"
_INHIBIT = "bridge.inhibit_ipv4"
MACVLAN_MODES = {"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
_LOCK_NAME = "buildtool-networks.lock"


class Names:
    """How the interfaces and the table of one data root are called, so that daemons do not meet."""

    def __init__(self, root: Path) -> None:
        text = str(root.absolute())
        self.tag = hashlib.sha256(text.encode()).hexdigest()[:6]
        own = text == _DEFAULT_ROOT
        self.table = "buildtool" if own else f"buildtool-{self.tag}"
        self.default_bridge = "buildtool0" if own else f"bt-{self.tag}"
        self.alias = f"buildtool {text}"[:255]
        self._mark = root / "network/made"

    @property
    def maybe_there(self) -> bool:
        """Whether something may have been made and not removed: only then is it worth looking."""
        return self._mark.exists()

    def remember(self, *, there: bool) -> None:
        """Something is about to be made, or everything was removed (blocking)."""
        if there and not self.maybe_there:
            self._mark.parent.mkdir(mode=0o700, exist_ok=True)
            self._mark.touch()
        elif not there:
            self._mark.unlink(missing_ok=True)

    def veth(self) -> str:
        """A new name for the host's end of a pair."""
        return f"bt{self.tag}{os.urandom(3).hex()}"


@contextlib.contextmanager
def exclusive() -> Iterator[None]:
    """No other daemon of this machine chooses a subnet meanwhile."""
    directory = next((path for path in ("/run/lock", "/run") if os.access(path, os.W_OK)), tempfile.gettempdir())
    fd = os.open(f"{directory}/{_LOCK_NAME}", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield
    finally:
        os.close(fd)


def taken_subnets(*, without: str = "") -> list[Network]:
    """The destinations this machine has routes to, but for those of the interface `without`."""
    with Netlink() as netlink:
        own = netlink.index(without) if without else 0
        return [network for network, index in netlink.routes() if not own or index != own]


def has_default_route6() -> bool:
    """Whether this machine reaches the outside over IPv6."""
    try:
        lines = Path("/proc/net/ipv6_route").read_text().splitlines()
    except OSError:
        return False
    fields = (line.split() for line in lines)
    return any(one[0] == "0" * 32 and one[1] == "00" and one[9] != "lo" for one in fields)


def make_base(record: NetworkRecord, names: Names) -> None:
    """What containers of the network are connected to. Raises Conflict, InvalidInput, Unavailable, BuildtoolError."""
    if record.driver == MACVLAN:
        _check_parent(record, names)
    else:
        make_bridge(record, names)


def _check_parent(record: NetworkRecord, names: Names) -> None:
    """A macvlan's parent is there; one of ours (a pair that leads nowhere) is made."""
    with Netlink() as netlink:
        link = netlink.link(record.base)
        try:
            if link is None and record.bridge:
                peer = f"dp-{record.id[:12]}"
                netlink.set_alias(netlink.create_pair(record.bridge, peer), names.alias)
                for name in (record.bridge, peer):
                    write_sysctl(f"net/ipv6/conf/{name}/disable_ipv6", "1")
            elif link is None:
                raise InvalidInput(
                    f"cannot create network {record.name}: the host has no parent interface {record.base}",
                    hint="`ip link` shows the interfaces; a VLAN's has to be made first (ip link add … type vlan)",
                )
            elif record.base == "lo":
                raise InvalidInput("loopback interface is not a valid macvlan parent link")
        except OSError as error:
            netlink.delete_link(record.bridge)
            raise _explained(error, f"cannot make the parent interface of network {record.name}") from error


def make_bridge(record: NetworkRecord, names: Names) -> None:
    """The network's bridge with its gateway addresses, up; one that is there already is taken over.

    Raises Conflict when an interface of that name belongs to somebody else.
    """
    name = record.bridge
    with Netlink() as netlink:
        link = netlink.link(name)
        if link is not None and link.alias != names.alias:
            raise Conflict(
                f"cannot create network {record.name}: the interface {name} exists and is not this daemon's",
                hint="remove it with `ip link delete`, or choose another name with com.docker.network.bridge.name",
            )
        made = link is None
        try:
            index = netlink.create_bridge(name, _bridge_mac(name), record.mtu) if link is None else link.index
            if made:
                netlink.set_alias(index, names.alias)
            _tune(record)
            wanted = _gateways(record)
            for address in wanted:
                netlink.add_address(index, address)
            netlink.set_up(index)
        except OSError as error:
            if made:
                netlink.delete_link(name)
            raise _explained(error, f"cannot make the bridge of network {record.name}") from error
    write_sysctl("net/ipv4/ip_forward", "1")
    if record.subnet(6) is not None:
        _forward_ipv6()


def _forward_ipv6() -> None:
    """A machine that forwards stops listening to its router's advertisements, unless told to go on."""
    switch = Path("/proc/sys/net/ipv6/conf/all/forwarding")
    if switch.exists() and switch.read_text().strip() != "1":
        for path in Path("/proc/sys/net/ipv6/conf").glob("*/accept_ra"):
            if path.read_text().strip() == "1":
                write_sysctl(str(path.relative_to("/proc/sys")), "2")
        write_sysctl("net/ipv6/conf/all/forwarding", "1")


def remove_base(record: NetworkRecord) -> None:
    """Remove the bridge, or what else was made for the network; nothing when there is none."""
    if record.bridge:
        delete_links([record.bridge])


def own_links(names: Names) -> tuple[list[Link], list[Link]]:
    """This data root's bridges (and parents of macvlans) and the pairs' ends, whoever made them."""
    with Netlink() as netlink:
        links = netlink.links()
    bridges = [link for link in links if link.alias == names.alias]
    mark = f"bt{names.tag}"
    return bridges, [link for link in links if link.kind == "veth" and link.name.startswith(mark)]


def delete_links(names: list[str]) -> None:
    """Remove interfaces; those that are gone already do not matter."""
    with Netlink() as netlink:
        for name in filter(None, names):
            netlink.delete_link(name)


def unplug(endpoint: Endpoint, pid: int) -> None:
    """Remove a container's interface; `pid` is a process in its namespace, 0 when there is none any more."""
    if endpoint.bridged:
        delete_links([endpoint.host_interface])
    elif pid:
        with contextlib.suppress(OSError, Conflict):
            in_namespace_of(pid, lambda: delete_links([endpoint.interface]))


def lost_links(bases: dict[str, str]) -> set[str]:
    """Which of these ends of pairs are not there; the others are put into their bridges when they are in none."""
    lost = set()
    with Netlink() as netlink:
        for name, base in bases.items():
            link, master = netlink.link(name), netlink.index(base)
            if link is None or not master:
                lost.add(name)
            elif link.master != master:
                netlink.set_master(link.index, master)
                netlink.wait_for_carrier(link.name)  # a new port drops what comes before it is open
    return lost


def plug(sandbox: Sandbox, endpoints: list[Endpoint], records: dict[str, NetworkRecord], pid: int) -> None:
    """Give the network namespace of `pid` an interface for each endpoint. When it fails, none of them stays."""
    namespace = open_namespace(pid)
    try:
        plug_namespace(sandbox, endpoints, records, namespace)
    finally:
        os.close(namespace)


def plug_namespace(
    sandbox: Sandbox, endpoints: list[Endpoint], records: dict[str, NetworkRecord], namespace: int
) -> None:
    """The same with the descriptor of a network namespace."""
    made: list[Endpoint] = []
    with Netlink() as host, in_namespace(namespace, Netlink) as inside:
        try:
            for endpoint in endpoints:
                _plug_one(host, inside, endpoint, records[endpoint.network_id], sandbox, namespace)
                made.append(endpoint)
        except OSError as error:
            for endpoint in made:
                inside.delete_link(endpoint.interface)
            raise _explained(error, "cannot connect the container to its network") from error


def move_default_route(pid: int, old: Endpoint | None, new: Endpoint | None) -> None:
    """Make another endpoint's gateways the default ones."""
    namespace = open_namespace(pid)
    try:
        with in_namespace(namespace, Netlink) as inside:
            if old is not None and (index := inside.index(old.interface)):
                for gateway in filter(None, (old.gateway, old.gateway6)):
                    inside.delete_default_route(gateway, index)
            if new is not None and (index := inside.index(new.interface)):
                inside.configure(index, [], [one for one in (new.gateway, new.gateway6) if one], [])
    except OSError as error:
        raise _explained(error, "cannot change the container's default route") from error
    finally:
        os.close(namespace)


def open_namespace(pid: int) -> int:
    """A descriptor of the process's network namespace. Raises Conflict when the process is gone."""
    try:
        return os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        raise Conflict("the container's process has ended") from error


def new_namespace(sysctls: Mapping[str, str]) -> int:
    """A descriptor of a network namespace of its own with these kernel parameters. Raises BuildtoolError."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.unshare(sc.CLONE_NEWNET)
        try:
            sc.bring_loopback_up()
            for name, value in sysctls.items():
                write_sysctl(name.replace(".", "/"), value)
            return os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        finally:
            sc.setns(home, sc.CLONE_NEWNET)
    except OSError as error:
        raise _explained(error, "cannot make a network namespace") from error
    finally:
        os.close(home)


def in_namespace_of(pid: int, work: Callable[[], T]) -> T:
    """The same, in the namespace of a process."""
    namespace = open_namespace(pid)
    try:
        return in_namespace(namespace, work)
    finally:
        os.close(namespace)


def in_namespace(namespace: int, work: Callable[[], T]) -> T:
    """Do something with this thread in another network namespace: sockets made there stay there."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        sc.setns(namespace, sc.CLONE_NEWNET)
        try:
            return work()
        finally:
            sc.setns(home, sc.CLONE_NEWNET)
    finally:
        os.close(home)


def write_sysctl(name: str, value: str) -> bool:
    """Set a kernel parameter unless it has the value; whether it has it now."""
    path = Path("/proc/sys", name)
    try:
        if path.read_text().strip() != value:
            path.write_text(value)
    except OSError:
        return False
    return True


def _plug_one(
    host: Netlink, inside: Netlink, endpoint: Endpoint, record: NetworkRecord, sandbox: Sandbox, namespace: int
) -> None:
    base = host.index(record.base)
    if not base:
        raise OSError(errno.ENODEV, f"the interface {record.base} is gone")
    peer = Peer(endpoint.interface, endpoint.mac, namespace)
    if endpoint.bridged:
        host.create_veth(endpoint.host_interface, base, record.mtu, peer)
    else:
        mode = MACVLAN_MODES[record.options.get("macvlan_mode") or "bridge"]
        host.create_child(record.driver, base, mode, record.mtu, peer)
    try:
        if endpoint.bridged and not record.switch("bridge.enable_icc", default=True):
            host.isolate_port(endpoint.host_interface)
        index = inside.index(endpoint.interface)
        if not index:
            raise OSError(errno.ENODEV, f"{endpoint.interface} is gone")
        addresses = []
        if endpoint.address:
            addresses.append(f"{endpoint.address}/{endpoint.prefix}")
        if endpoint.address6:
            in_namespace(namespace, lambda: write_sysctl(f"net/ipv6/conf/{endpoint.interface}/disable_ipv6", "0"))
            addresses.append(f"{endpoint.address6}/{endpoint.prefix6}")
        gateways = []
        if sandbox.gateway_endpoint(4) is endpoint:
            gateways.append(endpoint.gateway)
        if sandbox.gateway_endpoint(6) is endpoint:
            gateways.append(endpoint.gateway6)
        addresses += endpoint.link_local
        inside.configure(index, addresses, gateways, [])
        for name, value in endpoint.sysctls.items():
            if not in_namespace(namespace, functools.partial(write_sysctl, name, value)):
                raise OSError(errno.EINVAL, f"cannot set {name.replace('/', '.')} to {value!r}")
        if endpoint.bridged:
            host.wait_for_carrier(endpoint.host_interface)
    except OSError:
        inside.delete_link(endpoint.interface)
        raise


def _gateways(record: NetworkRecord) -> list[str]:
    found = []
    for version in (4, 6):
        one = record.subnet(version)
        if record.gateway_mode(version) == "isolated" or (version == 4 and record.switch(_INHIBIT, default=False)):
            continue
        if one is not None and one.gateway:
            found.append(f"{one.gateway}/{one.subnet.partition('/')[2]}")
    return found


def _tune(record: NetworkRecord) -> None:
    """Loopback publishing needs route_localnet (the table guards it); no router may configure the bridge.

    Where containers are apart, links may open ports: the host answers for their neighbours and leads what may pass.
    """
    write_sysctl(f"net/ipv4/conf/{record.bridge}/route_localnet", "1")
    if record.default and not record.switch("bridge.enable_icc", default=True):
        write_sysctl(f"net/ipv4/conf/{record.bridge}/proxy_arp_pvlan", "1")
        write_sysctl(f"net/ipv4/neigh/{record.bridge}/proxy_delay", "0")
        write_sysctl(f"net/ipv4/conf/{record.bridge}/send_redirects", "0")
    base = f"net/ipv6/conf/{record.bridge}"
    write_sysctl(f"{base}/accept_ra", "0")
    write_sysctl(f"{base}/disable_ipv6", "0" if record.subnet(6) is not None else "1")


def _bridge_mac(name: str) -> str:
    """Always the same for a bridge, so that its ports do not change it and neighbours need not learn it anew."""
    return "02:42:" + hashlib.sha256(name.encode()).digest()[:4].hex(":")


def _explained(error: OSError, what: str) -> BuildtoolError:
    if error.errno in (errno.EPERM, errno.EACCES):
        return Unavailable(f"{what}: {error.strerror}", hint="bridge networks need root's rights on the machine")
    missing = error.errno == errno.EOPNOTSUPP
    hint = "this kernel lacks the kind of interface: load its module (bridge, veth, macvlan)" if missing else ""
    return BuildtoolError(f"{what}: {error.strerror or error}", hint=hint)
