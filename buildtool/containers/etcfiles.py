"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: files in its directory that are bound into it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from buildtool.containers.model import Record
from buildtool.networks import Endpoint
from buildtool.networks.hostdns import ResolvConf

FILES = ("hostname", "hosts", "resolv.conf")
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def write(record: Record, directory: Path, linked: Sequence[str] = ()) -> None:
    """Write the three files anew for a start; `linked` are lines about the containers it is linked to."""
    _overwrite(directory / "hostname", f"{record.config.hostname}\n")
    _overwrite(directory / "hosts", hosts(record, _read("/etc/hosts"), linked))
    write_resolv_conf(record, directory)


def write_resolv_conf(record: Record, directory: Path) -> None:
    """Write it anew: its networks may be others now."""
    _overwrite(directory / "resolv.conf", resolv_conf(record, ResolvConf.of_host()))


def hosts(record: Record, host_file: str, linked: Sequence[str] = ()) -> str:
    """The host's own file in the host's network, otherwise localhost's names; then the extra hosts and the links."""
    shared = record.host.network_mode == "host"
    text = host_file if shared and host_file else _HOSTS
    if not text.endswith("\n"):
        text += "\n"
    for entry in record.host.extra_hosts or ():
        host, _, address = entry.partition(":")
        address = address.strip("[]")
        if address == "host-gateway":
            address = _host_gateway(record)
        text += f"{address}\t{host}\n"
    text += "".join(linked)
    if record.sandbox is not None:
        return text + "".join(_own_lines(record, endpoint) for endpoint in record.sandbox.endpoints)
    if record.private_hostname and record.config.hostname:
        text += f"127.0.0.1\t{_own_names(record)}\n"
    return text


def add_address(record: Record, directory: Path, endpoint: Endpoint) -> None:
    """It is in one more network. The file is changed, not replaced: it is bound into the container."""
    path = directory / "hosts"
    _overwrite(path, _read(str(path)) + _own_lines(record, endpoint))


def replace_line(directory: Path, name: str, line: str) -> None:
    """A linked container has another address now: change the line whose first name is this."""
    path = directory / "hosts"
    lines = _read(str(path)).splitlines(keepends=True)
    _overwrite(path, "".join(line if one.split()[1:2] == [name] else one for one in lines))


def remove_address(directory: Path, endpoint: Endpoint) -> None:
    """It is in one network less."""
    path = directory / "hosts"
    if path.exists():
        gone = {endpoint.address, endpoint.address6} - {""}
        lines = _read(str(path)).splitlines(keepends=True)
        _overwrite(path, "".join(line for line in lines if line.partition("\t")[0] not in gone))


def resolv_conf(record: Record, host: ResolvConf) -> str:
    """The host's settings with the container's own in their place; its networks' name server where it has one."""
    asked, sandbox = record.host, record.sandbox
    if sandbox is None:
        return host.replaced(asked.dns or (), asked.dns_search or (), asked.dns_options or ()).text()
    servers = sandbox.servers or asked.dns or ()
    own = host.replaced(servers, sandbox.search or asked.dns_search or (), sandbox.options or asked.dns_options or ())
    if any(endpoint.names for endpoint in sandbox.endpoints):
        return own.embedded().text()
    return own.text() if servers else own.reachable(ipv6=any(e.address6 for e in sandbox.endpoints)).text()


def _host_gateway(record: Record) -> str:
    """The host's address as the container sees it."""
    if record.sandbox is not None and record.sandbox.host:
        return record.sandbox.host
    endpoint = record.sandbox.gateway_endpoint() if record.sandbox is not None else None
    return endpoint.gateway if endpoint is not None else "127.0.0.1"


def _own_lines(record: Record, endpoint: Endpoint) -> str:
    addresses = [address for address in (endpoint.address, endpoint.address6) if address]
    return "".join(f"{address}\t{_own_names(record)}\n" for address in addresses)


def _own_names(record: Record) -> str:
    name, domain = record.config.hostname, record.config.domainname
    return f"{name}.{domain} {name}" if domain else name


def _overwrite(path: Path, text: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        os.write(fd, text.encode("utf-8", "surrogateescape"))
    finally:
        os.close(fd)


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
