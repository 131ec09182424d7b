"""How places are written: `docker://busybox:1`, `oci:folder:tag`, `docker-archive:file.tar:busybox:1`. Pure.

Source: containers-transports(5), whose names these are.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildtool.errors import InvalidInput
from buildtool.oci import Reference, parse_reference

KINDS = ("docker", "oci", "oci-archive", "docker-archive", "dir")
_TAG = re.compile(r"[\w][\w.+@-]{0,127}")


@dataclass(frozen=True)
class Location:
    """`kind` is one of KINDS. Of `docker` there is only `reference`; of the others a `path`, and what is meant in it:
    `name` as it was written ("" for the only image, or for none)."""

    kind: str
    path: str = ""
    name: str = ""
    reference: Reference | None = None

    def __str__(self) -> str:
        if self.reference is not None:
            return f"docker://{self.reference.familiar}"
        return f"{self.kind}:{self.path}" + (f":{self.name}" if self.name else "")


def parse_location(text: str) -> Location:
    """Raises InvalidInput saying what is missing."""
    kind, colon, rest = text.partition(":")
    if not colon or kind not in KINDS:
        raise InvalidInput(
            f"{text!r} is no place of an image: write TRANSPORT:NAME",
            hint=f"TRANSPORT is docker:// for a registry, or one of {', '.join(f'{one}:' for one in KINDS[1:])}",
        )
    if kind == "docker":
        if not rest.startswith("//") or rest == "//":
            raise InvalidInput(f"{text!r}: write docker://NAME[:TAG|@DIGEST]")
        return Location(kind, reference=parse_reference(rest[2:]))
    if kind == "dir":
        path, name = rest, ""
    else:
        path, _, name = rest.partition(":")
    if not path:
        raise InvalidInput(f"{text!r} names no path")
    if kind == "docker-archive" and name:
        name = str(parse_reference(name).with_default_tag())
    elif kind in ("oci", "oci-archive") and name and not re.fullmatch(r"[^\s:]+(:[^\s:]+)*", name):
        raise InvalidInput(f"{text!r}: {name!r} cannot be the name of an image")
    return Location(kind, path, name)
