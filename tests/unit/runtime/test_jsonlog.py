"""Docker's json-file format."""

from __future__ import annotations

import errno
import gzip
import json
import os
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.runtime.jsonlog import JsonLog


def records(*paths: Path) -> list[dict[str, str]]:
    return [json.loads(line) for path in paths for line in path.read_bytes().splitlines()]


def test_a_record_has_dockers_keys_in_order(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), None, 1)
    log.write(1, b'say "hi" \\ <&> \x01\n')
    log.write(2, b"oops\r\n")
    log.close()
    first, second = (tmp_path / "log").read_text().splitlines()
    before, _, time = first.partition('","time":"')
    assert before == r'{"log":"say \"hi\" \\ <&> \u0001\n","stream":"stdout'
    assert re.fullmatch(r'\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?Z"\}', time)
    assert json.loads(second)["log"] == "oops\r\n"
    assert json.loads(second)["stream"] == "stderr"


def test_an_unfinished_line_waits_for_its_rest(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), None, 1)
    log.write(1, b"par")
    assert (tmp_path / "log").read_bytes() == b""
    log.write(1, b"tial\nrest")
    log.close()
    assert [record["log"] for record in records(tmp_path / "log")] == ["partial\n", "rest"]


def test_a_long_line_is_cut_at_16_kib_between_characters(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), None, 1)
    line = "é" * 20_000
    log.write(1, b"x" + line.encode() + b"\n")
    log.close()
    pieces = [record["log"] for record in records(tmp_path / "log")]
    assert [len(piece.encode()) for piece in pieces] == [16_383, 16_384, 7_235]
    assert "".join(pieces) == "x" + line + "\n"


def test_lines_around_the_cut(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), None, 1)
    expected = ""
    for size in (16_383, 16_384, 16_385, 32_768, 32_769, 65_536):
        log.write(1, b"x" * size)
        log.write(1, b"\n")
        expected += "x" * size + "\n"
    log.close()
    pieces = [record["log"] for record in records(path)]
    assert "".join(pieces) == expected
    assert max(len(piece) for piece in pieces) <= 16_385  # 16 KiB and the newline


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=150)
@given(st.lists(st.tuples(st.sampled_from([1, 2]), st.binary(max_size=200)), max_size=20), st.data())
def test_text_survives_however_it_is_cut_into_chunks(
    tmp_path: Path, chunks: list[tuple[int, bytes]], data: st.DataObject
) -> None:
    """Each stream's records joined are its output (bytes that are no UTF-8 replaced)."""
    path = tmp_path / "log"
    path.unlink(missing_ok=True)
    log = JsonLog(str(path), None, 1)
    expected = {1: b"", 2: b""}
    for stream, chunk in chunks:
        text = data.draw(st.text(alphabet='ab\n\\"\t\r é😀\x00', max_size=30)).encode() + chunk.hex().encode() + b"\n"
        log.write(stream, text)
        expected[stream] += text
    log.close()
    for stream, name in ((1, "stdout"), (2, "stderr")):
        found = "".join(record["log"] for record in records(path) if record["stream"] == name)
        assert found.encode() == expected[stream]


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=80)
@given(st.binary(max_size=300))
def test_any_bytes_give_valid_records(tmp_path: Path, chunk: bytes) -> None:
    path = tmp_path / "any"
    path.unlink(missing_ok=True)
    log = JsonLog(str(path), None, 1)
    log.write(1, chunk)
    log.close()
    assert "".join(record["log"] for record in records(path)).count("\n") == chunk.count(b"\n")


def test_rotation_keeps_whole_records_and_the_newest_files(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 1000, 3)
    for start in range(0, 200, 50):
        log.write(1, "".join(f"{number}\n" for number in range(start, start + 50)).encode())
    log.close()
    files = [tmp_path / "log.2", tmp_path / "log.1", path]
    assert sorted(tmp_path.iterdir()) == sorted(files)
    assert all(file.stat().st_size <= 1000 for file in files)
    kept = [int(record["log"]) for record in records(*files)]
    assert kept == list(range(kept[0], 200))


def test_rotated_files_are_compressed_beside_and_keep_their_order(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 1000, 3, compress=True)
    for start in range(0, 200, 50):
        log.write(1, "".join(f"{number}\n" for number in range(start, start + 50)).encode())
    log._await_compression()
    log.close()
    assert sorted(one.name for one in tmp_path.iterdir()) == ["log", "log.1.gz", "log.2.gz"]
    older = b"".join(gzip.decompress((tmp_path / name).read_bytes()) for name in ("log.2.gz", "log.1.gz"))
    kept = [int(json.loads(line)["log"]) for line in (older + path.read_bytes()).splitlines()]
    assert kept == list(range(kept[0], 200))


def test_a_machine_without_room_for_a_process_keeps_rotated_files_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full() -> int:
        raise BlockingIOError(errno.EAGAIN, "no more processes")

    monkeypatch.setattr(os, "fork", full)
    path = tmp_path / "log"
    log = JsonLog(str(path), 500, 3, compress=True)
    for number in range(30):
        log.write(1, f"{number}\n".encode())
    log.close()
    kept = [int(record["log"]) for record in records(tmp_path / "log.2", tmp_path / "log.1", path)]
    assert kept == list(range(kept[0], 30)) and log.lost == 0


def test_attributes_are_said_in_every_record_between_stream_and_time(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), None, 1, {"tier": 'fr"ont', "A": "1"})
    log.write(1, b"one\ntwo\n" + b"x" * 20000 + b"\n")
    log.close()
    lines = (tmp_path / "log").read_text().splitlines()
    assert [list(json.loads(line)) for line in lines] == [["log", "stream", "attrs", "time"]] * 4
    assert all(json.loads(line)["attrs"] == {"A": "1", "tier": 'fr"ont'} for line in lines)


def test_a_single_file_is_started_anew(tmp_path: Path) -> None:
    path = tmp_path / "log"
    log = JsonLog(str(path), 500, 1)
    for number in range(100):
        log.write(1, f"{number}\n".encode())
    log.close()
    assert list(tmp_path.iterdir()) == [path]
    assert path.stat().st_size <= 500
    assert records(path)[-1]["log"] == "99\n"


def test_a_record_above_the_limit_is_kept_whole(tmp_path: Path) -> None:
    log = JsonLog(str(tmp_path / "log"), 100, 2)
    log.write(1, b"x" * 300 + b"\n" + b"y" * 300 + b"\n")
    log.close()
    assert records(tmp_path / "log")[0]["log"][0] == "y"
    assert records(tmp_path / "log.1")[0]["log"][0] == "x"


def test_a_full_disk_is_counted(tmp_path: Path) -> None:
    log = JsonLog("/dev/full", None, 1)
    log.write(1, b"lost\n")
    log.close()
    assert log.lost > 0
