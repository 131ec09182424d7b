"""The entry: which words lead where, what errors look like, which code they end with."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from buildtool import __version__
from buildtool.cli.main import run


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("BUILDTOOL_HOST", f"unix://{tmp_path}/none.sock")
    monkeypatch.setenv("BUILDTOOL_AUTOSTART", "0")


@pytest.mark.parametrize(
    ("line", "code", "first", "last"),
    [
        ("bogus", 1, "buildtool: unknown command: buildtool bogus", "Run 'buildtool --help' for more information"),
        ("imges", 1, "buildtool: unknown command: buildtool imges", "Run 'buildtool --help' for more information"),
        (
            "container bogus",
            1,
            "buildtool: unknown command: buildtool container bogus",
            "Run 'buildtool container --help' for more information",
        ),
        ("ps --bogus", 125, "unknown flag: --bogus", "Run 'buildtool ps --help' for more information"),
        ("--bogus", 125, "unknown flag: --bogus", "Run 'buildtool --help' for more information"),
        (
            "rm",
            1,
            "buildtool: 'buildtool rm' requires at least 1 argument",
            "Run 'buildtool rm --help' for more information",
        ),
        (
            "image rm",
            1,
            "buildtool: 'buildtool image rm' requires at least 1 argument",
            "Run 'buildtool image rm --help' for more information",
        ),
        (
            "run --pull x busybox",
            125,
            'buildtool: invalid pull option: \'x\': must be one of "always", "missing" or "never"',
            "Run 'buildtool run --help' for more information",
        ),
        ("cp a b", 1, "buildtool: must specify at least one container source", None),
        ("cp a:/x b:/y", 1, "buildtool: copying between containers is not supported", None),
        ("inspect --type cat x", 1, 'buildtool: "cat" is not a valid value for --type', None),
        ("push x@sha256:0", 1, "buildtool: cannot push a digest reference", None),
        ("build ftp://example.com/x", 1, "buildtool: unable to prepare context: ftp://example.com/x", None),
    ],
)
def test_errors_look_like_dockers(
    capsys: pytest.CaptureFixture[str], line: str, code: int, first: str, last: str | None
) -> None:
    assert run(line.split()) == code
    lines = capsys.readouterr().err.strip().splitlines()
    assert lines[0].startswith(first)
    assert last is None or lines[-1] == last


@pytest.mark.parametrize(("line", "code"), [("ps", 1), ("run busybox", 125), ("create busybox", 125), ("version", 1)])
def test_without_a_daemon(capsys: pytest.CaptureFixture[str], line: str, code: int) -> None:
    assert run(line.split()) == code
    said = capsys.readouterr()
    assert "cannot connect to the daemon at unix://" in said.err
    assert "BUILDTOOL_HOST" in said.err
    assert ("Client: buildtool" in said.out) == (line == "version")


def test_version_and_global_flags(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["--version"]) == 0
    assert capsys.readouterr().out == f"buildtool version {__version__}\n"
    assert run(["-H", "npipe://x", "ps"]) == 1
    assert "unsupported protocol" in capsys.readouterr().err


@pytest.mark.parametrize("unbuffered", ["", "1"])
def test_a_reader_that_goes_away_is_no_error_of_ours(unbuffered: str) -> None:
    """`buildtool … | head`: exit code 141 as for any program, and nothing on stderr."""
    import subprocess
    import sys

    reader, writer = os.pipe()
    os.close(reader)
    script = "import sys; from buildtool.cli import main; sys.argv[1:] = ['--version']; main.main()"
    done = subprocess.run(
        [sys.executable, "-c", script],
        stdout=writer,
        stderr=subprocess.PIPE,
        timeout=30,
        check=False,
        env={**os.environ, "PYTHONUNBUFFERED": unbuffered},
    )
    os.close(writer)
    assert (done.returncode, done.stderr) == (141, b"")


def test_cidfile_that_exists_is_refused(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "cid").write_text("x")
    assert run(["run", "--cidfile", str(tmp_path / "cid"), "busybox"]) == 125
    assert "container ID file found" in capsys.readouterr().err


def test_dockers_flags_that_we_do_not_have_are_called_by_name(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["build", "--squash", "."]) == 125
    assert "--squash is not supported yet" in capsys.readouterr().err


def test_files_that_cannot_be_written_are_named(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert run(["load", "-i", str(tmp_path / "none.tar")]) == 1
    assert "none.tar: no such file" in capsys.readouterr().err
