"""Times in flags: `--since 2026-01-31T09:00:00`, `--since 42m`, `--since 1700000000.5`."""

from __future__ import annotations

import time

from buildtool.cli.human import parse_rfc3339
from buildtool.cli.values import parse_duration
from buildtool.errors import InvalidInput

_LOCAL_FORMS = ("%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%dT%H", "%Y-%m-%d")


def engine_time(text: str) -> str:
    """The time in the form the API wants: seconds since 1970, with a fraction when there is one; "" stays "".

    A duration counts back from now; a date or time without an offset is in local time. Raises InvalidInput.
    """
    if not text or text.replace(".", "", 1).isdecimal():
        return text
    try:
        return _seconds_text(time.time() - parse_duration(text) / 1e9)
    except ValueError:
        pass  # not a duration: try the forms of a point in time
    try:
        return _seconds_text(parse_rfc3339(text))
    except ValueError:
        pass  # no offset: local time
    whole, _, fraction = text.partition(".")
    if whole.endswith("Z"):
        whole = whole[:-1]
    for form in _LOCAL_FORMS:
        try:
            seconds = time.mktime(time.strptime(whole, form))
        except ValueError:
            continue
        return _seconds_text(seconds + (float(f"0.{fraction}") if fraction.isdecimal() else 0.0))
    raise InvalidInput(
        f"invalid time {text!r}", hint="Write a duration (42m, 1h30m), seconds since 1970, or 2026-01-31T09:00:00Z."
    )


def _seconds_text(seconds: float) -> str:
    return f"{seconds:.9f}"
