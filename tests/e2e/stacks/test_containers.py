"""What the containers of a stack have of each other and of the stack: names, namespaces, files, variables, hooks."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from tests.e2e.stacks.helpers import Stack, only_ours

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


def test_services_find_each_other_by_name_and_alias(stack: Stack) -> None:
    stack.write(
        """
        services:
          server:
            image: busybox
            command: [nc, -ll, -p, "80", -e, echo, served]
            networks: {back: {aliases: [other]}}
          client: {image: busybox, command: LOOP, networks: [back, front], links: ["server:linked"]}
          stranger: {image: busybox, command: LOOP, networks: [back]}
        networks: {back: {}, front: {}}
        """
    )
    stack("up", "-d")
    for name in ("server", "other", f"{stack.name}-server-1", "linked"):
        told = stack("exec", "-T", "client", "sh", "-c", f"nc {name} 80 </dev/null").stdout
        assert told == "served\n", name
    assert stack("exec", "-T", "stranger", "nc", "linked", "80", check=False).returncode == 1
    networks = stack.containers()["client-1"]["Networks"].split(",")
    assert networks == [f"{stack.name}_back", f"{stack.name}_front"]


def test_a_service_shares_the_network_of_another(stack: Stack) -> None:
    net = f"10.{200 + os.getpid() % 50}.{time.time_ns() // 1000 % 250}"  # nobody else's at this time
    stack.write(
        """
        services:
          side: {image: busybox, command: LOOP, network_mode: "service:main", pid: "service:main"}
          main: {image: busybox, command: LOOP, environment: {V: "${V:-1}"}, networks: {n: {ipv4_address: NET.9}}}
        networks: {n: {ipam: {config: [{subnet: NET.0/24}]}}}
        """.replace("NET", net)
    )
    stack("up", "-d")
    assert f"{net}.9" in stack("exec", "side", "ip", "address").stdout
    before = stack.ids()
    stack("up", "-d", env={"V": "2"})
    after = stack.ids()
    assert before["side-1"] != after["side-1"] and before["main-1"] != after["main-1"]
    assert f"{net}.9" in stack("exec", "side", "ip", "address", env={"V": "2"}).stdout


def test_secrets_and_configs_are_files_with_owner_and_mode(stack: Stack) -> None:
    (stack.folder / "file.txt").write_text("from a file")
    stack.write(
        """
        services:
          web:
            image: busybox
            command: LOOP
            secrets: [plain, {source: token, target: tok, uid: "7", gid: "8", mode: 0440}]
            configs: [{source: inline, target: /etc/app.conf}]
        secrets: {plain: {file: file.txt}, token: {environment: TOKEN}}
        configs: {inline: {content: "name=${NAME}\\n"}}
        """
    )
    env = {"TOKEN": "s3cret", "NAME": "me"}
    stack("up", "-d", env=env)
    read = "cat /run/secrets/plain /run/secrets/tok /etc/app.conf; stat -c %u:%g:%a /run/secrets/tok"
    assert stack("exec", "web", "sh", "-c", read, env=env).stdout == "from a files3cretname=me\n7:8:440\n"
    before = stack.ids()
    stack("up", "-d", env=env | {"NAME": "you"})
    assert stack.ids() != before
    missing = stack("up", "-d", env={"NAME": "x"}, check=False)
    assert "environment variable 'TOKEN' required by file" in missing.stderr


@only_ours
def test_secrets_reach_a_service_that_cannot_write(stack: Stack) -> None:
    """docker compose's engine refuses to write into a read-only container."""
    stack.write(
        """
        services:
          a:
            image: busybox
            command: LOOP
            read_only: true
            user: "33"
            secrets: [{source: word, uid: "33", mode: 0400}]
        secrets: {word: {environment: WORD_OF_TEST}}
        """
    )
    env = {"WORD_OF_TEST": "hush"}
    stack("up", "-d", env=env)
    shown = stack("exec", "a", "sh", "-c", "cat /run/secrets/word; touch /x", check=False, env=env)
    assert shown.stdout == "hush" and "Read-only" in shown.stderr
    (stack.folder / "x").write_text("")
    refused = stack("cp", "x", "a:/", check=False, env=env)
    assert refused.returncode and "read-only" in refused.stderr


