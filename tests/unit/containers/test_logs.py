from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from buildtool.containers import times
from buildtool.containers.follow import stream
from buildtool.containers.logs import LogOptions, Renderer, open_log, read_blocks
from buildtool.errors import InvalidInput

BASE = 1_700_000_000


def _line(number: int, name: str = "stdout") -> bytes:
    time = times.rfc3339nano(BASE * times.SECOND + number * times.SECOND)
    return json.dumps({"log": f"line {number}\n", "stream": name, "time": time}).encode() + b"\n"


def _write(path: Path, numbers: range, name: str = "stdout") -> None:
    path.write_bytes(b"".join(_line(number, name) for number in numbers))


async def _read(path: Path, **options: object) -> bytes:
    wanted = {"stdout": True, "stderr": True, "raw": True, **options}
    return b"".join([block async for block in stream(path, LogOptions.parse(**wanted), None)])  # type: ignore[arg-type]


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "x-json.log"
    _write(path.with_name("x-json.log.2"), range(0, 3))
    _write(path.with_name("x-json.log.1"), range(3, 6))
    _write(path, range(6, 10))
    return path


async def test_rotated_files_are_read_oldest_first(log: Path) -> None:
    assert await _read(log) == b"".join(b"line %d\n" % n for n in range(10))


@pytest.mark.parametrize("tail", ["0", "1", "4", "5", "10", "99", "all", "-1", "x"])
async def test_tail_counts_lines_from_the_end_over_rotated_files(log: Path, tail: str) -> None:
    count = int(tail) if tail.isdigit() else 10
    assert await _read(log, tail=tail) == b"".join(b"line %d\n" % n for n in range(max(0, 10 - count), 10))


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=9).map(lambda b: b.replace(b"\n", b"")), max_size=30), st.integers(0, 35))
def test_tail_is_the_same_as_reading_all_and_cutting(tmp_path: Path, lines: list[bytes], tail: int) -> None:
    """read_blocks(tail=n) == the last n lines, for any line lengths"""
    path = tmp_path / "log"
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    with path.open("rb") as file:
        found = b"".join(read_blocks([file], tail))
    assert found == b"".join(line + b"\n" for line in (lines[-tail:] if tail else []))


async def test_since_and_until_cut_by_time(log: Path) -> None:
    assert await _read(log, since=str(BASE + 3), until=str(BASE + 5)) == b"line 3\nline 4\nline 5\n"


async def test_since_skips_most_of_a_large_log_and_nothing_newer(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _write(path, range(20_000))
    with path.open("rb") as file:
        read = sum(len(block) for block in read_blocks([file], None, since=(BASE + 15_000) * times.SECOND))
    assert read < path.stat().st_size * 0.45
    for start in (0, 1, 14_999, 19_999, 20_001):
        found = await _read(path, since=str(BASE + start))
        assert found == b"".join(b"line %d\n" % n for n in range(start, 20_000))


async def test_fractions_of_seconds_are_compared_as_numbers(tmp_path: Path) -> None:
    path = tmp_path / "log"
    entries = [{"log": f"{t}\n", "stream": "stdout", "time": f"2023-11-14T22:13:20{t}Z"} for t in ("", ".05", ".5")]
    path.write_text("".join(json.dumps(entry) + "\n" for entry in entries))
    assert await _read(path, since=f"{BASE}.1") == b".5\n"


async def test_frames_name_their_stream(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(_line(1) + _line(2, "stderr"))
    assert await _read(path, raw=False) == b"\1\0\0\0\0\0\0\7line 1\n\2\0\0\0\0\0\0\7line 2\n"
    assert await _read(path, stdout=False) == b"line 2\n"
    assert await _read(path, stderr=False) == b"line 1\n"


async def test_timestamps_have_nine_digits(tmp_path: Path) -> None:
    path = tmp_path / "log"
    path.write_bytes(_line(0))
    assert await _read(path, timestamps=True) == b"2023-11-14T22:13:20.000000000Z line 0\n"


async def test_no_log_is_an_empty_log(tmp_path: Path) -> None:
    assert await _read(tmp_path / "none") == b""


def test_a_stream_must_be_chosen() -> None:
    with pytest.raises(InvalidInput, match="you must choose at least one stream"):
        LogOptions.parse(stdout=False, stderr=False)


def test_damaged_lines_are_skipped() -> None:
    renderer = Renderer(LogOptions(raw=True))
    assert renderer.render(b"{nonsense\n" + _line(1)[:20]) == b""
    assert renderer.render(_line(1)[20:]) == b"line 1\n"


async def test_following_sees_lines_rotation_and_the_end(tmp_path: Path) -> None:
    path = tmp_path / "log"
    _write(path, range(2))
    stopped = asyncio.get_running_loop().create_future()
    follow = stream(path, LogOptions(raw=True), stopped)
    async with asyncio.timeout(5):
        assert await anext(follow) == b"line 0\nline 1\n"
        with path.open("ab") as file:
            file.write(_line(2))
        assert await anext(follow) == b"line 2\n"
        with path.open("ab") as file:
            file.write(_line(3))
        path.rename(path.with_name("log.1"))
        _write(path, range(4, 5))
        seen = await anext(follow)
        while seen.count(b"\n") < 2:
            seen += await anext(follow)
        assert seen == b"line 3\nline 4\n"
        with path.open("ab") as file:
            file.write(_line(5))
        stopped.set_result(None)
        assert b"".join([block async for block in follow]) == b"line 5\n"


async def test_following_a_log_that_does_not_exist_yet(tmp_path: Path) -> None:
    stopped = asyncio.get_running_loop().create_future()
    follow = stream(tmp_path / "log", LogOptions(raw=True), stopped)
    reading = asyncio.ensure_future(anext(follow))
    await asyncio.sleep(0.05)
    _write(tmp_path / "log", range(1))
    assert await asyncio.wait_for(reading, 5) == b"line 0\n"
    stopped.set_result(None)
    assert [block async for block in follow] == []


async def test_following_until_a_time_ends_then(tmp_path: Path) -> None:
    stopped = asyncio.get_running_loop().create_future()
    until = times.now() + 50_000_000
    async with asyncio.timeout(5):
        assert [block async for block in stream(tmp_path / "log", LogOptions(until=until), stopped)] == []


def test_the_files_of_a_log_are_read_oldest_first_whether_compressed_or_not(log: Path) -> None:
    oldest = log.with_name("x-json.log.2")
    with gzip.open(log.with_name("x-json.log.2.gz"), "wb") as packed:
        packed.write(oldest.read_bytes())
    whole = [path.read_bytes() for path in (oldest, log.with_name("x-json.log.1"), log)]
    oldest.unlink()
    files = open_log(log)
    assert [file.read() for file in files] == whole
    for file in files:
        file.close()
