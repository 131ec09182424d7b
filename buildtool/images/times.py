"""Times in image documents (RFC 3339) and in filters, as seconds since the epoch."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime

from buildtool.errors import InvalidInput

EARLIEST = 315532800
"""1980-01-01: the created time of an image that has no other."""

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|ms|s|m|h)")
_STAMP = re.compile(
    r"(?P<date>\d{4}-\d\d-\d\d)(?:[Tt ](?P<time>\d\d:\d\d(?::\d\d)?)(?P<fraction>\.\d+)?)?"
    r"(?P<zone>[Zz]|[+-]\d\d:\d\d)?"
)
_UNIX = re.compile(r"-?\d+(?:\.\d+)?")


def format_time(moment: float) -> str:
    """RFC 3339 in UTC, whole seconds (`2024-05-01T10:00:00Z`)."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(int(moment)))


def format_precise(moment: float) -> str:
    """RFC 3339 in UTC with microseconds, as the Engine API writes LastTagTime."""
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def parse_time(text: str | None) -> float | None:
    """The moment an RFC 3339 text names, None where there is none or Go's zero time. Local time without a zone."""
    match = _STAMP.fullmatch(text or "")
    if match is None:
        return None
    zone = (match["zone"] or "").upper().replace("Z", "+00:00")
    try:
        moment = datetime.fromisoformat(f"{match['date']}T{match['time'] or '00:00'}{zone}").timestamp()
    except (ValueError, OverflowError, OSError):
        return None
    if match["date"].startswith("0001-"):
        return None
    return moment + float(match["fraction"] or 0)


def parse_until(text: str, now: float | None = None) -> float:
    """A filter's `until`: a duration back from now (`24h`, `1h30m`), unix seconds, or an RFC 3339 date or time."""
    if _UNIX.fullmatch(text):
        return float(text)
    moment = parse_time(text)
    if moment is not None:
        return moment
    parts = list(_PART.finditer(text))
    if not parts or "".join(part[0] for part in parts) != text:
        raise InvalidInput(
            f"invalid filter 'until={text}'",
            hint="use a duration (24h), unix seconds, or a time (2024-05-01T10:00:00Z)",
        )
    back = sum(float(part[1]) * _UNITS[part[2]] for part in parts)
    return (time.time() if now is None else now) - back
