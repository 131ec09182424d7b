"""Stacks of real containers: brought up, changed, looked at, taken down."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.conftest import Program, docker_compose
from tests.web import Web, web_server

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")
PLUGIN = docker_compose()
LOOP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Stack:
    """A stack's directory, and our CLI in it."""

    def __init__(self, cli: Program, folder: Path) -> None:
        self.cli = cli
        self.folder = folder
        self.name = folder.name

    def write(self, text: str, name: str = "compose.yaml") -> None:
        """Write a file of it."""
        (self.folder / name).write_text(dedent(text).replace("LOOP", json.dumps(["sh", "-c", LOOP])))

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`buildtool compose …` in the directory."""
        return self.cli("compose", *words, cwd=self.folder, **options)

    def containers(self, *words: str) -> dict[str, dict[str, Any]]:
        """What `ps` tells, by name."""
        lines = self("ps", "--format", "json", "--no-trunc", *words).stdout.splitlines()
        return {item["Name"].removeprefix(f"{self.name}-"): item for item in map(json.loads, lines)}

    def ids(self) -> dict[str, str]:
        """Ids of all containers by name."""
        return {name: item["ID"] for name, item in self.containers("-a").items()}


@pytest.fixture
def stack(cli: Program, busybox_image: str, tmp_path: Path, unique: str) -> Iterator[Stack]:
    folder = tmp_path / unique
    folder.mkdir()
    made = Stack(cli, folder)
    yield made
    made("down", "-v", "--remove-orphans", "-t", "0", check=False)


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(tmp_path / "repositories") as found:
        yield found


THREE = """
    services:
      web:
        image: busybox
        command: LOOP
        environment: {GREETING: "${GREETING:-hello}"}
        depends_on:
          db: {condition: service_healthy}
          migrate: {condition: service_completed_successfully}
      db:
        image: busybox
        command: [sh, -c, "touch /data/ready; LOOP_"]
        volumes: [data:/data, /anonymous]
        healthcheck: {test: [CMD, test, -e, /data/ready], interval: 1s, start_period: 5s, start_interval: 100ms}
      migrate:
        image: busybox
        command: [sh, -c, "echo migrated >> /data/log"]
        volumes: [data:/data]
        depends_on: [db]
    volumes: {data: {}}
