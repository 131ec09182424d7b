"""What the administrator says about registries: which may be spoken to without TLS, mirrors, own CAs.

`daemon.json` in the configuration folder has Docker's keys `insecure-registries` and `registry-mirrors`; `certs.d`
beside it (and Docker's own) has a folder a registry. The folder is BUILDTOOL_CONFIG_DIR, else /etc/buildtool, or
~/.config/buildtool for a plain user.
"""

from __future__ import annotations

import ipaddress
import ssl
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from buildtool import places
from buildtool.errors import InvalidInput

_LOOPBACK = ("127.0.0.0/8", "::1/128", "localhost")


@dataclass(frozen=True)
class RegistryConfig:
    """`insecure`: hosts, `host:port`s and networks in CIDR form. `mirrors`: base URLs, asked before Docker Hub."""

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certs_dirs: tuple[Path, ...] = ()

    @classmethod
    def load(cls) -> RegistryConfig:
        """Read the files. Raises InvalidInput naming the file that is malformed."""
        folder = config_folder()
        document = _read(folder / "daemon.json")
        certs = [folder / "certs.d", Path("/etc/docker/certs.d")]
        return cls(
            insecure=_strings(document, "insecure-registries", folder),
            mirrors=tuple(url.rstrip("/") for url in _strings(document, "registry-mirrors", folder)),
            certs_dirs=tuple(certs),
        )

    def is_insecure(self, domain: str) -> bool:
        """Whether the registry may be spoken to without a verified certificate: loopback ones, and those named."""
        host = host_of(domain)
        return any(_covers(entry, domain, host) for entry in (*_LOOPBACK, *self.insecure))

    def tls(self, domain: str) -> ssl.SSLContext:
        """The context for this registry: system CAs and its own, a client certificate when its folder has one.

        Raises InvalidInput for files that are no certificates or keys.
        """
        return _context(domain, self.certs_dirs)


def config_folder() -> Path:
    """Where the configuration is."""
    return Path(places.config_folder())


def host_of(domain: str) -> str:
    """The host of `host[:port]` without brackets."""
    if domain.startswith("["):
        return domain[1:].partition("]")[0]
    return domain.partition(":")[0]


def is_loopback(host: str) -> bool:
    """Whether the host is this machine, by its name or address."""
    return any(_covers(entry, host, host) for entry in _LOOPBACK)


def _covers(entry: str, domain: str, host: str) -> bool:
    if entry in (domain, host, "*"):
        return True
    if "/" not in entry:
        return False
    try:
        return ipaddress.ip_address(host) in ipaddress.ip_network(entry, strict=False)
    except ValueError:
        return False


@lru_cache(maxsize=64)
def _context(domain: str, folders: tuple[Path, ...]) -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    for folder in (folder / domain for folder in folders):
        if not folder.is_dir():
            continue
        for path in sorted(folder.iterdir()):
            try:
                if path.suffix == ".crt":
                    context.load_verify_locations(cafile=path)
                elif path.suffix == ".cert":
                    context.load_cert_chain(path, path.with_suffix(".key"))
            except (OSError, ssl.SSLError) as error:
                raise InvalidInput(f"{path} cannot be used for {domain}: {error}") from None
    return context


@lru_cache(maxsize=1)
def unverified() -> ssl.SSLContext:
    """TLS that trusts anybody, for registries that are configured as insecure."""
    context = ssl.create_default_context()
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def _read(path: Path) -> dict[str, Any]:
    try:
        document = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return {}
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not a JSON document: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: not a JSON object")
    return document


def _strings(document: dict[str, Any], key: str, folder: Path) -> tuple[str, ...]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidInput(f"{folder / 'daemon.json'}: {key} is not a list of strings")
    return tuple(found)
