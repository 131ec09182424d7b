"""Answering a registry's challenge: nothing, basic, or a token fetched from the service it names.

Source: the token authentication and OAuth2 specifications of the distribution project.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import urlencode

import msgspec
from yarl import URL

from buildtool.errors import BuildtoolError
from buildtool.registry.challenge import Challenge, merge_scopes
from buildtool.registry.credentials import Credentials
from buildtool.registry.errors import RegistryRefused, refusal

_CLIENT_ID = "buildtool"
_RENEW_BEFORE = 10.0
_SHORTEST = 60.0
_TOKEN_LIMIT = 1 << 20


class Fetch(Protocol):
    """One request without authorisation of ours, retried: status and body."""

    def __call__(
        self, method: str, url: URL, headers: dict[str, str], body: bytes | None, limit: int
    ) -> Awaitable[tuple[int, bytes]]: ...


@dataclass
class _Token:
    value: str
    expires: float

    @property
    def fresh(self) -> bool:
        return time.monotonic() < self.expires


class Authorizer:
    """The credentials of one operation against one registry, and the tokens they were exchanged for.

    `refresh_token` is what a token service gave instead of the password (after `login`), "" when it gave none.
    """

    def __init__(self, credentials: Credentials, fetch: Fetch, *, secure: bool) -> None:
        self.credentials = credentials
        self.refresh_token = ""
        self._fetch = fetch
        self._secure = secure
        self._challenge: Challenge | None = None
        self._tokens: dict[tuple[str, ...], _Token] = {}
        self._lock = asyncio.Lock()

    def learn(self, challenges: Sequence[Challenge]) -> bool:
        """Take the challenge that suits the credentials; False when there is none we can answer."""
        by_scheme = {challenge.scheme: challenge for challenge in reversed(challenges)}
        chosen = by_scheme.get("bearer")
        if chosen is None and (self.credentials.username or self.credentials.registry_token):
            chosen = by_scheme.get("basic")
        if chosen is None:
            return False
        self._challenge = chosen
        return True

    async def header(self, scopes: Sequence[str], *, offline: bool = False, renew: bool = False) -> str:
        """The Authorization header for a request that needs these scopes; "" for none.

        `renew`: the registry has just refused what this gave before. Raises what the token service refuses with.
        """
        if self.credentials.registry_token:
            return f"Bearer {self.credentials.registry_token}"
        challenge = self._challenge
        if challenge is None:
            return ""
        if challenge.scheme == "basic":
            return self.credentials.basic()
        asked = challenge.parameters.get("scope", "") if renew else ""
        key = merge_scopes(scopes, asked)
        async with self._lock:
            token = self._tokens.get(key)
            if token is None or not token.fresh or renew:
                token = self._tokens[key] = await self._token(challenge, key, offline=offline)
                self._tokens[merge_scopes(scopes, "")] = token
        return f"Bearer {token.value}"

    async def _token(self, challenge: Challenge, scopes: Sequence[str], *, offline: bool) -> _Token:
        realm = _realm(challenge, secure=self._secure)
        service = challenge.parameters.get("service", "")
        headers: dict[str, str] = {}
        if self.credentials.identity_token:
            form = {"grant_type": "refresh_token", "refresh_token": self.credentials.identity_token}
            fields = [*form.items(), ("service", service), ("client_id", _CLIENT_ID), ("scope", " ".join(scopes))]
            headers["Content-Type"] = "application/x-www-form-urlencoded"
            status, body = await self._fetch("POST", realm, headers, urlencode(fields).encode(), _TOKEN_LIMIT)
        else:
            query = [("service", service)] if service else []
            query += [("scope", one) for one in scopes]
            if self.credentials.username:
                headers["Authorization"] = self.credentials.basic()
                query.append(("account", self.credentials.username))
            if offline:
                query += [("offline_token", "true"), ("client_id", _CLIENT_ID)]
            status, body = await self._fetch("GET", realm.extend_query(query), headers, None, _TOKEN_LIMIT)
        if status != 200:
            raise refusal(status, body, f"token service {realm.host}")
        return self._read(body, realm)

    def _read(self, body: bytes, realm: URL) -> _Token:
        try:
            document: Any = msgspec.json.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError):
            document = None
        value = (document.get("token") or document.get("access_token")) if isinstance(document, dict) else None
        if not isinstance(value, str) or not _is_header_safe(value):
            raise RegistryRefused(f"token service {realm.host}: its answer has no token in it", status=200)
        lasts, refresh = document.get("expires_in"), document.get("refresh_token")
        seconds = max(_SHORTEST, float(lasts)) if isinstance(lasts, (int, float)) else _SHORTEST
        if isinstance(refresh, str):
            self.refresh_token = refresh
        return _Token(value, time.monotonic() + seconds - _RENEW_BEFORE)


def _realm(challenge: Challenge, *, secure: bool) -> URL:
    """Where tokens are to be had. Credentials of a TLS registry are not sent to a service without TLS."""
    text = challenge.parameters.get("realm", "")
    try:
        realm = URL(text)
    except ValueError:
        realm = URL()
    if realm.scheme not in ("http", "https") or not realm.host:
        raise BuildtoolError(f"the registry names no usable token service: {text[:200]!r}")
    if secure and realm.scheme != "https":
        raise BuildtoolError(f"the registry wants credentials to be sent without TLS, to {realm.host}: refused")
    return realm


def _is_header_safe(value: str) -> bool:
    return value.isascii() and value.isprintable() and " " not in value and 0 < len(value) < 64 * 1024
