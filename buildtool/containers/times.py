"""Points in time and durations as the Engine API writes them; inside, times are nanoseconds since the epoch.

0 stands for "never": Go's zero time, `0001-01-01T00:00:00Z`.
"""

from __future__ import annotations

import re
import time
from datetime import datetime

from buildtool.errors import InvalidInput

ZERO = "0001-01-01T00:00:00Z"
SECOND = 1_000_000_000

_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,
    "μs": 1_000,
    "ms": 1_000_000,
    "s": SECOND,
    "m": 60 * SECOND,
    "h": 3600 * SECOND,
}
_PART = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)")
_UNIX = re.compile(r"(-?\d+)(?:\.(\d{1,9}))?")
_DATE = re.compile(
    r"(\d{4}-\d\d-\d\d)(?:T(\d\d)(?::(\d\d)(?::(\d\d)(?:\.(\d{1,9})\d*)?)?)?)?(Z|[+-]\d\d:\d\d)?",
)


def now() -> int:
    """The present, in nanoseconds."""
    return time.time_ns()


def rfc3339nano(moment: int) -> str:
    """`2024-05-01T10:00:00.1234Z`: Go's RFC3339Nano in UTC, trailing zeros cut; 0 is Go's zero time."""
    if moment == 0:
        return ZERO
    seconds, fraction = divmod(moment, SECOND)
    text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{text}.{fraction:09d}".rstrip("0").rstrip(".") + "Z"


def parse_duration(text: str) -> int:
    """Go's duration syntax (`1h30m`, `500ms`, `-1.5s`) in nanoseconds. Raises InvalidInput on anything else."""
    body = text.lstrip("+-")
    if body == "0":
        return 0
    position = total = 0
    while position < len(body):
        match = _PART.match(body, position)
        if match is None:
            break
        total += round(float(match[1]) * _UNITS[match[2]])
        position = match.end()
    if not body or position != len(body):
        raise InvalidInput(f'time: invalid duration "{text}"')
    return -total if text.startswith("-") else total


def parse_rfc3339(text: str) -> int | None:
    """RFC 3339 and the shorter forms Docker takes (`2024-05-01`, `2024-05-01T10:00`; local time without a zone)."""
    match = _DATE.fullmatch(text)
    if match is None:
        return None
    date, hour, minute, second, fraction, zone = match.groups()
    clock = f"{date}T{hour or '00'}:{minute or '00'}:{second or '00'}"
    try:
        moment = datetime.fromisoformat(clock + ("+00:00" if zone == "Z" else zone or ""))
        seconds = int(moment.timestamp()) if zone else int(moment.astimezone().timestamp())
    except (ValueError, OverflowError):
        return None
    return seconds * SECOND + int((fraction or "").ljust(9, "0"))


def parse_moment(text: str, *, relative_to: int | None = None) -> int:
    """What `since` and `until` take: Unix seconds with an optional fraction, RFC 3339, or a duration ago.

    Empty text is 0 (no limit). Raises InvalidInput.
    """
    if not text:
        return 0
    match = _UNIX.fullmatch(text)
    if match is not None:
        return int(match[1]) * SECOND + int((match[2] or "").ljust(9, "0"))
    moment = parse_rfc3339(text)
    if moment is not None:
        return moment
    try:
        return (now() if relative_to is None else relative_to) - parse_duration(text)
    except InvalidInput:
        raise InvalidInput(f'failed to parse value as time or duration: "{text}"') from None


def human_duration(nanoseconds: int) -> str:
    """`5 minutes`, `About an hour`: the rough words that `ps` shows. Source: docker/go-units, HumanDuration."""
    seconds = max(0, nanoseconds) // SECOND
    minutes = seconds // 60
    hours = int(seconds / 3600 + 0.5)
    if seconds < 1:
        return "Less than a second"
    if seconds == 1:
        return "1 second"
    if seconds < 60:
        return f"{seconds} seconds"
    if minutes == 1:
        return "About a minute"
    if minutes < 60:
        return f"{minutes} minutes"
    if hours == 1:
        return "About an hour"
    for limit, size, unit in (
        (48, 1, "hours"),
        (24 * 14, 24, "days"),
        (24 * 60, 24 * 7, "weeks"),
        (24 * 365 * 2, 24 * 30, "months"),
    ):
        if hours < limit:
            return f"{hours // size} {unit}"
    return f"{hours // (24 * 365)} years"


def go_duration(nanoseconds: int) -> str:
    """`1m30s`, `500ms`: a duration as Go prints it (whole milliseconds are kept, finer parts as a fraction)."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < SECOND:
        return f"{nanoseconds / 1_000_000:g}ms"
    hours, rest = divmod(nanoseconds, 3600 * SECOND)
    minutes, rest = divmod(rest, 60 * SECOND)
    seconds = f"{rest / SECOND:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
