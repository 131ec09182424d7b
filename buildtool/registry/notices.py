"""What registries tell people beside their answers: `Warning` headers.

Source: OCI distribution-spec v1.1, "Warnings"; RFC 7234, section 5.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_LIMIT = 4096
_NOTICE = re.compile(r'299 - "((?:[^"\\]|\\.)*)"')


def notices(headers: Iterable[str]) -> list[str]:
    """The texts of `Warning: 299 - "…"` headers, of which 4096 bytes are read; control characters become spaces."""
    found = []
    for text in _NOTICE.findall(", ".join(headers)[:_LIMIT]):
        plain = re.sub(r"\\(.)", r"\1", text)
        found.append("".join(char if char.isprintable() else " " for char in plain))
    return found
