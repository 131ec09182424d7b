"""Reading tar archives as a stream: v7, ustar, GNU and PAX, with GNU's and PAX's sparse files.

Written for hostile input: every size is bounded before it is believed, and a fault is an InvalidInput that names the
entry or the offset. Sources: POSIX pax(1), GNU tar manual "Standard Tar Format" and "Storing Sparse Files".
"""

from __future__ import annotations

import base64
import binascii
import functools
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from buildtool.errors import InvalidInput

BLOCK = 512
_MAX_EXTENSION = 1 << 20  # one PAX header or long name; the same limit as Go's archive/tar
_MAX_HOLES = 1 << 18
_ZERO_BLOCK = bytes(BLOCK)
_REGULAR = (b"0", b"\0", b"7", b"S")
_WITHOUT_DATA = (b"1", b"2", b"3", b"4", b"5", b"6")
_SECOND = 1_000_000_000
_LATEST = 1 << 40  # seconds: what no clock shows and a kernel may not take


@dataclass(slots=True)
class TarEntry:
    """One entry. `kind` is the type flag with all sorts of regular file as b"0"; `size` what the file has when
    unpacked.
    """

    name: bytes
    kind: bytes
    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    link: bytes = b""
    major: int = 0
    minor: int = 0
    xattrs: dict[bytes, bytes] = field(default_factory=dict)
    data: list[tuple[int, int]] | None = None  # sparse: (offset, length) of what is stored
    stored: int = 0  # bytes of data in the archive, without padding


class ByteSource:
    """Exact reads over an iterator of chunks."""

    def __init__(self, chunks: Iterator[bytes]) -> None:
        self._chunks = chunks
        self._buffer = b""
        self._position = 0
        self.consumed = 0

    def take(self, count: int) -> bytes:
        """The next `count` bytes. Raises InvalidInput when the stream ends before."""
        start = self._position
        end = start + count
        if end <= len(self._buffer):
            self._position = end
            self.consumed += count
            return self._buffer[start:end]
        return b"".join(bytes(piece) for piece in self.pieces(count))

    def pieces(self, count: int) -> Iterator[bytes | memoryview]:
        """The next `count` bytes as they come, without copying."""
        while count:
            available = len(self._buffer) - self._position
            if not available:
                if not self._refill():
                    raise InvalidInput(f"the archive is truncated at byte {self.consumed}")
                continue
            length = min(available, count)
            start = self._position
            self._position += length
            self.consumed += length
            count -= length
            if length == len(self._buffer):
                yield self._buffer
            else:
                yield memoryview(self._buffer)[start : start + length]

    def skip(self, count: int) -> None:
        """Drop the next `count` bytes."""
        if self._position + count <= len(self._buffer):
            self._position += count
            self.consumed += count
            return
        for _ in self.pieces(count):
            pass

    def at_end(self) -> bool:
        """Whether nothing follows."""
        return self._position == len(self._buffer) and not self._refill()

    def drain(self) -> None:
        """Drop everything that follows."""
        self.consumed += len(self._buffer) - self._position
        self._buffer, self._position = b"", 0
        for chunk in self._chunks:
            self.consumed += len(chunk)

    def _refill(self) -> bool:
        for chunk in self._chunks:
            if chunk:
                self._buffer, self._position = chunk, 0
                return True
        self._buffer, self._position = b"", 0
        return False


