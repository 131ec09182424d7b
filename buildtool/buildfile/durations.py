"""Go's durations, as HEALTHCHECK takes them: `1m30s`, `500ms`, `1.5h`."""

from __future__ import annotations

import re

_UNITS = {
    "ns": 1, "us": 1_000, "µs": 1_000, "μs": 1_000, "ms": 1_000_000, "s": 1_000_000_000, "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}  # fmt: skip
_PART = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|µs|μs|ms|s|m|h)")
_LARGEST = 2**63 - 1


def parse_duration(text: str) -> int:
    """Nanoseconds of a duration. Raises ValueError with the reason."""
    from fractions import Fraction  # its imports cost a command that reads no duration 3 ms

    sign, rest = (-1, text[1:]) if text[:1] == "-" else (1, text.removeprefix("+"))
    if rest == "0":
        return 0
    total = Fraction(0)
    position = 0
    while position < len(rest):
        match = _PART.match(rest, position)
        if match is None or not (match[1] or match[2]):
            if re.fullmatch(r"[0-9]*\.?[0-9]+", rest):
                raise ValueError(f"missing unit in duration {text!r}")
            raise ValueError(f"invalid duration {text!r}")
        number = Fraction(f"{match[1] or '0'}.{match[2] or '0'}")
        total += number * _UNITS[match[3]]
        position = match.end()
    if not rest:
        raise ValueError(f"invalid duration {text!r}")
    if total > _LARGEST:
        raise ValueError(f"duration {text!r} is too long")
    return sign * int(total)


def shown_duration(nanoseconds: int) -> str:
    """A duration as one would write it: `12h`, `1m30s`, `1.5s`, `20ms`; below a minute with three digits."""
    if nanoseconds < 60 * _UNITS["s"]:
        unit = next((unit for unit in ("s", "ms", "us") if nanoseconds >= _UNITS[unit]), "ns")
        return f"{nanoseconds / _UNITS[unit]:.3f}".rstrip("0").rstrip(".") + unit
    parts = []
    for unit in ("h", "m", "s"):
        count, nanoseconds = divmod(nanoseconds, _UNITS[unit])
        if count:
            parts.append(f"{count}{unit}")
    return "".join(parts)
