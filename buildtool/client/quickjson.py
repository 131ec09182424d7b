"""JSON for the client: what the standard module's `loads` and `dumps` do, without what that module imports.

Importing `json` loads `re` and `enum`, a quarter of the time that a short command takes. The scanner and the encoder
that do its work are a C module of CPython; where that is missing the standard module serves.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SPACE = " \t\n\r"


class _Settings:
    """What the scanner reads from a decoder: the defaults of `json.JSONDecoder`."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}.__getitem__


def _refuse(value: object) -> object:
    raise TypeError(f"Object of type {type(value).__name__} is not JSON serializable")


def raw_decode(text: str, start: int = 0) -> tuple[Any, int]:
    """The value that begins at `start`, and where it ends. Raises ValueError."""
    try:
        return _scan(text, start)
    except StopIteration as error:
        raise ValueError(f"no JSON value at character {error.value}") from None


def loads(data: str | bytes) -> Any:
    """The value of a JSON text (UTF-8). Raises ValueError."""
    text = data if isinstance(data, str) else data.decode()
    text = text.strip(_SPACE)
    value, end = raw_decode(text)
    if end != len(text):
        raise ValueError(f"extra data after the JSON value at character {end}")
    return value


def dumps(value: object) -> str:
    """A value as JSON on one line, ASCII only. Raises TypeError, ValueError."""
    return "".join(_encode(value, 0))


_scan: Callable[[str, int], tuple[Any, int]]
_encode: Callable[[object, int], tuple[str, ...]]
try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner

    settings: Any = _Settings
    _scan = make_scanner(settings)
    _encode = make_encoder(None, _refuse, encode_basestring_ascii, None, ": ", ", ", False, False, True)
except (ImportError, TypeError):
    import json

    decoder: Any = json.JSONDecoder()
    _scan = decoder.scan_once

    def _encode(value: object, _level: int) -> tuple[str, ...]:
        return (json.dumps(value),)
