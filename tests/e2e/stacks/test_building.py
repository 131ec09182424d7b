"""Images of services: built once, together, and anew when what they are made of has changed."""

from __future__ import annotations

import json
import os

import pytest

from tests.e2e.stacks.helpers import Stack, only_ours

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="stacks have networks of their own, which need root")


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


@only_ours
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


@only_ours
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


@only_ours
def test_services_share_the_steps_of_their_builds(stack: Stack) -> None:
    inline = 'dockerfile_inline: "FROM busybox\\nRUN cat /proc/sys/kernel/random/uuid > /id\\n"'
    stack.write(f"services: {{a: {{build: {{{inline}}}, command: LOOP}}, b: {{build: {{{inline}}}, command: LOOP}}}}")
    stack("up", "-d")
    assert stack("exec", "a", "cat", "/id").stdout == stack("exec", "b", "cat", "/id").stdout
    stack("down", "--rmi", "local")


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


@only_ours
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
