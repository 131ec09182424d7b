"""What people have asked docker compose for (reference/stacks.md 2.4), as far as no other file shows it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.e2e.stacks.helpers import Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


def test_a_job_runs_again_only_when_something_has_changed(stack: Stack) -> None:
    """docker/compose #11808: one-shot services run at every `up`."""
    (stack.folder / "scripts").mkdir()
    (stack.folder / "scripts" / "1.sql").write_text("one")
    stack.write(
        """
        services:
          web: {image: busybox, command: LOOP, depends_on: {job: {condition: service_completed_successfully}}}
          job:
            image: busybox
            command: [sh, -c, "echo ran >> /log/log; exit ${CODE:-0}"]
            volumes: ["./scripts:/scripts:ro", "log:/log"]
            depends_on: [db]
          db: {image: busybox, command: LOOP, environment: {V: "${V:-1}"}, volumes: ["log:/log"]}
        volumes: {log: {}}
        """
    )

    def runs(**env: str) -> int:
        told = stack("up", "-d", env=env)
        assert told.returncode == 0
        return stack("exec", "db", "cat", "/log/log", env=env).stdout.count("ran")

    assert [runs(), runs(), runs()] == [1, 1, 1]
    assert "job-1  Exited" in stack("up", "-d").stderr
    (stack.folder / "scripts" / "2.sql").write_text("two")
    assert [runs(), runs()] == [2, 2]
    assert [runs(V="2"), runs(V="2")] == [3, 3]  # what it works on is new
    stack("up", "-d", "job", env={"V": "2"})
    assert runs(V="2") == 4
    assert stack("up", "--wait", env={"V": "2"}).returncode == 0
    shown = stack("up", "--exit-code-from", "job", env={"V": "2"})
    assert shown.returncode == 0 and "job-1 exited with code 0" in shown.stdout


@pytest.fixture
def infra(cli: Program, tmp_path: Path, unique: str) -> Stack:
    folder = tmp_path / f"{unique}infra"
    folder.mkdir()
    made = Stack(cli, folder)
    made.write(
        """
        services:
          db:
            image: busybox
            command: LOOP
            healthcheck: {test: [CMD, "true"], interval: 1s, start_period: 5s, start_interval: 100ms}
            depends_on: [store]
            volumes: ["data:/data"]
          store: {image: busybox, command: LOOP}
          other: {image: busybox, command: LOOP}
        volumes: {data: {}}
        """
    )
    return made


def test_services_of_another_project_are_waited_for_and_left_running(stack: Stack, infra: Stack) -> None:
    """docker/compose #2075."""
    stack.write(
        f"""
        services:
          web: {{image: busybox, command: LOOP, x-project: {{{infra.name}: {{db: {{condition: service_healthy}}}}}}}}
        """
    )
    missing = stack("up", "-d", check=False)
    assert missing.returncode == 1 and stack.containers("-a") == {}
    assert f"needs 'db' of project '{infra.name}', which has no container" in missing.stderr
    assert f"buildtool compose -p {infra.name} up -d db" in missing.stderr
    try:
        infra("up", "-d")
        told = stack("up", "-d").stderr
        assert told.index(f"{infra.name}-db-1  Healthy") < told.index("web-1  Started")
        before = stack.ids()
        stack("up", "-d")
        assert stack.ids() == before

        told = infra("down", "-v", "-t", "0").stderr
        assert f"service db is kept: {stack.name}-web-1 of another project needs it" in told
        assert set(infra.containers()) == {"db-1", "store-1"}
        assert infra("volumes", "-q").stdout == f"{infra.name}_data\n"

        infra("stop", "-t", "0", "db")
        stack("stop", "-t", "0")
        failed = stack("up", "-d", check=False)
        assert failed.returncode == 1 and f"web cannot start: container {infra.name}-db-1 exited" in failed.stderr
        stack("down")
    finally:
        infra("down", "-v", "-t", "0")
    assert infra.containers("-a") == {} and infra("volumes", "-q").stdout == ""


def test_two_stacks_in_one_directory_are_told_apart(stack: Stack) -> None:
    """docker/compose #3573: the warning about orphans makes people remove the other stack."""
    stack.write("services: {a: {image: busybox, command: LOOP}}", "one.yaml")
    stack.write("services: {b: {image: busybox, command: LOOP}}", "two.yaml")
    stack("-f", "one.yaml", "up", "-d")
    told = stack("-f", "two.yaml", "up", "-d").stderr
    assert f"Containers of another stack have the same project name '{stack.name}'" in told
    assert "a-1, of one.yaml" in told and "--project-name" in told and "orphan" not in told
    stack("-f", "two.yaml", "down", "-t", "0")
    assert f"{stack.name}-a-1" in stack("-f", "one.yaml", "ps").stdout
    (stack.folder / "one.yaml").rename(stack.folder / "renamed.yaml")
    assert "Found orphan containers" in stack("-f", "two.yaml", "up", "-d").stderr
    stack("-f", "two.yaml", "up", "-d", "--remove-orphans")
    stack("-f", "two.yaml", "down", "-t", "0")


def test_progress_is_plain_lines_or_json_where_there_is_no_terminal(stack: Stack) -> None:
    """docker/compose #3770, #10686: output for machines."""
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    told = stack("up", "-d").stderr
    assert "\x1b" not in told and "\r" not in told
    stack("down", "-t", "0")
    lines = stack("--progress", "json", "up", "-d").stderr.splitlines()
    assert any(json.loads(line).get("id", "").endswith("a-1") for line in lines)
    stack("down", "-t", "0")
    assert stack("--progress", "quiet", "up", "-d").stderr == ""
