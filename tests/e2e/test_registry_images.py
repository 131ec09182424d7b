"""`manifest`, `image tags`, `image inspect --remote`, `image copy`: images of registries without a daemon's store."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def _index(cli: Any, image: str, name: str, environment: dict[str, str]) -> str:
    """Put a list of two manifests together and push it; its digest."""
    for tag in ("one", "two"):
        cli("tag", image, f"{name}:{tag}")
        cli("push", "-q", f"{name}:{tag}")
    cli("manifest", "create", f"{name}:all", f"{name}:one", env=environment)
    refused = cli("manifest", "create", f"{name}:all", f"{name}:two", env=environment, check=False)
    assert "no --amend flag" in refused.stderr
    cli("manifest", "create", "--amend", f"{name}:all", f"{name}:two", env=environment)
    cli("manifest", "annotate", "--arch", "arm64", "--variant", "v8", f"{name}:all", f"{name}:two", env=environment)
    return str(cli("manifest", "push", "--purge", f"{name}:all", env=environment).stdout.strip())


def test_manifest_lists_are_put_together_and_pushed(
    cli: Any, busybox_image: str, registry: str, unique: str, login_folder: dict[str, str]
) -> None:
    name = f"{registry}/{unique}/list"
    digest = _index(cli, busybox_image, name, login_folder)
    assert digest.startswith("sha256:")

    document = json.loads(cli("manifest", "inspect", f"{name}:all", env=login_folder).stdout)
    platforms = [entry["platform"] for entry in document["manifests"]]
    assert [one["architecture"] for one in platforms] == ["amd64", "arm64"] and platforms[1]["variant"] == "v8"
    verbose = json.loads(cli("manifest", "inspect", "-v", f"{name}:all", env=login_folder).stdout)
    assert [one["Descriptor"]["platform"]["architecture"] for one in verbose] == ["amd64", "arm64"]
    assert "No such manifest" in cli("manifest", "push", f"{name}:all", env=login_folder, check=False).stderr

    docker = shutil.which("docker")
    if docker:
        environment = {**os.environ, **login_folder, "DOCKER_CLI_EXPERIMENTAL": "enabled"}
        words = [docker, "manifest", "inspect", "--insecure", f"{name}:all"]
        theirs = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        old = "unsupported manifest" in theirs.stderr  # clients before 23 know no OCI index
        assert old or json.loads(theirs.stdout) == document, theirs.stderr


def test_looking_into_registries(
    cli: Any, busybox_image: str, registry: str, unique: str, login_folder: dict[str, str]
) -> None:
    name = f"{registry}/{unique}/look"
    digest = _index(cli, busybox_image, name, login_folder)

    assert cli("image", "tags", name).stdout.split() == ["all", "one", "two"]
    shape = json.loads(cli("image", "inspect", "--remote", f"{name}:all").stdout)[0]
    local = json.loads(cli("image", "inspect", busybox_image).stdout)[0]
    assert shape["Id"] == local["Id"] and shape["Config"] == local["Config"]
    assert shape["Descriptor"]["digest"] == digest and len(shape["Platforms"]) == 2
    assert cli("image", "inspect", "--remote", "-f", "{{.Os}}/{{.Architecture}}", f"{name}:all").stdout.strip() == (
        "linux/amd64"
    )
    assert f"{registry}/{unique}/look" in cli("search", f"{registry}/{unique}").stdout
    assert cli("search", "--format", "{{.Name}}", f"{registry}/no-such-{unique}").stdout == ""
    assert "no-such does not exist" in cli("image", "tags", f"{registry}/{unique}/no-such", check=False).stderr


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_copies_are_what_skopeo_reads_and_writes(
    cli: Any, busybox_image: str, registry: str, unique: str, login_folder: dict[str, str], tmp_path: Path
) -> None:
    name = f"{registry}/{unique}/copied"
    digest = _index(cli, busybox_image, name, login_folder)

    def skopeo(*words: str) -> str:
        run = subprocess.run(["skopeo", *words], capture_output=True, text=True)
        assert run.returncode == 0, run.stderr
        return run.stdout

    ours = {
        "oci": f"oci:{tmp_path}/a:1",
        "oci-archive": f"oci-archive:{tmp_path}/a.tar:1",
        "docker-archive": f"docker-archive:{tmp_path}/d.tar:example.com/app:1",
        "dir": f"dir:{tmp_path}/dir",
    }
    for place in ours.values():
        out = cli("image", "copy", "-q", f"docker://{name}:all", place).stdout
        assert out.strip() == digest or place.startswith("docker-archive")
        assert json.loads(skopeo("inspect", place))["Architecture"] == "amd64"
    for kind, place in ours.items():
        theirs = place.replace(f"{tmp_path}/", f"{tmp_path}/skopeo-")
        skopeo("copy", "-q", "--src-tls-verify=false", "--all", f"docker://{name}:all", theirs) if kind not in (
            "docker-archive",
        ) else skopeo("copy", "-q", "--src-tls-verify=false", f"docker://{name}:one", theirs)
        cli("image", "copy", "-q", theirs, f"docker://{name}:from-{kind}")
        found = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}:from-{kind}"))
        assert found["Architecture"] == "amd64"
    absent = cli("image", "copy", f"docker://{name}:absent", f"oci:{tmp_path}/z:1", check=False)
    assert f"{name}:absent does not exist" in absent.stderr and not (tmp_path / "z").exists()
    refused = cli("image", "copy", busybox_image, f"oci:{tmp_path}/z", check=False)
    assert refused.returncode == 1 and "write TRANSPORT:NAME" in refused.stderr
