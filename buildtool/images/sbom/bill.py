"""Packages, and the bill of all that were found: plain values.

Source of the package URLs: package-url/purl-spec, PURL-SPECIFICATION.rst and PURL-TYPES.rst.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias
from urllib.parse import quote

Kind: TypeAlias = Literal["deb", "apk", "rpm", "pypi", "npm", "golang", "cargo"]


@dataclass(frozen=True, slots=True)
class Package:
    """One installed package, as its database tells of it.

    `kind` is the type of its package URL, `namespace` that of the URL too (the distribution, an npm scope, the path
    of a Go module). `qualifiers` are the URL's, sorted. `licenses` are as declared, each an expression or a name.
    `source` is what it was built from (`name version`) where that is known to be something else, `found_in` the file
    that tells of it.
    """

    kind: Kind
    name: str
    version: str
    found_in: str
    namespace: str = ""
    qualifiers: tuple[tuple[str, str], ...] = ()
    licenses: tuple[str, ...] = ()
    supplier: str = ""
    source: str = ""
    homepage: str = ""

    @property
    def purl(self) -> str:
        """Its package URL."""
        namespace = "".join(f"{_quoted(part)}/" for part in self.namespace.split("/") if part)
        version = f"@{_quoted(self.version)}" if self.version else ""
        query = "&".join(f"{name}={_quoted(value)}" for name, value in self.qualifiers if value)
        return f"pkg:{self.kind}/{namespace}{_quoted(self.name)}{version}{'?' if query else ''}{query}"


@dataclass(frozen=True, slots=True)
class Distribution:
    """What /etc/os-release says: `id` and `version` name it in package URLs, `name` is for people."""

    id: str = ""
    version: str = ""
    name: str = ""

    @property
    def qualifier(self) -> str:
        """`debian-12`; "" when there is no os-release."""
        return "-".join(filter(None, (self.id, self.version)))


@dataclass(frozen=True, slots=True)
class Bill:
    """All packages of a tree, sorted by their URLs, and the faults met: databases that cannot be read."""

    packages: tuple[Package, ...]
    distribution: Distribution = Distribution()
    faults: tuple[str, ...] = ()


def _quoted(text: str) -> str:
    return quote(text, safe=":.-_~")
