"""Credentials as the Engine API carries them (X-Registry-Auth, X-Registry-Config, POST /auth)."""

from __future__ import annotations

import base64
import binascii
from dataclasses import dataclass
from typing import Any

from buildtool.errors import InvalidInput

DOCKER_HUB = "https://index.docker.io/v1/"


@dataclass(frozen=True)
class Credentials:
    """Who is asking. Empty for anonymous; never printed."""

    username: str = ""
    password: str = ""
    identity_token: str = ""
    registry_token: str = ""

    def __repr__(self) -> str:
        return f"Credentials({self.username!r})" if self else "Credentials()"

    def __bool__(self) -> bool:
        return bool(self.username or self.identity_token or self.registry_token)

    def basic(self) -> str:
        """The value of an Authorization header."""
        pair = f"{self.username}:{self.password}".encode()
        return f"Basic {base64.b64encode(pair).decode()}"

    @classmethod
    def from_document(cls, document: Any) -> Credentials:
        """An AuthConfig of the Engine API; None and {} are anonymous. Raises InvalidInput."""
        if document is None:
            return cls()
        if not isinstance(document, dict):
            raise InvalidInput("invalid credentials: not a JSON object")
        values = {str(key).lower(): value for key, value in document.items()}
        names = ("username", "password", "auth", "identitytoken", "registrytoken")
        username, password, auth, identity, registry = (_text(values, name) for name in names)
        if auth and not username:
            username, password = _decode(auth)
        if username == "<token>":  # what credential helpers call an identity token
            username, identity = "", identity or password
        return cls(username, password, identity, registry)


def _text(values: dict[str, Any], name: str) -> str:
    value = values.get(name) or ""
    if not isinstance(value, str):
        raise InvalidInput(f"invalid credentials: {name} is not a string")
    return value


def _decode(auth: str) -> tuple[str, str]:
    try:
        username, colon, password = base64.b64decode(auth, validate=True).decode().partition(":")
    except (binascii.Error, UnicodeDecodeError):
        raise InvalidInput("invalid credentials: auth is not base64 of user:password") from None
    if not colon:
        raise InvalidInput("invalid credentials: auth is not base64 of user:password")
    return username, password.rstrip("\0")


def find_credentials(document: Any, domain: str) -> Credentials:
    """Those for a registry in an X-Registry-Config document (server address to AuthConfig)."""
    if not isinstance(document, dict):
        return Credentials()
    for address, value in document.items():
        if server_domain(str(address)) == domain:
            return Credentials.from_document(value)
    return Credentials()


def server_domain(address: str) -> str:
    """The registry that a server address means: `https://index.docker.io/v1/` and "" are docker.io."""
    domain = address.removeprefix("https://").removeprefix("http://").partition("/")[0]
    if domain in ("", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com"):
        return "docker.io"
    return domain
