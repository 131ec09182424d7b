"""Go's time.Time, read from RFC 3339 text."""

from __future__ import annotations

import re

_STAMP = re.compile(r"(\d{4})-(\d\d)-(\d\d)T(\d\d):(\d\d):(\d\d)(?:\.(\d+))?(Z|[+-]\d\d:\d\d)")
_MONTHS = (
    *("January", "February", "March", "April", "May", "June"),
    *("July", "August", "September", "October", "November", "December"),
)
ZERO = "0001-01-01T00:00:00Z"


def _parts(raw: object) -> tuple[str, ...]:
    found = _STAMP.fullmatch(raw if isinstance(raw, str) else ZERO) or _STAMP.fullmatch(ZERO)
    assert found is not None
    return tuple(part or "" for part in found.groups())


def string(raw: object) -> str:
    """`2026-11-25 14:18:37.954087 +0000 UTC`."""
    year, month, day, hour, minute, second, fraction, zone = _parts(raw)
    fraction = fraction.rstrip("0")
    offset = "+0000 UTC" if zone == "Z" else f"{zone.replace(':', '')} {zone.replace(':', '')}"
    return f"{year}-{month}-{day} {hour}:{minute}:{second}{'.' + fraction if fraction else ''} {offset}"


def go_string(raw: object) -> str:
    """`time.Date(2026, time.November, …, time.UTC)`."""
    year, month, day, hour, minute, second, fraction, zone = _parts(raw)
    place = "time.UTC" if zone == "Z" else "time.Location"
    numbers = (int(day), int(hour), int(minute), int(second), int(fraction.ljust(9, "0")[:9] or 0))
    return f"time.Date({int(year)}, time.{_MONTHS[int(month) - 1]}, {', '.join(map(str, numbers))}, {place})"


def json_text(raw: object) -> str:
    """As encoding/json writes it."""
    return raw if isinstance(raw, str) and raw else ZERO


def is_zero(raw: object) -> bool:
    """Whether it is the zero time."""
    return _parts(raw) == _parts(ZERO)


def unix(raw: object) -> int:
    """Seconds since 1970."""
    from buildtool.cli.human import parse_rfc3339

    return int(parse_rfc3339(json_text(raw)))


def duration(nanoseconds: int) -> str:
    """A time.Duration as it prints: `1h0m30s`, `1.5s`, `250ms`, `0s`."""
    if nanoseconds == 0:
        return "0s"
    sign, left = ("-", -nanoseconds) if nanoseconds < 0 else ("", nanoseconds)
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 10**6)):
        if left < size * 1000:
            return f"{sign}{_decimal(left, size)}{unit}"
    minutes, rest = divmod(left, 60 * 10**9)
    hours, minutes = divmod(minutes, 60)
    text = f"{hours}h{minutes}m" if hours else f"{minutes}m" if minutes else ""
    return f"{sign}{text}{_decimal(rest, 10**9)}s"


def _decimal(number: int, size: int) -> str:
    whole, rest = divmod(number, size)
    part = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0") if rest else ""
    return f"{whole}.{part}" if part else str(whole)
