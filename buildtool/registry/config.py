"""What the administrator says about registries: which may be spoken to without TLS, mirrors, own CAs.

`daemon.json` in the configuration folder has Docker's keys `insecure-registries` and `registry-mirrors`; `certs.d`
beside it (and Docker's own) has a folder a registry. The folder is BUILDTOOL_CONFIG_DIR, else /etc/buildtool, or
~/.config/buildtool for a plain user.
"""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import msgspec

from buildtool import places
from buildtool.errors import InvalidInput

_LOOPBACK = ("127.0.0.0/8", "::1/128", "localhost")


@dataclass(frozen=True)
class RegistryConfig:
    """`insecure`: hosts, `host:port`s and networks in CIDR form. `mirrors`: base URLs, asked before Docker Hub.

    `mirrors_for`: by registry, what is asked before it, as `HOST[:PORT][/PREFIX]`.
    """

    insecure: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    certs_dirs: tuple[Path, ...] = ()
    mirrors_for: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
            mirrors_for=_mirrors_for(document, folder),
        )

    def mirrors_of(self, domain: str) -> tuple[str, ...]:
        """What is asked before this registry, in order."""
        return (*self.mirrors_for.get(domain, ()), *(self.mirrors if domain == "docker.io" else ()))

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


def _mirrors_for(document: dict[str, Any], folder: Path) -> dict[str, tuple[str, ...]]:
    found = document.get("mirrors", {})
    if not isinstance(found, dict):
        raise InvalidInput(f"{folder / 'daemon.json'}: mirrors is not an object of registries and lists of mirrors")
    mirrors = {domain: _strings(found, domain, folder) for domain in found}
    for one in (one for group in mirrors.values() for one in group):
        if "://" in one or not one.partition("/")[0]:
            raise InvalidInput(f"{folder / 'daemon.json'}: mirrors: {one!r} is not HOST[:PORT][/PREFIX]")
    return {domain: tuple(one.rstrip("/") for one in group) for domain, group in mirrors.items()}


def _strings(document: dict[str, Any], key: str, folder: Path) -> tuple[str, ...]:
    found = document.get(key, [])
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise InvalidInput(f"{folder / 'daemon.json'}: {key} is not a list of strings")
    return tuple(found)
