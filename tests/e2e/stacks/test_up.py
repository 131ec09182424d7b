"""Stacks of real containers: brought up, changed and taken down."""

from __future__ import annotations

import os

import pytest

from tests.e2e.stacks.helpers import THREE, Stack

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


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


def test_orphans_are_told_and_removed_only_on_request(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP}, b: {image: busybox, command: LOOP}}")
    stack("up", "-d")
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    assert "orphan" in stack("up", "-d").stderr
    assert set(stack.containers()) == {"a-1", "b-1"}
    stack("up", "-d", "--remove-orphans")
    assert set(stack.containers()) == {"a-1"}


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


def test_dry_run_changes_nothing(stack: Stack) -> None:
    stack.write("services: {a: {image: busybox, command: LOOP}}")
    assert "a-1: create" in stack("--dry-run", "up", "-d").stdout
    assert stack.containers("-a") == {}
    stack("up", "-d")
    for words in (("stop",), ("kill",), ("restart",), ("rm", "-sf"), ("down", "-v"), ("pause",)):
        assert "DRY-RUN" in stack("--dry-run", *words).stderr
    assert stack.containers()["a-1"]["State"] == "running"
    assert "not possible" in stack("--dry-run", "wait", "a", check=False).stderr


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
