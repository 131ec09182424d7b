"""Docker's stock compose plugin on our daemon, beside our own tool: each version that is installed."""

from __future__ import annotations

import json
import os
import subprocess
from typing import Any

import pytest

from tests.conftest import Daemon, Program, docker_composes
from tests.e2e.stacks.helpers import THREE, Stack
from tests.unit.stacks.rules import AROUND, FILES, FORMS, MERGES, SCALARS, VARIABLES

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")

PLUGINS = docker_composes()


class Plugin:
    """The stock `docker compose` in a stack's directory, on our daemon."""

    def __init__(self, version: str, daemon: Daemon, stack: Stack) -> None:
        self.version = tuple(int(part) for part in version.split("-")[0].split(".")[:2])
        self._run = Program(PLUGINS[version], {**daemon.environment, "DOCKER_HOST": daemon.host})
        self._stack = stack

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return self._run(*words, cwd=self._stack.folder, **options)


@pytest.fixture(params=sorted(PLUGINS))
def plugin(request: pytest.FixtureRequest, daemon: Daemon, stack: Stack) -> Plugin:
    return Plugin(request.param, daemon, stack)


# Versions up to 2.26 hash depends_on too: services with dependencies are recreated once, others never.
HASHES_DEPENDENCIES = (2, 26)

RICH = """
    services:
      web:
        image: busybox
        command: LOOP
        env_file: [a.env, {path: none.env, required: false}]
        environment: {OWN: "1", FROM_OUTSIDE: , UNSET: }
        ports: ["127.0.0.1::80"]
        volumes: ["./a.env:/a.env:ro", "data:/data", /anonymous]
        tmpfs: /run
        healthcheck: {test: [CMD, "true"], interval: 1s, start_period: 5s}
        secrets: [word]
        ulimits: {nofile: {soft: 100, hard: 200}}
        labels: {x: y}
        logging: {driver: json-file, options: {max-size: 1m}}
        stop_grace_period: 1s
        deploy: {resources: {limits: {cpus: "0.5", memory: 64m}}}
        networks: {default: {aliases: [other]}}
      plain: {image: busybox, command: LOOP, env_file: a.env, stop_grace_period: 0s}
      beside: {image: busybox, command: LOOP, network_mode: "service:web", pid: "service:web", stop_grace_period: 0s}
      heir: {image: busybox, command: LOOP, volumes_from: ["web:ro"], stop_grace_period: 0s}
    volumes: {data: {}}
    secrets: {word: {file: a.env}}
"""
DEPENDENT = ("beside", "heir")


@pytest.fixture
def rich(stack: Stack) -> Stack:
    (stack.folder / ".env").write_text("FROM_OUTSIDE=there\n")
    (stack.folder / "a.env").write_text("FROM_FILE='one two'\nFROM_OUTSIDE=file\n")
    stack.write(RICH)
    return stack


def test_both_print_the_same_config(stack: Stack, plugin: Plugin) -> None:
    stack.write(THREE)
    assert stack("config").stdout == plugin("config").stdout
    assert json.loads(stack("config", "--format", "json").stdout) == json.loads(
        plugin("config", "--format", "json").stdout
    )


def test_both_print_the_same_hashes(rich: Stack, plugin: Plugin) -> None:
    """Also of what is in env files (nothing: their names count) and of what is shared."""
    ours, theirs = (
        dict(line.split() for line in tool("config", "--hash", "*").stdout.splitlines()) for tool in (rich, plugin)
    )
    if plugin.version <= HASHES_DEPENDENCIES:
        ours, theirs = ({name: found[name] for name in found if name not in DEPENDENT} for found in (ours, theirs))
    assert ours == theirs
    (rich.folder / "a.env").write_text("FROM_FILE=other\n")
    assert rich("config", "--hash", "plain").stdout.split()[1] == theirs["plain"]


