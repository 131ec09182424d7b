"""HTTP to registries: connections, redirects, authorisation, retries.

One `Transport` a process holds the connection pool and remembers how each registry is reached; one `Connection` an
operation holds its credentials.
"""

from __future__ import annotations

import asyncio
import logging
import os
import ssl
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import TypeAlias
from urllib import request as environment

import aiohttp
from aiohttp.payload import Payload
from yarl import URL

from buildtool.registry.challenge import Challenge, parse_challenges
from buildtool.registry.config import RegistryConfig, is_loopback, unverified
from buildtool.registry.credentials import Credentials
from buildtool.registry.errors import RegistryUnreachable, Unauthorized, refusal
from buildtool.registry.notices import notices
from buildtool.registry.retry import TRANSIENT, RetryPolicy
from buildtool.registry.tokens import Authorizer

log = logging.getLogger(__name__)

BROKEN = (aiohttp.ClientError, OSError, asyncio.TimeoutError)
Body: TypeAlias = bytes | Callable[[], Payload]
"""Bytes, or a function that gives the body from its start each time it is called."""

_TIMEOUT = aiohttp.ClientTimeout(total=None, connect=None, sock_connect=20.0, sock_read=120.0)
_PING_TIMEOUT = aiohttp.ClientTimeout(total=30.0, sock_connect=10.0)
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_MAX_REDIRECTS = 8
_ERROR_LIMIT = 64 * 1024
_READ_BUFFER = 1 << 20
_HOSTS = {"docker.io": "registry-1.docker.io"}


@dataclass(frozen=True)
class Reached:
    """How a registry is spoken to, and what it asked for at first."""

    base: URL
    tls: ssl.SSLContext | None
    challenges: tuple[Challenge, ...]


class Transport:
    """The connection pool. Everything happens on the event loop it was first used on; `close` it there."""

    def __init__(self, config: RegistryConfig | None = None, retry: RetryPolicy | None = None) -> None:
        self.config = config or RegistryConfig.load()
        self.retry = retry or RetryPolicy()
        self._session: aiohttp.ClientSession | None = None
        self._reached: dict[str, Reached] = {}
        self._locks: dict[str, asyncio.Lock] = {}

    def session(self) -> aiohttp.ClientSession:
        """The session, opened at the first call."""
        if self._session is None:
            from buildtool import __version__

            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=0, limit_per_host=32, keepalive_timeout=30.0),
                timeout=_TIMEOUT,
                auto_decompress=False,
                cookie_jar=aiohttp.DummyCookieJar(),
                headers={"User-Agent": f"buildtool/{__version__}", "Accept-Encoding": "identity"},
                read_bufsize=_READ_BUFFER,
                skip_auto_headers=("Content-Type",),
            )
        return self._session

    async def close(self) -> None:
        """Close all connections."""
        if self._session is not None:
            await self._session.close()
            self._session = None

    async def connect(
        self, domain: str, credentials: Credentials | None = None, *, insecure: bool = False
    ) -> Connection:
        """A connection to the registry; `insecure`: as to one that the configuration names so.

        Raises RegistryUnreachable, InvalidInput (certificates).
        """
        reached = await self._find(domain, insecure=True) if insecure else await self._reach(domain)
        return Connection(self, domain, reached, credentials or Credentials())

    async def connect_mirror(self, base: str) -> Connection:
        """An anonymous connection to a mirror of Docker Hub."""
        url = URL(base if "://" in base else f"https://{base}")
        domain = url.authority
        tls = None if url.scheme == "http" else self.config.tls(domain)
        challenges = await self._ping(url, tls)
        return Connection(self, domain, Reached(url, tls, challenges), Credentials())

    @asynccontextmanager
    async def get(self, url: URL, headers: dict[str, str], what: str) -> AsyncIterator[aiohttp.ClientResponse]:
        """One GET of an address that is no registry's API. Raises RegistryUnreachable, RegistryRefused."""
        try:
            async with self.session().get(
                url, headers=headers, proxy=_proxy(url), allow_redirects=False, timeout=_PING_TIMEOUT
            ) as answer:
                if answer.status != 200:
                    raise refusal(answer.status, await _read_limited(answer, _ERROR_LIMIT), what)
                yield answer
        except BROKEN as error:
            raise RegistryUnreachable(f"{what}: {_reason(error)}") from error

    def forget(self, domain: str) -> None:
        """Find out anew how the registry is reached, the next time."""
        self._reached.pop(domain, None)

    async def _reach(self, domain: str) -> Reached:
        async with self._locks.setdefault(domain, asyncio.Lock()):
            known = self._reached.get(domain)
            if known is None:
                known = self._reached[domain] = await self._find(domain)
            return known

    async def _find(self, domain: str, *, insecure: bool = False) -> Reached:
        host = _HOSTS.get(domain, domain)
        secure = URL(f"https://{host}"), self.config.tls(domain)
        if not (insecure or self.config.is_insecure(domain)):
            candidates: list[tuple[URL, ssl.SSLContext | None]] = [secure]
        else:
            candidates = [secure, (secure[0], unverified()), (URL(f"http://{host}"), None)]
        problem: BaseException | None = None
        for base, tls in candidates:
            try:
                return Reached(base, tls, await self._ping(base, tls))
            except BROKEN as error:
                log.debug("%s does not answer: %r", base, error)
                problem = error
                if base.explicit_port is not None and _is_nobody(error):
                    break
        raise RegistryUnreachable(
            f"cannot reach the registry {domain}: {_reason(problem)}", hint=_hint(domain, problem)
        ) from problem

    async def _ping(self, base: URL, tls: ssl.SSLContext | None) -> tuple[Challenge, ...]:
        url = base / "v2/"
        async with self.session().get(
            url, ssl=True if tls is None else tls, proxy=_proxy(url), allow_redirects=False, timeout=_PING_TIMEOUT
        ) as answer:
            if base.scheme == "https" or answer.status in (200, 401):
                return tuple(parse_challenges(answer.headers.getall("WWW-Authenticate", ())))
            raise aiohttp.ClientError(f"{url} answers with status {answer.status}: this is no registry")


