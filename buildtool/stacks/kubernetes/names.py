"""Names, labels and values as Kubernetes wants them.

Source: Kubernetes API conventions, "Object names and IDs" (RFC 1123 labels) and "Resource quantities".
"""

from __future__ import annotations

import re
from typing import Any

from buildtool.oci import sha256
from buildtool.stacks.durations import nanoseconds

LONGEST = 63
PART_OF = "app.kubernetes.io/part-of"
NAME = "app.kubernetes.io/name"
MANAGED = "app.kubernetes.io/managed-by"


class Notes:
    """What of the stack is not, or not quite, in the manifests."""

    def __init__(self) -> None:
        self.said: list[tuple[str, str]] = []

    def say(self, where: str, what: str) -> None:
        """`services.web.links`, and what becomes of it."""
        if (where, what) not in self.said:
            self.said.append((where, what))


def object_name(*parts: str) -> str:
    """A name of lower-case letters, digits and `-`; a long one ends in a digest of the whole."""
    whole = "-".join(parts)
    text = re.sub(r"[^a-z0-9-]+", "-", whole.lower()).strip("-") or "x"
    if len(text) > LONGEST:
        text = f"{text[: LONGEST - 9].rstrip('-')}-{sha256(whole.encode())[7:15]}"
    return text


def labels(project: str, service: str = "") -> dict[str, str]:
    """The recommended labels."""
    found = {PART_OF: object_name(project), MANAGED: "buildtool"}
    return {NAME: object_name(service), **found} if service else found


def selector(project: str, service: str) -> dict[str, str]:
    """The labels by which a service's pods are found."""
    return {NAME: object_name(service), PART_OF: object_name(project)}


def seconds(text: Any, *, least: int = 1) -> int:
    """A duration in whole seconds, rounded up."""
    return max(least, -(-nanoseconds(str(text)) // 10**9))


def quantity(size: Any) -> str:
    """Bytes; the largest binary unit that divides them."""
    number = int(size)
    for unit, power in (("Gi", 30), ("Mi", 20), ("Ki", 10)):
        if number and number % (1 << power) == 0:
            return f"{number >> power}{unit}"
    return str(number)


def without_empty(document: dict[str, Any]) -> dict[str, Any]:
    """Leave out keys that say nothing; False and 0 say something."""
    return {key: value for key, value in document.items() if value is not None and value not in ("", [], {})}
