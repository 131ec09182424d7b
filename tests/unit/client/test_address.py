"""Which daemon is meant."""

from __future__ import annotations

import os

import pytest

from buildtool.client.address import default_socket, parse_host, resolve_address
from buildtool.errors import InvalidInput


@pytest.fixture(autouse=True)
def no_hosts(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BUILDTOOL_HOST", "BUILDTOOL_ROOT", "DOCKER_HOST"):
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


@pytest.mark.parametrize(
    "text", ["ssh://x", "unix://relative", "nonsense", "tcp://h:0", "tcp://h:x", "npipe:////./x"]
)
def test_other_addresses_are_refused_with_their_origin(text: str) -> None:
    with pytest.raises(InvalidInput, match="DOCKER_HOST"):
        parse_host(text, foreign=True, source="DOCKER_HOST")