class Connection:
    """Requests to one registry with one set of credentials. What it warns of goes to `on_notice`, once each."""

    def __init__(self, transport: Transport, domain: str, reached: Reached, credentials: Credentials) -> None:
        self.domain = domain
        self.retry = transport.retry
        self.on_notice: Callable[[str], None] = lambda text: log.warning("registry %s: %s", domain, text)
        self._noticed: set[str] = set()
        self._transport = transport
        self._reached = reached
        self._origin = reached.base.origin()
        self.authorizer = Authorizer(credentials, self._fetch, secure=reached.base.scheme == "https")
        self.authorizer.learn(reached.challenges)

    def url(self, path: str) -> URL:
        """The URL of an API path below /v2/ (already percent-encoded)."""
        base = str(self._reached.base).rstrip("/")
        return URL(f"{base}/v2/{path}", encoded=True)

    @asynccontextmanager
    async def request(
        self,
        method: str,
        url: URL,
        *,
        scopes: Sequence[str] = (),
        headers: dict[str, str] | None = None,
        body: Body | None = None,
        ok: Collection[int] = (200,),
        attempts: int | None = None,
        what: str = "",
    ) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send, retry what is worth it, and give the answer when its status is in `ok`.

        `attempts` limits the tries. Raises RegistryRefused for other answers, RegistryUnreachable when the
        connection fails again and again; what breaks while the answer's body is read is the caller's.
        """
        answer = await self._send(method, url, scopes, headers or {}, body, ok, attempts, what or f"{method} {url}")
        try:
            yield answer
        finally:
            if answer.content.at_eof():
                answer.release()
            else:
                answer.close()

    async def _send(
        self,
        method: str,
        url: URL,
        scopes: Sequence[str],
        headers: dict[str, str],
        body: Body | None,
        ok: Collection[int],
        attempts: int | None,
        what: str,
    ) -> aiohttp.ClientResponse:
        failures = 0
        while True:
            answer: aiohttp.ClientResponse | None = None
            problem: BaseException | None = None
            try:
                answer = await self._authorized(method, url, scopes, headers, body)
                if answer.status in ok:
                    return answer
                error = refusal(answer.status, await _read_limited(answer, _ERROR_LIMIT), what)
                if answer.status not in TRANSIENT:
                    raise error
                problem = error
            except BROKEN as broken:
                problem = broken
            finally:
                if answer is not None and answer.status not in ok:
                    answer.close()
            failures += 1
            delay = self.retry.delay(failures, None if answer is None else answer.headers)
            if delay is None or (attempts is not None and failures >= attempts):
                if answer is not None:
                    raise problem
                self._transport.forget(self.domain)
                raise RegistryUnreachable(f"{what}: {_reason(problem)}") from problem
            log.info("%s: %s; next try in %.1f s", what, _reason(problem), delay)
            await asyncio.sleep(delay)

    async def _authorized(
        self, method: str, url: URL, scopes: Sequence[str], headers: dict[str, str], body: Body | None
    ) -> aiohttp.ClientResponse:
        """One request with the credentials; once more with a new token when the registry does not take the first."""
        answer = await self._follow(method, url, headers, body, await self.authorizer.header(scopes))
        if answer.status != 401:
            return answer
        challenges = parse_challenges(answer.headers.getall("WWW-Authenticate", ()))
        if answer.url.origin() != self._origin or not self.authorizer.learn(challenges):
            return answer
        text = await _read_limited(answer, _ERROR_LIMIT)
        answer.close()
        header = await self.authorizer.header(scopes, renew=True)
        if not header:
            raise refusal(401, text, f"{method} {url}")
        return await self._follow(method, url, headers, body, header)

    async def _follow(
        self, method: str, url: URL, headers: dict[str, str], body: Body | None, authorization: str
    ) -> aiohttp.ClientResponse:
        """Send and follow redirects; the Authorization header goes to the registry's own origin only."""
        for _ in range(_MAX_REDIRECTS):
            sent = dict(headers)
            ours = url.origin() == self._origin
            if authorization and ours:
                sent["Authorization"] = authorization
            answer = await self._transport.session().request(
                method,
                url,
                headers=sent,
                data=body() if callable(body) else body,
                ssl=self._tls(url),
                proxy=_proxy(url),
                allow_redirects=False,
            )
            if ours and "Warning" in answer.headers:
                self._tell(notices(answer.headers.getall("Warning")))
            location = answer.headers.get("Location", "")
            if answer.status not in _REDIRECTS or not location:
                return answer
            answer.close()
            url = join(url, location)
            if url.scheme not in ("http", "https") or (self._origin.scheme == "https" and url.scheme == "http"):
                raise RegistryUnreachable(f"{self.domain} redirects to {url.scheme}://{url.host}: refused")
        raise RegistryUnreachable(f"{self.domain} redirects in circles")

    def _tell(self, texts: Sequence[str]) -> None:
        """Each warning once."""
        for text in texts:
            if text not in self._noticed:
                self._noticed.add(text)
                self.on_notice(text)

    def _tls(self, url: URL) -> ssl.SSLContext | bool:
        if url.scheme != "https":
            return True
        if url.origin() == self._origin and self._reached.tls is not None:
            return self._reached.tls
        return self._transport.config.tls(url.authority)

    async def _fetch(
        self, method: str, url: URL, headers: dict[str, str], body: bytes | None, limit: int
    ) -> tuple[int, bytes]:
        """For the token service: nothing of the registry's authorisation goes there."""
        failures = 0
        while True:
            try:
                async with self._transport.session().request(
                    method, url, headers=headers, data=body, ssl=self._tls(url), proxy=_proxy(url),
                    allow_redirects=False,
                ) as answer:  # fmt: skip
                    failures += 1
                    delay = self.retry.delay(failures, answer.headers)
                    if answer.status not in TRANSIENT or delay is None:
                        return answer.status, await _read_limited(answer, limit)
            except BROKEN as error:
                failures += 1
                delay = self.retry.delay(failures)
                if delay is None:
                    message = f"cannot reach the token service {url.host}: {_reason(error)}"
                    raise RegistryUnreachable(message) from error
            await asyncio.sleep(delay)

    async def check_login(self) -> str:
        """Whether the registry takes the credentials; an identity token it gave in their place, else "".

        Raises Unauthorized.
        """
        credentials = self.authorizer.credentials
        header = await self.authorizer.header((), offline=True)
        if not header and credentials.username:
            header = credentials.basic()
        answer = await self._follow("GET", self.url(""), {}, None, header)
        try:
            if answer.status != 200:
                body = await _read_limited(answer, _ERROR_LIMIT)
                if answer.status == 401:
                    raise Unauthorized("unauthorized: incorrect username or password", status=401)
                raise refusal(answer.status, body, f"login to {self.domain}")
        finally:
            answer.close()
        return self.authorizer.refresh_token


