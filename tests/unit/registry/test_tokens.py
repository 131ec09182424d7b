"""Who may do what: users, tokens and anybody, against every operation; nothing is told of what may not be seen."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buildtool.registry import Credentials
from buildtool.registry.errors import RegistryRefused, Unauthorized
from buildtool.registry.server.access import Guarded
from buildtool.registry.server.htpasswd import Htpasswd
from buildtool.registry.server.rules import parse_rules
from buildtool.registry.server.signing import BadToken, Grant, Keys, Signer
from tests.unit.registry.conftest import Running, Side
from tests.unit.registry.test_server_api import MANIFEST, digest_of, manifest

RULES = parse_rules(
    """
groups: {developers: [alice]}
rules:
  - repositories: [public/**]
    anyone: [pull]
    groups: {developers: [push, delete]}
  - repositories: [team/**]
    groups: {developers: [pull, push]}
    users: {root: [pull, push, delete]}
""",
    "rules",
)
PULL = frozenset({"pull"})
PUSH = frozenset({"pull", "push"})
ALL = frozenset({"pull", "push", "delete"})
CONFIG, LAYER = b"{}", b"layer"


@pytest.fixture
def signer(tmp_path: Path) -> Signer:
    return Signer(Keys(tmp_path / "keys"))


@pytest.fixture
def users(tmp_path: Path) -> Htpasswd:
    bcrypt = pytest.importorskip("bcrypt")
    hashed = bcrypt.hashpw(b"secret", bcrypt.gensalt(4)).decode()
    (tmp_path / "users").write_text("".join(f"{name}:{hashed}\n" for name in ("alice", "eve", "root")))
    return Htpasswd(tmp_path / "users")


@pytest.fixture(params=[False, True], ids=["basic", "token"])
async def guarded(
    request: pytest.FixtureRequest,
    make_server: Callable[..., Awaitable[Running]],
    users: Htpasswd,
    signer: Signer,
) -> Running:
    """A server with rules; clients log in with passwords, or exchange them for tokens."""
    return await make_server(access=Guarded(users, lambda: RULES, signer, exchange=request.param))


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


def basic(name: str, password: str = "secret") -> str:
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


async def fill(running: Running, name: str) -> str:
    """Put an image there, past all rules; its digest."""
    store = running.server.writable
    assert store is not None
    for data in (CONFIG, LAYER):
        with running.store.blobs.ingest() as ingest:
            ingest.write(data)
            store.add_blob(name, ingest, digest_of(data))
    from buildtool.registry.server import manifests

    data = manifest(CONFIG, LAYER)
    return store.put_manifest(name, "1", data, manifests.parse(data, MANIFEST))


def operations(name: str) -> list[tuple[str, str, str, bytes | None]]:
    """Each kind of request about a repository: the action it needs, method, path, body."""
    image = manifest(CONFIG, LAYER)
    layer = digest_of(LAYER)
    return [
        ("pull", "GET", f"/v2/{name}/manifests/1", None),
        ("pull", "HEAD", f"/v2/{name}/manifests/{digest_of(image)}", None),
        ("pull", "GET", f"/v2/{name}/blobs/{layer}", None),
        ("pull", "HEAD", f"/v2/{name}/blobs/{layer}", None),
        ("pull", "GET", f"/v2/{name}/tags/list", None),
        ("pull", "GET", f"/v2/{name}/referrers/{layer}", None),
        ("push", "POST", f"/v2/{name}/blobs/uploads/", b""),
        ("push", "POST", f"/v2/{name}/blobs/uploads/?digest={layer}", LAYER),
        ("push", "GET", f"/v2/{name}/blobs/uploads/x", None),
        ("push", "PUT", f"/v2/{name}/manifests/2", image),
        ("delete", "DELETE", f"/v2/{name}/manifests/2", None),
        ("delete", "DELETE", f"/v2/{name}/blobs/{layer}", None),
    ]


MATRIX = [
    ("", "public/app", PULL),
    ("", "team/app", frozenset()),
    ("eve", "public/app", PULL),
    ("eve", "team/app", frozenset()),
    ("alice", "public/app", ALL),
    ("alice", "team/app", PUSH),
    ("root", "team/app", ALL),
    ("root", "public/app", PULL),
]


@pytest.mark.parametrize(("user", "name", "allowed"), MATRIX)
async def test_every_operation_for_every_user(
    guarded: Running, session: aiohttp.ClientSession, user: str, name: str, allowed: frozenset[str]
) -> None:
    await fill(guarded, name)
    for action, method, path, body in operations(name):
        headers = {"Authorization": basic(user)} if user else {}
        if method == "PUT":
            headers["Content-Type"] = MANIFEST
        async with session.request(method, guarded.url + path, data=body, headers=headers) as answer:
            refused = answer.status in (401, 403)
            assert refused is (action not in allowed), (user, method, path, answer.status)
            if refused:
                assert answer.status == (403 if user else 401)
                assert user or "WWW-Authenticate" in answer.headers


@pytest.mark.parametrize("user", ["", "eve"])
async def test_what_may_not_be_seen_looks_like_what_is_not_there(
    guarded: Running, session: aiohttp.ClientSession, user: str
) -> None:
    """Same status, same headers, same body for a private repository and for none, whatever is asked."""
    await fill(guarded, "team/app")
    headers = {"Authorization": basic(user)} if user else {}
    for there, absent in zip(operations("team/app"), operations("team/not"), strict=True):
        seen = []
        for _, method, path, body in (there, absent):
            async with session.request(method, guarded.url + path, data=body, headers=headers) as answer:
                fields = {key: value for key, value in answer.headers.items() if key not in ("Date",)}
                text = str(fields) + (await answer.text())
                seen.append((answer.status, text.replace("team/not", "team/app")))
        assert seen[0] == seen[1], there
    async with session.get(f"{guarded.url}/v2/_catalog", headers=headers) as answer:
        assert "team/app" not in await answer.text()
    for path in ("/", "/ui/team/app", "/ui/team/app/-/1", "/?q=app"):
        async with session.get(guarded.url + path, headers=headers) as answer:
            text = await answer.text()
            assert "team/app" not in text.replace(path, "") and digest_of(LAYER)[7:19] not in text


async def test_the_catalog_has_what_may_be_pulled(guarded: Running, session: aiohttp.ClientSession) -> None:
    for name in ("public/app", "team/app", "other/app"):
        await fill(guarded, name)
    async with session.get(f"{guarded.url}/v2/_catalog", headers={"Authorization": basic("alice")}) as answer:
        assert (await answer.json())["repositories"] == ["public/app", "team/app"]
    async with session.get(f"{guarded.url}/v2/_catalog?n=1", headers={"Authorization": basic("alice")}) as answer:
        assert (await answer.json())["repositories"] == ["public/app"] and "last=public" in answer.headers["Link"]


async def test_a_mount_needs_pull_on_the_source(guarded: Running, session: aiohttp.ClientSession) -> None:
    await fill(guarded, "team/app")
    await fill(guarded, "hidden/app")
    headers = {"Authorization": basic("alice")}
    for source, status in (("team/app", 201), ("hidden/app", 202), ("nowhere/app", 202)):
        path = f"/v2/public/new/blobs/uploads/?mount={digest_of(LAYER)}&from={source}"
        async with session.post(guarded.url + path, headers=headers) as answer:
            assert answer.status == status, source


async def test_uploads_belong_to_who_began_them(guarded: Running, session: aiohttp.ClientSession) -> None:
    async with session.post(
        f"{guarded.url}/v2/team/app/blobs/uploads/", headers={"Authorization": basic("alice")}
    ) as answer:
        location = answer.headers["Location"]
    for user, place, status in (("root", location, 404), ("alice", location.replace("team/", "public/"), 404)):
        async with session.patch(guarded.url + place, data=b"x", headers={"Authorization": basic(user)}) as answer:
            assert answer.status == status


# Tokens


def changed(token: str, **claims: Any) -> str:
    """The token with other claims and its old signature."""
    head, body, signature = token.split(".")
    document = json.loads(base64.urlsafe_b64decode(body + "=="))
    encoded = base64.urlsafe_b64encode(json.dumps({**document, **claims}).encode()).decode().rstrip("=")
    return f"{head}.{encoded}.{signature}"


@contextmanager
def at(monkeypatch: pytest.MonkeyPatch, seconds: float) -> Iterator[None]:
    """So many seconds from now."""
    real = time.time
    with monkeypatch.context() as patch:
        patch.setattr(time, "time", lambda: real() + seconds)
        yield


async def test_tokens_allow_exactly_what_they_say(
    guarded: Running, session: aiohttp.ClientSession, signer: Signer
) -> None:
    await fill(guarded, "team/app")
    token = signer.sign("ci", [Grant("team/**", PULL)], 60)
    for action, method, path, body in operations("team/app"):
        for header in (f"Bearer {token}", basic("anything", token)):
            async with session.request(
                method, guarded.url + path, data=body, headers={"Authorization": header}
            ) as answer:
                assert (answer.status in (401, 403)) is (action != "pull"), path
    async with session.get(
        f"{guarded.url}/v2/public/app/tags/list", headers={"Authorization": f"Bearer {token}"}
    ) as answer:
        assert answer.status in (401, 403)  # rules do not widen a token


async def test_wrong_tokens_are_refused(
    guarded: Running,
    session: aiohttp.ClientSession,
    signer: Signer,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await fill(guarded, "team/app")
    grants = [Grant("team/**", ALL)]
    good = signer.sign("ci", grants, 600)
    none = base64.urlsafe_b64encode(b'{"alg":"none","typ":"JWT"}').decode().rstrip("=")
    with at(monkeypatch, -3600):
        expired = signer.sign("ci", grants, 60)
    with at(monkeypatch, 3600):
        early = signer.sign("ci", grants, 60)
    wrong = {
        "expired": expired,
        "not yet": early,
        "other audience": Signer(Keys(tmp_path / "keys"), "other").sign("ci", grants, 60),
        "other key": Signer(Keys(tmp_path / "stranger")).sign("ci", grants, 60),
        "changed": changed(good, sub="root"),
        "longer": changed(good, exp=int(time.time()) + 10**6),
        "unsigned": f"{none}.{good.split('.')[1]}.",
        "refresh": signer.sign("ci", grants, 60, use="refresh"),
        "garbage": "eyJ.eyJ.x",
        "long": "eyJ" + "a" * 20_000 + ".b.c",
    }
    path = f"{guarded.url}/v2/team/app/manifests/1"
    for what, token in wrong.items():
        for header in (f"Bearer {token}", basic("ci", token)):
            async with session.get(path, headers={"Authorization": header}) as answer:
                assert answer.status in (400, 401), what
    async with session.get(path, headers={"Authorization": f"Bearer {good}"}) as answer:
        assert answer.status == 200


def test_clocks_may_differ_by_a_minute(signer: Signer, monkeypatch: pytest.MonkeyPatch) -> None:
    token = signer.sign("ci", [], 30)
    with at(monkeypatch, 60):
        signer.verify(token)
    with at(monkeypatch, 120), pytest.raises(BadToken, match="expired"):
        signer.verify(token)
    with at(monkeypatch, -50):
        signer.verify(token)


def test_keys_are_renewed_and_old_tokens_live_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    keys = Keys(tmp_path, rotate=100.0)
    old = Signer(keys).sign("ci", [], 86400)
    assert [path.stat().st_mode & 0o777 for path in tmp_path.iterdir()] == [0o600]
    with at(monkeypatch, 200):
        new = Signer(keys).sign("ci", [], 86400)
        assert len(list(tmp_path.iterdir())) == 2
        for token in (old, new):
            assert Signer(Keys(tmp_path)).verify(token).user == "ci"


def test_a_key_that_is_removed_ends_its_tokens(tmp_path: Path) -> None:
    signer = Signer(Keys(tmp_path / "keys"))
    token = signer.sign("ci", [], 60)
    assert signer.verify(token).user == "ci"
    for path in (tmp_path / "keys").iterdir():
        path.unlink()
    with pytest.raises(BadToken, match="not ours"):
        signer.verify(token)
    assert signer.verify(signer.sign("ci", [], 60)).user == "ci"


# The token service


async def ask(session: aiohttp.ClientSession, url: str, user: str = "", **query: str) -> tuple[int, dict[str, Any]]:
    headers = {"Authorization": basic(user)} if user else {}
    async with session.get(f"{url}/token", params=query, headers=headers) as answer:
        return answer.status, await answer.json()


async def test_the_token_service_grants_what_the_rules_allow(
    guarded: Running, session: aiohttp.ClientSession, signer: Signer
) -> None:
    scope = "repository:team/app:pull,push,delete repository:public/app:pull,push registry:catalog:*"
    for user, expected in (
        ("alice", {"team/app": PUSH, "public/app": PUSH}),
        ("root", {"team/app": ALL, "public/app": PULL}),
        ("eve", {"public/app": PULL}),
        ("", {"public/app": PULL}),
    ):
        status, document = await ask(session, guarded.url, user, scope=scope, service="buildtool-registry")
        claims = signer.verify(document["token"])
        assert status == 200 and claims.user == user
        assert {grant.pattern: grant.actions for grant in claims.grants} == expected
        assert document["expires_in"] == 300 and "refresh_token" not in document
    assert (await ask(session, guarded.url, "alice", service="another"))[0] == 401
    status, document = await ask(session, guarded.url, "alice", scope="repository:**:pull repository:x")
    assert signer.verify(document["token"]).grants == ()
    async with session.get(f"{guarded.url}/token", headers={"Authorization": basic("alice", "wrong")}) as answer:
        assert answer.status == 401


async def test_refresh_tokens_are_exchanged_until_the_user_goes(
    guarded: Running, session: aiohttp.ClientSession, signer: Signer, tmp_path: Path
) -> None:
    _, document = await ask(session, guarded.url, "alice", offline_token="true")
    form = {"grant_type": "refresh_token", "refresh_token": document["refresh_token"]}
    form |= {"service": "buildtool-registry", "scope": "repository:team/app:pull"}
    async with session.post(f"{guarded.url}/token", data=form) as answer:
        assert signer.verify((await answer.json())["access_token"]).grants == (Grant("team/app", PULL),)
    password = {"grant_type": "password", "username": "alice", "password": "secret"}
    async with session.post(f"{guarded.url}/token", data=password) as answer:
        assert answer.status == 200
    for wrong in ({**password, "password": "x"}, {**form, "refresh_token": document["token"]}):
        async with session.post(f"{guarded.url}/token", data=wrong) as answer:
            assert answer.status == 401
    async with session.post(f"{guarded.url}/token", data={"grant_type": "x"}) as answer:
        assert answer.status == 400
    (tmp_path / "users").write_text("")
    async with session.post(f"{guarded.url}/token", data=form) as answer:
        assert answer.status == 401


async def test_our_client_with_a_guarded_server(here: Side, there: Side, guarded: Running, signer: Signer) -> None:
    """Login, push, mount, anonymous pull, and what is refused."""
    alice = Credentials("alice", "secret")
    await here.registries.login(guarded.host, alice)
    with pytest.raises(Unauthorized):
        await here.registries.login(guarded.host, Credentials("alice", "wrong"))
    for name in ("team/app", "public/app"):
        here.make(f"{guarded.host}/{name}:1", {"a": name.encode()}, {"b": b"shared"})
        await here.push(f"{guarded.host}/{name}:1", credentials=alice)
    assert here.said("Mounted from")
    assert await there.pull(f"{guarded.host}/public/app:1")
    ci = Credentials("ci", signer.sign("ci", [Grant("team/app", PULL)], 60))
    assert await there.pull(f"{guarded.host}/team/app:1", credentials=ci)
    for name, credentials in (("team/app", None), ("public/app", Credentials("eve", "secret")), ("team/app", ci)):
        here.make(f"{guarded.host}/{name}:2", {"a": b"2"})
        with pytest.raises(RegistryRefused):
            await here.push(f"{guarded.host}/{name}:2", credentials=credentials)
