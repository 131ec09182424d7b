"""RPM's database: its headers, whichever of rpm's stores they lie in.

Source: rpm.org, "RPM V4 package format" (the header structure and its tags).
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import TypeAlias

from buildtool.cache.trees import Tree
from buildtool.errors import Corrupt
from buildtool.images.sbom.bill import Distribution, Package
from buildtool.images.sbom.rpm_stores import headers

_DIRECTORIES = ("/usr/lib/sysimage/rpm", "/var/lib/rpm", "/usr/share/rpm")
_NAME, _VERSION, _RELEASE, _EPOCH = 1000, 1001, 1002, 1003
_VENDOR, _LICENSE, _URL, _ARCH, _SOURCE = 1011, 1014, 1020, 1022, 1044
_INT32, _STRING, _STRING_ARRAY, _I18N = 4, 6, 8, 9
_MAX_ENTRIES = 65535

Values: TypeAlias = dict[int, str | int]


def packages(tree: Tree, distribution: Distribution) -> Iterator[Package]:
    """Every package of the database; public keys, which rpm keeps like packages, are none."""
    seen: set[str] = set()
    for directory in _DIRECTORIES:
        if not tree.exists(directory) or (resolved := tree.resolve(directory)) in seen:
            continue
        seen.add(resolved)
        for path, blob in headers(tree, directory):
            values = read_header(blob)
            if values.get(_NAME) and values[_NAME] != "gpg-pubkey":
                yield _package(values, path, distribution)


def _package(values: Values, path: str, distribution: Distribution) -> Package:
    epoch = values.get(_EPOCH)
    source = str(values.get(_SOURCE, ""))
    qualifiers = {
        "arch": str(values.get(_ARCH, "")),
        "distro": distribution.qualifier,
        "epoch": str(epoch) if epoch is not None else "",
    }
    return Package(
        "rpm",
        str(values[_NAME]),
        f"{values.get(_VERSION, '')}-{values.get(_RELEASE, '')}",
        path,
        namespace=distribution.id or "rpm",
        qualifiers=tuple(sorted(qualifiers.items())),
        licenses=(str(values[_LICENSE]),) if values.get(_LICENSE) else (),
        supplier=str(values.get(_VENDOR, "")),
        source=source,
        homepage=str(values.get(_URL, "")),
    )


def read_header(blob: bytes) -> Values:
    """The first value of each text and number of a header. Raises Corrupt."""
    if len(blob) < 8:
        raise Corrupt("an rpm header is cut off")
    count, size = struct.unpack(">II", blob[:8])
    data = blob[8 + 16 * count :]
    if count > _MAX_ENTRIES or size > len(data):
        raise Corrupt("an rpm header leads out of itself")
    values: Values = {}
    for number in range(count):
        tag, kind, offset, _ = struct.unpack(">IIII", blob[8 + 16 * number : 24 + 16 * number])
        if kind in (_STRING, _STRING_ARRAY, _I18N):
            values[tag] = data[offset : data.find(b"\0", offset)].decode(errors="replace")
        elif kind == _INT32 and offset + 4 <= len(data):
            values[tag] = struct.unpack(">I", data[offset : offset + 4])[0]
    return values
