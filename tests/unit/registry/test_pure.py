"""Challenges, scopes, retries, credentials, configuration, names and manifests: values in, values out."""

from __future__ import annotations

import base64
import json
import time
from email.utils import formatdate
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import InvalidInput
from buildtool.registry import Credentials, RegistryConfig, RetryPolicy, find_credentials
from buildtool.registry.challenge import Challenge, merge_scopes, parse_challenges
from buildtool.registry.credentials import server_domain
from buildtool.registry.errors import Denied, Missing, Unauthorized, refusal
from buildtool.registry.progress import bar, human
from buildtool.registry.retry import retry_after
from buildtool.registry.server import manifests
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import Target, parse_path

D = "sha256:" + "a" * 64


def test_challenges_are_parsed_with_quotes_and_several_in_one_header() -> None:
    header = (
        'Bearer realm="https://auth.example/token",service="a \\"b\\"",scope="repository:x:pull,push", Basic realm=x'
    )
    assert parse_challenges([header]) == [
        Challenge(
            "bearer",
            {"realm": "https://auth.example/token", "service": 'a "b"', "scope": "repository:x:pull,push"},
        ),
        Challenge("basic", {"realm": "x"}),
    ]


@given(st.text())
def test_any_header_is_read_without_an_error(header: str) -> None:
    parse_challenges([header])


def test_scopes_of_one_repository_become_one() -> None:
    assert merge_scopes(["repository:a/b:pull"], "repository:a/b:push,pull repository:c:pull registry:catalog:*") == (
        "registry:catalog:*",
        "repository:a/b:pull,push",
        "repository:c:pull",
    )


def test_delays_grow_and_end() -> None:
    policy = RetryPolicy(attempts=4, base=1.0, longest=3.0)
    delays = [policy.delay(failures) for failures in (1, 2, 3, 4)]
    assert delays[3] is None
    for delay, most in zip(delays, (1.0, 2.0, 3.0), strict=False):
        assert delay is not None and most / 2 <= delay <= most


def test_retry_after_is_honoured_as_number_and_date_and_refused_when_too_long() -> None:
    policy = RetryPolicy(base=0.1, patience=10)
    assert 3 <= (policy.delay(1, {"Retry-After": "3"}) or 0) < 3.1
    assert policy.delay(1, {"Retry-After": "11"}) is None
    assert 1 < (retry_after(formatdate(time.time() + 5, usegmt=True)) or 0) <= 5
    assert retry_after("soon") is None and retry_after("") is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "text"),
    [
        (401, b"", Unauthorized, "unauthorized: authentication required"),
        (403, b"<html>", Denied, "denied: requested access to the resource is denied"),
        (
            404,
            b'{"errors":[{"code":"MANIFEST_UNKNOWN","message":"manifest unknown"}]}',
            Missing,
            "manifest unknown: ",
        ),
        (500, b'{"errors":[]}', Exception, "x: the registry answered 500"),
        (500, b"\xff\xfe", Exception, "x: the registry answered 500"),
    ],
)
def test_refusals_say_what_the_registry_said(status: int, body: bytes, kind: type[Exception], text: str) -> None:
    error = refusal(status, body, "x")
    assert isinstance(error, kind) and str(error).startswith(text)


def test_credentials_come_in_every_form_of_the_api() -> None:
    assert Credentials.from_document({"username": "u", "password": "p"}) == Credentials("u", "p")
    auth = base64.b64encode(b"u:p:q").decode()
    assert Credentials.from_document({"auth": auth}) == Credentials("u", "p:q")
    assert Credentials.from_document({"identitytoken": "t"}) == Credentials(identity_token="t")
    assert Credentials.from_document({"username": "<token>", "password": "t"}) == Credentials(
        "", "t", identity_token="t"
    )
    assert not Credentials.from_document(None) and not Credentials.from_document({})
    assert "p" not in repr(Credentials("user", "secret"))[12:].replace("user", "")
    for wrong in ([], {"username": 1}, {"auth": "%"}, {"auth": base64.b64encode(b"nocolon").decode()}):
        with pytest.raises(InvalidInput):
            Credentials.from_document(wrong)


def test_credentials_are_found_by_any_spelling_of_the_server() -> None:
    document = {"https://index.docker.io/v1/": {"username": "hub"}, "https://r.example:5000/v2/": {"username": "own"}}
    assert find_credentials(document, "docker.io").username == "hub"
    assert find_credentials(document, "r.example:5000").username == "own"
    assert not find_credentials(document, "other.example") and not find_credentials(None, "docker.io")
    assert server_domain("") == "docker.io"


