"""The `filters` parameter of list, prune and events calls.

Clients send `{"status": ["exited"]}` or the older `{"status": {"exited": true}}`.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Any

import msgspec

from buildtool.errors import InvalidInput


class Filters:
    """Filter values by name; values of one name are alternatives, names are conjunctive."""

    def __init__(self, values: Mapping[str, Collection[str]] | None = None) -> None:
        self._values = {name: list(found) for name, found in (values or {}).items() if found}

    @classmethod
    def parse(
        cls, raw: str | bytes | Mapping[str, Any] | Filters | None, accepted: Collection[str] | None = None
    ) -> Filters:
        """Decode either wire form, or take values already decoded.

        Raises InvalidInput for malformed JSON and for names not in `accepted` ("invalid filter 'x'").
        """
        parsed = raw if isinstance(raw, Filters) else cls(_decode(raw))
        for name in parsed._values:
            if accepted is not None and name not in accepted:
                raise InvalidInput(f"invalid filter '{name}'")
        return parsed

    def __bool__(self) -> bool:
        return bool(self._values)

    def __contains__(self, name: str) -> bool:
        return name in self._values

    def get(self, name: str) -> list[str]:
        """The values of this name, none when it is not filtered by."""
        return self._values.get(name, [])

    def exact(self, name: str, value: str) -> bool:
        """No such filter, or the value is one of its values."""
        wanted = self._values.get(name)
        return wanted is None or value in wanted

    def prefix(self, name: str, value: str) -> bool:
        """No such filter, or the value starts with one of its values."""
        wanted = self._values.get(name)
        return wanted is None or any(value.startswith(each) for each in wanted)

    def match(self, name: str, value: str) -> bool:
        """No such filter, or one of its values, as a regular expression, is found in the value."""
        wanted = self._values.get(name)
        return wanted is None or value in wanted or any(_search(each, value) for each in wanted)

    def labels(self, labels: Mapping[str, str], name: str = "label") -> bool:
        """No such filter, or the labels have all of its `key` and `key=value` values."""
        for wanted in self._values.get(name, ()):
            key, equals, value = wanted.partition("=")
            if key not in labels or (equals and labels[key] != value):
                return False
        return True

    def boolean(self, name: str) -> bool | None:
        """The one boolean value of this name, None when absent. Raises InvalidInput."""
        wanted = self._values.get(name)
        if wanted is None:
            return None
        if len(wanted) == 1 and wanted[0].lower() in ("1", "true", "t"):
            return True
        if len(wanted) == 1 and wanted[0].lower() in ("0", "false", "f"):
            return False
        raise InvalidInput(f"invalid filter '{name}=[{' '.join(wanted)}]'")


def _search(pattern: str, value: str) -> bool:
    try:
        return re.search(pattern, value) is not None
    except re.error:
        return False


def _decode(raw: str | bytes | Mapping[str, Any] | None) -> dict[str, list[str]]:
    if not raw:
        return {}
    document: Any = raw
    if isinstance(raw, (str, bytes)):
        try:
            document = msgspec.json.decode(raw)
        except msgspec.DecodeError as error:
            raise InvalidInput(f"invalid filter: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, Mapping):
        raise InvalidInput("invalid filter: not a JSON object")
    values: dict[str, list[str]] = {}
    for name, found in document.items():
        if isinstance(found, Mapping):
            found = [value for value, wanted in found.items() if wanted]
        if not isinstance(found, list) or not all(isinstance(value, str) for value in found):
            raise InvalidInput(f"invalid filter '{name}': its values are not strings")
        values[name] = found
    return values