def written(stack: Stack, plugin: Plugin, *words: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """What both print as JSON."""
    ours, theirs = (
        json.loads(tool("--profile", "*", *words, "config", "--format", "json", env=VARIABLES).stdout)["services"]
        for tool in (stack, plugin)
    )
    return ours, theirs


NEWER = ("gpus", "post_start", "pre_stop", "label_file", "devices", "blkio_config", "entitlements", "mode: 0")


def test_both_merge_alike(stack: Stack, plugin: Plugin) -> None:
    """Each rule of merging as a service of two files."""
    for name, text in FILES.items():
        (stack.folder / name).write_text(text)
    rules = [
        (left, right)
        for left, right, *_ in MERGES
        if plugin.version >= (2, 40) or not any(key in left + right for key in NEWER)
    ]
    both = [["services:"], ["services:"]]
    for index, (left, right) in enumerate(rules):
        image = "" if "build:" in left else "image: x\n    "
        both[0].append(f"  s{index}:\n    {image}{left}")
        both[1].append(f"  s{index}:\n    {right}")
    (stack.folder / "left.yaml").write_text("\n".join(both[0]) + AROUND)
    (stack.folder / "right.yaml").write_text("\n".join(both[1]))
    ours, theirs = written(stack, plugin, "-f", "left.yaml", "-f", "right.yaml")
    assert {
        rules[int(key[1:])]: (ours[key], theirs[key])
        for key in ours
        if key[1:].isdecimal() and ours[key] != theirs[key]
    } == {}


def test_both_interpolate_and_read_scalars_alike(stack: Stack, plugin: Plugin) -> None:
    """Each form (but operands that are not used: older versions look at them) and each scalar."""
    newer = ("!!binary", ".inf", ".nan", "=") if plugin.version < (2, 40) else ()
    lines = ["services:", "  s:", "    image: x", "    environment:"]
    lines += [
        f"      F{index}: {json.dumps('x' + form)}" for index, (form, _) in enumerate(FORMS) if "UNUSED" not in form
    ]
    lines += [f"      S{i}: {text}" for i, (text, _) in enumerate(SCALARS) if not text.startswith(newer or ("\0",))]
    (stack.folder / "compose.yaml").write_text("\n".join(lines))
    ours, theirs = (found["s"]["environment"] for found in written(stack, plugin))
    assert ours == theirs


def test_neither_recreates_what_the_other_has_made(rich: Stack, plugin: Plugin) -> None:
    def kept(before: dict[str, str]) -> None:
        after = rich.ids()
        changed = {name for name in after if after[name] != before[name]}
        old = plugin.version <= HASHES_DEPENDENCIES
        assert changed <= ({f"{name}-1" for name in DEPENDENT} if old else set())
        assert set(after) == set(before)

    if plugin.version >= (2, 33):
        rich.write(RICH.replace("      plain: {", "      plain: {label_file: a.env, "))
    rich("up", "-d")
    ours = rich.ids()
    plugin("up", "-d")
    kept(ours)
    assert json.loads(plugin("ls", "--format", "json").stdout)[0]["Name"] == rich.name
    plugin("down", "-v")
    assert rich.containers("-a") == {} and rich("volumes", "-q").stdout == ""
    plugin("up", "-d")
    theirs = rich.ids()
    rich("up", "-d")
    kept(theirs)
    rich("down", "-v", "-t", "0")
    assert plugin("ps", "-a", "-q").stdout == ""


def test_the_plugin_does_with_our_daemon_what_it_does_with_its_own(stack: Stack, plugin: Plugin) -> None:
    stack.write(THREE)
    plugin("up", "-d", "--wait")
    assert plugin("exec", "-T", "web", "sh", "-c", "echo $GREETING").stdout == "hello\n"
    before = stack.ids()
    plugin("up", "-d", env={"GREETING": "moin"})
    after = stack.ids()
    assert {name for name in after if after[name] != before[name] and name != "migrate-1"} == {"web-1"}
    plugin("up", "-d", "--scale", "web=2", env={"GREETING": "moin"})
    assert set(stack.containers()) == {"db-1", "web-1", "web-2"}
    plugin("restart", "-t", "0", "web")
    assert "migrated" in plugin("run", "--rm", "-T", "--no-deps", "db", "cat", "/data/log").stdout
    assert "busybox" in plugin("images").stdout and "sleep" in plugin("top", "web").stdout
    (stack.folder / "copied").write_text("here")
    plugin("cp", "copied", "db:/copied")
    assert plugin("exec", "-T", "db", "cat", "/copied").stdout == "here"
    plugin("pause", "web")
    plugin("unpause", "web")
    plugin("stop", "-t", "0", "web")
    plugin("start", "web")
    plugin("kill", "web")
    plugin("rm", "-f", "web")
    plugin("down", "-t", "0")
    assert stack.containers("-a") == {}
    plugin("up", "-d", "db")
    assert stack("exec", "db", "cat", "/data/log").stdout.startswith("migrated\n")
