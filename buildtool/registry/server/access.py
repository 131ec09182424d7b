"""Who a request is from, and what they may do: nobody asks, or passwords, tokens and rules decide."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.htpasswd import Htpasswd
from buildtool.registry.server.rules import RuleSet, everybody_signed_in
from buildtool.registry.server.signing import BadToken, Grant, Signer, looks_like_token

REALM = "buildtool registry"


@dataclass(frozen=True)
class Identity:
    """Who is asking. `name` is "" for anybody; `grants` of a token are all that its bearer may do."""

    name: str = ""
    grants: tuple[Grant, ...] | None = None


ANYBODY = Identity()


class Access(Protocol):
    """A policy."""

    asks: bool
    """Whether it ever asks who somebody is."""

    def identify(self, headers: Mapping[str, str]) -> Identity:
        """Who the request is from. Raises ApiError UNAUTHORIZED for wrong credentials. May block."""

    def admits(self, who: Identity) -> bool:
        """Whether they may do anything at all: what `GET /v2/` answers."""

    def allows(self, who: Identity, action: str, repository: str) -> bool:
        """`action`: pull, push or delete. May block."""

    def challenge(self, origin: str, scope: str = "", *, insufficient: bool = False) -> dict[str, str]:
        """The header that says how to log in. `origin`: scheme and host that the client speaks to."""


class Open:
    """No credentials are asked for or looked at."""

    asks = False

    def identify(self, headers: Mapping[str, str]) -> Identity:
        return ANYBODY

    def admits(self, who: Identity) -> bool:
        return True

    def allows(self, who: Identity, action: str, repository: str) -> bool:
        return True

    def challenge(self, origin: str, scope: str = "", *, insufficient: bool = False) -> dict[str, str]:
        return {}


class Guarded:
    """Users with passwords and bearers of tokens, under rules.

    `exchange`: clients are told to get tokens from the server's own token service; else passwords are asked for, and
    tokens (`registry token`) are taken in their place.
    """

    asks = True

    def __init__(
        self,
        users: Htpasswd | None = None,
        rules: Callable[[], RuleSet] | None = None,
        signer: Signer | None = None,
        *,
        exchange: bool = False,
        external_url: str = "",
    ) -> None:
        self.users = users
        self.rules = rules or everybody_signed_in
        self.signer = signer
        self.exchange = exchange
        self._external_url = external_url.rstrip("/")

    def identify(self, headers: Mapping[str, str]) -> Identity:
        header = headers.get("Authorization", "")
        if not header:
            return ANYBODY
        scheme, _, value = header.partition(" ")
        if scheme.lower() == "bearer":
            return self._bearer(value.strip())
        if scheme.lower() == "basic":
            try:
                name, colon, password = base64.b64decode(value.strip(), validate=True).decode().partition(":")
            except ValueError:
                name = colon = password = ""
            if colon:
                return self.log_in(name, password)
        raise unauthorized()

    def log_in(self, name: str, password: str) -> Identity:
        """By password, or by a token in its place. Raises ApiError UNAUTHORIZED."""
        if self.signer is not None and looks_like_token(password):
            return self._bearer(password)
        if self.users is None or not self.users.matches(name, password):
            raise unauthorized()
        return Identity(name)

    def refreshed(self, token: str) -> Identity:
        """Who a refresh token is for. Raises ApiError UNAUTHORIZED, also when there is no such user any more."""
        try:
            claims = self.signer.verify(token) if self.signer is not None else None
        except BadToken as error:
            raise unauthorized(str(error)) from None
        if claims is None or claims.use != "refresh" or self.users is None or not self.users.knows(claims.user):
            raise unauthorized()
        return Identity(claims.user)

    def _bearer(self, token: str) -> Identity:
        if self.signer is None:
            raise unauthorized()
        try:
            claims = self.signer.verify(token)
        except BadToken as error:
            raise unauthorized(f"the token is not valid: {error}") from None
        if claims.use != "access":
            raise unauthorized("a refresh token is no access token")
        return Identity(claims.user, claims.grants)

    def admits(self, who: Identity) -> bool:
        if who != ANYBODY:
            return True
        return not self.exchange and self.rules().anyone_may_something

    def allows(self, who: Identity, action: str, repository: str) -> bool:
        if who.grants is not None:
            return any(grant.allows(action, repository) for grant in who.grants)
        return self.rules().allows(who.name, action, repository)

    def challenge(self, origin: str, scope: str = "", *, insufficient: bool = False) -> dict[str, str]:
        if not self.exchange or self.signer is None:
            return {"WWW-Authenticate": f'Basic realm="{REALM}", charset="UTF-8"'}
        parts = [f'realm="{self._external_url or origin}/token"', f'service="{self.signer.service}"']
        if scope:
            parts.append(f'scope="{scope}"')
        if insufficient:
            parts.append('error="insufficient_scope"')
        return {"WWW-Authenticate": "Bearer " + ",".join(parts)}


def unauthorized(message: str = "authentication required") -> ApiError:
    """What everybody without the right credentials is told, whatever is there."""
    return ApiError("UNAUTHORIZED", message)
