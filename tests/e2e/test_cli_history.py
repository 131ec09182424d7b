"""`buildtool history COMMAND` and `build --graph`, through CLI and daemon."""

from __future__ import annotations

import io
import json
import tarfile
from pathlib import Path

import pytest

from tests.conftest import Program
from tests.e2e.test_cli_build import context as context


def test_a_build_is_listed_inspected_explained_traced_exported_and_removed(
    cli: Program, context: Path, tmp_path: Path
) -> None:
    cli("build", "-t", "h:1", "--build-arg", "V=1", "--graph", str(tmp_path / "g.svg"), str(context))
    assert (tmp_path / "g.svg").read_text().startswith("<svg ")
    build = cli("history", "ls", "-q").stdout.split()[0]
    assert "h:1" in cli("history", "ls").stdout
    assert cli("history", "ls", "--filter", "tag=nothing", "-q").stdout == ""
    record = json.loads(cli("history", "inspect", "--format", "json", build).stdout)
    assert record["status"] == "completed"
    assert record["steps"][0]["status"] == "cached"
    assert f"Build:     {build}" in cli("history", "inspect", build).stdout
    assert "#1 " in cli("history", "logs", build).stdout
    assert "base image" in cli("history", "explain", build).stdout
    raw = [json.loads(line) for line in cli("history", "logs", "--progress", "rawjson", build).stdout.splitlines()]
    assert any(vertex["name"] == record["steps"][0]["name"] for line in raw for vertex in line.get("vertexes", ()))
    cli("history", "trace", "-o", str(tmp_path / "trace.json"), build)
    assert json.loads((tmp_path / "trace.json").read_text())["traceEvents"]
    cli("history", "export", "-o", str(tmp_path / "b.tgz"), build)
    with tarfile.open(fileobj=io.BytesIO((tmp_path / "b.tgz").read_bytes())) as archive:
        assert {Path(name).name for name in archive.getnames()} == {
            "record.json",
            "log.ndjson",
            "log.txt",
            "trace.json",
            "graph.html",
        }
    assert cli("history", "rm", build).stdout.strip() == build
    gone = cli("history", "inspect", build, check=False)
    assert gone.returncode == 1
    assert "no such build" in gone.stderr


def test_a_failed_build_can_be_looked_at(cli: Program, context: Path, tmp_path: Path, busybox_image: str) -> None:
    (context / "Bad").write_text(f"FROM {busybox_image}\nRUN echo words; exit 7\n")
    flags = ("--explain", "--graph", str(tmp_path / "g.html"))
    failed = cli("build", "-f", str(context / "Bad"), *flags, str(context), check=False)
    assert failed.returncode == 1
    assert "executed" in failed.stderr or "failed" in failed.stderr
    assert "failed after" in (tmp_path / "g.html").read_text()
    assert "exit code 7" in cli("history", "inspect").stdout
    logs = cli("history", "logs").stdout
    assert "words" in logs
    assert "exit code: 7" in logs


@pytest.mark.parametrize("name", ["g.png", "graph"])
def test_other_kinds_of_pictures_are_refused_before_the_build(cli: Program, context: Path, name: str) -> None:
    refused = cli("build", "--graph", name, str(context), check=False)
    assert refused.returncode == 1
    assert ".svg, .html, .dot or .mmd" in refused.stderr


def test_rawjson_progress_is_buildkits(cli: Program, context: Path) -> None:
    done = cli("build", "--no-cache", "--progress", "rawjson", str(context))
    lines = [json.loads(line) for line in done.stderr.splitlines() if line.startswith("{")]
    vertexes = [vertex for line in lines for vertex in line.get("vertexes", ())]
    assert {"digest", "name", "started"} <= set(vertexes[0])
    assert any("completed" in vertex for vertex in vertexes)


def test_image_history_and_build_history_share_a_word(cli: Program, busybox_image: str) -> None:
    assert "CREATED BY" in cli("history", busybox_image).stdout
    assert "BUILD ID" in cli("history", "ls").stdout