def read_entries(source: ByteSource) -> Iterator[TarEntry]:
    """The entries of an archive. The caller consumes each entry's `stored` bytes and their padding before the next.

    Ends at the end-of-archive block or at the end of the stream; what follows is left unread.
    """
    pax: dict[bytes, bytes] = {}
    holes: list[bytes] = []
    long_name = long_link = None
    while not source.at_end():
        header = source.take(BLOCK)
        if header == _ZERO_BLOCK:
            return
        _verify(header, source.consumed - BLOCK)
        kind = header[156:157]
        if kind in (b"x", b"X"):
            pax, holes = _parse_pax(_extension(source, header))
            continue
        if kind == b"g":  # comments of git archive and the like; Docker ignores them too
            _parse_pax(_extension(source, header))
            continue
        if kind == b"L":
            long_name = _extension(source, header).split(b"\0", 1)[0]
            continue
        if kind == b"K":
            long_link = _extension(source, header).split(b"\0", 1)[0]
            continue
        if kind == b"V":
            _extension(source, header)
            continue
        entry = _entry(header, kind)
        if long_name is not None:
            entry.name = long_name
        if long_link is not None:
            entry.link = long_link
        if pax:
            _apply_pax(entry, pax)
        if kind == b"S":
            _read_gnu_sparse(entry, header, source)
        elif b"GNU.sparse.major" in pax or b"GNU.sparse.map" in pax or holes:
            _read_pax_sparse(entry, pax, holes, source)
        if b"\0" in entry.name or b"\0" in entry.link:
            raise InvalidInput(f"entry {entry.name!r}: a NUL byte in the name")
        pax, holes, long_name, long_link = {}, [], None, None
        yield entry
    if pax or long_name is not None or long_link is not None:
        raise InvalidInput(
            f"the archive is truncated at byte {source.consumed}: an extended header without its entry"
        )


def padding(size: int) -> int:
    """Bytes that fill the last block of `size` bytes of data."""
    return -size % BLOCK


def _verify(header: bytes, offset: int) -> None:
    field_ = header[148:156]
    recorded = _number(field_, "checksum")
    # Adler-32's low half is 1 + the sum of the bytes modulo 65521, which 256 bytes cannot reach.
    actual = (zlib.adler32(header[:256]) & 0xFFFF) + (zlib.adler32(header[256:]) & 0xFFFF) - 2 - sum(field_) + 8 * 32
    if recorded == actual:
        return
    signed = actual - 256 * sum(byte > 127 for byte in header[:148] + header[156:])
    if recorded != signed:
        raise InvalidInput(f"not a tar header at byte {offset}: bad checksum")


def _number(field_: bytes, what: str) -> int:
    """Octal text, or GNU's base-256 for what is too large or negative."""
    text = field_.rstrip(b" \0")
    if text.isdigit():
        try:
            return int(text, 8)
        except ValueError:
            raise InvalidInput(f"bad {what} {text!r} in a tar header") from None
    if field_[0] & 0x80:
        value = int.from_bytes(field_, "big")
        bits = 8 * len(field_)
        return value - (1 << bits) if field_[0] == 0xFF else value & ((1 << (bits - 1)) - 1)
    text = field_.split(b"\0", 1)[0].strip(b" ")
    if not text:
        return 0
    try:
        if text.isdigit():
            return int(text, 8)
    except ValueError:
        pass
    raise InvalidInput(f"bad {what} {text!r} in a tar header")


def _size(header: bytes) -> int:
    size = _number(header[124:136], "size")
    if not 0 <= size < 1 << 62:
        raise InvalidInput(f"bad size {size} in a tar header")
    return size


def _extension(source: ByteSource, header: bytes) -> bytes:
    size = _size(header)
    if size > _MAX_EXTENSION:
        raise InvalidInput(
            f"an extended header of {size} bytes at byte {source.consumed} (the limit is {_MAX_EXTENSION})"
        )
    data = source.take(size)
    source.skip(padding(size))
    return data


def _entry(header: bytes, kind: bytes) -> TarEntry:
    name = header[:100].split(b"\0", 1)[0]
    if header[345] and header[257:263] == b"ustar\0":
        end = 476 if header[508:512] == b"tar\0" else 500  # star keeps two times behind a shorter prefix
        name = header[345:end].split(b"\0", 1)[0] + b"/" + name
    size = 0 if kind in _WITHOUT_DATA else _size(header)
    mode, uid, gid = _attributes(header[100:124])
    link = header[157:257].split(b"\0", 1)[0] if header[157] else b""
    plain = b"0" if kind in _REGULAR else kind
    mtime_ns = _header_time(header[136:148]) * _SECOND
    entry = TarEntry(name, plain, mode, uid, gid, size, mtime_ns, link, stored=size)
    if kind in (b"3", b"4"):
        entry.major = _number(header[329:337], "device number")
        entry.minor = _number(header[337:345], "device number")
    if kind == b"\0" and name.endswith(b"/"):  # before POSIX, a directory was a file with a slash
        entry.kind, entry.size, entry.stored = b"5", 0, 0
    return entry


