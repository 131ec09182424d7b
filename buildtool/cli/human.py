"""Sizes and times as Docker prints them."""

from __future__ import annotations

import time

_DECIMAL = ("B", "kB", "MB", "GB", "TB", "PB", "EB")
_BINARY = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")


def decimal_size(size: float, precision: int = 4) -> str:
    """`1.96kB`, `117MB`: units of 1000, so many significant digits."""
    return _size(size, 1000.0, _DECIMAL, precision)


def binary_size(size: float) -> str:
    """`1.5GiB`: units of 1024."""
    return _size(size, 1024.0, _BINARY, 4)


def _size(size: float, base: float, units: tuple[str, ...], precision: int) -> str:
    index = 0
    while size >= base and index < len(units) - 1:
        size /= base
        index += 1
    return f"{size:.{precision}g}{units[index]}"


def duration(seconds: float) -> str:
    """`Less than a second`, `About a minute`, `3 hours`, `2 weeks`."""
    whole = int(seconds)
    if whole < 1:
        return "Less than a second"
    if whole == 1:
        return "1 second"
    if whole < 60:
        return f"{whole} seconds"
    minutes = whole // 60
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    hours = int(seconds / 3600 + 0.5)
    if hours == 1:
        return "About an hour"
    if hours < 48:
        return f"{hours} hours"
    if hours < 24 * 7 * 2:
        return f"{hours // 24} days"
    if hours < 24 * 30 * 2:
        return f"{hours // 24 // 7} weeks"
    if hours < 24 * 365 * 2:
        return f"{hours // 24 // 30} months"
    return f"{int(seconds / 3600) // 24 // 365} years"


def ago(timestamp: float) -> str:
    """`3 hours ago`; the beginning of time (no time known) is `N/A`."""
    if timestamp <= 0:
        return "N/A"
    return duration(time.time() - timestamp) + " ago"


def local_time(timestamp: float) -> str:
    """`2026-01-31 09:15:00 +0100 CET`."""
    return time.strftime("%Y-%m-%d %H:%M:%S %z %Z", time.localtime(timestamp))


def rfc3339_local(timestamp: float) -> str:
    """`2026-01-31T09:15:00+01:00`."""
    moment = time.localtime(timestamp)
    offset = time.strftime("%z", moment)
    zone = "Z" if offset == "+0000" else f"{offset[:3]}:{offset[3:]}"
    return time.strftime("%Y-%m-%dT%H:%M:%S", moment) + zone


def parse_rfc3339(text: str) -> float:
    """Seconds since 1970 of `2026-01-31T09:15:00.123456789Z` (or with an offset). Raises ValueError."""
    date, _, clock = text.strip().replace("t", "T").partition("T")
    clock, offset = _split_offset(clock)
    try:
        year, month, day = (int(part) for part in date.split("-"))
        hour, minute, second = clock.split(":")
        whole, _, fraction = second.partition(".")
        seconds = (
            _days_since_1970(year, month, day) * 86400 + int(hour) * 3600 + int(minute) * 60 + int(whole) - offset
        )
        return seconds + (float(f"0.{fraction}") if fraction else 0.0)
    except ValueError:
        raise ValueError(f"{text!r} is not an RFC 3339 time") from None


def _split_offset(clock: str) -> tuple[str, int]:
    if clock.endswith(("Z", "z")):
        return clock[:-1], 0
    if (
        len(clock) > 6
        and clock[-6] in "+-"
        and clock[-3] == ":"
        and clock[-5:-3].isdecimal()
        and clock[-2:].isdecimal()
    ):
        seconds = int(clock[-5:-3]) * 3600 + int(clock[-2:]) * 60
        return clock[:-6], -seconds if clock[-6] == "-" else seconds
    return "", 0


def _days_since_1970(year: int, month: int, day: int) -> int:
    """Days of the Gregorian calendar, counted from March so that the leap day comes last."""
    if month <= 2:
        year, month = year - 1, month + 12
    return 365 * year + year // 4 - year // 100 + year // 400 + (153 * (month - 3) + 2) // 5 + day - 1 - 719468


def ellipsis(text: str, width: int) -> str:
    """At most `width` characters, the last one `…` when something was cut off."""
    return text if len(text) <= width else text[: width - 1] + "…"


def short_id(identifier: str) -> str:
    """The first twelve digits of an id, without its algorithm."""
    return identifier.removeprefix("sha256:")[:12]


def quoted(text: str) -> str:
    """Go's %q: in double quotes, with backslash escapes, Unicode letters as they are."""
    out = ['"']
    for char in text:
        if char in '"\\':
            out.append("\\" + char)
        elif char in _ESCAPES:
            out.append(_ESCAPES[char])
        elif ord(char) < 32 or ord(char) == 127:
            out.append(f"\\x{ord(char):02x}")
        elif char.isprintable():
            out.append(char)
        else:
            out.append(f"\\u{ord(char):04x}" if ord(char) < 0x10000 else f"\\U{ord(char):08x}")
    return "".join(out) + '"'


_ESCAPES = {"\a": "\\a", "\b": "\\b", "\f": "\\f", "\n": "\\n", "\r": "\\r", "\t": "\\t", "\v": "\\v"}
