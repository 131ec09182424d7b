"""dpkg's database: /var/lib/dpkg/status, and a file a package in status.d (images without dpkg itself).

Source: deb-control(5), dpkg-query(1); Debian policy 12.5 (copyright files), the copyright format 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from buildtool.cache.trees import Tree
from buildtool.images.sbom.bill import Distribution, Package

_STATUS = "/var/lib/dpkg/status"
_STATUS_D = "/var/lib/dpkg/status.d"
_WITHOUT_FILES = frozenset({"not-installed", "config-files"})
_SOURCE = re.compile(r"(\S+)(?: \((\S+)\))?")


def packages(tree: Tree, distribution: Distribution) -> Iterator[Package]:
    """Every package that has files: all but those that are not installed or of which only configuration is left."""
    for path in _files(tree):
        for fields in stanzas(tree.read_text(path)):
            package = _package(fields, path, tree, distribution)
            if package is not None:
                yield package


def _files(tree: Tree) -> Iterator[str]:
    if tree.exists(_STATUS):
        yield _STATUS
    if tree.exists(_STATUS_D):
        for name in tree.listdir(_STATUS_D):
            if not name.endswith(".md5sums"):
                yield f"{_STATUS_D}/{name}"


def stanzas(text: str) -> Iterator[dict[str, str]]:
    """The paragraphs of a control file; names of fields in lower case, continuation lines joined by newlines."""
    fields: dict[str, str] = {}
    name = ""
    for line in text.splitlines():
        if not line.strip():
            if fields:
                yield fields
            fields, name = {}, ""
        elif line[0] in " \t":
            if name:
                fields[name] += "\n" + line.strip()
        elif not line.startswith("#"):
            key, separator, value = line.partition(":")
            name = key.lower() if separator else ""
            if name:
                fields[name] = value.strip()
    if fields:
        yield fields


def _package(fields: dict[str, str], path: str, tree: Tree, distribution: Distribution) -> Package | None:
    name, version = fields.get("package", ""), fields.get("version", "")
    state = fields.get("status", "install ok installed").split()
    if not name or not version or len(state) != 3 or state[2] in _WITHOUT_FILES:
        return None
    source = _SOURCE.match(fields.get("source", ""))
    qualifiers = {"arch": fields.get("architecture", ""), "distro": distribution.qualifier}
    return Package(
        "deb",
        name,
        version,
        path,
        namespace=distribution.id or "debian",
        qualifiers=tuple(sorted(qualifiers.items())),
        licenses=tuple(_licenses(tree, name)),
        supplier=fields.get("maintainer", ""),
        source=f"{source[1]} {source[2] or version}" if source is not None else "",
        homepage=fields.get("homepage", ""),
    )


def _licenses(tree: Tree, name: str) -> list[str]:
    """The short names in the License fields of a machine-readable copyright file; free text tells none."""
    try:
        text = tree.read_text(f"/usr/share/doc/{name}/copyright")
    except OSError:  # a link that leads round in a circle
        return []
    if "copyright-format" not in text[:400]:
        return []
    found: set[str] = set()
    for fields in stanzas(text):
        short = fields.get("license", "").partition("\n")[0].strip()
        for part in re.split(r"\s+(?:and/or|and|or)\s+|\s*,\s*(?:and\s+|or\s+)?", short):
            if part and len(part) < 80:
                found.add(part)
    return sorted(found)
