"""`buildtool cache COMMAND`, through CLI and daemon."""

from __future__ import annotations

import io
import json
import os
import tarfile
from pathlib import Path

from tests.conftest import Program


def build(cli: Program, folder: Path, text: str) -> str:
    (folder / "Buildfile").write_text(text)
    identifier: str = cli("build", "-q", "--network", "none", folder).stdout.strip()
    return identifier


def test_entries_are_listed_inspected_protected_and_pruned(cli: Program, tmp_path: Path, busybox_image: str) -> None:
    mark = f"cache-{os.getpid()}"
    image = build(cli, tmp_path, f"FROM {busybox_image}\nRUN echo {mark} > /x\n")
    mine = ("--filter", f"description={mark}")
    identifier = cli("cache", "ls", "-q", *mine).stdout.strip()
    listed = cli("cache", "ls", *mine).stdout
    assert f"{tmp_path}/Buildfile:2" in listed or "Buildfile:2" in listed
    assert "shared" in listed
    (entry,) = json.loads(cli("cache", "inspect", identifier).stdout)
    assert entry["records"][0]["preimage"]["step"]["op"] == "exec"
    assert json.loads(cli("cache", "du", *mine, "--format", "json").stdout)["entries"] == 1
    assert cli("cache", "protect", identifier).stdout.strip() == identifier
    cli("rmi", image)
    assert mark not in cli("cache", "prune", "--force", *mine).stdout
    cli("builder", "prune", "--all", "--force")
    assert identifier in cli("cache", "ls", "-q").stdout
    cli("cache", "protect", "--remove", identifier)
    assert identifier in cli("cache", "prune", "--dry-run", *mine).stdout
    assert identifier in cli("cache", "prune", "--force", *mine).stdout
    assert cli("cache", "ls", "-q", *mine).stdout == ""


def test_cache_mounts_go_out_and_in(cli: Program, tmp_path: Path, busybox_image: str) -> None:
    name = f"mount-{os.getpid()}"
    text = f"FROM {busybox_image}\nRUN --mount=type=cache,id={name},target=/c "
    build(cli, tmp_path, f"{text} echo one > /c/one\n")
    cli("cache", "export", "-o", tmp_path / "m.tar", name)
    with tarfile.open(tmp_path / "m.tar") as archive:
        assert archive.getnames() == ["one"]
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as archive:
        info = tarfile.TarInfo("two")
        info.size = 4
        archive.addfile(info, io.BytesIO(b"2222"))
    (tmp_path / "n.tar.gz").write_bytes(out.getvalue())
    cli("cache", "import", name, tmp_path / "n.tar.gz")
    cli("cache", "export", "-o", tmp_path / "m2.tar", name)
    with tarfile.open(tmp_path / "m2.tar") as archive:
        assert archive.getnames() == ["two"]
    assert name in cli("cache", "prune", "--force", "--filter", f"id={name}", "--mounts").stdout
    missing = cli("cache", "export", "-o", tmp_path / "no.tar", name, check=False)
    assert missing.returncode == 1
    assert "no such cache entry" in missing.stderr


def test_bad_filters_and_durations_are_refused(cli: Program) -> None:
    assert "invalid filter" in cli("cache", "ls", "--filter", "colour=red", check=False).stderr
    for flags in (("ls", "--sort=colour"), ("du", "--format=xml")):
        refused = cli("cache", *flags, check=False)
        assert refused.returncode == 125 and "invalid argument" in refused.stderr, flags
    assert "less than nothing" in cli("cache", "prune", "-f", "--keep=-1", check=False).stderr
    for flags in (("explain", "--format=xml"), ("logs", "--progress=tty")):
        refused = cli("history", *flags, check=False)
        assert refused.returncode == 125 and "must be one of" in refused.stderr, flags
    assert "invalid duration" in cli("cache", "prune", "--force", "--unused-for", "soon", check=False).stderr
