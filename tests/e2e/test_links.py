"""`--link` between containers on the default bridge, with the stock client and ours."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from tests.conftest import Daemon, Program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture
def pair(docker: Program, daemon: Daemon, busybox_image: str, unique: str) -> Iterator[tuple[str, str]]:
    """A container that runs, and one that is linked to it as `other`."""
    db, web = f"{unique}-db", f"{unique}-web"
    docker("run", "-d", "--name", db, "--expose", "80", "-e", "A=b", "busybox", "sleep", "600")
    docker("run", "-d", "--name", web, "--link", f"{db}:other", "busybox", "sleep", "600")
    yield db, web
    docker("rm", "-f", web, db, check=False)


def test_a_linked_container_is_known_by_name_and_variables(
    docker: Program, cli: Program, pair: tuple[str, str]
) -> None:
    db, web = pair
    address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", db).stdout.strip()
    assert f"{address}\tother " in docker("exec", web, "cat", "/etc/hosts").stdout
    variables = docker("exec", web, "env").stdout.splitlines()
    expected = (f"OTHER_PORT=tcp://{address}:80", "OTHER_ENV_A=b", f"OTHER_NAME=/{web}/other")
    assert set(expected) <= set(variables)
    assert json.loads(docker("inspect", web).stdout)[0]["HostConfig"]["Links"] == [f"/{db}:/{web}/other"]
    assert cli("exec", web, "ping", "-c", "1", "-W", "3", "other").returncode == 0


def test_its_address_follows_a_restart(docker: Program, pair: tuple[str, str], unique: str) -> None:
    db, web = pair
    docker("stop", "-t", "0", db)
    docker("run", "-d", "--name", f"{unique}-squatter", "busybox", "sleep", "600")
    docker("start", db)
    address = docker("inspect", "-f", "{{.NetworkSettings.IPAddress}}", db).stdout.strip()
    assert f"{address}\tother " in docker("exec", web, "cat", "/etc/hosts").stdout
    docker("rm", "-f", f"{unique}-squatter")


def test_what_a_link_needs(docker: Program, pair: tuple[str, str], unique: str) -> None:
    db, web = pair

    def refusal(*arguments: str) -> str:
        done: Any = docker(*arguments, check=False)
        assert done.returncode != 0
        return str(done.stderr)

    assert "could not get container for nope" in refusal("run", "--rm", "--link", "nope", "busybox")
    assert "bad format for links" in refusal("run", "--rm", "--link", "a:b:c", "busybox")
    docker("stop", "-t", "0", web, db)
    assert f"Cannot link to a non running container: /{db} AS /{web}/other" in refusal("start", web)
    docker("rm", "--link", f"{web}/other")
    docker("start", web)
    gone = refusal("rm", "--link", f"{web}/other")
    assert "No such link" in gone or "No such container" in gone  # clients before 23 word every 404 themselves
