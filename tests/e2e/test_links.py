"""`--link` between containers on the default bridge, with the stock client and ours."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.test_networks import HELLO, address, ask, run, traces

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


def test_links_open_ports_where_containers_do_not_reach_each_other(tmp_path: Path) -> None:
    subnet = f"10.217.{secrets.randbelow(256)}"
    (tmp_path / "daemon.json").write_text(json.dumps({"icc": False, "bip": f"{subnet}.1/24"}))
    own = Daemon()
    own.environment["BUILDTOOL_CONFIG_DIR"] = str(tmp_path)
    try:
        own.start()
        load_busybox(own)
        cli = Program(BUILDTOOL, {**own.environment, "NO_COLOR": "1"})

        def asks(name: str, host: str, port: int = 80) -> str:
            return str(cli("exec", name, "sh", "-c", f"nc -w 1 {host} {port} < /dev/null", check=False).stdout)

        both = HELLO.replace("80;", "81;").removesuffix("done") + "done & " + HELLO
        run(cli, "db", "--expose", "80", command=both)
        run(cli, "web", "--link", "db:store", command=HELLO)
        run(cli, "other")
        assert asks("web", "store") == ask(address(cli, "db"), 81) == "hello\n"
        closed = (("web", "store", 81), ("other", address(cli, "db"), 80), ("db", address(cli, "web"), 80))
        with ThreadPoolExecutor(3) as pool:
            assert list(pool.map(lambda one: asks(*one), closed)) == ["", "", ""]
        cli("stop", "-t", "0", "db")
        run(cli, "squatter", command=both)
        assert not asks("web", address(cli, "squatter"))
        cli("start", "db")
        assert address(cli, "db") != address(cli, "squatter") and asks("web", "store") == "hello\n"
        own.kill()
        own.start()
        assert asks("web", "store") == "hello\n" and not asks("other", address(cli, "db"))
        cli("rm", "-f", "db", "web", "other", "squatter")
        own.stop()
        assert traces(own) == []
    finally:
        own.close()
