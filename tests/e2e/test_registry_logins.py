"""Credentials: kept in Docker's config.json or by helpers, sent, exchanged for tokens, forgotten."""

from __future__ import annotations

import json
import os
import shutil
import stat
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

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
