"""Verbs and their flags on real stacks, as far as no other file shows them (reference/stacks.md 2.2)."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from collections.abc import Callable
from typing import Any

import pytest

from tests.e2e.stacks.helpers import LOOP, Stack, eventually

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")

TWO = """
    services:
      web: {image: busybox, command: LOOP, depends_on: [db], stop_grace_period: 0s, ports: ["127.0.0.1::80"]}
      db: {image: busybox, command: LOOP, stop_grace_period: 0s, volumes: ["data:/data"]}
    volumes: {data: {}}
"""
ENDING = """
    services:
      long: {image: busybox, command: [sh, -c, "echo from long; LOOP_"], stop_grace_period: 0s}
      short: {image: busybox, command: [sh, -c, "echo from short; sleep 0.3; exit ${CODE:-0}"]}
""".replace("LOOP_", LOOP)


def test_up_ends_with_the_first_container_or_the_first_that_fails(stack: Stack) -> None:
    stack.write(ENDING)
    assert stack("up", "--abort-on-container-exit", env={"CODE": "4"}, check=False).returncode == 4
    assert stack.containers() == {}
    assert stack("up", "--abort-on-container-failure", env={"CODE": "5"}, check=False).returncode == 5
    for words in (
        ("-d", "--exit-code-from", "short"),
        ("--wait", "--abort-on-container-exit"),
        ("--build", "--no-build"),
    ):
        refused = stack("up", *words, check=False)
        assert refused.returncode and "incompatible" in refused.stderr


def test_up_shows_the_output_that_was_asked_for(stack: Stack) -> None:
    stack.write(ENDING)
    ending = "--abort-on-container-exit"
    only = stack("up", ending, "--attach", "short").stdout
    assert "from short" in only and "from long" not in only
    without = stack("up", ending, "--no-attach", "short", check=False).stdout
    assert "from long" in without and "from short" not in without
    bare = stack("up", ending, "--no-log-prefix", "--timestamps", "--no-color").stdout
    assert "short-1  |" not in bare and "Z from short" in bare
    assert "no such service: nobody" in stack("up", "--attach", "nobody", check=False).stderr


def test_up_takes_or_leaves_dependencies(stack: Stack) -> None:
    stack.write(TWO)
    stack("up", "-d", "--no-deps", "web")
    assert set(stack.containers()) == {"web-1"}
    stack("up", "-d", "web")
    before = stack.ids()
    stack("up", "-d", "--always-recreate-deps", "web")
    after = stack.ids()
    assert after["db-1"] != before["db-1"] and after["web-1"] == before["web-1"]
    stack("up", "-d", "--force-recreate", "--no-deps", "web")
    assert stack.ids()["web-1"] != before["web-1"] and stack.ids()["db-1"] == after["db-1"]
    stack.write(TWO.replace("ports:", "hostname: changed, ports:"))
    before = stack.ids()
    stack("up", "-d", "--no-recreate")
    assert stack.ids() == before
    stack("down", "-t", "0")
    stack("up", "--no-start")
    assert {item["State"] for item in stack.containers("-a").values()} == {"created"}


def test_ps_and_ls_filter_and_print_as_asked(stack: Stack) -> None:
    stack.write(TWO)
    stack("up", "-d")
    stack("stop", "web")
    assert stack("ps", "--services", "-a").stdout.split() == ["db", "web"]
    assert stack("ps", "--services").stdout == "db\n"
    assert stack("ps", "--status", "exited", "--format", "{{.Service}}").stdout == "web\n"
    assert stack("ps", "--filter", "status=running", "--format", "table {{.Service}}").stdout.split() == [
        "SERVICE",
        "db",
    ]
    assert len(stack("ps", "-q", "db").stdout.strip()) == 64
    listed = {item["Name"]: item for item in json.loads(stack("ls", "-a", "--format", "json").stdout)}
    assert listed[stack.name]["Status"] == "exited(1), running(1)"
    assert stack("ls", "-q", "--filter", f"name={stack.name}").stdout == f"{stack.name}\n"
    assert json.loads(stack("volumes", "--format", "json").stdout)["Name"] == f"{stack.name}_data"
    assert json.loads(stack("images", "--format", "json").stdout)[0]["Repository"] == "busybox"
    assert stack("version", "--short").stdout.strip() in stack("version", "--format", "json").stdout


def test_exec_and_run_have_their_flags(stack: Stack) -> None:
    (stack.folder / "more.env").write_text("FROM_FILE=file\n")
    stack.write(TWO)
    stack("up", "-d", "--scale", "db=2")
    told = stack(
        "exec",
        "-T",
        "-e",
        "A=1",
        "-u",
        "33",
        "-w",
        "/tmp",
        "--index",
        "2",
        "db",
        "sh",
        "-c",
        "echo $A; id -u; pwd; hostname",
    )
    assert told.stdout.split()[:3] == ["1", "33", "/tmp"]
    assert stack.ids()["db-2"].startswith(told.stdout.split()[3])
    assert stack("exec", "-T", "db", "sh", "-c", "exit 9", check=False).returncode == 9
    stack("exec", "-d", "db", "touch", "/detached")
    eventually(lambda: stack("exec", "-T", "db", "ls", "/detached", check=False).returncode == 0)
    words = (
        "--rm",
        "-T",
        "-e",
        "A=1",
        "-u",
        "33",
        "-w",
        "/tmp",
        "-v",
        f"{stack.folder}:/here:ro",
        "--cap-add",
        "SYS_TIME",
    )
    more = (
        "-l",
        "mine=yes",
        "--env-from-file",
        "more.env",
        "--entrypoint",
        "sh",
        "--name",
        f"{stack.name}-mine",
        "--use-aliases",
    )
    done = stack(
        "run", *words, *more, "--no-deps", "web", "-c", "echo $A $FROM_FILE; id -u; pwd; ls /here/compose.yaml"
    )
    assert done.stdout.split() == ["1", "file", "33", "/tmp", "/here/compose.yaml"]
    name = stack("run", "-d", "-P", "--no-deps", "-l", "mine=yes", "web").stdout.strip()
    details = json.loads(stack.cli("inspect", name).stdout)[0]
    assert details["Config"]["Labels"]["mine"] == "yes" and details["NetworkSettings"]["Ports"]["80/tcp"]
    published = stack("run", "-d", "-p", "127.0.0.1::81", "--no-deps", "web").stdout.strip()
    ports = json.loads(stack.cli("inspect", published).stdout)[0]["NetworkSettings"]["Ports"]
    assert ports.get("81/tcp") and not ports.get("80/tcp")
    assert "orphan" not in stack("up", "-d").stderr


def test_logs_follow_and_choose(stack: Stack, background: Callable[..., subprocess.Popen[bytes]]) -> None:
    command = "[sh, -c, 'for i in 1 2 3; do echo line $$i; done; sleep 1000']"
    stack.write(f"services: {{a: {{image: busybox, command: {command}, stop_grace_period: 0s}}}}")
    stack("up", "-d")
    eventually(lambda: "line 3" in stack("logs").stdout)
    assert stack("logs", "-n", "1", "--no-log-prefix").stdout == "line 3\n"
    assert stack("logs", "--since", "1h", "--until", "59m").stdout == ""
    assert "Z line 1" in stack("logs", "-t").stdout and stack("logs", "--index", "1", "a").stdout
    follower = background(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "logs", "-f", "--no-color")
    assert follower.stdout is not None and b"line 1" in follower.stdout.readline()
    follower.send_signal(signal.SIGINT)
    assert follower.wait(20) in (0, 130)


def test_events_stats_wait_attach_and_port(stack: Stack, background: Callable[..., subprocess.Popen[bytes]]) -> None:
    stack.write(TWO)
    file = str(stack.folder / "compose.yaml")
    begun = f"{time.time():.6f}"
    stack("up", "-d")
    told = stack("events", "--json", "--since", begun, "--until", f"{time.time():.6f}").stdout.splitlines()
    assert {(item["service"], item["action"]) for item in map(json.loads, told)} >= {
        ("web", "start"),
        ("db", "create"),
    }
    shown = stack("stats", "--no-stream", "--format", "json").stdout.splitlines()
    assert {json.loads(line)["Name"] for line in shown} == {f"{stack.name}-web-1", f"{stack.name}-db-1"}
    assert stack("port", "web", "80").stdout.startswith("127.0.0.1:")
    assert stack("port", "web", "81", check=False).returncode == 1
    waiting = background(stack.cli, "compose", "-f", file, "wait", "db")
    attached = background(stack.cli, "compose", "-f", file, "attach", "--no-stdin", "db")
    time.sleep(0.5)
    stack("kill", "-s", "KILL", "db")
    assert waiting.wait(20) == 137 and waiting.stdout is not None and waiting.stdout.read() == b"137\n"
    attached.wait(20)


def test_pull_push_and_commit(stack: Stack, start_registry: Callable[..., str]) -> None:
    registry = start_registry()
    image = f"{registry}/a:1"
    stack.cli("tag", "busybox", image)
    stack.write(
        f"""
        services:
          a: {{image: "{image}", build: {{dockerfile_inline: FROM busybox}}, command: LOOP, stop_grace_period: 0s}}
          b: {{image: "{registry}/none", profiles: [p]}}
        """
    )
    stack("push", "-q")
    stack.cli("rmi", image)
    stack("pull", "-q")
    stack("pull", "--policy", "missing")
    failed = stack("--profile", "p", "pull", check=False)
    assert failed.returncode == 1 and "none" in failed.stderr
    assert stack("--profile", "p", "pull", "--ignore-pull-failures").returncode == 0
    stack.cli("rmi", image)
    stack("up", "-d", "--quiet-pull")
    stack("exec", "-T", "a", "touch", "/made")
    stack("commit", "-m", "mine", "a", f"{stack.name}:x")
    assert stack.cli("run", "--rm", f"{stack.name}:x", "ls", "/made").stdout == "/made\n"
    stack("export", "-o", "out.tar", "a")
    assert (stack.folder / "out.tar").stat().st_size > 1000
    stack("down", "--rmi", "all", "-t", "0")
    assert stack.cli("images", "-q", image).stdout == ""
    stack.cli("rmi", f"{stack.name}:x")


def test_down_and_rm_take_what_they_are_asked_for(stack: Stack) -> None:
    stack.write(TWO)
    stack("up", "-d")
    stack("down", "-t", "0", "web")
    assert set(stack.containers("-a")) == {"db-1"}
    stack("up", "-d")
    stack("rm", "-f")
    assert set(stack.containers("-a")) == {"db-1", "web-1"}, "only stopped ones"
    stack("rm", "-s", "-f", "-v", "web")
    assert set(stack.containers("-a")) == {"db-1"}
    stack("start", "--wait", "db")
    stack("down", "-v", "-t", "0")
    assert stack("volumes", "-q").stdout == ""


def test_documents(stack: Stack) -> None:
    found: list[dict[str, Any]] = json.loads("[]")
    stack.write(TWO)
    stack("up", "-d")
    stack.write(TWO.replace("ports:", "hostname: changed, ports:"))
    diff = stack.cli("stack", "diff", "--format", "json", "--exit-code", cwd=stack.folder, check=False)
    found = json.loads(diff.stdout)
    assert diff.returncode == 1 and [(item["action"], item["key"]) for item in found] == [("recreate", "web")]
    graph = json.loads(stack.cli("stack", "graph", "--format", "json", cwd=stack.folder).stdout)
    assert {"kind": "service", "key": "web"} in graph["nodes"]
    stack.cli("stack", "graph", "--format", "svg", "-o", "g.svg", cwd=stack.folder)
    assert (stack.folder / "g.svg").read_text().startswith("<svg")
    assert "flowchart" in stack.cli("stack", "graph", "web", cwd=stack.folder).stdout