@functools.lru_cache(maxsize=2048)  # they repeat
def _attributes(fields: bytes) -> tuple[int, int, int]:
    """Mode, user and group."""
    mode, uid, gid = (_number(fields[i : i + 8], "mode or owner") for i in (0, 8, 16))
    return mode & 0o7777, _identity(uid), _identity(gid)


def _identity(number: int) -> int:
    if not 0 <= number < (1 << 32) - 1:
        raise InvalidInput(f"bad owner {number} in a tar header")
    return number


def _parse_pax(data: bytes) -> tuple[dict[bytes, bytes], list[bytes]]:
    """The records, and the values of sparse format 0.0's repeated keys in order."""
    records: dict[bytes, bytes] = {}
    for line in data.split(b"\n")[:-1]:  # quick, and right unless a value has a line break
        length, _, record = line.partition(b" ")
        key, equals, value = record.partition(b"=")
        if not length.isdigit() or len(length) > 8 or int(length) != len(line) + 1 or not equals or not key:
            return _parse_pax_exactly(data)
        if key in records or key == b"GNU.sparse.offset":
            return _parse_pax_exactly(data)
        records[key] = value
    return (records, []) if data[-1:] == b"\n" else _parse_pax_exactly(data)


def _parse_pax_exactly(data: bytes) -> tuple[dict[bytes, bytes], list[bytes]]:
    records: dict[bytes, bytes] = {}
    holes: list[bytes] = []
    position = 0
    while position < len(data):
        space = data.find(b" ", position, position + 21)
        length = data[position:space]
        if space < 0 or not length.isdigit():
            if not data[position:].strip(b"\0"):
                break
            raise InvalidInput("a malformed PAX header")
        end = position + int(length)
        key, equals, value = data[space + 1 : end - 1].partition(b"=")
        if end > len(data) or end <= space or data[end - 1 : end] != b"\n" or not equals or not key:
            raise InvalidInput("a malformed PAX header")
        if key in (b"GNU.sparse.offset", b"GNU.sparse.numbytes"):
            holes.append(value)
        records[key] = value
        position = end
    return records, holes


def _apply_pax(entry: TarEntry, pax: dict[bytes, bytes]) -> None:
    for key, value in pax.items():
        if key == b"path":
            entry.name = value or entry.name
        elif key == b"linkpath":
            entry.link = value or entry.link
        elif key == b"size":
            if entry.kind not in _WITHOUT_DATA:
                entry.size = entry.stored = _decimal(value, "size")
        elif key == b"uid":
            entry.uid = _identity(_decimal(value, "uid"))
        elif key == b"gid":
            entry.gid = _identity(_decimal(value, "gid"))
        elif key == b"mtime":
            entry.mtime_ns = _time(value)
        elif key.startswith(b"SCHILY.xattr."):
            entry.xattrs[key[13:]] = value
        elif key.startswith(b"LIBARCHIVE.xattr."):
            try:
                name = urllib.parse.unquote_to_bytes(key[17:])
                entry.xattrs.setdefault(name, base64.b64decode(value + b"=" * (-len(value) % 4), validate=True))
            except (binascii.Error, ValueError):
                raise InvalidInput(f"entry {entry.name!r}: a malformed {key.decode(errors='replace')}") from None
    if b"GNU.sparse.name" in pax:
        entry.name = pax[b"GNU.sparse.name"]


