"""Which daemon is meant."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildtool.client import contexts
from buildtool.client.address import parse_host, resolve_address
from buildtool.errors import InvalidInput, NotFound
from buildtool.places import default_socket


@pytest.fixture(autouse=True)
def no_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUILDTOOL_HOST", "BUILDTOOL_ROOT", "DOCKER_HOST", "DOCKER_TLS", "DOCKER_TLS_VERIFY"):
        monkeypatch.delenv(name, raising=False)


def test_without_anything_it_is_our_own() -> None:
    address = resolve_address()
    assert (address.path, address.foreign) == (default_socket(), False)


def test_flag_then_own_variable_then_dockers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    assert (resolve_address().path, resolve_address().foreign) == ("/docker", True)
    monkeypatch.setenv("BUILDTOOL_HOST", "unix:///own")
    assert (resolve_address().path, resolve_address().foreign) == ("/own", False)
    assert resolve_address("unix:///flag").path == "/flag"


def test_another_root_has_its_own_socket(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_HOST", "unix:///docker")
    monkeypatch.setenv("BUILDTOOL_ROOT", "data")
    root = os.path.abspath("data")
    assert (resolve_address().path, resolve_address().root) == (f"{root}/run/buildtool.sock", root)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("unix:///a/b", "unix:///a/b"),
        ("/a/b", "unix:///a/b"),
        ("tcp://host:99", "tcp://host:99"),
        ("tcp://host", "tcp://host:2375"),
        ("http://[::1]:80/", "tcp://[::1]:80"),
    ],
)
def test_forms_of_addresses(text: str, shown: str) -> None:
    assert str(parse_host(text, foreign=True)) == shown


@pytest.mark.parametrize("text", ["ssh://", "unix://relative", "nonsense", "tcp://h:0", "tcp://h:x", "npipe:////./x"])
def test_other_addresses_are_refused_with_their_origin(text: str) -> None:
    with pytest.raises(InvalidInput, match="DOCKER_HOST"):
        parse_host(text, foreign=True, source="DOCKER_HOST")


@pytest.mark.parametrize(
    ("text", "words", "remote"),
    [
        ("ssh://host", ("--", "host"), ""),
        ("ssh://me@host:2222", ("-l", "me", "-p", "2222", "--", "host"), ""),
        ("ssh://[::1]:22/run/d.sock", ("-p", "22", "--", "::1"), "/run/d.sock"),
        ("ssh://host/", ("--", "host"), ""),
    ],
)
def test_ssh_addresses(text: str, words: tuple[str, ...], remote: str) -> None:
    address = parse_host(text, foreign=False)
    assert (address.ssh, address.remote, address.path, address.foreign) == (words, remote, "", True)
    assert str(address) == text.rstrip("/")


@pytest.mark.parametrize(
    "text", ["ssh://", "ssh://me:secret@host", "ssh://-oProxyCommand=x", "ssh://-l@h", "ssh://h:x", "ssh://@h"]
)
def test_ssh_addresses_that_are_wrong_or_dangerous_are_refused(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_host(text, foreign=False)


def test_tls_comes_from_dockers_variables(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in ("ca.pem", "cert.pem", "key.pem"):
        (tmp_path / name).write_text("")
    monkeypatch.setenv("DOCKER_CERT_PATH", str(tmp_path))
    assert parse_host("tcp://h", foreign=True).tls is None
    monkeypatch.setenv("DOCKER_TLS_VERIFY", "1")
    address = parse_host("tcp://h", foreign=True)
    assert (address.port, address.tls is not None) == (2376, True)
    assert address.tls is not None
    assert (address.tls.ca, address.tls.key, address.tls.verify) == (
        str(tmp_path / "ca.pem"), str(tmp_path / "key.pem"), True,
    )  # fmt: skip


def test_a_context_is_chosen_by_variable_or_config_unless_something_else_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    monkeypatch.delenv("DOCKER_CONTEXT", raising=False)
    contexts.create("there", "", {"Host": "ssh://there"}, {})
    assert resolve_address().path == default_socket()
    (tmp_path / "config.json").write_text('{"currentContext": "there"}')
    assert (resolve_address().ssh, resolve_address().source) == (("--", "there"), "context there")
    monkeypatch.setenv("DOCKER_CONTEXT", "default")
    assert resolve_address().path == default_socket()
    monkeypatch.setenv("DOCKER_CONTEXT", "nowhere")
    with pytest.raises(NotFound, match='context "nowhere"'):
        resolve_address()
    monkeypatch.setenv("DOCKER_HOST", "unix:///d")
    assert resolve_address().path == "/d"
