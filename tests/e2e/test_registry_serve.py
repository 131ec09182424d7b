"""`registry serve`: its flags, the daemon's store, a mirror, several servers on one folder."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any


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


def test_the_flags_of_the_command_are_those_of_the_server() -> None:
    from buildtool.cli.table.registry import COMMANDS
    from buildtool.registry.server.options import parser

    ours = {flag.name for flag in COMMANDS["registry serve"].flags}
    theirs = {option.removeprefix("--") for action in parser()._actions for option in action.option_strings}
    assert ours == theirs - {"h", "-h", "help"}


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


def test_a_server_caches_docker_hub_or_anybody(
    cli: Any, busybox_image: str, registry: str, start_registry: Callable[..., str], unique: str
) -> None:
    cli("tag", busybox_image, f"{registry}/{unique}/app:1")
    cli("push", "-q", f"{registry}/{unique}/app:1")
    mirror = start_registry(f"--mirror=up={registry}")
    name = f"{mirror}/up/{unique}/app:1"
    cli("pull", "-q", name)
    assert cli("run", "--rm", name, "echo", "hello").stdout == "hello\n"


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