""".replace("LOOP_", LOOP)


def test_up_starts_in_the_order_of_conditions(stack: Stack) -> None:
    stack.write(THREE)
    told = stack("up", "-d").stderr
    assert told.index("web-1  Starting") > told.index("db-1  Healthy")
    assert told.index("web-1  Starting") > told.index("migrate-1  Exited")
    found = stack.containers("-a")
    assert {name: item["State"] for name, item in found.items()} == {
        "web-1": "running",
        "db-1": "running",
        "migrate-1": "exited",
    }
    assert found["db-1"]["Health"] == "healthy"


def test_up_again_changes_nothing_and_a_change_recreates_only_its_service(stack: Stack) -> None:
    stack.write(THREE)
    stack("up", "-d")
    before = stack.ids()
    stack("up", "-d")
    assert stack.ids() == before

    assert (
        "web-1: recreate (its configuration has changed)"
        in stack.cli("stack", "diff", cwd=stack.folder, env={"GREETING": "moin"}).stdout
    )
    stack("up", "-d", env={"GREETING": "moin"})
    after = stack.ids()
    assert {name for name in after if after[name] != before[name]} == {"web-1"}
    assert stack("exec", "web", "sh", "-c", "echo $GREETING", env={"GREETING": "moin"}).stdout == "moin\n"


def test_up_again_asks_little_and_sees_every_difference(stack: Stack) -> None:
    """The second `up` needs no load of the stack; what has changed since is seen all the same."""
    stack.write("services: {web: {image: 'remembered:1', command: LOOP, environment: {A: '${A:-1}'}}}")
    stack.cli("tag", "busybox", "remembered:1")
    try:
        stack("up", "-d")
        before = stack.ids()
        assert stack("up", "-d").stderr == f" Container {stack.name}-web-1  Running\n"
        stack("stop", "-t", "0")
        assert "Started" in stack("up", "-d").stderr and stack.ids() == before
        stack.cli("rm", "-f", f"{stack.name}-web-1")
        assert "Created" in stack("up", "-d").stderr
        before = stack.ids()
        assert "Recreated" in stack("up", "-d", env={"A": "2"}).stderr and stack.ids() != before
        assert "Recreated" in stack("up", "-d").stderr
        stack.cli("build", "-q", "-t", "remembered:1", "-", input="FROM busybox\nLABEL new=1\n")
        assert "Recreated" in stack("up", "-d").stderr
        assert stack("up", "-d", "--scale", "web=2").stderr.count("Started") == 1
        assert "Removed" in stack("up", "-d").stderr
    finally:
        stack("down", "-t", "0")
        stack.cli("rmi", "-f", "remembered:1")


def test_recreated_containers_keep_anonymous_volumes_unless_asked(stack: Stack) -> None:
    stack.write(THREE)
    stack("up", "-d")
    stack("exec", "db", "touch", "/anonymous/kept")
    stack("up", "-d", "--force-recreate", "db")
    assert stack("exec", "db", "ls", "/anonymous").stdout == "kept\n"
    stack("up", "-d", "--force-recreate", "-V", "db")
    assert stack("exec", "db", "ls", "/anonymous").stdout == ""


def test_down_keeps_named_volumes_until_v(stack: Stack) -> None:
    stack.write(THREE)
    stack("up", "-d")
    stack("down")
    assert stack.containers("-a") == {}
    stack("up", "-d")
    assert stack("exec", "db", "cat", "/data/log").stdout == "migrated\nmigrated\n"
    stack("down", "-v")
    assert stack("volumes", "-q").stdout == ""
    assert f"{stack.name}_default" not in stack.cli("network", "ls").stdout


def test_scale_makes_and_removes_containers(stack: Stack) -> None:
    stack.write("services: {web: {image: busybox, command: LOOP, deploy: {replicas: 2}}}")
    stack("up", "-d")
    assert set(stack.containers()) == {"web-1", "web-2"}
    stack("up", "-d", "--scale", "web=3")
    assert set(stack.containers()) == {"web-1", "web-2", "web-3"}
    stack("scale", "web=1")
    assert set(stack.containers()) == {"web-1"}


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


def test_a_failing_dependency_is_told_and_nothing_starts_after_it(stack: Stack) -> None:
    stack.write(
        """
        services:
          web: {image: busybox, command: LOOP, depends_on: {job: {condition: service_completed_successfully}}}
          job: {image: busybox, command: [sh, -c, "exit 3"]}
        """
    )
    failed = stack("up", "-d", check=False)
    assert failed.returncode == 1
    assert (
        f"dependency failed to start: container {stack.name}-job-1 didn't complete successfully: exit 3"
        in failed.stderr
    )
    assert stack.containers("-a")["web-1"]["State"] == "created"


def test_an_optional_dependency_may_fail(stack: Stack) -> None:
    stack.write(
        """
        services:
          web:
            image: busybox
            command: LOOP
            depends_on: {job: {condition: service_completed_successfully, required: false}}
          job: {image: busybox, command: [sh, -c, "exit 3"]}
        """
    )
    assert "optional dependency 'job'" in stack("up", "-d").stderr
    assert stack.containers()["web-1"]["State"] == "running"


def test_dependents_restart_with_what_they_depend_on(stack: Stack) -> None:
    stack.write(
        """
        services:
          web: {image: busybox, command: LOOP, depends_on: {db: {condition: service_started, restart: true}}}
          db: {image: busybox, command: LOOP, environment: {A: "${A:-1}"}}
        """
    )
    stack("up", "-d")
    before = stack.ids()
    told = stack("up", "-d", env={"A": "2"}).stderr
    after = stack.ids()
    assert before["db-1"] != after["db-1"] and before["web-1"] == after["web-1"]
    assert "web-1  Stopped" in told and "web-1  Started" in told


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


def test_run_is_a_container_of_its_own_with_the_commands_exit_code(stack: Stack) -> None:
    stack.write(THREE)
    done = stack("run", "--rm", "-e", "MORE=1", "web", "sh", "-c", "echo $GREETING$MORE; exit 4", check=False)
    assert (done.returncode, done.stdout) == (4, "hello1\n")
    assert set(stack.containers()) == {"db-1"}
    name = stack("run", "-d", "--name", f"{stack.name}-once", "web").stdout.strip()
    assert name == f"{stack.name}-once"
    assert "once" in stack.containers("-a")
    assert "orphan" not in stack("up", "-d").stderr


def test_logs_have_names_before_the_lines(stack: Stack) -> None:
    stack.write(
        """
        services:
          a: {image: busybox, command: [sh, -c, "echo one; echo two >&2"]}
          longer: {image: busybox, command: [echo, three]}
        """
    )
    stack("up", "-d", "--wait")
    told = stack("logs")
    assert "a-1       | one\n" in told.stdout and "longer-1  | three\n" in told.stdout
    assert "a-1       | two\n" in told.stderr
    assert stack("logs", "--no-log-prefix", "longer").stdout == "three\n"


def test_attached_up_shows_output_and_ends_with_the_containers(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: [sh, -c, 'echo working; exit 5']}}")
    done = stack("up", "--exit-code-from", "a", check=False)
    assert "a-1  | working" in done.stdout and "a-1 exited with code 5" in done.stdout
    assert done.returncode == 5
    assert stack("up").returncode == 0


def test_ctrl_c_stops_everything(stack: Stack) -> None:
    stack.write('services: {a: {image: busybox, command: [sh, -c, "echo begun; ' + LOOP + '"]}}')
    process = subprocess.Popen(
        [stack.cli.program, "up"],
        cwd=stack.folder,
        env=stack.cli.environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert "begun" in process.stdout.readline()
    process.send_signal(signal.SIGINT)
    out, told = process.communicate(timeout=30)
    assert process.returncode == 0, told
    assert "Gracefully stopping" in told and "a-1 exited with code 0" in out
    assert stack.containers() == {}


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


def test_a_terminal_shows_a_tree_with_states_and_last_lines(stack: Stack, terminal: Callable[..., Any]) -> None:
    stack.write(
        """
        services:
          web: {image: busybox, command: LOOP, depends_on: {job: {condition: service_completed_successfully}}}
          job: {image: busybox, command: [sh, -c, "echo from the job; sleep 0.5"]}
        """
    )
    shown = terminal(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "up", "-d")
    shown.expect("services")
    shown.expect("from the job", 20)
    shown.expect(f"{stack.name}-web-1.*Started", 20)
    assert shown.wait(20) == 0


def test_orphans_are_told_and_removed_only_on_request(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP}, b: {image: busybox, command: LOOP}}")
    stack("up", "-d")
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    assert "orphan" in stack("up", "-d").stderr
    assert set(stack.containers()) == {"a-1", "b-1"}
    stack("up", "-d", "--remove-orphans")
    assert set(stack.containers()) == {"a-1"}


def test_build_sections_are_built_once_and_again_when_asked(stack: Stack) -> None:
    (stack.folder / "Dockerfile").write_text("FROM busybox\nARG WHO=nobody\nRUN echo $WHO > /who\n")
    stack.write(
        """
        services:
          a: {build: {context: ., args: {WHO: alice}}, command: LOOP}
          b:
            build: {dockerfile_inline: "FROM busybox\\nRUN echo inline > /who\\n", tags: ["TAG:x"]}
            image: IMAGE
            command: LOOP
        """.replace("TAG", stack.name).replace("IMAGE", f"{stack.name}/b")
    )
    stack("up", "-d")
    assert stack("exec", "a", "cat", "/who").stdout == "alice\n"
    assert stack("exec", "b", "cat", "/who").stdout == "inline\n"
    before = stack.ids()
    (stack.folder / "Dockerfile").write_text("FROM busybox\nRUN echo bob > /who\n")
    stack("up", "-d", "--no-build")
    assert stack.ids() == before
    stack("up", "-d", "--build")
    assert stack("exec", "a", "cat", "/who").stdout == "bob\n"
    after = stack.ids()
    assert before["a-1"] != after["a-1"] and before["b-1"] == after["b-1"]
    stack("down", "--rmi", "local")
    assert f"{stack.name}-a" not in stack.cli("images").stdout
    stack.cli("rmi", f"{stack.name}/b", f"{stack.name}:x")


def test_builds_get_secrets_from_files_env_and_dot_env(stack: Stack) -> None:
    (stack.folder / "token.txt").write_text("from a file")
    (stack.folder / ".env").write_text("TOKEN_OF_TEST=from dot env")
    (stack.folder / "Dockerfile").write_text(
        "FROM busybox\nRUN --mount=type=secret,id=file --mount=type=secret,id=env,target=/env \\\n"
        " cat /run/secrets/file /env > /seen\n"
    )
    stack.write(
        """
        services: {a: {build: {context: ., secrets: [file, {source: token, target: env}]}, command: LOOP}}
        secrets: {file: {file: token.txt}, token: {environment: TOKEN_OF_TEST}}
        """
    )
    stack("up", "-d")
    assert stack("exec", "a", "cat", "/seen").stdout == "from a filefrom dot env"
    stack("down", "--rmi", "local")


def test_builds_take_files_from_other_contexts_and_from_other_services_images(stack: Stack) -> None:
    (stack.folder / "more").mkdir()
    (stack.folder / "more/file").write_text("from a directory\n")
    (stack.folder / "Dockerfile").write_text(
        "FROM busybox AS first\nCOPY --from=dir file /a\nCOPY --from=base /b /b\nFROM first\n"
        "RUN test $(ulimit -n) = 1000; grep -q 'pinned$' /etc/hosts; df -k /dev/shm | grep -q 8192\n"
    )
    stack.write(
        """
        services:
          web:
            build:
              context: .
              additional_contexts: {dir: ./more, base: "service:base"}
              platforms: [linux/s390x, "linux/ARCH"]
              labels: {made: here}
              ulimits: {nofile: 1000}
              shm_size: 8m
              extra_hosts: ["pinned=1.2.3.4"]
              network: none
              no_cache_filter: [first]
              privileged: false
            command: LOOP
          base:
            profiles: [build]
            build: {dockerfile_inline: "FROM busybox\\nRUN echo from a service > /b\\n"}
        """.replace("ARCH", {"x86_64": "amd64", "aarch64": "arm64"}.get(os.uname().machine, os.uname().machine))
    )
    told = stack("run", "--rm", "web", "cat", "/a", "/b")
    assert told.stdout == "from a directory\nfrom a service\n"
    assert told.stderr.index("base  Built") < told.stderr.index("web  Building")
    assert f"{stack.name}-base" in stack.cli("images").stdout
    stack("--profile", "*", "down", "--rmi", "local")


def test_services_share_the_steps_of_their_builds(stack: Stack) -> None:
    inline = 'dockerfile_inline: "FROM busybox\\nRUN cat /proc/sys/kernel/random/uuid > /id\\n"'
    stack.write(f"services: {{a: {{build: {{{inline}}}, command: LOOP}}, b: {{build: {{{inline}}}, command: LOOP}}}}")
    stack("up", "-d")
    assert stack("exec", "a", "cat", "/id").stdout == stack("exec", "b", "cat", "/id").stdout
    stack("down", "--rmi", "local")


def test_start_first_replaces_without_a_gap(stack: Stack) -> None:
    stack.write(
        """
        services:
          a:
            image: busybox
            command: LOOP
            environment: {V: "${V:-1}"}
            healthcheck: {test: [CMD, "true"], interval: 1s, start_period: 5s, start_interval: 100ms}
            deploy: {update_config: {order: start-first}}
        """
    )
    stack("up", "-d")
    told = stack("up", "-d", env={"V": "2"}).stderr
    healthy = told.index("a-1  Healthy")
    assert told.index("a-1  Started") < healthy
    assert stack("exec", "a", "sh", "-c", "echo $V", env={"V": "2"}).stdout == "2\n"
    assert set(stack.containers("-a")) == {"a-1"}


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


def test_external_networks_and_volumes_must_be_there_and_stay(stack: Stack) -> None:
    name = f"{stack.name}-outside"
    stack.write(
        f"""
        services: {{a: {{image: busybox, command: LOOP, networks: [n], volumes: ["v:/v"]}}}}
        networks: {{n: {{external: true, name: {name}}}}}
        volumes: {{v: {{external: true, name: {name}}}}}
        """
    )
    failed = stack("up", "-d", check=False)
    assert f"network {name} declared as external, but could not be found" in failed.stderr
    stack.cli("network", "create", name)
    stack.cli("volume", "create", name)
    stack("up", "-d")
    stack("down", "-v")
    assert name in stack.cli("network", "ls", "--format", "{{.Name}}").stdout.split()
    stack.cli("network", "rm", name)
    stack.cli("volume", "rm", name)


def test_profiles_and_a_service_by_its_name(stack: Stack) -> None:
    stack.write(
        "services: {a: {image: busybox, command: LOOP}, b: {image: busybox, command: LOOP, profiles: [extra]}}"
    )
    stack("up", "-d")
    assert set(stack.containers()) == {"a-1"}
    stack("up", "-d", "b")
    assert set(stack.containers()) == {"a-1", "b-1"}
    stack("--profile", "extra", "down")
    assert stack.containers() == {}


def test_stop_start_restart_pause_kill_rm(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    stack("create")
    assert stack.containers("-a")["a-1"]["State"] == "created"
    for verb, state in (
        (("start",), "running"),
        (("pause",), "paused"),
        (("unpause",), "running"),
        (("restart",), "running"),
        (("kill", "-s", "KILL"), "exited"),
        (("start",), "running"),
        (("stop", "-t", "1"), "exited"),
    ):
        stack(*verb)
        if verb[0] == "kill":
            stack("wait", "a", check=False)
        assert stack.containers("-a")["a-1"]["State"] == state, verb
    stack("rm", "-f")
    assert stack.containers("-a") == {}


def test_cp_port_top_images_ls(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP, ports: ['127.0.0.1::80']}}")
    stack("up", "-d")
    stack("cp", "compose.yaml", "a:/copied")
    stack("cp", "a:/copied", "back.yaml")
    assert (stack.folder / "back.yaml").read_text() == (stack.folder / "compose.yaml").read_text()
    assert re.fullmatch(r"127.0.0.1:\d+\n", stack("port", "a", "80").stdout)
    assert "sleep" in stack("top").stdout
    assert "busybox" in stack("images").stdout
    assert stack.name in stack("ls", "-q").stdout.split()


def test_a_name_that_others_have_is_told_with_a_remedy(stack: Stack) -> None:
    stack.cli("create", "--name", f"{stack.name}-a-1", "busybox", "true")
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    failed = stack("up", "-d", check=False)
    assert failed.returncode == 1 and "already in use" in failed.stderr
    stack.cli("rm", f"{stack.name}-a-1")


def test_faults_of_the_file_are_told_with_their_place(stack: Stack) -> None:
    stack.write("services:\n  web:\n    image: busybox\n    prots: ['80:80']\n")
    failed = stack("up", "-d", check=False)
    assert failed.returncode == 1
    assert "compose.yaml:4:5: services.web: additional properties 'prots' not allowed" in failed.stderr
    assert "did you mean ports?" in failed.stderr


def test_watch_syncs_restarts_and_rebuilds(stack: Stack, background: Callable[..., subprocess.Popen[bytes]]) -> None:
    (stack.folder / "src").mkdir()
    (stack.folder / "src" / "a.txt").write_text("one")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nCOPY version /version\n")
    (stack.folder / "version").write_text("1")
    stack.write(
        """
        services:
          a:
            build: .
            command: LOOP
            develop:
              watch:
                - {path: ./src, action: sync, target: /app}
                - {path: ./version, action: rebuild}
        """
    )
    stack("up", "-d")
    watching = background(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "watch", "--no-up")
    assert watching.stdout is not None
    assert b"Watch enabled" in watching.stdout.readline()
    (stack.folder / "src" / "a.txt").write_text("changed")
    assert b"Syncing service 'a'" in watching.stdout.readline()
    eventually(lambda: stack("exec", "a", "cat", "/app/a.txt", check=False).stdout == "changed")
    (stack.folder / "version").write_text("2")
    eventually(lambda: stack("exec", "a", "cat", "/version", check=False).stdout == "2")
    watching.send_signal(signal.SIGINT)
    assert watching.wait(20) == 0


def eventually(test: Callable[[], bool]) -> None:
    for _ in range(100):
        if test():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about")


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


def test_every_verb_can_be_tried_dry(stack: Stack) -> None:
    stack.write("services: {web: {build: {dockerfile_inline: 'FROM busybox'}, image: 'x.example/y', command: LOOP}}")
    for verb in ("build", "pull", "push", "create", "up"):
        assert stack("--dry-run", verb).returncode == 0
    assert "x.example/y" not in stack.cli("images").stdout and stack.containers("-a") == {}
    assert "push x.example/y" in stack("--dry-run", "push").stdout
    assert "Container" in stack("--dry-run", "run", "web").stdout
    stack.write("services: {web: {image: busybox, command: LOOP}}")
    stack("up", "-d")
    for words in (("exec", "web", "touch", "/made"), ("cp", "compose.yaml", "web:/made"), ("kill",), ("rm", "-sf")):
        assert "DRY-RUN MODE" in "".join((done := stack("--dry-run", *words)).stdout + done.stderr)
    assert stack("exec", "web", "ls", "/made", check=False).returncode == 1
    told = stack("stop", "-t", "0", env={"COMPOSE_STATUS_STDOUT": "1"})
    assert "Stopped" in told.stdout and told.stderr == ""


def test_dry_run_changes_nothing(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    assert "a-1: create" in stack("--dry-run", "up", "-d").stdout
    assert stack.containers("-a") == {}
    stack("up", "-d")
    for words in (("stop",), ("kill",), ("restart",), ("rm", "-sf"), ("down", "-v"), ("pause",)):
        assert "DRY-RUN" in stack("--dry-run", *words).stderr
    assert stack.containers()["a-1"]["State"] == "running"
    assert "not possible" in stack("--dry-run", "wait", "a", check=False).stderr


def test_up_watch_shows_output_and_follows_rebuilt_containers(
    stack: Stack, background: Callable[..., subprocess.Popen[bytes]]
) -> None:
    (stack.folder / "version").write_text("1")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nCOPY version /version\n")
    stack.write(
        """
        services:
          a:
            build: .
            command: [sh, -c, "echo version $$(cat /version); LOOP_"]
            develop: {watch: [{path: ./version, action: rebuild}]}
        """.replace("LOOP_", LOOP)
    )
    running = background(stack.cli, "compose", "-f", str(stack.folder / "compose.yaml"), "up", "--watch")
    assert running.stdout is not None
    seen = b""
    while b"version 1" not in seen or b"Watch enabled" not in seen:
        line = running.stdout.readline()
        assert line, seen
        seen += line
    (stack.folder / "version").write_text("2")
    while b"version 2" not in seen:
        line = running.stdout.readline()
        assert line, seen
        seen += line
    running.send_signal(signal.SIGINT)
    running.communicate(timeout=30)
    assert running.returncode == 0
    assert stack.containers() == {}


def needs_plugin(test: Any) -> Any:
    """Leave a test out where there is no plugin to compare with."""
    return test if PLUGIN is not None else None


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


@pytest.fixture
def plugin(daemon: Any, stack: Stack) -> Callable[..., subprocess.CompletedProcess[str]]:
    """The stock `docker compose` in the stack's directory, on our daemon."""
    assert PLUGIN is not None
    run = Program(PLUGIN, {**daemon.environment, "DOCKER_HOST": daemon.host})

    def call(*words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        return run(*words, cwd=stack.folder, **options)

    return call


def hashes_alike(plugin: Callable[..., subprocess.CompletedProcess[str]]) -> bool:
    """Whether this version computes the hash that we compute: older ones also hashed depends_on."""
    major, minor = plugin("version", "--short").stdout.strip().lstrip("v").split(".")[:2]
    return (int(major), int(minor)) >= (2, 40)


@needs_plugin
def test_docker_compose_brings_the_same_stack_up_and_sees_ours(
    stack: Stack, plugin: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    stack.write(THREE)
    stack("up", "-d")
    ours = stack.ids()
    plugin("up", "-d")
    assert set(stack.ids()) == set(ours)
    assert stack.ids() == ours or not hashes_alike(plugin)
    plugin("down")
    assert stack.containers("-a") == {}
    plugin("up", "-d")
    theirs = stack.ids()
    stack("up", "-d")
    assert set(stack.ids()) == set(theirs)
    assert stack.ids() == theirs or not hashes_alike(plugin)


@needs_plugin
def test_docker_compose_prints_the_same_config(
    stack: Stack, plugin: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    stack.write(THREE)
    assert stack("config").stdout == plugin("config").stdout
    hashes = stack("config", "--hash", "*").stdout, plugin("config", "--hash", "*").stdout
    assert hashes[0] == hashes[1] or not hashes_alike(plugin)
    assert json.loads(stack("config", "--format", "json").stdout) == json.loads(
        plugin("config", "--format", "json").stdout
    )


def test_up_builds_anew_what_was_made_of_other_files(stack: Stack) -> None:
    """docker compose leaves an image as it is until `--build`; its users ask for this more than for anything else."""
    (stack.folder / "src").mkdir()
    (stack.folder / "src" / "app.txt").write_text("one")
    (stack.folder / "notes.txt").write_text("not part of it")
    (stack.folder / ".dockerignore").write_text("notes.txt\n")
    (stack.folder / "Dockerfile").write_text("FROM busybox\nARG V\nCOPY src /src\nRUN echo $V > /v\n")
    stack.write(
        """
        services:
          a: {build: {context: ., args: {V: "${V:-1}"}}, command: LOOP}
          b: {build: {dockerfile_inline: "FROM busybox", context: ./other}, command: LOOP}
        """
    )
    (stack.folder / "other").mkdir()
    stack("up", "-d")
    image = f"{stack.name}-a"
    before = stack.ids()

    (stack.folder / "notes.txt").write_text("changed")
    assert "Building" not in stack("up", "-d").stderr

    (stack.folder / "src" / "app.txt").write_text("two")
    assert f"Image {image}: build (context changed: src/app.txt)" in stack("--dry-run", "up", "-d").stdout
    assert (
        f"Image {image}: build (context changed: src/app.txt)" in stack.cli("stack", "diff", cwd=stack.folder).stdout
    )
    assert "Building" not in stack("up", "-d", "--no-build").stderr and stack.ids() == before
    told = stack("up", "-d").stderr
    assert (
        f"Image {image}  Building (context changed: src/app.txt)" in told and f"{stack.name}-b  Building" not in told
    )
    assert stack("exec", "a", "cat", "/src/app.txt").stdout == "two"
    after = stack.ids()
    assert after["a-1"] != before["a-1"] and after["b-1"] == before["b-1"]

    assert f"Image {image}  Building (build.args changed)" in stack("up", "-d", env={"V": "2"}).stderr
    assert stack("exec", "a", "cat", "/v", env={"V": "2"}).stdout == "2\n"
    stack("up", "-d")
    before = stack.ids()
    os.utime(stack.folder / "src" / "app.txt")
    assert "Building" in stack("up", "-d").stderr and stack.ids() == before  # looked at, and the same
    assert "Building" not in stack("up", "-d").stderr

    stack.cli("build", "-q", "-t", image, "-", input="FROM busybox\nLABEL by=hand\n")
    (stack.folder / "src" / "app.txt").write_text("three")
    assert "Building" not in stack("up", "-d").stderr, "another's image is left alone"


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


def test_config_explains_where_a_variable_comes_from(stack: Stack) -> None:
    stack.write("services: {a: {image: 'x:$TAG'}}")
    (stack.folder / ".env").write_text("TAG=1\nOTHER=2\n")
    told = stack("config", "--explain", "TAG", "--explain", "OTHER", "--explain", "NONE", env={"TAG": "3"}).stdout
    env = stack.folder / ".env"
    assert told == f"TAG=3 (from the environment)\n  not 1 (from {env})\nOTHER=2 (from {env})\nNONE is not set\n"


def test_build_makes_an_index_of_all_platforms_and_up_takes_it(stack: Stack) -> None:
    (stack.folder / "f").write_text("1")
    stack.write(
        """
        services:
          a:
            build: {dockerfile_inline: "FROM scratch\\nCOPY f /f\\n", platforms: [linux/amd64, linux/arm64]}
            command: [/f]
            network_mode: none
        """
    )
    image = f"{stack.name}-a"
    stack("build")
    for platform, architecture in (("linux/amd64", "amd64"), ("linux/arm64", "arm64")):
        (found,) = json.loads(stack.cli("image", "inspect", "--platform", platform, image).stdout)
        assert found["Architecture"] == architecture
    assert "Building" not in stack("up", "--no-start").stderr
    (stack.folder / "f").write_text("2")
    assert "Building (context changed: f)" in stack("up", "--no-start").stderr
    stack("down", "--rmi", "local")
