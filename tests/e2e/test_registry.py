"""Everybody's clients and everybody's registries: our CLI, docker's, skopeo, podman; our server and Debian's."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.conftest import free_port

HELPER = """#!/bin/sh
# a credential helper that keeps everything in one file
store="$(dirname "$0")/kept"
case "$1" in
store) cat > "$store" ;;
get) read -r server; grep -q "\\"$server\\"" "$store" 2>/dev/null && cat "$store" \\
     || { echo "credentials not found in native keychain"; exit 1; } ;;
erase) rm -f "$store" ;;
list) echo "{}" ;;
esac
"""


@pytest.fixture
def login_folder(tmp_path: Path) -> dict[str, str]:
    """The environment of a client with a config.json of its own."""
    return {"DOCKER_CONFIG": str(tmp_path / "docker")}


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


def test_the_daemons_images_as_a_registry(
    daemon: Any, cli: Any, busybox_image: str, start_registry: Callable[..., str], unique: str
) -> None:
    shared = start_registry("--share-store", root=daemon.data)
    cli("tag", busybox_image, f"{unique}:first")
    image = cli("images", "-q", "--no-trunc", busybox_image).stdout
    cli("pull", f"{shared}/{unique}:first")
    assert cli("images", "-q", "--no-trunc", f"{shared}/{unique}").stdout == image
    refused = cli("push", f"{shared}/{unique}:first", check=False)
    assert refused.returncode == 1


def test_logins_are_kept_used_and_forgotten(
    cli: Any, docker: Any, busybox_image: str, start_registry: Callable[..., str], unique: str,
    tmp_path: Path, login_folder: dict[str, str],
) -> None:  # fmt: skip
    bcrypt = pytest.importorskip("bcrypt")
    users = tmp_path / "users"
    users.write_text(f"alice:{bcrypt.hashpw(b'secret', bcrypt.gensalt(4)).decode()}\n")
    host = start_registry("--htpasswd", str(users))
    name = f"{host}/{unique}:1"
    cli("tag", busybox_image, name)
    config = Path(login_folder["DOCKER_CONFIG"]) / "config.json"

    denied = cli("push", name, check=False, env=login_folder)
    assert denied.returncode == 1 and "authentication required" in denied.stderr
    wrong = cli("login", "-u", "alice", "--password-stdin", host, input="wrong\n", check=False, env=login_folder)
    assert wrong.returncode == 1 and "incorrect username or password" in wrong.stderr and not config.exists()

    done = cli("login", "-u", "alice", "--password-stdin", host, input="secret\n", env=login_folder)
    assert done.stdout == "Login Succeeded\n" and "stored unencrypted" in done.stderr
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    assert list(json.loads(config.read_text())["auths"]) == [host]
    cli("push", name, env=login_folder)
    docker("push", name, env=login_folder)  # the same file serves docker
    (tmp_path / "context").mkdir()
    (tmp_path / "context" / "Dockerfile").write_text(f"FROM {name}\nLABEL a=b\n")
    cli("rmi", name)
    cli("build", "-q", "-t", unique, str(tmp_path / "context"), env=login_folder)
    cli("rmi", name)
    cli("run", "--rm", name, "true", env=login_folder)
    assert "Authenticating with existing credentials" in cli("login", host, env=login_folder).stdout

    assert cli("logout", host, env=login_folder).stdout == f"Removing login credentials for {host}\n"
    assert json.loads(config.read_text())["auths"] == {}
    assert cli("push", name, check=False, env=login_folder).returncode == 1


def test_credential_helpers_are_called(
    cli: Any, busybox_image: str, start_registry: Callable[..., str], unique: str, tmp_path: Path,
    login_folder: dict[str, str],
) -> None:  # fmt: skip
    helper = tmp_path / "bin" / "docker-credential-test"
    helper.parent.mkdir()
    helper.write_text(HELPER)
    helper.chmod(0o755)
    config = Path(login_folder["DOCKER_CONFIG"]) / "config.json"
    config.parent.mkdir()
    config.write_text('{"credsStore": "test", "detachKeys": "ctrl-x"}')
    environment = {**login_folder, "PATH": f"{helper.parent}:{os.environ['PATH']}"}
    host = start_registry()

    done = cli("login", "-u", "alice", "--password-stdin", host, input="secret", env=environment)
    assert done.stdout == "Login Succeeded\n" and "unencrypted" not in done.stderr
    kept = json.loads((helper.parent / "kept").read_text())
    assert kept == {"ServerURL": host, "Username": "alice", "Secret": "secret"}
    document = json.loads(config.read_text())
    assert document["auths"] == {host: {}} and document["detachKeys"] == "ctrl-x"
    name = f"{host}/{unique}:1"
    cli("tag", busybox_image, name)
    cli("push", name, env=environment)
    cli("logout", host, env=environment)
    assert not (helper.parent / "kept").exists()
    config.write_text('{"credsStore": "nowhere"}')
    missing = cli("push", name, check=False, env=environment)
    assert missing.returncode == 1 and "docker-credential-nowhere" in missing.stderr


def test_login_asks_only_on_a_terminal(cli: Any, registry: str, login_folder: dict[str, str]) -> None:
    for words, text in (
        (["login", registry], "Cannot perform an interactive login from a non TTY device"),
        (["login", "--password-stdin", registry], "Must provide --username with --password-stdin"),
        (["login", "-u", "x", "-p", "y", "--password-stdin", registry], "mutually exclusive"),
    ):
        done = cli(*words, check=False, env=login_folder)
        assert done.returncode == 1 and text in done.stderr


def test_the_servers_flags_are_checked(tmp_path: Path) -> None:
    program = str(Path(sys.executable).with_name("buildtool"))
    for words, text in (
        (["--tls-cert", "x"], "--tls-cert and --tls-key go together"),
        (["--addr", "nowhere"], "write HOST:PORT"),
        (["--anonymous-pull"], "means nothing without --htpasswd"),
        (["--tls-cert", "x", "--tls-key", "y"], "cannot use x with y"),
    ):
        command = [program, "registry", "serve", "--root", str(tmp_path), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
        assert done.returncode == 1 and text in done.stderr, done


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


RULES = """
groups: {team: [alice]}
rules:
  - {repositories: ["public/**"], anyone: [pull], groups: {team: [push, delete]}}
  - {repositories: ["team/**"], groups: {team: [pull, push]}}
