"""Stacks that come from git repositories and registries."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.stacks.helpers import LOOP, Stack
from tests.web import Web, web_server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(tmp_path / "repositories") as found:
        yield found


def test_a_stack_is_loaded_from_a_git_repository(stack: Stack, web: Web) -> None:
    inner = "services: {inner: {image: busybox, command: LOOP}}".replace("LOOP", json.dumps(["sh", "-c", LOOP]))
    repository = web.repository("shop", **{"compose.yaml": "services: {web: {image: x}}", "deep__compose.yml": inner})
    commit = repository.git("rev-parse", "HEAD")
    repository.git("tag", "v1")
    assert "name: shop" in stack("-f", repository.url, "config").stdout
    project = ("-f", f"{repository.url}#v1:deep", "-p", stack.name)
    assert "name: deep" in stack(*project[:2], "config").stdout
    stack(*project, "up", "-d")
    assert "Running" in stack(*project, "up", "-d").stderr
    stack(*project, "down", "-t", "0")
    assert "image: x" in stack("-f", f"{repository.url}#{commit}:compose.yaml", "config").stdout
    for address, text in (
        (f"{repository.url}#nowhere", "nowhere"),
        (f"{repository.url}#:none", "there is no compose file in none"),
        (f"{repository.url}?commit={'0' * 40}", f"the commit is {commit}"),
        (f"{web.url}/file.yaml", "A git URL over http(s) ends with .git"),
    ):
        done = stack("-f", address, "config", check=False)
        assert done.returncode == 1 and text in done.stderr


def test_a_stack_is_published_and_brought_up_from_the_registry(
    stack: Stack, start_registry: Callable[..., str], tmp_path: Path
) -> None:
    name = f"{start_registry()}/team/app:1"
    (stack.folder / "a.env").write_text("FROM_FILE=yes\n")
    stack.write("services: {web: {image: busybox, command: LOOP, env_file: [a.env], environment: {A: '${A:-1}'}}}")
    refused = stack("publish", name, check=False)
    assert refused.returncode and "--with-env" in refused.stderr
    digest = stack("publish", "--with-env", "--yes", name).stdout.strip()
    assert digest.startswith("sha256:")
    project = ("-f", f"oci://{name}", "-p", stack.name)
    told = stack(*project, "up", "-d")
    assert stack(*project, "exec", "web", "sh", "-c", "echo $FROM_FILE $A").stdout == "yes 1\n"
    assert "Running" in stack(*project, "up", "-d").stderr, told.stderr
    assert "name: app" in stack("-f", f"oci://{name.replace(':1', '')}@{digest}", "config").stdout
    missing = stack("-f", f"oci://{name}2", "config", check=False)
    assert missing.returncode == 1 and "there is no stack" in missing.stderr
