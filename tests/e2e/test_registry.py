"""Push, pull, run and build with a registry; what goes wrong, in Docker's words."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.e2e.conftest import free_port


def _layers(cli: Any, image: str) -> Any:
    return json.loads(cli("image", "inspect", image).stdout)[0]["RootFS"]["Layers"]


def test_push_pull_run_and_build_from_a_registry(
    cli: Any, busybox_image: str, registry: str, unique: str, tmp_path: Path
) -> None:
    name = f"{registry}/{unique}/tools"
    cli("tag", busybox_image, f"{name}:1")
    before = cli("images", "-q", "--no-trunc", busybox_image).stdout

    pushed = cli("push", f"{name}:1").stdout
    assert f"The push refers to repository [{name}]" in pushed and "1: digest: sha256:" in pushed
    assert "Layer already exists" in cli("push", f"{name}:1").stdout
    cli("rmi", f"{name}:1")

    pulled = cli("pull", f"{name}:1").stdout.splitlines()
    assert pulled[0] == f"1: Pulling from {unique}/tools" and pulled[-1] == f"{name}:1"
    assert pulled[-2] == f"Status: Downloaded newer image for {name}:1"
    assert cli("images", "-q", "--no-trunc", f"{name}:1").stdout == before
    again = cli("pull", f"{name}:1").stdout.splitlines()
    assert again[-2] == f"Status: Image is up to date for {name}:1"
    assert cli("pull", "-q", f"{name}:1").stdout == f"{name}:1\n"

    cli("rmi", f"{name}:1")
    ran = cli("run", "--rm", f"{name}:1", "echo", "hello")
    assert ran.stdout == "hello\n" and f"Unable to find image '{name}:1' locally" in ran.stderr

    cli("rmi", f"{name}:1")
    (tmp_path / "Dockerfile").write_text(f"FROM {name}:1\nCOPY Dockerfile /there\n")
    told = cli("build", "-t", unique, str(tmp_path)).stderr
    assert f"Status: Downloaded newer image for {name}:1" in told
    assert len(_layers(cli, unique)) == 2
    cli("build", "-q", "--pull", "-t", unique, str(tmp_path))


def test_layers_that_nothing_needed_come_with_the_first_container(
    cli: Any, daemon: Any, busybox_image: str, registry: str, unique: str, tmp_path: Path
) -> None:
    """A build of configuration fetches no layer; run, save and COPY --from bring what they need."""
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox_image}\nRUN echo {unique} > /own\n")
    name = f"{registry}/{unique}/lazy:1"
    cli("build", "-q", "-t", name, str(tmp_path))
    cli("push", name)
    cli("rmi", name)
    cli("builder", "prune", "-af")
    (tmp_path / "Dockerfile").write_text(f"FROM {name}\nENV A=1\n")
    told = cli("build", "-t", unique, str(tmp_path)).stderr
    assert f"Pulling from {unique}/lazy" in told and "Downloaded" not in told

    assert cli("run", "--rm", unique, "cat", "/own").stdout == f"{unique}\n"
    cli("save", "-o", str(tmp_path / "saved.tar"), unique)
    assert (tmp_path / "saved.tar").stat().st_size > 100_000


def test_a_base_image_that_no_registry_has(cli: Any, registry: str, unique: str, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {registry}/{unique}/nothing:1\n")
    failed = cli("build", str(tmp_path), check=False)
    assert failed.returncode == 1
    assert "Dockerfile:1:6: base image" in failed.stderr and "cannot be pulled: manifest for" in failed.stderr


def test_errors_in_dockers_words(cli: Any, registry: str, unique: str) -> None:
    for words, text in (
        (["pull", f"{registry}/{unique}:1"], f"manifest for {registry}/{unique}:1 not found: manifest unknown"),
        (["push", f"{registry}/{unique}:1"], f"tag does not exist: {registry}/{unique}:1"),
        (["push", f"{registry}/{unique}", "-a"], "An image does not exist locally with the tag"),
        (["pull", f"127.0.0.1:{free_port()}/x"], "Connection refused"),
        (["pull", f"{registry}/x:y", "-a"], "tag can't be used with --all-tags/-a"),
        (["pull", "lower/Case"], "must be lowercase"),
        (["search", f"127.0.0.1:{free_port()}/x"], "Connection refused"),
        (["search", "--limit", "0", "x"], "outside of the range"),
    ):
        done = cli(*words, check=False)
        assert done.returncode == 1 and text in done.stderr, done


def test_all_tags(cli: Any, busybox_image: str, registry: str, unique: str) -> None:
    name = f"{registry}/{unique}/many"
    for tag in ("a", "b"):
        cli("tag", busybox_image, f"{name}:{tag}")
    assert cli("push", "--all-tags", name).stdout.count("digest: sha256:") == 2
    cli("rmi", f"{name}:a", f"{name}:b")
    cli("pull", "-a", name)
    assert set(cli("images", name, "--format", "{{.Tag}}").stdout.split()) == {"a", "b"}


def test_the_stock_docker_cli(docker: Any, busybox_image: str, registry: str, unique: str) -> None:
    name = f"{registry}/{unique}/stock:1"
    docker("tag", busybox_image, name)
    assert "digest: sha256:" in docker("push", name).stdout
    docker("rmi", name)
    assert f"Downloaded newer image for {name}" in docker("pull", name).stdout
    assert docker("run", "--rm", name, "echo", "hi").stdout == "hi\n"


def test_what_a_registry_has_under_a_name(
    daemon: Any, cli: Any, busybox_image: str, registry: str, unique: str
) -> None:
    name = f"{registry}/{unique}/looked:1"
    cli("tag", busybox_image, name)
    pushed = cli("push", name).stdout
    found = daemon.request("GET", f"/distribution/{name}/json")
    assert found["Descriptor"]["digest"] in pushed and found["Platforms"][0]["os"] == "linux"
    status, body = daemon.raw("GET", f"/distribution/{registry}/{unique}/nothing:1/json")
    assert status == 404 and b"manifest unknown" in body


def test_docker_searches_a_registry(docker: Any, cli: Any, busybox_image: str, registry: str, unique: str) -> None:
    cli("tag", busybox_image, f"{registry}/{unique}/findme:1")
    cli("push", "-q", f"{registry}/{unique}/findme:1")
    assert f"{registry}/{unique}/findme" in docker("search", f"{registry}/{unique}").stdout