async def read_all(answer: aiohttp.ClientResponse, limit: int, what: str) -> bytes:
    """The whole body. Raises RegistryUnreachable when it is longer than `limit` bytes."""
    data = await _read_limited(answer, limit + 1)
    if len(data) > limit:
        raise RegistryUnreachable(f"{what}: the registry sent more than {limit} bytes")
    return data


async def _read_limited(answer: aiohttp.ClientResponse, limit: int) -> bytes:
    parts, size = [], 0
    async for data in answer.content.iter_any():
        parts.append(data)
        size += len(data)
        if size >= limit:
            break
    return b"".join(parts)[:limit]


def join(base: URL, location: str) -> URL:
    """A Location header against the URL it came from, its own encoding left as it is."""
    return base.join(URL(location, encoded=True))


def _proxy(url: URL) -> str | None:
    """The proxy that the environment names for this URL (HTTP_PROXY, HTTPS_PROXY, NO_PROXY)."""
    if not url.host or is_loopback(url.host):
        return None
    proxy = environment.getproxies().get(url.scheme)
    return None if not proxy or environment.proxy_bypass(f"{url.host}:{url.port}") else proxy


def _is_nobody(error: BaseException) -> bool:
    """Whether no server listens: another way of speaking to it would not help."""
    return isinstance(error, aiohttp.ClientConnectorError) and not isinstance(error, aiohttp.ClientSSLError)


def _reason(error: BaseException | None) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return str(error.certificate_error)
    if isinstance(error, aiohttp.ClientConnectorError):
        number = error.os_error.errno or 0
        return os.strerror(number) if number > 0 else str(error.os_error.strerror or error.os_error)
    if isinstance(error, asyncio.TimeoutError):
        return "it does not answer in time"
    return str(error) or type(error).__name__


def _hint(domain: str, error: BaseException | None) -> str:
    if isinstance(error, aiohttp.ClientConnectorCertificateError):
        return f"put its CA's certificate into /etc/buildtool/certs.d/{domain}/ca.crt"
    if isinstance(error, aiohttp.ClientSSLError):
        return 'if it has no TLS, name it under "insecure-registries" in /etc/buildtool/daemon.json'
    return ""
