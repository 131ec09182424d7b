"""Everybody's clients and our server: skopeo, podman, buildah, oras."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

import pytest

from tests.compare.run import Dockerd


def _layers(cli: Any, image: str) -> Any:
    return json.loads(cli("image", "inspect", image).stdout)[0]["RootFS"]["Layers"]


def _run(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, (command, done.stdout, done.stderr)
    return done.stdout


def test_skopeo_copies_to_and_from_our_server(
    cli: Any, busybox_image: str, registry: str, unique: str, tmp_path: Path
) -> None:
    if shutil.which("skopeo") is None:
        pytest.skip("there is no skopeo on this machine")
    archive = tmp_path / "busybox.tar"
    cli("save", "-o", str(archive), busybox_image)
    name = f"{registry}/{unique}/skopeo"
    plain = "--dest-tls-verify=false"
    _run("skopeo", "copy", plain, f"docker-archive:{archive}", f"docker://{name}:docker")
    _run("skopeo", "copy", plain, "--format", "oci", f"docker-archive:{archive}", f"docker://{name}:oci")
    _run(
        "skopeo", "copy", plain, "--format", "oci", "--dest-compress-format", "zstd", "--dest-compress",
        f"docker-archive:{archive}", f"docker://{name}:zstd",
    )  # fmt: skip
    _run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}:oci", f"oci:{tmp_path}/layout:x")
    _run("skopeo", "copy", "--src-tls-verify=false", plain, f"docker://{name}:oci", f"docker://{name}-copy:1")
    listed = json.loads(_run("skopeo", "list-tags", "--tls-verify=false", f"docker://{name}"))
    assert listed["Tags"] == ["docker", "oci", "zstd"]
    identity = cli("images", "-q", "--no-trunc", busybox_image).stdout
    for tag in listed["Tags"]:
        cli("pull", "-q", f"{name}:{tag}")
        assert cli("run", "--rm", f"{name}:{tag}", "echo", tag).stdout == f"{tag}\n"
    assert _layers(cli, f"{name}:zstd") == _layers(cli, busybox_image)
    assert identity
    digest = json.loads(_run("skopeo", "inspect", "--tls-verify=false", f"docker://{name}:docker"))["Digest"]
    _run("skopeo", "delete", "--tls-verify=false", f"docker://{name}@{digest}")
    listed = json.loads(_run("skopeo", "list-tags", "--tls-verify=false", f"docker://{name}"))
    assert listed["Tags"] == ["oci", "zstd"]


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_skopeo_inspects_and_deletes(cli: Any, busybox_image: str, registry: str, unique: str) -> None:
    name = f"{registry}/{unique}/gone"
    cli("tag", busybox_image, f"{name}:1")
    cli("push", "-q", f"{name}:1")

    def skopeo(verb: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["skopeo", verb, "--tls-verify=false", f"docker://{name}:1"], capture_output=True, text=True
        )

    assert json.loads(skopeo("inspect").stdout)["RepoTags"] == ["1"]
    assert skopeo("delete").returncode == 0
    assert "manifest unknown" in skopeo("inspect").stderr
    assert "does not exist" in cli("image", "tags", name, check=False).stderr


@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dockerd") or not shutil.which("docker"), reason="needs root and a dockerd"
)
def test_dockers_own_daemon(cli: Any, busybox_image: str, registry: str, unique: str, tmp_path: Path) -> None:
    """It pulls what we pushed, pushes, finds its layers there already, and we pull that."""
    name = f"{registry}/{unique}/dockerd"
    cli("tag", busybox_image, f"{name}:1")
    cli("push", "-q", f"{name}:1")
    dockerd = Dockerd(alone=False)
    docker = ["docker", "-H", f"unix://{dockerd.socket}", "--config", str(tmp_path)]
    try:
        assert "Downloaded newer image" in _run(*docker, "pull", f"{name}:1")
        identity = _run(*docker, "inspect", "-f", "{{.Id}}", f"{name}:1")
        _run(*docker, "tag", f"{name}:1", f"{name}:2")
        assert "Layer already exists" in _run(*docker, "push", f"{name}:2")
        _run(*docker, "tag", f"{name}:1", f"{name}-elsewhere:1")
        assert "Mounted from" in _run(*docker, "push", f"{name}-elsewhere:1")
    finally:
        dockerd.close()
    assert identity == cli("images", "-q", "--no-trunc", busybox_image).stdout
    cli("rmi", f"{name}:1")
    for each in (f"{name}:2", f"{name}-elsewhere:1"):
        cli("pull", each)
        assert cli("run", "--rm", each, "echo", "back").stdout == "back\n"


@pytest.mark.parametrize("program", ["podman", "buildah"])
def test_podman_and_buildah(
    cli: Any, busybox_image: str, registry: str, unique: str, tmp_path: Path, program: str
) -> None:
    if shutil.which(program) is None:
        pytest.skip(f"there is no {program} on this machine")
    name = f"{registry}/{unique}/{program}"
    cli("tag", busybox_image, f"{name}:1")
    cli("push", f"{name}:1")
    run = tempfile.mkdtemp(prefix="bt-reg-", dir="/tmp")  # podman wants this path to be short
    own = [program, "--root", str(tmp_path / "root"), "--runroot", run, "--storage-driver", "vfs"]
    try:
        _run(*own, "pull", "--tls-verify=false", f"{name}:1")
        _run(*own, "push", "--tls-verify=false", f"{name}:1", f"docker://{name}:2")
    finally:
        subprocess.run([*own, "rmi", "-f", f"{name}:1"], capture_output=True, check=False, timeout=60)
        shutil.rmtree(run, ignore_errors=True)
    cli("pull", f"{name}:2")
    assert cli("run", "--rm", f"{name}:2", "echo", "back").stdout == "back\n"


def test_oras_py_pushes_and_pulls_artifacts(registry: str, unique: str, tmp_path: Path) -> None:
    """The Python client of the ORAS project: an artifact, its tags, and something that refers to it."""
    client = pytest.importorskip("oras.client").OrasClient(insecure=True)
    (tmp_path / "chart.txt").write_text("some chart")
    name = f"{registry}/{unique}/artifact:1"
    pushed = client.push(
        name,
        files=[f"{tmp_path}/chart.txt:text/plain"],
        disable_path_validation=True,
        manifest_annotations={"a": "b"},
    )
    assert pushed.status_code == 201
    (tmp_path / "out").mkdir()
    (pulled,) = client.pull(name, outdir=str(tmp_path / "out"))
    assert Path(pulled).read_text() == "some chart"
    assert client.get_tags(f"{registry}/{unique}/artifact") == ["1"]
