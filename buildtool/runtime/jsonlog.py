# ruff: noqa: PTH104, PTH108, PTH110, PTH123
"""Docker's json-file log: one JSON object a line, cut at 16 KiB, rotated by size.

Used in the shim: imports nothing but the lightest. A failing disk never stops the container: what cannot be written
is counted and dropped.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Mapping
from json.encoder import encode_basestring

from buildtool.runtime.syscalls import close_all_but

_CUT = 16 * 1024
_NAMES = {1: "stdout", 2: "stderr"}


class JsonLog:
    """Writes records `{"log":…,"stream":…,"time":…}`; a line longer than 16 KiB becomes several without a newline.

    `max_size` bytes (None = no rotation) and `max_file` files (`path`, `path.1`, …) as Docker's options of that name;
    with `compress` the rotated ones are `path.1.gz`, …. `attributes` are said in every record.
    """

    def __init__(
        self,
        path: str,
        max_size: int | None,
        max_file: int,
        attributes: Mapping[str, str] | None = None,
        *,
        compress: bool = False,
    ) -> None:
        self._path = path
        self._max_size = max_size
        self._max_file = max(1, max_file)
        self._compress = compress
        self._compressing = -1
        said = f',"attrs":{json.dumps(dict(sorted(attributes.items())))}' if attributes else ""
        self._tails = {number: f'","stream":"{name}"{said},"time":"' for number, name in _NAMES.items()}
        self._partial = {1: b"", 2: b""}
        self.lost = 0
        self._fd = -1
        self._size = 0
        self._open()

    def write(self, stream: int, data: bytes) -> None:
        """Log output of stream 1 or 2; an unfinished last line waits for its rest or for `close`."""
        data = self._partial[stream] + data
        end = data.rfind(b"\n") + 1
        rest = data[end:]
        if end:
            self._records(stream, data[:end])
        while len(rest) > _CUT:
            cut = character_boundary(rest, _CUT)
            self._put(self._record(stream, rest[:cut]))
            rest = rest[cut:]
        self._partial[stream] = rest

    def close(self) -> None:
        """Write what waits for its newline and close the file."""
        for stream, rest in self._partial.items():
            if rest:
                self._put(self._record(stream, rest))
                self._partial[stream] = b""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _records(self, stream: int, lines: bytes) -> None:
        text = lines.decode("utf-8", "replace")
        tail = f'{self._tails[stream]}{_now()}"}}\n'
        if len(lines) <= _CUT and "\\" not in text:  # no line can be too long: one pass in C for all lines
            escaped = encode_basestring(text)[1:-1].replace("\\n", "\\n" + tail + '{"log":"')
            self._put(('{"log":"' + escaped)[: -len('{"log":"')].encode("utf-8", "replace"))
            return
        records: list[str] = []
        for line in lines.splitlines(keepends=True) if b"\r" not in lines else _split(lines):
            while len(line) > _CUT:
                cut = character_boundary(line, _CUT)
                records.append('{"log":' + encode_basestring(line[:cut].decode("utf-8", "replace"))[:-1] + tail)
                line = line[cut:]
            records.append('{"log":' + encode_basestring(line.decode("utf-8", "replace"))[:-1] + tail)
        self._put("".join(records).encode("utf-8", "replace"))

    def _record(self, stream: int, line: bytes) -> bytes:
        text = encode_basestring(line.decode("utf-8", "replace"))[:-1]
        return f'{{"log":{text}{self._tails[stream]}{_now()}"}}\n'.encode("utf-8", "replace")

    def _put(self, records: bytes) -> None:
        limit = self._max_size
        try:
            while limit is not None and self._size + len(records) > limit:
                end = records.rfind(b"\n", 0, max(0, limit - self._size)) + 1
                if end == 0 and self._size == 0:  # a single record above the limit has its file to itself
                    end = records.find(b"\n") + 1
                self._write(records[:end])
                records = records[end:]
                if not records:
                    return
                self._rotate()
            self._write(records)
        except OSError:
            self.lost += len(records)

    def _write(self, records: bytes) -> None:
        view = memoryview(records)
        while view:
            written = os.write(self._fd, view)
            self._size += written
            view = view[written:]

    def _open(self) -> None:
        try:
            self._fd = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
            self._size = os.fstat(self._fd).st_size
        except OSError:
            self._fd = -1

    def _await_compression(self) -> None:
        """The file that is being compressed keeps its name until that is done."""
        if self._compressing >= 0:
            with contextlib.suppress(ChildProcessError):  # the shim has taken it with its other children
                os.waitid(os.P_PIDFD, self._compressing, os.WEXITED)
            os.close(self._compressing)
            self._compressing = -1

    def _rotate(self) -> None:
        os.close(self._fd)
        self._fd = -1
        try:
            self._await_compression()
            if self._max_file == 1:
                os.truncate(self._path, 0)
            else:
                for number in range(self._max_file - 1, 1, -1):
                    for ending, other in (("", ".gz"), (".gz", "")):
                        older, newer = f"{self._path}.{number - 1}{ending}", f"{self._path}.{number}"
                        if os.path.exists(older):
                            os.rename(older, newer + ending)
                            if os.path.exists(newer + other):
                                os.unlink(newer + other)
                os.rename(self._path, f"{self._path}.1")
                if self._compress:
                    with contextlib.suppress(OSError):  # no process to be had: it stays as it is
                        self._compressing = _compress_beside(f"{self._path}.1")
        finally:
            self._open()


def _compress_beside(path: str) -> int:
    """Replace the file by its gzip in a process of its own (a pidfd of it); readers find one of the two whole."""
    pid = os.fork()
    if pid:
        return os.pidfd_open(pid)
    try:
        close_all_but()
        import gzip
        import shutil

        with open(path, "rb") as source, gzip.open(f"{path}.tmp", "wb", 6) as target:
            shutil.copyfileobj(source, target, 1 << 20)
        os.rename(f"{path}.tmp", f"{path}.gz")
        os.unlink(path)
    finally:
        os._exit(0)


def _split(lines: bytes) -> list[bytes]:
    return [line + b"\n" for line in lines[:-1].split(b"\n")]


def character_boundary(data: bytes, cut: int) -> int:
    """The largest position up to `cut` that does not cut a UTF-8 character in two."""
    for back in range(4):
        if data[cut - back] & 0xC0 != 0x80:
            return cut - back
    return cut


_second = (-1, "")


def _now() -> str:
    """The time as RFC 3339 with nanoseconds, trailing zeros cut as Go does."""
    global _second
    whole, nanoseconds = divmod(time.time_ns(), 1_000_000_000)
    if _second[0] != whole:
        _second = (whole, time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)))
    fraction = f"{nanoseconds:09d}".rstrip("0")
    return f"{_second[1]}.{fraction}Z" if fraction else f"{_second[1]}Z"
