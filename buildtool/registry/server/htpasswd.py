"""Users of an htpasswd file (bcrypt only), read anew when it changes."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildtool.errors import InvalidInput, Unavailable

_REMEMBER = 300.0
_MAX_REMEMBERED = 10_000
_BCRYPT = ("$2a$", "$2b$", "$2y$")
_NOBODY = b"$2b$10$CwTycUXWue0Thq9StjUM0uJ8Zt1nS9aHZYQSjZcvHsjVZEyVDUvSK"


@dataclass
class _Checked:
    proof: bytes
    until: float


class Htpasswd:
    """Names and passwords."""

    def __init__(self, path: Path) -> None:
        """Raises InvalidInput for a file that holds anything but bcrypt hashes, Unavailable without the library."""
        self._bcrypt = _library()
        self._path = path
        self._stamp: tuple[int, int] = (0, 0)
        self._users: dict[str, bytes] = {}
        self._key = secrets.token_bytes(32)
        self._checked: dict[str, _Checked] = {}
        self._read()

    def knows(self, name: str) -> bool:
        """Whether there is such a user now."""
        self._read()
        return name in self._users

    def matches(self, name: str, password: str) -> bool:
        """Whether the password is right. bcrypt is slow on purpose: what was right stays so for five minutes."""
        self._read()
        known = self._users.get(name)
        proof = hmac.new(self._key, password.encode() + (known or b""), hashlib.sha256).digest()
        checked = self._checked.get(name)
        if known and checked and checked.until > time.monotonic() and hmac.compare_digest(checked.proof, proof):
            return True
        if "\0" in password:
            return False
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


def _library() -> Any:
    try:
        import bcrypt
    except ImportError:
        raise Unavailable(
            "--htpasswd needs the library bcrypt, which is not installed", hint="pip install bcrypt"
        ) from None
    return bcrypt
