"""Where differences of builds usually come from, told by where the bytes are and what they look like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import BinaryIO

from buildtool.images.byte_ranges import ByteRange

_YEAR = rb"(?:19|20)\d\d"
_DATE = re.compile(
    rb"%b[-/]\d\d?[-/]\d\d?|\d\d?[-/]\d\d?[-/]%b|\d\d:\d\d:\d\d|\b1[5-9]\d{8}\b|"
    rb"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]* +\d" % (_YEAR, _YEAR)
)
_UUID = re.compile(rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.I)
_TEMPORARY = re.compile(rb"/tmp/|/build/|/home/")
_EPOCH = "set SOURCE_DATE_EPOCH"
_AROUND = 48


def usual_cause(path: str, before: BinaryIO, ranges: Sequence[ByteRange]) -> str:
    """The usual cause of these differences from a file's content before; "" when it is not known."""
    if not ranges:
        return ""
    first = ranges[0]
    start = max(first.start - _AROUND, 0)
    before.seek(0)
    begin = before.read(16)
    before.seek(start)
    around = before.read(first.start - start + _AROUND)
    # of the other content only the sample is at hand: beside it both are the same
    head, tail = around[: first.start - start], around[first.end - start :]
    return cause_of(path, begin, first.start, around, head + bytes.fromhex(first.now) + tail)


def cause_of(path: str, begin: bytes, offset: int, around_a: bytes, around_b: bytes) -> str:
    """The usual cause; "" when it is not known.

    `begin` is how the file begins, `offset` where the first difference is, `around_*` the bytes there and beside it.
    """
    name = path.rpartition("/")[2]
    if name.endswith(".pyc") and 4 <= offset < 16:
        return "bytecode of Python has the time of its source in it: compile with --invalidation-mode unchecked-hash"
    if begin[:3] == b"\x1f\x8b\x08" and 4 <= offset < 8:
        return "gzip's header has the time of the file: compress with `gzip -n`"
    if begin[:4] == b"PK\x03\x04":
        return f"zip archives hold times and an order: {_EPOCH}, or use `zip -X` on sorted names"
    if begin[:8] == b"!<arch>\n":
        return "ar archives hold times and owners: use `ar D`, or set ARFLAGS"
    if begin[:4] == b"\x7fELF":
        found = _in_text(around_a, around_b)
        return (
            found or "a program: build ids, paths and __DATE__ of the compiler (-ffile-prefix-map, --build-id=none)"
        )
    if name in ("machine-id", "random-seed") or "/ssh_host_" in path:
        return "made anew on every machine: remove it in the same RUN"
    if name in ("ld.so.cache", "aux-cache"):
        return "ldconfig's cache holds times of files: remove /var/cache/ldconfig/aux-cache in the same RUN"
    if path.startswith(("var/log/", "var/cache/")):
        return "a log or a cache: remove it in the same RUN"
    return _in_text(around_a, around_b)


def _in_text(a: bytes, b: bytes) -> str:
    if _DATE.search(a) and _DATE.search(b):
        return f"a date or time is written into it: {_EPOCH}, or leave it out"
    if _UUID.search(a) and _UUID.search(b):
        return "a random identifier is written into it"
    if _TEMPORARY.search(a) or _TEMPORARY.search(b):
        return "a path of the building machine is written into it"
    return ""
