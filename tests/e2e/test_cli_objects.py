"""Images, volumes, networks and the daemon itself through the CLI; and the daemon that starts by itself."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Program

Cli = Program


def test_images_are_listed_tagged_and_removed(cli: Cli, busybox_image: str) -> None:
    name = f"host.example:5000/team/img-{os.getpid()}"
    cli("tag", busybox_image, f"{name}:v1")
    header, *lines = cli("images").stdout.splitlines()
    assert header.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    assert any(line.split()[:2] == [name, "v1"] for line in lines)
    identifier = cli("images", "-q", "--no-trunc", name).stdout.strip()
    assert identifier == cli("inspect", "-f", "{{.Id}}", busybox_image).stdout.strip()
    assert (
        cli("images", "--format", "{{.Repository}}:{{.Tag}} {{.ID}}", name).stdout
        == f"{name}:v1 {identifier[7:19]}\n"
    )
    assert cli("rmi", f"{name}:v1").stdout == f"Untagged: {name}:v1\n"
    gone = cli("rmi", f"{name}:v1", check=False)
    assert gone.returncode == 1 and "No such image" in gone.stderr


def test_images_travel_by_save_load_and_import(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    name = f"travel-{os.getpid()}:1"
    cli("import", "-c", 'CMD ["echo", "travelled"]', "-", name, input=_rootfs(cli, busybox_image), text=False)
    identifier = cli("inspect", "-f", "{{.Id}}", name).stdout
    cli("save", "-o", tmp_path / "image.tar", name)
    piped = cli("save", name, text=False).stdout
    assert piped == (tmp_path / "image.tar").read_bytes()
    cli("rmi", name)
    assert f"Loaded image: {name}" in cli("load", "-i", tmp_path / "image.tar").stdout
    cli("load", input=piped, text=False)
    assert cli("inspect", "-f", "{{.Id}}", name).stdout == identifier
    assert cli("run", "--rm", "--network", "none", name).stdout == "travelled\n"
    assert "IMAGE" in cli("history", name).stdout.splitlines()[0]
    cli("rmi", name)


def _rootfs(cli: Cli, image: str) -> bytes:
    container = cli("create", image).stdout.strip()
    data: bytes = cli("export", container, text=False).stdout
    cli("rm", container)
    return data


def test_unwritable_outputs_are_refused_before_anything_is_sent(cli: Cli, busybox_image: str, tmp_path: Path) -> None:
    done = cli("save", "-o", tmp_path / "no/such/file", busybox_image, check=False)
    assert done.returncode == 1 and "does not exist" in done.stderr
    failed = cli("save", "-o", tmp_path / "x.tar", "no-such-image", check=False)
    assert failed.returncode == 1 and os.listdir(tmp_path) == []


def test_volumes_and_networks(cli: Cli, busybox_image: str) -> None:
    name = f"vol-{os.getpid()}"
    assert cli("volume", "create", "--label", "a=b", name).stdout == f"{name}\n"
    cli("run", "--rm", "--network", "none", "-v", f"{name}:/data", busybox_image, "touch", "/data/f")
    assert (
        cli("run", "--rm", "--network", "none", "-v", f"{name}:/data", busybox_image, "ls", "/data").stdout == "f\n"
    )
    assert name in cli("volume", "ls", "-q").stdout.split()
    assert json.loads(cli("volume", "inspect", name).stdout)[0]["Labels"] == {"a": "b"}
    assert cli("volume", "rm", name).stdout == f"{name}\n"
    assert {"host", "none"} <= set(cli("network", "ls", "--format", "{{.Name}}").stdout.split())
    assert json.loads(cli("network", "inspect", "none").stdout)[0]["Name"] == "none"


def test_version_info_df_check_and_events(cli: Cli, busybox_image: str) -> None:
    begin = time.time()
    assert "Server: buildtool" in cli("version").stdout
    assert cli("version", "-f", "{{.Server.APIVersion}}").stdout == "1.50\n"
    assert "Server Version:" in cli("info").stdout
    assert [line.split("  ")[0] for line in cli("system", "df").stdout.splitlines()] == [
        "TYPE",
        "Images",
        "Containers",
        "Local Volumes",
        "Build Cache",
    ]
    assert cli("system", "check").stdout == "The store is in order.\n"
    cli("run", "--rm", "--network", "none", busybox_image, "true")
    events = cli("events", "--since", str(begin), "--until", str(time.time()), "--format", "{{.Type}} {{.Action}}")
    actions = events.stdout.splitlines()
    for action in ("container create", "container start", "container die", "container destroy"):
        assert action in actions


def test_prune_asks_first(cli: Cli, busybox_image: str) -> None:
    container = cli("create", "--label", "prune=me", busybox_image).stdout.strip()
    kept = cli("container", "prune", "--filter", "label=prune=me", input="n\n", check=False)
    assert kept.returncode == 1 and "[y/N]" in kept.stdout
    pruned = cli("container", "prune", "--filter", "label=prune=me", input="y\n").stdout
    assert container in pruned and "Total reclaimed space:" in pruned
    assert "Total reclaimed space:" in cli("image", "prune", "-f").stdout


@pytest.fixture
def own_daemon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """The environment of a daemon that does not run yet; it is ended afterwards."""
    root = tmp_path_factory.mktemp("auto")
    socket = f"/tmp/cli-auto-{os.getpid()}.sock"
    environment = {key: value for key, value in os.environ.items() if not key.startswith(("DOCKER_", "BUILDTOOL_"))}
    yield environment | {
        "BUILDTOOL_ROOT": str(root),
        "BUILDTOOL_HOST": f"unix://{socket}",
        "BUILDTOOL_IDLE_TIMEOUT": "60",
    }
    for pid in _daemons(socket):
        os.kill(pid, 15)
    deadline = time.monotonic() + 15
    while _daemons(socket) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not _daemons(socket)


def _daemons(socket: str) -> list[int]:
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                words = Path(f"/proc/{name}/cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if b"buildtool.daemon.main" in words and f"unix://{socket}".encode() in words:
                found.append(int(name))
    return found


def test_the_first_commands_start_one_daemon(own_daemon: dict[str, str]) -> None:
    commands = [
        subprocess.Popen(
            [BUILDTOOL, "version", "-f", "{{.Server.Version}}"],
            env=own_daemon,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for _ in range(3)
    ]
    answers = [command.communicate(timeout=60) for command in commands]
    assert [command.returncode for command in commands] == [0, 0, 0], answers
    assert len({out for out, _ in answers}) == 1
    socket = own_daemon["BUILDTOOL_HOST"].removeprefix("unix://")
    assert len(_daemons(socket)) == 1
    assert Path(own_daemon["BUILDTOOL_ROOT"], "run/daemon.log").read_text()


def test_a_daemon_that_cannot_start_is_quoted(own_daemon: dict[str, str], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    environment = own_daemon | {"BUILDTOOL_ROOT": f"{tmp_path}/file/root"}
    done = subprocess.run([BUILDTOOL, "ps"], env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert f"{tmp_path}/file" in done.stderr
