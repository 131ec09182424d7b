"""`pushes` of a build request: where the image will be pushed to, so that layers can go there before it is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec

from buildtool.oci import parse_reference

if TYPE_CHECKING:
    from buildtool.images.forms import Compression
    from buildtool.registry import Registries
    from buildtool.solve.request import Destination


class PushSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """A push that is to follow the build: the image's name, and what the call will say of compression."""

    name: str
    compression: str = ""
    compression_level: str = ""
    force_compression: str = ""


def destinations(registries: Registries, pushes: Sequence[PushSpec], auth: Any) -> tuple[Destination, ...]:
    """Each repository once for each compression; nothing is reached yet. Raises InvalidInput."""
    from buildtool.images.forms import Compression
    from buildtool.registry import find_credentials

    found: dict[tuple[str, Compression], Destination] = {}
    for each in pushes:
        reference = parse_reference(each.name)
        compression = Compression.read(each.compression, each.compression_level, each.force_compression)
        key = (reference.repository, compression)
        if key not in found:
            credentials = find_credentials(auth, reference.domain) or None
            found[key] = registries.ahead(reference, credentials, compression)
    return tuple(found.values())