def test_only_loopback_and_named_registries_may_be_insecure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDTOOL_CONFIG_DIR", str(tmp_path))
    (tmp_path / "daemon.json").write_text(
        json.dumps(
            {"insecure-registries": ["10.0.0.0/8", "reg.lan:5000"], "registry-mirrors": ["https://m.example/"]}
        )
    )
    config = RegistryConfig.load()
    for insecure in (
        "localhost",
        "localhost:5000",
        "127.0.0.1:1",
        "127.9.9.9",
        "[::1]:5000",
        "10.1.2.3:80",
        "reg.lan:5000",
    ):
        assert config.is_insecure(insecure), insecure
    for secure in ("docker.io", "11.0.0.1", "reg.lan", "localhost.evil.example", "127.0.0.1.evil.example"):
        assert not config.is_insecure(secure), secure
    assert config.mirrors == ("https://m.example",)
    (tmp_path / "daemon.json").write_text('{"insecure-registries": "all"}')
    with pytest.raises(InvalidInput, match="not a list of strings"):
        RegistryConfig.load()


def test_bars_look_like_dockers() -> None:
    assert bar(0, 100) == f"[{' ' * 50}]  0B/100B"
    assert bar(50, 100) == f"[{'=' * 24}>{' ' * 25}]  50B/100B"
    assert bar(1_234_567, 0) == "1.235MB"
    assert human(999) == "999B" and human(2_000_000_000) == "2GB"


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("/v2/", Target("base")),
        ("/v2/_catalog", Target("catalog")),
        ("/v2/a/b/tags/list", Target("tags", "a/b")),
        (f"/v2/a/blobs/{D}", Target("blobs", "a", D)),
        ("/v2/a/blobs/uploads/", Target("uploads", "a", "")),
        ("/v2/a/blobs/uploads/xyz", Target("uploads", "a", "xyz")),
        ("/v2/blobs/uploads/manifests/1", Target("manifests", "blobs/uploads", "1")),
        (f"/v2/a/referrers/{D}", Target("referrers", "a", D)),
        ("/v1/", None),
        ("/v2/a", None),
    ],
)
def test_paths_are_taken_apart(path: str, target: Target | None) -> None:
    assert parse_path(path) == target


@pytest.mark.parametrize("name", ["..", "a/../b", "A", "a//b", "a/", ".a", "a\n", "a b", "é", "a/.git", "x" * 256])
def test_hostile_names_are_refused(name: str) -> None:
    with pytest.raises(ApiError) as refused:
        parse_path(f"/v2/{name}/manifests/latest")
    assert refused.value.code == "NAME_INVALID"


@given(st.binary(max_size=200), st.text(max_size=30))
def test_any_manifest_is_parsed_or_refused(data: bytes, content_type: str) -> None:
    try:
        manifests.parse(data, content_type)
    except ApiError as error:
        assert error.code == "MANIFEST_INVALID"


_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_INDEX = "application/vnd.oci.image.index.v1+json"
_CONFIG: dict[str, Any] = {"mediaType": "application/vnd.oci.image.config.v1+json", "digest": D, "size": 2}


@pytest.mark.parametrize(
    ("document", "content_type"),
    [
        ({"schemaVersion": 1, "fsLayers": []}, "application/vnd.docker.distribution.manifest.v1+json"),
        ({"schemaVersion": 1, "fsLayers": []}, ""),
        ({"schemaVersion": 2, "mediaType": _MANIFEST, "config": _CONFIG, "layers": []}, _INDEX),
        ({"schemaVersion": 2, "mediaType": _MANIFEST, "config": _CONFIG}, _MANIFEST),
        ({"schemaVersion": 2, "mediaType": _MANIFEST, "layers": []}, _MANIFEST),
        ({"schemaVersion": 2, "mediaType": _MANIFEST, "config": _CONFIG, "layers": [], "manifests": []}, _MANIFEST),
        ({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [{**_CONFIG, "digest": "sha256:../../x"}]}, _INDEX),
        ({"schemaVersion": 2, "mediaType": _INDEX, "manifests": [{**_CONFIG, "size": -1}]}, _INDEX),
        ({"schemaVersion": 2, "mediaType": "application/json", "config": _CONFIG, "layers": []}, "application/json"),
        ({"schemaVersion": 2, "config": _CONFIG, "layers": []}, "text/plain"),
        ([], _MANIFEST),
    ],
)
def test_wrong_manifests_are_refused(document: Any, content_type: str) -> None:
    with pytest.raises(ApiError) as refused:
        manifests.parse(json.dumps(document).encode(), content_type)
    assert refused.value.code == "MANIFEST_INVALID"


def test_an_artifacts_type_is_its_configs_when_it_has_none() -> None:
    document = {"schemaVersion": 2, "mediaType": _MANIFEST, "config": _CONFIG, "layers": [], "subject": _CONFIG}
    parsed = manifests.parse(json.dumps(document).encode(), _MANIFEST)
    assert parsed.artifact_type == _CONFIG["mediaType"] and parsed.subject == D
