"""Credentials: basic, tokens, redirects, TLS. What is secret goes where it belongs and nowhere else."""

from __future__ import annotations

import asyncio
import base64
import os
import signal
import socket
import ssl
import subprocess
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import parse_qs

import pytest
from aiohttp import ClientSession, web

from buildtool.errors import BuildtoolError, InvalidInput, NotFound
from buildtool.oci import parse_reference
from buildtool.registry import Credentials, Manner, RegistryConfig, config
from buildtool.registry.errors import Denied, RegistryUnreachable, Unauthorized
from buildtool.registry.server.access import Access, Guarded, Identity, unauthorized
from buildtool.registry.server.htpasswd import Htpasswd
from buildtool.registry.server.rules import everybody_signed_in
from tests.unit.registry.conftest import Running, Side, free_port
from tests.unit.registry.test_faults import ServerProcess

ALICE = Credentials("alice", "secret")


class Users(Guarded):
    """A policy for tests: whoever has a password may do everything."""

    def __init__(self, **passwords: str) -> None:
        super().__init__()
        self.passwords = passwords

    def log_in(self, name: str, password: str) -> Identity:
        if self.passwords.get(name) != password:
            raise unauthorized()
        return Identity(name)


async def test_basic_credentials(here: Side, there: Side, make_server: Callable[..., Awaitable[Running]]) -> None:
    access: Access = Users(alice="secret")
    running = await make_server(access=access)
    name = f"{running.host}/private/app:1"
    image = here.make(name, {"a": b"1"})

    await here.push(name, credentials=ALICE)
    assert (await there.pull(name, credentials=ALICE)).id == image.id

    with pytest.raises(NotFound, match=r"pull access denied for .*, repository does not exist or may require"):
        await there.pull(name)
    with pytest.raises(NotFound, match="pull access denied"):
        await there.pull(name, credentials=Credentials("alice", "wrong"))
    with pytest.raises(Unauthorized):
        await here.push(name)
    assert await here.registries.login(running.host, ALICE) == ""
    with pytest.raises(Unauthorized, match="incorrect username or password"):
        await here.registries.login(running.host, Credentials("alice", "wrong"))


@dataclass
class TokenService:
    """A token service and a registry that takes its tokens, in front of a real one: a scripted front."""

    upstream: str
    users: dict[str, str] = field(default_factory=lambda: {"alice": "secret"})
    realm: str = ""
    host: str = ""
    lifetime: int = 300
    asked: list[dict[str, list[str]]] = field(default_factory=list)
    valid: dict[str, str] = field(default_factory=dict)
    refreshing: dict[str, str] = field(default_factory=dict)

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/token":
            return await self.token(request)
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        granted = self.valid.get(token, None) if scheme == "Bearer" else None
        name = request.path.removeprefix("/v2/").rpartition("/")[0].partition("/blobs")[0].partition("/manifests")[0]
        action = "pull" if request.method in ("GET", "HEAD") and "uploads" not in request.path else "push"
        wanted = f"repository:{name}:pull" + (",push" if action == "push" else "") if name else ""
        if granted is None or (wanted and not self.covers(granted, name, action)):
            scope = f',scope="{wanted}"' if wanted else ""
            challenge = f'Bearer realm="{self.realm}",service="registry.test"{scope}'
            return web.Response(status=401, headers={"WWW-Authenticate": challenge}, text="{}")
        return await self.forward(request)

    @staticmethod
    def covers(granted: str, name: str, action: str) -> bool:
        return any(
            scope.startswith(f"repository:{name}:") and action in scope.rpartition(":")[2].split(",")
            for scope in granted.split()
        )

    async def token(self, request: web.BaseRequest) -> web.StreamResponse:
        fields = parse_qs((await request.content.read()).decode() or request.query_string)
        self.asked.append(fields)
        user = ""
        if request.method == "POST":
            user = self.refreshing.get(fields.get("refresh_token", [""])[0], "")
        elif "Authorization" in request.headers:
            pair = base64.b64decode(request.headers["Authorization"].partition(" ")[2]).decode()
            name, _, password = pair.partition(":")
            user = name if self.users.get(name) == password else ""
        scopes = " ".join(fields.get("scope", []))
        if not user and ("Authorization" in request.headers or request.method == "POST"):
            return web.Response(status=401, text='{"errors":[{"code":"UNAUTHORIZED","message":"who?"}]}')
        if not user:
            scopes = scopes.replace("pull,push", "pull") if "public/" in scopes else ""
        token = f"token-{len(self.valid)}"
        self.valid[token] = scopes
        answer = f'{{"token":"{token}","expires_in":{self.lifetime}'
        if user and "offline_token" in fields:
            self.refreshing[f"refresh-{user}"] = user
            answer += f',"refresh_token":"refresh-{user}"'
        return web.Response(text=answer + "}")

    async def forward(self, request: web.BaseRequest) -> web.StreamResponse:
        headers = {
            name: value for name, value in request.headers.items() if name.lower() not in ("host", "authorization")
        }
        async with (
            ClientSession(auto_decompress=False) as session,
            session.request(
                request.method, f"http://{self.upstream}{request.path_qs}", headers=headers,
                data=await request.content.read(), allow_redirects=False,
            ) as answer,
        ):  # fmt: skip
            body = None if request.method == "HEAD" else await answer.read()
            return web.Response(status=answer.status, headers=answer.headers, body=body)


