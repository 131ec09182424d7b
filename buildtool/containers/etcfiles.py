"""/etc/hosts, /etc/hostname and /etc/resolv.conf of a container: files in its directory that are bound into it."""

from __future__ import annotations

import os
from pathlib import Path

from buildtool.containers.model import Record

FILES = ("hostname", "hosts", "resolv.conf")
_HOSTS = """127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::\tip6-localnet
ff00::\tip6-mcastprefix
ff02::1\tip6-allnodes
ff02::2\tip6-allrouters
"""


def write(record: Record, directory: Path) -> None:
    """Write the three files anew for a start."""
    texts = {
        "hostname": f"{record.config.hostname}\n",
        "hosts": hosts(record, _read("/etc/hosts")),
        "resolv.conf": resolv_conf(record, _read(_resolver_file())),
    }
    for name, text in texts.items():
        fd = os.open(directory / name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
        try:
            os.write(fd, text.encode("utf-8", "surrogateescape"))
        finally:
            os.close(fd)


def hosts(record: Record, host_file: str) -> str:
    """The host's own file in the host's network, otherwise localhost's names; then the extra hosts."""
    shared = record.host.network_mode == "host"
    text = host_file if shared and host_file else _HOSTS
    if not text.endswith("\n"):
        text += "\n"
    name, domain = record.config.hostname, record.config.domainname
    if record.private_hostname and name:
        full = f"{name}.{domain} {name}" if domain else name
        text += f"127.0.0.1\t{full}\n"
    for entry in record.host.extra_hosts or ():
        host, _, address = entry.partition(":")
        address = address.strip("[]")
        if address == "host-gateway":
            address = "127.0.0.1"
        text += f"{address}\t{host}\n"
    return text


def resolv_conf(record: Record, host_file: str) -> str:
    """The host's file, with the container's own servers, search domains and options in place of the host's."""
    own = {
        "nameserver": record.host.dns or [],
        "search": record.host.dns_search or [],
        "options": record.host.dns_options or [],
    }
    if not any(own.values()):
        return host_file
    kept = []
    for line in host_file.splitlines():
        key = line.split(maxsplit=1)[0] if line.strip() else ""
        if (key == "domain" and own["search"]) or own.get(key):
            continue
        kept.append(line)
    kept += [f"nameserver {server}" for server in own["nameserver"]]
    if own["search"] and own["search"] != ["."]:
        kept.append("search " + " ".join(own["search"]))
    if own["options"]:
        kept.append("options " + " ".join(own["options"]))
    return "\n".join(kept) + "\n"


def _resolver_file() -> str:
    """systemd-resolved's real servers when the host's own file only names its stub (as Docker does)."""
    stub = "nameserver 127.0.0.53"
    upstream = "/run/systemd/resolve/resolv.conf"
    return upstream if stub in _read("/etc/resolv.conf") and Path(upstream).exists() else "/etc/resolv.conf"


def _read(path: str) -> str:
    try:
        return Path(path).read_text("utf-8", "surrogateescape")
    except OSError:
        return ""
