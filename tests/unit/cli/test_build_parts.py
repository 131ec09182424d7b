"""What `build` reads, sends and shows."""

from __future__ import annotations

import io
import json
import socket
import tarfile
from pathlib import Path
from typing import Any

import pytest

from buildtool.cli.build_context import context_tar, upload
from buildtool.cli.build_input import BuildInput, read_input
from buildtool.cli.build_progress import PlainDisplay, QuietDisplay
from buildtool.cli.build_request import request_document
from buildtool.cli.build_resources import read_resources
from buildtool.cli.parse import UsageError
from buildtool.errors import BuildtoolError, InvalidInput, NotFound

from .calls import make_call


def context(tmp_path: Path, **files: str) -> Path:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    return tmp_path


def test_buildfile_goes_before_dockerfile(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context(tmp_path, Dockerfile="FROM d\n")
    monkeypatch.chdir(tmp_path)
    assert (read_input(".", "").text, read_input(".", "").name) == ("FROM d\n", "Dockerfile")
    context(tmp_path, Buildfile="\ufeffFROM b\n")
    assert (read_input(".", "").text, read_input(".", "").name) == ("FROM b\n", "Buildfile")


def test_f_is_from_here_else_from_the_context(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "ctx"
    folder.mkdir()
    context(folder, **{"Other": "FROM in-context\n"})
    monkeypatch.chdir(tmp_path)
    assert read_input("ctx", "Other").name == "ctx/Other"
    context(tmp_path, **{"Other": "FROM here\n"})
    assert (read_input("ctx", "Other").text, read_input("ctx", "Other").name) == ("FROM here\n", "Other")


def test_the_buildfiles_own_ignore_file_wins(tmp_path: Path) -> None:
    context(tmp_path, Buildfile="FROM x\n", **{".dockerignore": "a\n"})
    assert read_input(str(tmp_path), "").ignore == "a\n"
    context(tmp_path, **{"Buildfile.dockerignore": "b\n"})
    assert read_input(str(tmp_path), "").ignore == "b\n"


@pytest.mark.parametrize(
    ("where", "file", "kind", "says"),
    [
        ("absent", "", NotFound, "not found"),
        ("file", "", NotFound, "is not a directory"),
        ("empty", "", NotFound, "unable to find a Buildfile or Dockerfile"),
        ("empty", "Nope", NotFound, "unable to find the Buildfile 'Nope'"),
        ("binary", "", InvalidInput, "Buildfile:2: the file is not UTF-8"),
        ("-", "-", InvalidInput, "can't use stdin for both"),
    ],
)
def test_wrong_input_is_told_apart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str, file: str, kind: type[BuildtoolError], says: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("")
    for folder in ("empty", "binary"):
        (tmp_path / folder).mkdir()
    (tmp_path / "binary/Buildfile").write_bytes(b"FROM x\n\xff\n")
    with pytest.raises(kind, match=says):
        read_input(where, file)


def stdin(monkeypatch: pytest.MonkeyPatch, data: bytes) -> None:
    class Stdin:
        buffer = io.BytesIO(data)

        def isatty(self) -> bool:
            return False

    monkeypatch.setattr("sys.stdin", Stdin())


def test_stdin_is_a_buildfile_or_a_context(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    stdin(monkeypatch, b"FROM x\n")
    source = read_input("-", "")
    assert (source.text, source.archive, source.directory) == ("FROM x\n", None, "")
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.add(__file__, "Buildfile")
    stdin(monkeypatch, archive.getvalue())
    assert read_input("-", "").archive is not None
    stdin(monkeypatch, b" \n")
    with pytest.raises(InvalidInput, match="cannot be empty"):
        read_input("-", "")
    stdin(monkeypatch, b"FROM piped\n")
    context(tmp_path, Buildfile="FROM x\n")
    assert read_input(str(tmp_path), "-").text == "FROM piped\n"


def test_the_request_says_what_the_flags_say(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    context(tmp_path, Buildfile="FROM x\n")
    monkeypatch.setenv("PASSED", "here")
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "7")
    call = make_call(
        "build -t a:1 -t b --build-arg V=1 --build-arg PASSED --build-arg UNSET --target t --no-cache "
        "--pull --label l=1 --network none --add-host h:1.2.3.4 --shm-size 1m -m 64m --ulimit nofile=1 "
        "--platform linux/amd64 --explain ."
    )
    document = request_document(call, read_input(str(tmp_path), ""))
    found = tmp_path.stat()
    expected = {
        "context": {"path": str(tmp_path), "dev": found.st_dev, "ino": found.st_ino},
        "dockerfile": "FROM x\n",
        "tags": ["a:1", "b"],
        "build_args": {"V": "1", "PASSED": "here", "UNSET": None},
        "target": "t",
        "no_cache": True,
        "pull": True,
        "labels": {"l": "1"},
        "network_mode": "none",
        "extra_hosts": ["h:1.2.3.4"],
        "shm_size": 1 << 20,
        "memory": 64 << 20,
        "ulimits": [{"Name": "nofile", "Soft": 1, "Hard": 1}],
        "platform": "linux/amd64",
        "epoch": 7,
        "explain": True,
        "ignore": None,
    }
    assert {key: document[key] for key in expected} == expected
    monkeypatch.setenv("SOURCE_DATE_EPOCH", "soon")
    with pytest.raises(InvalidInput, match="SOURCE_DATE_EPOCH"):
        request_document(call, read_input(str(tmp_path), ""))


def names_in(parts: bytes) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(fileobj=io.BytesIO(parts)) as archive:
        return {member.name: member for member in archive}


def test_contexts_are_sent_without_what_is_ignored(tmp_path: Path) -> None:
    context(
        tmp_path,
        Buildfile="FROM x\n",
        keep="k",
        drop="d",
        **{".dockerignore": "drop\nsub\n!sub/keep\nBuildfile\n.docker*\n"},
    )
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub/keep").write_text("kept")
    (tmp_path / "sub/drop").write_text("")
    (tmp_path / "link").symlink_to("keep")
    (tmp_path / "big").write_bytes(bytes(3_000_001))
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(str(tmp_path / "socket"))
    found = names_in(b"".join(context_tar(read_input(str(tmp_path), ""))))
    sock.close()
    assert set(found) == {"Buildfile", ".dockerignore", "keep", "sub/keep", "link", "big"}
    assert found["big"].size == 3_000_001 and found["link"].linkname == "keep"
    assert {(member.uid, member.gid) for member in found.values()} == {(0, 0)}


def test_files_that_are_one_file_go_as_links(tmp_path: Path) -> None:
    context(tmp_path, Buildfile="FROM x\n", a="1", gone="2", **{".dockerignore": "gone\n.docker*\n"})
    (tmp_path / "sub").mkdir()
    for source, target in (("a", "sub/b"), ("gone", "kept")):
        (tmp_path / target).hardlink_to(tmp_path / source)
    found = names_in(b"".join(context_tar(read_input(str(tmp_path), ""))))
    assert found["sub/b"].islnk() and found["sub/b"].linkname == "a"
    assert found["kept"].isreg() and found["kept"].size == 1  # what it is a link to does not go along


def test_our_tar_form_begins_with_the_request(tmp_path: Path) -> None:
    context(tmp_path, Buildfile="FROM x\n")
    data = b"".join(upload({"dockerfile": "FROM x\n", "context": {"path": "/"}}, read_input(str(tmp_path), ""))[0])
    line, _, rest = data.partition(b"\n")
    assert json.loads(line) == {"dockerfile": "FROM x\n", "context": None}
    assert set(names_in(rest)) == {"Buildfile"}
    nothing = b"".join(upload({}, BuildInput())[0])
    assert set(names_in(nothing.partition(b"\n")[2])) == set()


def events(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return list(items)


STEPS = events(
    {"event": "step_started", "index": 1, "total": 3, "name": "[1/2] FROM busybox", "span": None},
    {"event": "step_cached", "index": 1},
    {"event": "step_started", "index": 2, "total": 3, "name": "[2/2] RUN a", "span": None},
    {"event": "step_started", "index": 3, "total": 3, "name": "[x 1/1] RUN b", "span": None},
    {"event": "step_output", "index": 2, "stream": "stdout", "data": "one\ntw"},
    {"event": "step_output", "index": 3, "stream": "stderr", "data": "other\n"},
    {"event": "step_output", "index": 2, "stream": "stdout", "data": "o\nrest"},
    {"event": "step_done", "index": 2, "seconds": 0.26, "image_id_short": "abc"},
    {"event": "warning", "message": "mind this", "span": {"file": "Buildfile", "line": 3}},
)
RESULT = {"image_id": "sha256:1", "tags": ["a:1"], "steps": [{"cached": True}, {"cached": False}], "warnings": []}


def without_times(text: str) -> str:
    import re

    return re.sub(r"^#(\d+) \d+\.\d{3} ", r"#\1 T ", text, flags=re.MULTILINE)


def test_plain_progress(capsys: pytest.CaptureFixture[str]) -> None:
    display = PlainDisplay()
    for event in STEPS:
        display.show(event)
    display.finish(RESULT)
    shown = capsys.readouterr()
    assert shown.out == ""
    assert without_times(shown.err) == (
        "#1 [1/2] FROM busybox\n#1 CACHED\n\n"
        "#2 [2/2] RUN a\n#2 T one\n\n"
        "#3 [x 1/1] RUN b\n#3 T other\n\n"
        "#2 [2/2] RUN a\n#2 T two\n#2 T rest\n#2 DONE 0.3s\n\n"
        "WARNING: Buildfile:3: mind this\n\n"
        "#4 exporting to image\n#4 writing image sha256:1 done\n#4 naming to a:1 done\n#4 DONE 0.0s\n\n"
        "2 steps, 1 cached\n"
    )


def test_the_export_takes_what_passed_since_the_last_step(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    display = PlainDisplay()
    now[0] += 7
    display.show({"event": "step_done", "index": 1, "seconds": 7.0})
    now[0] += 0.5
    display.finish(RESULT)
    assert "#1 DONE 0.5s\n" in capsys.readouterr().err


def test_quiet_progress_speaks_only_of_failure(capsys: pytest.CaptureFixture[str]) -> None:
    display = QuietDisplay()
    for event in STEPS:
        display.show(event)
    display.finish(RESULT)
    assert capsys.readouterr().err == ""
    display.finish(None)
    assert "RUN a" in capsys.readouterr().err


def test_tty_progress_draws_and_leaves_the_results(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from buildtool.cli.build_tty import TtyDisplay

    display = TtyDisplay()
    for event in STEPS:
        display.show(event)
    display.show({"event": "step_failed", "index": 3, "message": "exit code: 1"})
    display.finish(RESULT)
    shown = capsys.readouterr().err
    for text in ("FROM busybox CACHED", "RUN a 0.3s", "RUN b ERROR", "other", "Built sha256:1", "as a:1"):
        assert text in shown


def test_resources_as_buildx_names_them() -> None:
    given = ["memory=1g,memswap=-1", "cpuset-cpus=0,2-3,cpu-shares=5"]
    expected = {"memory": 1 << 30, "memory_swap": -1, "cpuset_cpus": "0,2-3", "cpu_shares": 5}
    assert read_resources(given) == expected
    for wrong in ("memory", "memory=much", "memroy=1g"):
        with pytest.raises(UsageError):
            read_resources([wrong])