def _decimal(value: bytes, what: str) -> int:
    if not value.isdigit() or len(value) > 19:
        raise InvalidInput(f"bad {what} {value[:40]!r} in a PAX header")
    number = int(value)
    if number >= 1 << 62:
        raise InvalidInput(f"bad {what} {number} in a PAX header")
    return number


def _header_time(field_: bytes) -> int:
    seconds = _number(field_, "mtime")
    if abs(seconds) >= _LATEST:
        raise InvalidInput(f"bad time {seconds} in a tar header")
    return seconds


def _time(value: bytes) -> int:
    seconds, _, fraction = value.partition(b".")
    if seconds.isdigit() and len(seconds) <= 12 and (fraction.isdigit() or not fraction):
        return int(seconds) * _SECOND + int(fraction[:9].ljust(9, b"0"))
    try:
        number = Decimal(value.decode("ascii"))
        if number.is_finite() and abs(number) < _LATEST:
            return int((number * _SECOND).to_integral_value(rounding="ROUND_FLOOR"))
    except (InvalidOperation, ValueError):
        pass
    raise InvalidInput(f"bad time {value[:40]!r} in a PAX header")


def _read_gnu_sparse(entry: TarEntry, header: bytes, source: ByteSource) -> None:
    numbers = [_number(header[i : i + 12], "sparse map") for i in range(386, 482, 12)]
    entry.size = _number(header[483:495], "size")
    more = header[482]
    while more:
        block = source.take(BLOCK)
        numbers += [_number(block[i : i + 12], "sparse map") for i in range(0, 504, 12)]
        more = block[504]
        _bounded(entry, len(numbers))
    _set_map(entry, numbers)


def _read_pax_sparse(entry: TarEntry, pax: dict[bytes, bytes], holes: list[bytes], source: ByteSource) -> None:
    size = pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b""))
    if size:
        entry.size = _decimal(size, "size")
    if b"GNU.sparse.major" in pax:
        numbers = _read_map(entry, source)
    elif b"GNU.sparse.map" in pax:
        text = pax[b"GNU.sparse.map"]
        numbers = [_decimal(number, "sparse map") for number in text.split(b",")] if text else []
    else:
        numbers = [_decimal(number, "sparse map") for number in holes]
    _set_map(entry, numbers)


def _read_map(entry: TarEntry, source: ByteSource) -> list[int]:
    """Format 1.0: the map stands in front of the data, one decimal a line, padded to a block."""
    numbers: list[int] = []
    rest = b""
    while not numbers or len(numbers) < 1 + 2 * numbers[0]:
        if entry.stored < BLOCK:
            raise InvalidInput(f"entry {entry.name!r}: a malformed sparse map")
        entry.stored -= BLOCK
        *lines, rest = (rest + source.take(BLOCK)).split(b"\n")
        for line in lines:
            if numbers and len(numbers) == 1 + 2 * numbers[0]:
                break
            numbers.append(_decimal(line, "sparse map"))
        _bounded(entry, max(len(numbers), 2 * numbers[0] if numbers else 0))
        if len(rest) > 20 and len(numbers) < 1 + 2 * (numbers[0] if numbers else 1):
            raise InvalidInput(f"entry {entry.name!r}: a malformed sparse map")
    return numbers[1:]


def _bounded(entry: TarEntry, count: int) -> None:
    if count > 2 * _MAX_HOLES:
        raise InvalidInput(f"entry {entry.name!r}: more than {_MAX_HOLES} pieces in a sparse file")


def _set_map(entry: TarEntry, numbers: list[int]) -> None:
    _bounded(entry, len(numbers))
    pairs = list(zip(numbers[::2], numbers[1::2], strict=False))
    entry.data = [(offset, length) for offset, length in pairs if length]
    position = 0
    for offset, length in entry.data:
        if offset < position or length < 0 or offset + length > entry.size:
            raise InvalidInput(f"entry {entry.name!r}: a malformed sparse map")
        position = offset + length
    if len(numbers) % 2 or sum(length for _, length in entry.data) != entry.stored:
        raise InvalidInput(f"entry {entry.name!r}: a sparse map that does not fit the data")
