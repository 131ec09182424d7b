"""Reading the json-file log: the last lines from the end, a range of times, as frames or raw bytes.

A log is `path` and, when rotated, `path.1` (newer) … `path.N` (oldest), compressed ones with `.gz` behind. Reading is
plain blocking code that gives blocks of many lines; following is in `follow.py`.
"""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
import struct
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

import msgspec

from buildtool.containers import times
from buildtool.errors import InvalidInput

BLOCK = 256 * 1024
_STREAMS = {"stdin": 0, "stdout": 1, "stderr": 2}
_header = struct.Struct(">BxxxI").pack


class LogLine(msgspec.Struct):
    """One line of the file; `time` is RFC3339Nano."""

    log: str
    stream: str
    time: str


_decoder = msgspec.json.Decoder(LogLine)


@dataclass(frozen=True)
class LogOptions:
    """What of a log is wanted. `since` and `until` are nanoseconds, 0 = no limit; `tail` None = all."""

    stdout: bool = True
    stderr: bool = True
    since: int = 0
    until: int = 0
    timestamps: bool = False
    tail: int | None = None
    raw: bool = False
    prefix: bytes = b""

    @classmethod
    def parse(
        cls,
        *,
        stdout: bool,
        stderr: bool,
        since: str = "",
        until: str = "",
        timestamps: bool = False,
        tail: str | int | None = "all",
        raw: bool = False,
        prefix: bytes = b"",
    ) -> LogOptions:
        """From the query's texts. Raises InvalidInput."""
        if not (stdout or stderr):
            raise InvalidInput("Bad parameters: you must choose at least one stream")
        return cls(
            stdout=stdout,
            stderr=stderr,
            since=times.parse_moment(since),
            until=times.parse_moment(until),
            timestamps=timestamps,
            tail=_tail(tail),
            raw=raw,
            prefix=prefix,
        )


def _tail(text: str | int | None) -> int | None:
    if text is None or text in ("", "all"):
        return None
    try:
        lines = int(text)
    except ValueError:
        return None
    return lines if lines >= 0 else None


def open_log(path: Path) -> list[BinaryIO]:
    """The files of a log, oldest first, open for reading; only those that exist.

    A compressed one is unpacked into a temporary file. One that is rotated meanwhile is read once.
    """
    files: list[BinaryIO] = []
    seen: set[int] = set()
    number = 0
    while (file := _open(path.with_name(f"{path.name}.{number}") if number else path)) or number == 0:
        number += 1
        if file is None:
            continue
        inode = os.fstat(file.fileno()).st_ino
        if inode in seen:
            file.close()
            continue
        seen.add(inode)
        files.insert(0, file)
    return files


def _open(path: Path) -> BinaryIO | None:
    with contextlib.suppress(FileNotFoundError):
        return path.open("rb")
    compressed = path.with_name(f"{path.name}.gz")
    try:
        with gzip.open(compressed) as source, compressed.open("rb") as packed:
            plain = tempfile.TemporaryFile()  # noqa: SIM115 - whoever reads the log closes it
            shutil.copyfileobj(source, plain, BLOCK)
            changed = os.fstat(packed.fileno()).st_mtime_ns
    except FileNotFoundError:
        return None
    os.utime(plain.fileno(), ns=(changed, changed))
    plain.seek(0)
    return cast("BinaryIO", plain)


class Renderer:
    """Turns lines of the file into what is sent, keeping an incomplete last line for the next call."""

    def __init__(self, options: LogOptions) -> None:
        self._options = options
        self._rest = b""
        self._since = times.rfc3339nano(options.since) if options.since else ""
        self._until = times.rfc3339nano(options.until) if options.until else ""
        self.finished = False

    def render(self, data: bytes) -> bytes:
        """The frames (or raw bytes) of the complete lines; `finished` is set at the first line after `until`."""
        options = self._options
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        pieces: list[bytes] = []
        decode = _decoder.decode
        simple = not (self._since or self._until or options.timestamps or options.prefix)
        both = options.stdout and options.stderr
        for line in lines:
            try:
                entry = decode(line)
            except msgspec.DecodeError:
                continue
            number = 2 if entry.stream == "stderr" else 1
            if not both and not (options.stderr if number == 2 else options.stdout):
                continue
            text = entry.log.encode("utf-8", "surrogateescape")
            if not simple:
                if self._since and _key(entry.time) < _key(self._since):
                    continue
                if self._until and _key(entry.time) > _key(self._until):
                    self.finished = True
                    break
                text = options.prefix + text
                if options.timestamps:
                    text = f"{_padded(entry.time)} ".encode() + text
            if not options.raw:
                pieces.append(_header(number, len(text)))
            pieces.append(text)
        return b"".join(pieces)


def _key(time: str) -> str:
    """A text that orders RFC3339Nano times of UTC correctly: the fraction padded to nine digits."""
    return time[:19] + "." + time[20:-1].ljust(9, "0")


def _padded(time: str) -> str:
    """Docker prints timestamps of logs with nine digits always."""
    return _key(time) + "Z"


def read_blocks(
    files: Sequence[BinaryIO], tail: int | None, *, since: int = 0, end: int | None = None
) -> Iterator[bytes]:
    """The contents of the open files, oldest first, from the start of the tail-th line from the end.

    `since` skips most of what is older; with `end` the newest file is only read up to there.
    """
    if since and tail is None:
        files = _skip_older(files, since)
    if tail is not None:
        if tail == 0:
            for file in files:
                file.seek(0, os.SEEK_END)
            return
        first = _seek_tail(files, tail)
        files = files[first:]
    for file in files:
        left = end - file.tell() if end is not None and file is files[-1] else None
        while block := file.read(BLOCK if left is None else max(0, min(BLOCK, left))):
            if left is not None:
                left -= len(block)
            yield block


def _skip_older(files: Sequence[BinaryIO], since: int) -> Sequence[BinaryIO]:
    """Leave out the files last written before, and position the first of the others shortly before the moment.

    Lines are in the order of their times, so that a binary search finds it.
    """
    kept = [file for file in files if os.fstat(file.fileno()).st_mtime_ns >= since]
    if kept:
        file, wanted = kept[0], _key(times.rfc3339nano(since))
        low, high = 0, file.seek(0, os.SEEK_END)
        while high - low > BLOCK:
            middle = (low + high) // 2
            file.seek(middle)
            file.readline()
            time = _time_of(file.readline())
            if time and time < wanted:
                low = middle
            else:
                high = middle
        file.seek(low)
        if low:
            file.readline()
    return kept


def _time_of(line: bytes) -> str:
    try:
        return _key(_decoder.decode(line).time)
    except msgspec.DecodeError:
        return ""


def _seek_tail(files: Sequence[BinaryIO], tail: int) -> int:
    """Position the files at the tail-th line from the end; the number of the first file that has any of it."""
    missing = tail
    for number in range(len(files) - 1, -1, -1):
        file = files[number]
        found = _seek_lines(file, missing)
        missing -= found
        if missing <= 0:
            return number
    return 0


def _seek_lines(file: BinaryIO, count: int) -> int:
    """Seek to the start of the count-th line from the end, or to 0; how many lines lie behind that position."""
    position = end = file.seek(0, os.SEEK_END)
    found = 0
    while position > 0:
        size = min(BLOCK, position)
        position -= size
        file.seek(position)
        block = file.read(size)
        at = len(block)
        if position + size == end and block.endswith(b"\n"):
            at -= 1
        while (at := block.rfind(b"\n", 0, at)) >= 0:
            found += 1
            if found == count:
                file.seek(position + at + 1)
                return found
    file.seek(0)
    return found + (1 if end else 0)
