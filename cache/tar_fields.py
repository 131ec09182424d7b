"""The fields of tar headers and PAX records: numbers, owners and times, bounded before they are believed."""

from __future__ import annotations

from dataclasses import dataclass, field
from decimal import Decimal, InvalidOperation

from buildtool.errors import InvalidInput

SECOND = 1_000_000_000
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


def number(field_: bytes, what: str) -> int:
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


def size_of(header: bytes) -> int:
    """How many bytes of data follow a header."""
    size = number(header[124:136], "size")
    if not 0 <= size < 1 << 62:
        raise InvalidInput(f"bad size {size} in a tar header")
    return size


def identity(number: int) -> int:
    """A user or group that there can be."""
    if not 0 <= number < (1 << 32) - 1:
        raise InvalidInput(f"bad owner {number} in a tar header")
    return number


def decimal(value: bytes, what: str) -> int:
    """A number of a PAX record."""
    if not value.isdigit() or len(value) > 19:
        raise InvalidInput(f"bad {what} {value[:40]!r} in a PAX header")
    number = int(value)
    if number >= 1 << 62:
        raise InvalidInput(f"bad {what} {number} in a PAX header")
    return number


def header_time(field_: bytes) -> int:
    """The time of a header, in seconds."""
    seconds = number(field_, "mtime")
    if abs(seconds) >= _LATEST:
        raise InvalidInput(f"bad time {seconds} in a tar header")
    return seconds


def pax_time(value: bytes) -> int:
    """A time of a PAX record, in nanoseconds."""
    seconds, _, fraction = value.partition(b".")
    if seconds.isdigit() and len(seconds) <= 12 and (fraction.isdigit() or not fraction):
        return int(seconds) * SECOND + int(fraction[:9].ljust(9, b"0"))
    try:
        number = Decimal(value.decode("ascii"))
        if number.is_finite() and abs(number) < _LATEST:
            return int((number * SECOND).to_integral_value(rounding="ROUND_FLOOR"))
    except (InvalidOperation, ValueError):
        pass
    raise InvalidInput(f"bad time {value[:40]!r} in a PAX header")
