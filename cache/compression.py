"""Compressed streams, both ways: gzip (isal where there is a wheel), zstd; bzip2 and xz for reading.

Everything works on iterators of byte chunks, so that files, sockets and generators are the same.
"""

from __future__ import annotations

import bz2
import lzma
import queue
import sys
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Iterator
from typing import Any, BinaryIO, Protocol

from buildtool.errors import InvalidInput

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

igzip_lib: Any
isal_zlib: Any
try:
    from isal import igzip_lib, isal_zlib
except ImportError:  # no wheel for this machine
    igzip_lib = isal_zlib = None

_ERRORS: tuple[type[Exception], ...] = (zlib.error, OSError, EOFError, ValueError, lzma.LZMAError, zstd.ZstdError)
if igzip_lib is not None:
    _ERRORS += (igzip_lib.error,)

CHUNK = 1 << 20
_INPUT = 1 << 18
_ISAL_LEVELS = (0, 1, 1, 1, 2, 2, 2)
"""isal's level for each of gzip's; above it has nothing better, and zlib has."""
_MAGIC = (
    (b"\x1f\x8b", "gzip"),
    (b"\x28\xb5\x2f\xfd", "zstd"),
    (b"BZh", "bzip2"),
    (b"\xfd7zXZ\x00", "xz"),
)


class _Decompressor(Protocol):
    """What bz2, lzma, zstd and isal agree on."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    @property
    def unused_data(self) -> bytes: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _ZlibGzip:
    """The same shape over the standard library's zlib."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(wbits=31)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    @property
    def unused_data(self) -> bytes:
        return self._inner.unused_data

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max(0, max_length))


def _gzip_decompressor() -> Any:
    return _ZlibGzip() if igzip_lib is None else igzip_lib.IgzipDecompressor(flag=igzip_lib.DECOMP_GZIP)


_DECOMPRESSORS: dict[str, Callable[[], Any]] = {
    "gzip": _gzip_decompressor,
    "zstd": zstd.ZstdDecompressor,
    "bzip2": bz2.BZ2Decompressor,
    "xz": lambda: lzma.LZMADecompressor(memlimit=1 << 28),
}


def detect(start: bytes) -> str:
    """The compression of a stream that begins like this: "gzip", "zstd", "bzip2", "xz" or ""."""
    for magic, name in _MAGIC:
        if start.startswith(magic):
            return name
    if len(start) >= 4 and start[1:4] == b"\x2a\x4d\x18" and 0x50 <= start[0] <= 0x5F:
        return "zstd"  # a skippable frame first
    return ""


def decompress(source: BinaryIO, compression: str = "auto") -> Iterator[bytes]:
    """The uncompressed bytes of a stream, in chunks of at most 1 MiB.

    `compression` is "", "gzip", "zstd", "bzip2", "xz" or "auto" (by the first bytes). Concatenated members are one
    stream. Raises InvalidInput when the stream is damaged, truncated or followed by something else than zeros.
    """
    if compression == "auto":
        start = _read_start(source)
        compression = detect(start)
    else:
        start = b""
    if not compression:
        return _plain(source, start)
    if compression not in _DECOMPRESSORS:
        raise InvalidInput(f"unknown compression {compression!r}")
    return _decompress(source, start, compression)


def _read_start(source: BinaryIO) -> bytes:
    start = b""
    while len(start) < 6:
        more = source.read(6 - len(start))
        if not more:
            break
        start += more
    return start


def _plain(source: BinaryIO, start: bytes) -> Iterator[bytes]:
    if start:
        start += source.read(CHUNK - len(start)) or b""
        yield start
    while chunk := source.read(CHUNK):
        yield chunk


def _decompress(source: BinaryIO, start: bytes, compression: str) -> Iterator[bytes]:
    make = _DECOMPRESSORS[compression]
    decompressor: _Decompressor = make()
    data = start or source.read(_INPUT)
    members = 0
    fresh = True  # nothing of the current member was read yet
    while True:
        if decompressor.eof:
            members += 1
            data = decompressor.unused_data
            decompressor, fresh = make(), True
            while data and not data.strip(b"\0"):
                data = source.read(_INPUT)
        if not data and (fresh or decompressor.needs_input):
            data = source.read(_INPUT)
            if not data:
                break
            if fresh and members and not data.strip(b"\0"):
                data = b""
                continue
        try:
            output = decompressor.decompress(data, CHUNK)
        except _ERRORS as error:
            what = "followed by garbage" if fresh and members else "damaged"
            raise InvalidInput(f"the {compression} stream is {what}: {error}") from None
        fresh = False
        data = b""
        if output:
            yield output
    if not fresh or not members:
        raise InvalidInput(f"the {compression} stream is truncated")


def compress(chunks: Iterable[bytes], compression: str, level: int | None = None) -> Iterator[bytes]:
    """Compress a stream with "", "gzip" or "zstd", at gzip's levels 0 to 9 or zstd's 1 to 22.

    The same bytes give the same result, in whatever chunks they come, on all processors of one architecture and with
    the same libraries: no time or name is in the header; isal and zlib's level 0, whose output depends on the blocks
    that they get, get them of one size; isal's level 3, which does what the processor can, is never used.
    """
    if not compression:
        yield from chunks
        return
    compressor: Any
    if compression == "gzip":
        if isal_zlib is None or (level is not None and level >= len(_ISAL_LEVELS)):
            compressor = zlib.compressobj(6 if level is None else level, zlib.DEFLATED, 31)
        else:
            compressor = isal_zlib.compressobj(_ISAL_LEVELS[1 if level is None else level], isal_zlib.DEFLATED, 31)
        chunks = _blocks(chunks)
    elif compression == "zstd":
        compressor = zstd.ZstdCompressor(level=3 if level is None else level)
    else:
        raise InvalidInput(f"unknown compression {compression!r}")
    for chunk in chunks:
        if output := compressor.compress(chunk):
            yield output
    if output := compressor.flush():
        yield output


def _blocks(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in blocks of CHUNK, and the rest."""
    held: list[bytes | memoryview] = []
    size = 0
    for chunk in chunks:
        rest = memoryview(chunk)
        while size + len(rest) >= CHUNK:
            cut = CHUNK - size
            yield b"".join((*held, rest[:cut])) if held or cut < len(chunk) else chunk
            rest = rest[cut:]
            held, size = [], 0
        if rest:
            held.append(rest)
            size += len(rest)
    if held:
        yield b"".join(held)


def read_ahead(chunks: Iterator[bytes], depth: int = 4) -> Generator[bytes, None, None]:
    """The same chunks, made by a second thread while the caller works on those before; errors come through.

    A stream of one small chunk starts no thread. Closing the iterator ends the thread.
    """
    first = next(chunks, b"")
    if first:
        yield first
    if len(first) < CHUNK // 2:
        yield from chunks
        return
    channel: queue.Queue[bytes | BaseException | None] = queue.Queue(depth)
    stop = threading.Event()

    def produce() -> None:
        try:
            for chunk in chunks:
                channel.put(chunk)
                if stop.is_set():
                    return
            channel.put(None)
        except BaseException as error:  # noqa: BLE001 - handed to the consumer, who raises it
            channel.put(error)

    thread = threading.Thread(target=produce, name="read-ahead", daemon=True)
    thread.start()
    try:
        while (item := channel.get()) is not None:
            if isinstance(item, BaseException):
                raise item
            yield item
    finally:
        stop.set()
        while thread.is_alive():
            try:
                channel.get_nowait()
            except queue.Empty:
                thread.join(0.01)