def test_a_variable_that_nobody_has_is_taken_from_the_image_too(stack: Stack) -> None:
    """`environment: [NAME]` is NAME from outside, and unset when that is (moby, a bare name in Env)."""
    stack.write(
        """
        services:
          a: {build: {dockerfile_inline: "FROM busybox\\nENV ONE=1 TWO=2\\n"}, command: LOOP, environment: [ONE]}
        """
    )
    stack("up", "-d")
    assert stack("exec", "a", "sh", "-c", "echo $ONE,$TWO").stdout == ",2\n"


def test_hooks_run_in_the_container(stack: Stack) -> None:
    stack.write(
        """
        services:
          web:
            image: busybox
            command: LOOP
            volumes: [data:/data]
            post_start: [{command: [sh, -c, "echo started-$$WHO >> /data/log"], environment: {WHO: me}}]
            pre_stop: [{command: "sh -c 'echo stopping >> /data/log'"}]
          reader: {image: busybox, command: LOOP, volumes: [data:/data]}
        volumes: {data: {}}
        """
    )
    stack("up", "-d")
    stack("stop", "web")
    assert stack("exec", "reader", "cat", "/data/log").stdout == "started-me\nstopping\n"


def test_init_containers_run_before_the_first_start_and_must_succeed(stack: Stack) -> None:
    text = """
        services:
          web:
            image: busybox
            command: LOOP
            volumes: [data:/data]
            pre_start:
              - {command: [sh, -c, "echo one >> /data/log"]}
              - {command: [sh, -c, "echo $$WHO >> /data/log; exit ${CODE:-0}"], environment: {WHO: two}}
        volumes: {data: {}}
        """
    stack.write(text)
    failed = stack("up", "-d", env={"CODE": "3"}, check=False)
    assert failed.returncode == 1 and "init-1-2 exited with status code 3" in failed.stderr
    stack("up", "-d", env={"CODE": "0"})
    stack("up", "-d", env={"CODE": "0"})
    assert stack("exec", "web", "cat", "/data/log", env={"CODE": "0"}).stdout == "one\ntwo\none\ntwo\n"
    assert set(stack.containers("-a")) == {"web-1"}


def test_services_of_other_programs_are_provided(stack: Stack, tmp_path: Path) -> None:
    program = tmp_path / "bin/cloud-db"
    program.parent.mkdir()
    log = tmp_path / "calls"
    program.write_text(
        f"""#!/bin/sh
echo "$@" >> {log}
[ "$FAIL" ] && echo '{{"type": "error", "message": "no such cloud"}}' && exit 1
echo '{{"type": "info", "message": "pulling strings"}}'
echo '{{"type": "debug", "message": "psst"}}'
echo '{{"type": "setenv", "message": "URL=db://x?y=z"}}'
echo '{{"type": "rawsetenv", "message": "PLAIN=1"}}'
"""
    )
    program.chmod(0o755)
    env = {"PATH": f"{program.parent}:{os.environ['PATH']}"}
    stack.write(
        """
        services:
          database: {provider: {type: cloud-db, options: {size: 5, name: [a, b]}}}
          web: {image: busybox, command: LOOP, depends_on: [database]}
        """
    )
    told = stack("up", "-d", env=env).stderr
    assert "pulling strings" in told and "psst" not in told
    assert stack("exec", "web", "sh", "-c", "echo $DATABASE_URL $PLAIN", env=env).stdout == "db://x?y=z 1\n"
    before = stack.ids()
    stack("up", "-d", env=env)
    assert stack.ids() == before
    failed = stack("up", "-d", env={**env, "FAIL": "1"}, check=False)
    assert failed.returncode == 1 and "no such cloud" in failed.stderr
    stack("down", "-t", "0", env=env)
    calls = log.read_text().splitlines()
    assert calls[0] == f"compose --project-name={stack.name} up --size=5 --name=a --name=b database"
    assert calls[-1].split()[2] == "down"
    missing = stack("up", "-d", check=False)
    assert missing.returncode == 1 and "cloud-db" in missing.stderr
