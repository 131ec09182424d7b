"""Devices by the names that the Container Device Interface gives them (`vendor.com/class=name`).

Source: CDI specification 0.8 (spec files in /etc/cdi and /var/run/cdi, containerEdits).
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from buildtool.errors import InvalidInput, NotFound

DIRECTORIES = ("/etc/cdi", "/var/run/cdi")


def edits_of(device: str) -> list[dict[str, Any]]:
    """What a container needs for `vendor/class=name`, `vendor/class` (its only device) or `vendor/class=*`.

    Raises NotFound for a device that no specification has, InvalidInput for a specification that cannot be read.
    """
    kind, _, name = device.partition("=")
    known: list[str] = []
    for spec in _specs():
        members = spec.get("devices") or []
        known += [f"{spec.get('kind')}={member.get('name')}" for member in members]
        if spec.get("kind") != kind:
            continue
        chosen = [member for member in members if name in ("*", member.get("name"))]
        if not name:
            chosen = members[:1] if len(members) == 1 else [each for each in members if each.get("name") == "default"]
        if chosen:
            return [spec.get("containerEdits") or {}, *(member.get("containerEdits") or {} for member in chosen)]
    there = f"known are {', '.join(sorted(known))}" if known else "no CDI device is known here"
    raise NotFound(
        f"unresolvable CDI device {device}",
        hint=f"{there}; specifications are read from {' and '.join(DIRECTORIES)}",
    )


def kinds() -> set[str]:
    """The kinds (`vendor/class`) that there are specifications for."""
    return {str(spec.get("kind")) for spec in _specs()}


def _specs() -> Iterator[dict[str, Any]]:
    for directory in reversed(DIRECTORIES):  # the later directory wins
        for path in sorted(Path(directory).glob("*")):
            if path.suffix not in (".json", ".yaml", ".yml"):
                continue
            try:
                text = path.read_text()
                if path.suffix == ".json":
                    document = json.loads(text)
                else:
                    import yaml

                    document = yaml.safe_load(text)
            except (OSError, ValueError) as error:
                raise InvalidInput(f"the CDI specification {path} cannot be read: {error}") from None
            except Exception as error:  # noqa: BLE001 - yaml's errors have their own tree
                raise InvalidInput(f"the CDI specification {path} is malformed: {error}") from None
            if isinstance(document, dict):
                yield document
