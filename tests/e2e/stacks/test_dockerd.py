"""Our tool on Docker's own daemon: stacks are a client of the Engine API, whoever serves it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.e2e.stacks.helpers import THREE, Stack

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="dockerd takes root"),
    pytest.mark.xdist_group("dockerd-stacks"),
]


@pytest.fixture
def stack(dockerd_cli: Program, tmp_path: Path, unique: str) -> Iterator[Stack]:
    folder = tmp_path / unique
    folder.mkdir()
    made = Stack(dockerd_cli, folder)
    yield made
    made("down", "-v", "--remove-orphans", "-t", "0", check=False)


def test_a_stack_comes_up_changes_scales_and_goes(stack: Stack) -> None:
    stack.write(THREE)
    told = stack("up", "-d").stderr
    assert told.index("web-1  Starting") > told.index("db-1  Healthy")
    before = stack.ids()
    assert "migrate-1  Exited" in stack("up", "-d").stderr
    assert stack.ids() == before
    env = {"GREETING": "moin"}
    assert "web-1: recreate" in stack.cli("stack", "diff", cwd=stack.folder, env=env).stdout
    stack("up", "-d", env=env)
    assert {name for name, identifier in stack.ids().items() if identifier != before[name]} == {"web-1"}
    assert stack("exec", "-T", "web", "sh", "-c", "echo $GREETING", env=env).stdout == "moin\n"
    stack("up", "-d", "--wait", "--scale", "web=2", env=env)
    assert set(stack.containers()) == {"db-1", "web-1", "web-2"}
    assert "migrated" in stack("run", "--rm", "-T", "--no-deps", "db", "cat", "/data/log").stdout
    stack("down", "-t", "0")
    assert stack.containers("-a") == {}
    stack("up", "-d", "db")
    assert stack("exec", "-T", "db", "cat", "/data/log").stdout == "migrated\n"


def test_builds_secrets_configs_and_hooks(stack: Stack) -> None:
    (stack.folder / "src").write_text("one")
    (stack.folder / "word.txt").write_text("hush")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nCOPY src /src\n")
    stack.write(
        """
        services:
          web:
            build: .
            command: LOOP
            secrets: [file, {source: word, uid: "7", mode: 0400}]
            configs: [{source: inline, target: /etc/app.conf}]
            post_start: [{command: [sh, -c, "echo hook > /hook"]}]
            networks: {default: {aliases: [other]}}
          side: {image: busybox, command: LOOP, network_mode: "service:web"}
        secrets: {file: {file: word.txt}, word: {environment: WORD_OF_TEST}}
        configs: {inline: {content: "a=b\\n"}}
        """
    )
    env = {"WORD_OF_TEST": "mum"}
    stack("up", "-d", env=env)
    shown = "cat /src /run/secrets/file /run/secrets/word /etc/app.conf /hook; stat -c %u:%a /run/secrets/word"
    assert stack("exec", "-T", "web", "sh", "-c", shown, env=env).stdout == "onehushmuma=b\nhook\n7:400\n"
    assert stack("logs", "side", env=env).returncode == 0
    before = stack.ids()
    stack("up", "-d", env=env)
    assert stack.ids() == before
    (stack.folder / "src").write_text("two")
    assert "Building (context changed: src)" in stack("up", "-d", env=env).stderr
    assert stack("exec", "-T", "web", "cat", "/src", env=env).stdout == "two"
    stack("down", "--rmi", "local", env=env)
