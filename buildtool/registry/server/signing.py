"""Tokens that the server signs itself, and the keys it signs them with.

A token is a JWT (ES256) with the claims of the distribution project's token specification; `access` says for which
repositories (a name or a pattern) and what. Keys lie in a folder that only the server's user reads, a new one is made
every month, old ones verify as long as anything they have signed may live.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildtool.errors import InvalidInput
from buildtool.registry.server.rules import ACTIONS, matches

if TYPE_CHECKING:
    from joserfc.jwk import ECKey

_SKEW = 60.0
_ROTATE = 30 * 86400.0
LONGEST = 366 * 86400.0
_LIMIT = 16 * 1024
SERVICE = "buildtool-registry"


@dataclass(frozen=True)
class Grant:
    """Some actions on the repositories of a pattern."""

    pattern: str
    actions: frozenset[str]

    def allows(self, action: str, repository: str) -> bool:
        return action in self.actions and matches(self.pattern, repository)


class BadToken(Exception):
    """Why a token is not taken."""


@dataclass(frozen=True)
class Claims:
    """What a token says of its bearer. `use`: "access", or "refresh" for one that is exchanged for others."""

    user: str
    grants: tuple[Grant, ...]
    use: str = "access"


class Keys:
    """The signing keys of one folder. Thread-safe."""

    def __init__(self, folder: Path, *, rotate: float = _ROTATE) -> None:
        self._folder = folder
        self._rotate = rotate
        self._lock = threading.Lock()
        self._stamp = 0
        self._keys: dict[str, tuple[float, ECKey]] = {}

    def newest(self) -> tuple[str, ECKey]:
        """The key to sign with, made when there is none or it is old."""
        with self._lock:
            self._read()
            now = time.time()
            current = max(self._keys.items(), key=lambda item: item[1][0], default=None)
            if current is None or current[1][0] < now - self._rotate:
                self._make(now)
                self._read()
                current = max(self._keys.items(), key=lambda item: item[1][0])
            return current[0], current[1][1]

    def find(self, identity: str) -> ECKey | None:
        """The key of this id."""
        with self._lock:
            self._read()
            found = self._keys.get(identity)
            return None if found is None else found[1]

    def _read(self) -> None:
        from joserfc.jwk import ECKey

        try:
            stamp = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            self._keys, self._stamp = {}, 0
            return
        if stamp == self._stamp:
            return
        keys: dict[str, tuple[float, ECKey]] = {}
        for path in self._folder.glob("*.pem"):
            created, _, identity = path.stem.partition("-")
            if not created.isdigit() or not identity:
                continue
            if float(created) < time.time() - self._rotate - LONGEST:
                path.unlink(missing_ok=True)
                continue
            keys[identity] = (float(created), ECKey.import_key(path.read_text()))
        self._keys, self._stamp = keys, stamp

    def _make(self, now: float) -> None:
        from joserfc.jwk import ECKey

        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        key = ECKey.generate_key("P-256", private=True)
        name = f"{int(now)}-{secrets.token_hex(8)}"
        temporary = self._folder / f".{name}"
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as file:
            file.write(key.as_pem(private=True))
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(self._folder / f"{name}.pem")


class Signer:
    """Makes and verifies tokens of one service (their audience)."""

    def __init__(self, keys: Keys, service: str = SERVICE) -> None:
        self.service = service
        self._keys = keys

    def sign(self, user: str, grants: Iterable[Grant], lifetime: float, *, use: str = "access") -> str:
        """A token for so many seconds. Raises InvalidInput for a lifetime of more than a year."""
        if not 0 < lifetime <= LONGEST:
            raise InvalidInput(f"a token may live from 1 second to {LONGEST / 86400:.0f} days")
        from joserfc import jwt

        identity, key = self._keys.newest()
        now = int(time.time())
        claims: dict[str, Any] = {
            "iss": self.service,
            "aud": self.service,
            "sub": user,
            "iat": now,
            "nbf": now,
            "exp": now + int(lifetime),
            "jti": secrets.token_hex(8),
            "use": use,
            "access": [
                {"type": "repository", "name": grant.pattern, "actions": sorted(grant.actions)} for grant in grants
            ],
        }
        return jwt.encode({"alg": "ES256", "kid": identity, "typ": "JWT"}, claims, key)

    def verify(self, token: str) -> Claims:
        """Raises BadToken for anything that this service has not signed, that is over, or that is another's."""
        from joserfc import jws, jwt
        from joserfc.errors import JoseError

        if len(token) > _LIMIT:
            raise BadToken("it is too long")
        try:
            header = jws.extract_compact(token.encode()).headers()
            key = self._keys.find(str(header.get("kid", "")))
            if key is None or header.get("alg") != "ES256":
                raise BadToken("it is signed with a key that is not ours")
            claims = jwt.decode(token, key, algorithms=["ES256"]).claims
        except (JoseError, ValueError, UnicodeError) as error:
            raise BadToken(f"its signature is wrong: {type(error).__name__}") from None
        return self._checked(claims)

    def _checked(self, claims: dict[str, Any]) -> Claims:
        now = time.time()
        if claims.get("iss") != self.service or claims.get("aud") != self.service:
            raise BadToken("it is for another service")
        if not isinstance(claims.get("exp"), (int, float)) or claims["exp"] < now - _SKEW:
            raise BadToken("it has expired")
        if claims.get("nbf", 0) > now + _SKEW:
            raise BadToken("it is not valid yet")
        grants = tuple(
            Grant(str(one["name"]), frozenset(one["actions"]) & ACTIONS)
            for one in claims.get("access", [])
            if one.get("type") == "repository"
        )
        return Claims(str(claims.get("sub", "")), grants, str(claims.get("use", "access")))


def looks_like_token(text: str) -> bool:
    """Whether this may be a token of the form we make, and no password."""
    return text.startswith("eyJ") and text.count(".") == 2


def parse_scope(text: str) -> Grant | None:
    """`repository:NAME:pull,push` as a grant (`*` is every action); None for a scope of another kind."""
    kind, _, rest = text.partition(":")
    name, _, actions = rest.rpartition(":")
    if kind != "repository" or not name:
        return None
    wanted = frozenset(actions.split(","))
    return Grant(name, ACTIONS if "*" in wanted else wanted & ACTIONS)