"""


@pytest.fixture(scope="session")
def guarded(start_registry: Callable[..., str], tmp_path_factory: pytest.TempPathFactory) -> tuple[str, Path]:
    """A server with users and rules, and its root."""
    folder = tmp_path_factory.mktemp("guarded")
    program = str(Path(sys.executable).with_name("buildtool"))
    words = [program, "registry", "passwd", str(folder / "users"), "alice"]
    subprocess.run(words, input="secret\n", text=True, check=True)
    (folder / "rules").write_text(RULES)
    flags = [f"--htpasswd={folder}/users", f"--rules={folder}/rules", f"--audit-log={folder}/audit"]
    return start_registry(*flags, "--immutable-tags=v*", root=folder / "root"), folder


def test_docker_with_tokens_of_the_server_itself(
    docker: Any, cli: Any, busybox_image: str, guarded: tuple[str, Path], unique: str, login_folder: dict[str, str]
) -> None:
    """Login, push, what is public, what is not, and a tag that stays."""
    host, folder = guarded
    public, private = f"{host}/public/{unique}:v1", f"{host}/team/{unique}:1"
    for name in (public, private):
        cli("tag", busybox_image, name)
        assert docker("push", name, env=login_folder, check=False).returncode != 0
    docker("login", "-u", "alice", "--password-stdin", host, input="secret", env=login_folder)
    for name in (public, private):
        docker("push", name, env=login_folder)
    anonymous = {"DOCKER_CONFIG": str(folder)}
    docker("pull", public, env=anonymous)
    assert docker("pull", private, env=anonymous, check=False).returncode != 0

    words = ["registry", "token", "--root", str(folder / "root"), "--user", "ci", "--scope"]
    token = cli(*words, f"repository:team/{unique}:pull").stdout.strip()
    docker("login", "-u", "ci", "--password-stdin", host, input=token, env=login_folder)
    docker("pull", private, env=login_folder)
    refused = docker("push", private, env=login_folder, check=False)
    assert refused.returncode != 0 and "denied" in refused.stderr + refused.stdout
    assert "allows nothing" in cli(*words, "repository:x", check=False).stderr

    verified = cli("registry", "verify", "--root", str(folder / "root")).stdout
    assert "all well" in verified
    lines = [json.loads(line) for line in (folder / "audit").read_text().splitlines()]
    assert {"alice", "ci"} <= {one.get("user") for one in lines}
    assert "secret" not in (folder / "audit").read_text() and token not in (folder / "audit").read_text()


@pytest.mark.skipif(shutil.which("skopeo") is None, reason="needs skopeo")
def test_skopeo_with_tokens_deletes_and_lists(
    cli: Any, busybox_image: str, guarded: tuple[str, Path], unique: str, login_folder: dict[str, str], tmp_path: Path
) -> None:
    host, _ = guarded
    cli("login", "-u", "alice", "--password-stdin", host, input="secret", env=login_folder)
    name = f"{host}/public/{unique}"
    for tag in ("v1", "latest"):
        cli("tag", busybox_image, f"{name}:{tag}")
        cli("push", "-q", f"{name}:{tag}", env=login_folder)

    def skopeo(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["skopeo", *words], capture_output=True, text=True)

    listed = skopeo("list-tags", "--tls-verify=false", f"docker://{name}")
    assert json.loads(listed.stdout)["Tags"] == ["latest", "v1"], listed.stderr
    credentials = ["--tls-verify=false", "--creds", "alice:secret"]
    assert skopeo("delete", *credentials, f"docker://{name}:v1").returncode != 0  # immutable
    synced = skopeo("sync", "--src", "docker", "--dest", "dir", "--src-tls-verify=false", name, str(tmp_path))
    assert synced.returncode == 0, synced.stderr


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


def test_docker_searches_a_registry(docker: Any, cli: Any, busybox_image: str, registry: str, unique: str) -> None:
    cli("tag", busybox_image, f"{registry}/{unique}/findme:1")
    cli("push", "-q", f"{registry}/{unique}/findme:1")
    assert f"{registry}/{unique}/findme" in docker("search", f"{registry}/{unique}").stdout


def test_the_flags_of_the_command_are_those_of_the_server() -> None:
    from buildtool.cli.table.registry import COMMANDS
    from buildtool.registry.server.options import parser

    ours = {flag.name for flag in COMMANDS["registry serve"].flags}
    theirs = {option.removeprefix("--") for action in parser()._actions for option in action.option_strings}
    assert ours == theirs - {"h", "-h", "help"}


def test_a_server_caches_docker_hub_or_anybody(
    cli: Any, busybox_image: str, registry: str, start_registry: Callable[..., str], unique: str
) -> None:
    cli("tag", busybox_image, f"{registry}/{unique}/app:1")
    cli("push", "-q", f"{registry}/{unique}/app:1")
    mirror = start_registry(f"--mirror=up={registry}")
    name = f"{mirror}/up/{unique}/app:1"
    cli("pull", "-q", name)
    assert cli("run", "--rm", name, "echo", "hello").stdout == "hello\n"


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


def test_two_servers_share_a_folder(
    cli: Any, busybox_image: str, start_registry: Callable[..., str], unique: str, tmp_path: Path
) -> None:
    """What one was given the other has at once, tokens too; the proof looks at all of it."""
    bucket = f"file://{tmp_path}/bucket"
    one, two = (start_registry(f"--bucket={bucket}") for _ in range(2))
    cli("tag", busybox_image, f"{one}/{unique}/app:1")
    cli("push", "-q", f"{one}/{unique}/app:1")
    cli("pull", "-q", f"{two}/{unique}/app:1")
    assert cli("run", "--rm", f"{two}/{unique}/app:1", "echo", "shared").stdout == "shared\n"
    assert cli("registry", "verify", "--bucket", bucket).stdout.endswith("1 manifests, 1 tags: all well\n")
    wrong = cli("registry", "serve", "--bucket", "s3:/x", check=False)
    assert wrong.returncode == 1 and "write s3://BUCKET" in wrong.stderr