@pytest.fixture
async def tokens(ours: Running) -> AsyncIterator[TokenService]:
    service = TokenService(ours.host)
    server = web.Server(service.handle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    service.host = f"127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    service.realm = f"http://{service.host}/token"
    yield service
    listening.close()
    await server.shutdown(0.1)


async def test_tokens_are_fetched_for_the_scopes_that_are_needed(
    here: Side, there: Side, tokens: TokenService
) -> None:
    name = f"{tokens.host}/team/app:1"
    image = here.make(name, {"a": b"1"})
    await here.push(name, credentials=ALICE)
    (asked,) = tokens.asked
    assert asked["scope"] == ["repository:team/app:pull,push"] and asked["service"] == ["registry.test"]
    tokens.asked.clear()
    assert (await there.pull(name, credentials=ALICE)).id == image.id
    assert [one["scope"] for one in tokens.asked] == [["repository:team/app:pull"]]


async def test_anonymous_tokens_for_public_repositories(here: Side, there: Side, tokens: TokenService) -> None:
    name = f"{tokens.host}/public/app:1"
    image = here.make(name, {"a": b"1"})
    await here.push(name, credentials=ALICE)
    assert (await there.pull(name)).id == image.id
    with pytest.raises(Unauthorized):
        await here.push(name)
    with pytest.raises(NotFound, match="pull access denied"):
        await there.pull(f"{tokens.host}/private/app:1")
    assert len(tokens.asked) < 12


async def test_a_mount_asks_for_both_repositories(here: Side, tokens: TokenService) -> None:
    image = here.make(f"{tokens.host}/one/app:1", {"a": b"1"})
    await here.push(f"{tokens.host}/one/app:1", credentials=ALICE)
    here.images.tag(image.id, image.references[0].__class__(tokens.host, "two/app", "1"))
    tokens.asked.clear()
    await here.push(f"{tokens.host}/two/app:1", credentials=ALICE)
    assert here.said("Mounted from one/app")
    assert ["repository:one/app:pull", "repository:two/app:pull,push"] in [one["scope"] for one in tokens.asked]


async def test_a_token_the_registry_no_longer_takes_is_renewed(here: Side, tokens: TokenService) -> None:
    name = f"{tokens.host}/team/app:1"
    here.make(name, {"a": b"1"})
    pushing = here.push(name, credentials=ALICE)
    original = tokens.forward
    revoked = []

    async def revoke(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "POST" and not revoked:
            revoked.append(True)
            tokens.valid.clear()
            return web.Response(status=401, headers={"WWW-Authenticate": f'Bearer realm="{tokens.realm}"'})
        return await original(request)

    tokens.forward = revoke  # type: ignore[method-assign]
    await pushing
    assert revoked


async def test_login_gives_an_identity_token_that_works(here: Side, there: Side, tokens: TokenService) -> None:
    token = await here.registries.login(tokens.host, ALICE)
    assert token == "refresh-alice"
    name = f"{tokens.host}/team/app:1"
    image = here.make(name, {"a": b"1"})
    identity = Credentials(identity_token=token)
    await here.push(name, credentials=identity)
    assert (await there.pull(name, credentials=identity)).id == image.id
    assert tokens.asked[-1]["grant_type"] == ["refresh_token"]
    with pytest.raises(Unauthorized):
        await here.registries.login(tokens.host, Credentials("alice", "wrong"))


async def test_credentials_do_not_go_to_strange_token_services(here: Side, tokens: TokenService) -> None:
    here.make(f"{tokens.host}/team/app:1", {"a": b"1"})
    for realm in ("file:///etc/passwd", "", "ftp://x/"):
        tokens.realm = realm
        with pytest.raises(BuildtoolError, match="no usable token service"):
            await here.push(f"{tokens.host}/team/app:1", credentials=ALICE)


async def test_redirects_never_carry_credentials_to_another_host(
    here: Side, there: Side, make_server: Callable[..., Awaitable[Running]]
) -> None:
    running = await make_server(access=Users(alice="secret"))
    seen: list[str] = []

    async def storage(request: web.BaseRequest) -> web.StreamResponse:
        seen.append(request.headers.get("Authorization", ""))
        digest = "sha256:" + request.path.rpartition("/")[2]
        return web.Response(body=running.store.blobs.read(digest))  # type: ignore[arg-type]

    elsewhere = web.Server(storage)
    listening = await asyncio.get_running_loop().create_server(elsewhere, "127.0.0.1", 0)
    port = listening.sockets[0].getsockname()[1]
    original = running.server.handle

    async def redirecting(request: web.BaseRequest) -> web.StreamResponse:
        if request.method == "GET" and "/blobs/sha256:" in request.path:
            target = f"http://127.0.0.1:{port}/{request.path.rpartition(':')[2]}"
            return web.Response(status=307, headers={"Location": target})
        return await original(request)

    front = web.Server(redirecting)
    facing = await asyncio.get_running_loop().create_server(front, "127.0.0.1", 0)
    host = f"127.0.0.1:{facing.sockets[0].getsockname()[1]}"
    try:
        name = f"{host}/team/app:1"
        image = here.make(name, {"a": b"1"})
        await here.push(name, credentials=ALICE)
        assert (await there.pull(name, credentials=ALICE)).id == image.id
    finally:
        for server, factory in ((listening, elsewhere), (facing, front)):
            server.close()
            await factory.shutdown(0.1)
    assert len(seen) == 2 and set(seen) == {""}


async def test_redirects_in_circles_end(there: Side) -> None:
    async def circle(request: web.BaseRequest) -> web.StreamResponse:
        if request.path == "/v2/":
            return web.Response(text="{}")
        return web.Response(status=307, headers={"Location": request.path})

    server = web.Server(circle)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    try:
        with pytest.raises(RegistryUnreachable, match="redirects in circles"):
            await there.pull(f"127.0.0.1:{listening.sockets[0].getsockname()[1]}/x:1")
    finally:
        listening.close()
        await server.shutdown(0.1)


# TLS


@pytest.fixture(scope="session")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a CA (ca.crt) and a certificate for 127.0.0.1 and localhost that it signed (server.crt, .key)."""
    folder = tmp_path_factory.mktemp("authority")

    def openssl(*words: str) -> None:
        subprocess.run(["openssl", *words], cwd=folder, check=True, capture_output=True)

    curve = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
    openssl("req", "-x509", *curve, "-keyout", "ca.key", "-out", "ca.crt", "-days", "2", "-subj", "/CN=test CA")
    openssl("req", *curve, "-keyout", "server.key", "-out", "server.csr", "-subj", "/CN=registry")
    (folder / "names").write_text("subjectAltName=IP:127.0.0.1,DNS:localhost\n")
    openssl(
        "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-CAcreateserial", "-days", "2",
        "-extfile", "names", "-out", "server.crt",
    )  # fmt: skip
    return folder


class Strict(RegistryConfig):
    """A configuration to which loopback is like any other host."""

    def is_insecure(self, domain: str) -> bool:
        return False


async def test_a_registry_with_its_own_ca(
    here: Side, make_side: Callable[..., Side], make_server: Callable[..., Awaitable[Running]],
    authority: Path, tmp_path: Path,
) -> None:  # fmt: skip
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    running = await make_server(tls=context)
    name = f"{running.host}/team/app:1"
    image = here.make(name, {"a": b"1"}, {"b": os.urandom(1 << 20)})
    await here.push(name)  # loopback: insecure is good enough

    strict = make_side("strict", Strict())
    with pytest.raises(RegistryUnreachable, match="certificate verify failed") as failure:
        await strict.pull(name)
    assert f"certs.d/{running.host}/ca.crt" in str(failure.value)

    folder = tmp_path / "certs.d" / running.host
    folder.mkdir(parents=True)
    (folder / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
    trusting = make_side("trusting", Strict(certs_dirs=(tmp_path / "certs.d",)))
    assert (await trusting.pull(name)).id == image.id
    (folder / "ca.crt").write_text("no certificate")
    wrong = make_side("wrong", Strict(certs_dirs=(tmp_path / "certs.d", tmp_path)))
    with pytest.raises(InvalidInput, match="cannot be used for"):
        await wrong.pull(name)


async def test_client_certificates_and_a_certificate_that_is_renewed(
    here: Side, make_side: Callable[..., Side], authority: Path, tmp_path: Path
) -> None:
    """A server that asks for client certificates, and takes its own anew while it runs."""
    port = free_port()
    host = f"127.0.0.1:{port}"
    for name in ("crt", "key"):
        (tmp_path / f"server.{name}").write_bytes((authority / f"server.{name}").read_bytes())
    flags = [f"--tls-cert={tmp_path}/server.crt", f"--tls-key={tmp_path}/server.key"]
    server = ServerProcess(tmp_path / "root", port, *flags, f"--tls-client-ca={authority}/ca.crt")
    try:
        folder = tmp_path / "certs.d" / host
        folder.mkdir(parents=True)
        (folder / "ca.crt").write_bytes((authority / "ca.crt").read_bytes())
        nameless = make_side("nameless", Strict(certs_dirs=(tmp_path / "certs.d",)))
        with pytest.raises(BuildtoolError):
            await nameless.pull(f"{host}/x:1")

        (folder / "client.cert").write_bytes((authority / "server.crt").read_bytes())
        (folder / "client.key").write_bytes((authority / "server.key").read_bytes())
        config._context.cache_clear()
        side = make_side("named", Strict(certs_dirs=(tmp_path / "certs.d",)))
        image = side.make(f"{host}/team/app:1", {"a": b"1"})
        await side.push(f"{host}/team/app:1")
        assert (await side.pull(f"{host}/team/app:1")).id == image.id

        before = await asyncio.to_thread(_serial, port, authority)
        await asyncio.to_thread(_issue, authority, tmp_path)
        server.process.send_signal(signal.SIGHUP)
        while await asyncio.to_thread(_serial, port, authority) == before:
            await asyncio.sleep(0.05)
        (tmp_path / "server.crt").write_text("no certificate")
        server.process.send_signal(signal.SIGHUP)
        assert (await side.pull(f"{host}/team/app:1")).id == image.id
        assert server.end() == 0
    finally:
        server.process.kill()
        server.process.wait()


def _serial(port: int, authority: Path) -> str:
    """The serial number of the certificate that the server shows."""
    context = ssl.create_default_context(cafile=authority / "ca.crt")
    context.load_cert_chain(authority / "server.crt", authority / "server.key")
    with (
        socket.create_connection(("127.0.0.1", port)) as raw,
        context.wrap_socket(raw, server_hostname="127.0.0.1") as tls,
    ):
        return str((tls.getpeercert() or {})["serialNumber"])


def _issue(authority: Path, folder: Path) -> None:
    """Another certificate for the same key, put in the place of the first."""
    (folder / "ext").write_text("subjectAltName=IP:127.0.0.1")
    subprocess.run(
        ["openssl", "x509", "-req", "-in", "server.csr", "-CA", "ca.crt", "-CAkey", "ca.key", "-days", "2",
         "-set_serial", "4711", "-out", str(folder / "new.crt"), "-extfile", str(folder / "ext")],
        cwd=authority, check=True, capture_output=True,
    )  # fmt: skip
    (folder / "new.crt").rename(folder / "server.crt")


async def test_without_tls_only_where_it_is_allowed(ours: Running, make_side: Callable[..., Side]) -> None:
    strict = make_side("strict", Strict())
    with pytest.raises(RegistryUnreachable, match="insecure-registries"):
        await strict.pull(f"{ours.host}/team/app:1")


async def test_one_push_may_do_without_tls(ours: Running, make_side: Callable[..., Side]) -> None:
    strict = make_side("strict", Strict())
    name = f"{ours.host}/team/app:1"
    strict.make(name, {"a": b"1"})
    reference = parse_reference(name)
    with pytest.raises(RegistryUnreachable, match="insecure-registries"):
        await strict.registries.push(reference, strict.tell)
    await strict.registries.push(reference, strict.tell, how=Manner(insecure=True))
    with pytest.raises(RegistryUnreachable, match="insecure-registries"):  # said once, it is not remembered
        await strict.registries.push(reference, strict.tell)


async def test_mirrors_of_docker_hub_are_asked_first(
    here: Side, ours: Running, make_side: Callable[..., Side]
) -> None:
    image = here.make(f"{ours.host}/library/thing:1", {"a": b"1"})
    await here.push(f"{ours.host}/library/thing:1")
    side = make_side("mirrored", RegistryConfig(mirrors=("http://127.0.0.1:9", ours.url)))
    pulled = await side.pull("thing:1")
    assert pulled.id == image.id and pulled.references[0].familiar == "thing:1"


# htpasswd


@pytest.fixture
def htpasswd(tmp_path: Path) -> Path:
    bcrypt = pytest.importorskip("bcrypt")
    path = tmp_path / "htpasswd"
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    path.write_text(f"# users\n\nalice:{hashed}\nbob:{hashed.replace('$2b$', '$2y$')}\n")
    return path


def basic(name: str, password: str) -> dict[str, str]:
    return {"Authorization": Credentials(name, password).basic()}


def test_htpasswd_knows_its_users(htpasswd: Path) -> None:
    access = Guarded(Htpasswd(htpasswd))
    for user in ("alice", "bob"):
        assert access.identify(basic(user, "secret")) == Identity(user)
        assert access.identify(basic(user, "secret")) == Identity(user)  # from memory now
    malformed: tuple[dict[str, str], ...] = (
        {"Authorization": "Basic !"},
        {"Authorization": "x"},
        {"Authorization": "Bearer eyJ.a.b"},
    )
    malformed += ({"Authorization": "Basic \u00e9"}, {"Authorization": "Bearer \udce9"}, basic("alice", "\0"))
    for wrong in (basic("alice", "other"), basic("eve", "secret"), *malformed):
        with pytest.raises(BuildtoolError, match="authentication required"):
            access.identify(wrong)
    assert not any(access.allows(access.identify({}), action, "a/b") for action in ("pull", "push", "delete"))


def test_htpasswd_is_read_again_when_it_changes(htpasswd: Path) -> None:
    users = Htpasswd(htpasswd)
    assert users.matches("alice", "secret")
    htpasswd.write_text("".join(line for line in htpasswd.open() if not line.startswith("alice")))
    assert not users.matches("alice", "secret") and not users.knows("alice")
    assert users.matches("bob", "secret")


def test_htpasswd_takes_bcrypt_only(htpasswd: Path) -> None:
    htpasswd.write_text("alice:{SHA}5en6G6MezRroT3XKqkdPOmY/BfQ=\n")
    with pytest.raises(InvalidInput, match="htpasswd:1: the password of 'alice' is not hashed with bcrypt"):
        Htpasswd(htpasswd)


def test_unknown_users_take_as_long_as_known_ones(htpasswd: Path) -> None:
    """A hash is computed for both; what it costs is the file's choice."""
    users = Htpasswd(htpasswd)
    began = time.monotonic()
    assert not users.matches("nobody", "x")
    assert time.monotonic() - began > 0.005


async def test_the_server_with_htpasswd(
    here: Side, there: Side, make_server: Callable[..., Awaitable[Running]], htpasswd: Path
) -> None:
    running = await make_server(access=Guarded(Htpasswd(htpasswd), lambda: everybody_signed_in(anonymous_pull=True)))
    name = f"{running.host}/team/app:1"
    image = here.make(name, {"a": b"1"})
    with pytest.raises((Unauthorized, Denied)):
        await here.push(name)
    await here.push(name, credentials=ALICE)
    assert (await there.pull(name)).id == image.id


async def test_proxies_of_the_environment(
    here: Side, ours: Running, make_side: Callable[..., Side], monkeypatch: pytest.MonkeyPatch
) -> None:
    """HTTP_PROXY is asked for everything but loopback and what NO_PROXY names."""
    asked: list[str] = []

    async def forward(request: web.BaseRequest) -> web.StreamResponse:
        asked.append(f"{request.method} {request.url.host}")
        if request.method == "CONNECT":
            return web.Response(status=502)
        async with (
            ClientSession(auto_decompress=False) as session,
            session.get(
                f"{ours.url}{request.rel_url.path_qs}", headers={"Accept": request.headers["Accept"]}
            ) as answer,
        ):
            names = ("Content-Type", "Docker-Content-Digest")
            headers = {name: answer.headers[name] for name in names if name in answer.headers}
            return web.Response(status=answer.status, body=await answer.read(), headers=headers)

    server = web.Server(forward)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    image = here.make(f"{ours.host}/team/app:1", {"a": b"1"})
    await here.push(f"{ours.host}/team/app:1")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("https_proxy", f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}")
    monkeypatch.setenv("no_proxy", "direct.invalid")
    try:
        side = make_side("behind", RegistryConfig(insecure=("registry.invalid", "direct.invalid")))
        assert (await side.pull("registry.invalid/team/app:1")).id == image.id
        assert {line.split()[1] for line in asked} == {"registry.invalid"}
        with pytest.raises(RegistryUnreachable):
            await side.pull("direct.invalid/team/app:1")
        await side.pull(f"{ours.host}/team/app:1")
        assert {line.split()[1] for line in asked} == {"registry.invalid"}
    finally:
        listening.close()
        await server.shutdown(0.1)
