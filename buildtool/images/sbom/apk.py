"""Alpine's database: /lib/apk/db/installed (below /usr since Alpine 3.23).

Source: apk-tools, apk-package(5) and the wiki's "Apk spec".
"""

from __future__ import annotations

from collections.abc import Iterator

from buildtool.cache.trees import Tree
from buildtool.images.sbom.bill import Distribution, Package

_PATHS = ("/lib/apk/db/installed", "/usr/lib/apk/db/installed")


def packages(tree: Tree, distribution: Distribution) -> Iterator[Package]:
    """Every package of the database; of two paths that are one file, one."""
    seen: set[str] = set()
    for path in _PATHS:
        if not tree.exists(path) or (resolved := tree.resolve(path)) in seen:
            continue
        seen.add(resolved)
        for block in tree.read_text(path).split("\n\n"):
            fields = dict(line.split(":", 1) for line in reversed(block.splitlines()) if line[1:2] == ":")
            if fields.get("P") and fields.get("V"):
                yield _package(fields, path, distribution)


def _package(fields: dict[str, str], path: str, distribution: Distribution) -> Package:
    qualifiers = {"arch": fields.get("A", ""), "distro": distribution.qualifier}
    origin = fields.get("o", "")
    return Package(
        "apk",
        fields["P"],
        fields["V"],
        path,
        namespace=distribution.id or "alpine",
        qualifiers=tuple(sorted(qualifiers.items())),
        licenses=(fields["L"],) if fields.get("L") else (),
        supplier=fields.get("m", ""),
        source=f"{origin} {fields['V']}" if origin and origin != fields["P"] else "",
        homepage=fields.get("U", ""),
    )
