"""Who may do what: everybody everything, or those in an htpasswd file (bcrypt), with or without anonymous pulls."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from buildtool.errors import InvalidInput, Unavailable
from buildtool.registry.server.errors import ApiError

_REMEMBER = 300.0
_MAX_REMEMBERED = 10_000
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_NOBODY = b"$2b$10$CwTycUXWue0Thq9StjUM0uJ8Zt1nS9aHZYQSjZcvHsjVZEyVDUvSK"
CHALLENGE = {"WWW-Authenticate": 'Basic realm="buildtool registry", charset="UTF-8"'}


class Access(Protocol):
    """A policy. `user` is "" for anonymous."""

    def user(self, headers: Mapping[str, str]) -> str:
        """Who the request is from. Raises ApiError UNAUTHORIZED for wrong credentials. May block."""

    def check(self, user: str, *, write: bool) -> None:
        """Raises ApiError UNAUTHORIZED when an anonymous user has to say who they are."""


class Open:
    """No credentials are asked for or looked at."""

    def user(self, headers: Mapping[str, str]) -> str:
        return ""

    def check(self, user: str, *, write: bool) -> None:
        return None


@dataclass
class _Checked:
    proof: bytes
    until: float


class Htpasswd:
    """Users of an htpasswd file, read anew when it changes. All of them may do everything."""

    def __init__(self, path: Path, *, anonymous_pull: bool = False) -> None:
        """Raises InvalidInput for a file that holds anything but bcrypt hashes, Unavailable without the library."""
        self._bcrypt = _library()
        self._path = path
        self._anonymous_pull = anonymous_pull
        self._stamp: tuple[int, int] = (0, 0)
        self._users: dict[str, bytes] = {}
        self._key = secrets.token_bytes(32)
        self._checked: dict[str, _Checked] = {}
        self._read()

    def user(self, headers: Mapping[str, str]) -> str:
        header = headers.get("Authorization", "")
        if not header:
            return ""
        scheme, _, encoded = header.partition(" ")
        try:
            pair = base64.b64decode(encoded.strip(), validate=True).decode() if scheme.lower() == "basic" else ""
        except (binascii.Error, UnicodeDecodeError):
            pair = ""
        name, colon, password = pair.partition(":")
        if not colon or not self._matches(name, password):
            raise unauthorized()
        return name

    def check(self, user: str, *, write: bool) -> None:
        if not user and (write or not self._anonymous_pull):
            raise unauthorized()

    def _matches(self, name: str, password: str) -> bool:
        """Whether the password is right. bcrypt is slow on purpose: what was right stays so for five minutes."""
        self._read()
        known = self._users.get(name)
        proof = hmac.new(self._key, password.encode() + (known or b""), hashlib.sha256).digest()
        checked = self._checked.get(name)
        if known and checked and checked.until > time.monotonic() and hmac.compare_digest(checked.proof, proof):
            return True
        right = bool(self._bcrypt.checkpw(password.encode()[:72], known or _NOBODY)) and known is not None
        if right:
            if len(self._checked) >= _MAX_REMEMBERED:
                self._checked.clear()
            self._checked[name] = _Checked(proof, time.monotonic() + _REMEMBER)
        return right

    def _read(self) -> None:
        status = self._path.stat()
        stamp = (status.st_mtime_ns, status.st_size)
        if stamp == self._stamp:
            return
        users: dict[str, bytes] = {}
        for number, line in enumerate(self._path.read_text().splitlines(), 1):
            if not line.strip() or line.startswith("#"):
                continue
            name, colon, hashed = line.strip().partition(":")
            if not colon or not hashed.startswith(_BCRYPT):
                raise InvalidInput(
                    f"{self._path}:{number}: the password of {name!r} is not hashed with bcrypt",
                    hint="make the file with: htpasswd -B -c FILE USER",
                )
            users[name] = hashed.encode()
        self._users, self._stamp = users, stamp


def unauthorized() -> ApiError:
    """What everybody without the right credentials is told, whatever is there."""
    return ApiError("UNAUTHORIZED", "authentication required", headers=dict(CHALLENGE))


def _library() -> Any:
    try:
        import bcrypt
    except ImportError:
        raise Unavailable(
            "--htpasswd needs the library bcrypt, which is not installed", hint="pip install bcrypt"
        ) from None
    return bcrypt
