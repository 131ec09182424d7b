"""YAML scalars as Compose reads them, and text for the values that are not text.

Not YAML 1.1: `yes`, `on` and `22:22` are strings, `017` is 15. Which scalars mean what was measured with docker
compose 2.40 (reference/stacks.md 1.9); the rules are those of the YAML 1.2 core schema plus Go's integers.
"""

from __future__ import annotations

import re
from decimal import Decimal
from typing import Any

_FLOAT = re.compile(r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?")
_INT = re.compile(r"([-+]?)(0[xX][0-9a-fA-F]+|0[oO][0-7]+|0[bB][01]+|0[0-7]+|0|[1-9][0-9]*)")
_DATE = re.compile(r"[0-9]{4}-[0-9]{1,2}-[0-9]{1,2}([Tt ]\s*[0-9]{1,2}:[0-9]{2}:[0-9]{2}(\.[0-9]*)?.*)?")
_CONSTANTS: dict[str, Any] = {
    "": None, "~": None, "null": None, "Null": None, "NULL": None,
    "true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False,
    ".inf": float("inf"), ".Inf": float("inf"), ".INF": float("inf"), "+.inf": float("inf"), "+.Inf": float("inf"),
    "+.INF": float("inf"), "-.inf": float("-inf"), "-.Inf": float("-inf"), "-.INF": float("-inf"),
    ".nan": float("nan"), ".NaN": float("nan"), ".NAN": float("nan"),
}  # fmt: skip
_FIRST = frozenset("0123456789+-.~nNtTfF")
_LEGACY_BOOLEANS = frozenset(
    word for base in ("y", "n", "yes", "no", "on", "off") for word in (base, base.title(), base.upper())
)
_SIXTIES = re.compile(r"[-+]?[0-9][0-9_]*(?::[0-5]?[0-9])+(?:\.[0-9_]*)?")
_LARGEST = 2**64


class DateScalar(Exception):
    """A plain scalar that YAML would read as a date."""


def resolve(text: str) -> Any:
    """The value of a plain scalar. Raises DateScalar for what looks like a date."""
    if not text:
        return None
    if text[0] not in _FIRST:
        return text
    if text in _CONSTANTS:
        return _CONSTANTS[text]
    if text[0] in "~nNtTfF":
        return text
    if _DATE.fullmatch(text):
        raise DateScalar
    digits = text.replace("_", "")
    whole = _INT.fullmatch(digits)
    if whole is not None:
        value = _integer(whole[2]) * (-1 if whole[1] == "-" else 1)
        if -(2**63) <= value < _LARGEST:
            return value
    if _FLOAT.fullmatch(digits):
        return float(digits)
    return text


def _integer(digits: str) -> int:
    if digits[:2] in ("0x", "0X", "0o", "0O", "0b", "0B"):
        return int(digits, 0)
    return int(digits, 8) if digits[0] == "0" else int(digits)


def is_plain_text(text: str) -> bool:
    """Whether every YAML reader takes the plain scalar for this very string."""
    if text in _LEGACY_BOOLEANS or _SIXTIES.fullmatch(text):
        return False
    try:
        return isinstance(resolve(text), str)
    except DateScalar:
        return False


def to_text(value: Any) -> str:
    """A scalar as the string that it stands for where text is wanted (an environment variable)."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return float_text(value)
    return str(value)


def float_text(value: float) -> str:
    """A float as Go prints it: shortest digits, an exponent below 1e-4 and from 1e21 on."""
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    if value == 0:
        return "0"
    sign, digits, exponent = Decimal(repr(value)).normalize().as_tuple()
    assert isinstance(exponent, int)
    text = "".join(map(str, digits))
    magnitude = len(text) + exponent - 1
    minus = "-" if sign else ""
    if magnitude < -4 or magnitude >= 21:
        mantissa = text[0] + (f".{text[1:]}" if len(text) > 1 else "")
        return f"{minus}{mantissa}e{'-' if magnitude < 0 else '+'}{abs(magnitude):02d}"
    if exponent >= 0:
        return minus + text + "0" * exponent
    if magnitude >= 0:
        return f"{minus}{text[: magnitude + 1]}.{text[magnitude + 1 :]}"
    return f"{minus}0.{'0' * (-magnitude - 1)}{text}"
