"""Durations as Go writes them, and the days and weeks that Compose adds."""

from __future__ import annotations

import re

from buildtool.buildfile.durations import parse_duration

_DAYS = re.compile(r"(\d+(?:\.\d+)?)([wd])")


def nanoseconds(text: str) -> int:
    """A duration in Go's format, also with days and weeks. Raises ValueError with the reason."""
    total = 0.0
    rest = text

    def add(match: re.Match[str]) -> str:
        nonlocal total
        total += float(match[1]) * (7 if match[2] == "w" else 1) * 86_400_000_000_000
        return ""

    if "d" in text or "w" in text:
        rest = _DAYS.sub(add, text)
        if not rest:
            return int(total)
    return int(total) + parse_duration(rest)


def duration_text(amount: int) -> str:
    """Nanoseconds as Go prints them: `1m30s`, `1h0m0s`, `500ms`, `0s`."""
    if amount == 0:
        return "0s"
    sign, amount = ("-", -amount) if amount < 0 else ("", amount)
    for unit, size in (("ns", 1), ("µs", 1000), ("ms", 1_000_000)):
        if amount < size * 1000 and not (unit == "ns" and amount >= 1000):
            return sign + _fraction(amount, size) + unit
    seconds, rest = divmod(amount, 1_000_000_000)
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    text = _fraction(seconds * 1_000_000_000 + rest, 1_000_000_000) + "s"
    if minutes or hours:
        text = f"{minutes}m{text}"
    return sign + (f"{hours}h{text}" if hours else text)


def _fraction(amount: int, size: int) -> str:
    whole, rest = divmod(amount, size)
    if not rest:
        return str(whole)
    digits = str(rest).rjust(len(str(size)) - 1, "0").rstrip("0")
    return f"{whole}.{digits}"
