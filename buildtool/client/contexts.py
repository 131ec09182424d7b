"""Docker's contexts: named addresses of daemons, as ~/.docker/contexts holds them.

`contexts/meta/<sha256 of the name>/meta.json` is the document, `contexts/tls/<the same>/docker` has its certificates.
Source: docker CLI, "docker context".
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
from typing import Any

from buildtool.client.address import Address, Tls, parse_host
from buildtool.errors import InvalidInput, NotFound

DEFAULT = "default"
_NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.+-]+")
_FILES = ("ca.pem", "cert.pem", "key.pem")


def _folder(kind: str, name: str) -> str:
    base = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return os.path.join(base, "contexts", kind, hashlib.sha256(name.encode()).hexdigest() if name else "")


def names() -> list[str]:
    """The contexts there are, without the default one."""
    found = []
    try:
        entries = os.listdir(_folder("meta", ""))
    except OSError:
        return []
    for entry in entries:
        try:
            with open(os.path.join(_folder("meta", ""), entry, "meta.json"), encoding="utf-8") as file:
                found.append(str(json.load(file)["Name"]))
        except (OSError, ValueError, KeyError, TypeError):  # not a context, or half written
            continue
    return sorted(found)


def load(name: str) -> dict[str, Any]:
    """A context's document. Raises NotFound, InvalidInput."""
    path = os.path.join(_folder("meta", name), "meta.json")
    try:
        with open(path, encoding="utf-8") as file:
            document = json.load(file)
    except FileNotFoundError:
        raise NotFound(
            f'context "{name}": context not found', hint="See what there is: buildtool context ls"
        ) from None
    except ValueError as error:
        raise InvalidInput(f"{path}: not a JSON document: {error}") from None
    endpoint = document.get("Endpoints", {}).get("docker") if isinstance(document, dict) else None
    if not isinstance(endpoint, dict) or not isinstance(endpoint.get("Host"), str):
        raise InvalidInput(f"{path}: the context has no docker endpoint")
    found: dict[str, Any] = document
    return found


def address_of(name: str) -> Address:
    """The daemon that a context names. Raises NotFound, InvalidInput."""
    endpoint = load(name)["Endpoints"]["docker"]
    address = parse_host(endpoint["Host"], foreign=True, source=f"context {name}")
    ca, certificate, key = tls_files(name)
    skip = bool(endpoint.get("SkipTLSVerify"))
    if address.port and (ca or certificate or skip):
        address.tls = Tls(ca, certificate, key, not skip)
    return address


def tls_files(name: str) -> tuple[str, str, str]:
    """A context's own authority, certificate and key, "" for those that are not there."""
    ca, certificate, key = (os.path.join(_folder("tls", name), "docker", file) for file in _FILES)
    return _present(ca), _present(certificate), _present(key)


def _present(path: str) -> str:
    return path if os.path.exists(path) else ""


def create(name: str, description: str, endpoint: dict[str, Any], certificates: dict[str, str]) -> None:
    """Store a context; `certificates` are files to copy, by `ca`, `cert` and `key`. Raises InvalidInput."""
    check_name(name)
    if os.path.exists(_folder("meta", name)):
        raise InvalidInput(f'context "{name}" already exists')
    save(name, description, endpoint, certificates)


def save(name: str, description: str, endpoint: dict[str, Any], certificates: dict[str, str]) -> None:
    """Store a context, replacing the one there is."""
    document = {
        "Name": name,
        "Metadata": {"Description": description} if description else {},
        "Endpoints": {"docker": endpoint},
    }
    texts = {}
    for kind, path in certificates.items():
        with open(path, "rb") as file:
            texts[kind] = file.read()
    folder = _folder("meta", name)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    for kind, data in texts.items():
        place = os.path.join(_folder("tls", name), "docker")
        os.makedirs(place, mode=0o700, exist_ok=True)
        with open(os.open(f"{place}/{kind}.pem", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(data)
    temporary = f"{folder}/meta.json.{os.getpid()}"
    with open(temporary, "w", encoding="utf-8") as file:
        json.dump(document, file)
    os.rename(temporary, f"{folder}/meta.json")


def remove(name: str) -> None:
    """Remove a context. Raises NotFound."""
    load(name)
    shutil.rmtree(_folder("meta", name))
    shutil.rmtree(_folder("tls", name), ignore_errors=True)


def check_name(name: str) -> None:
    """Raises InvalidInput for what cannot be a context's name."""
    if name == DEFAULT:
        raise InvalidInput('"default" is a reserved context name')
    if not _NAME.fullmatch(name):
        raise InvalidInput(
            f'context name "{name}" is invalid, names are validated against regexp "^{_NAME.pattern}$"'
        )
