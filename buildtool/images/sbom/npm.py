"""npm packages: the package.json of each directory in a node_modules.

Source: docs.npmjs.com, package.json; folders(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from buildtool.cache.trees import Tree
from buildtool.images.sbom.bill import Package

_RECORD = re.compile(r".*/node_modules/(?:@[^/]+/)?[^/@.][^/]*/package\.json")


def is_record(path: str) -> bool:
    """Whether the file at this path tells of an installed package."""
    return path.endswith("/package.json") and _RECORD.fullmatch(path) is not None


def packages(tree: Tree, path: str) -> Iterator[Package]:
    """The package of a package.json; none for one without name and version. Raises ValueError."""
    document = msgspec.json.decode(tree.read_text(path).encode(errors="surrogateescape"))
    if not isinstance(document, dict):
        return
    name, version = document.get("name"), document.get("version")
    if not isinstance(name, str) or not isinstance(version, str) or not name or not version:
        return
    scope, _, short = name.rpartition("/")
    homepage = document.get("homepage")
    yield Package(
        "npm",
        short,
        version,
        path,
        namespace=scope,
        licenses=tuple(_licenses(document.get("license"), document.get("licenses"))),
        supplier=_person(document.get("author")),
        homepage=homepage if isinstance(homepage, str) else "",
    )


def _licenses(license: Any, old: Any) -> Iterator[str]:
    for item in [license, *(old if isinstance(old, list) else [])]:
        text = item.get("type") if isinstance(item, dict) else item
        if isinstance(text, str) and text and not text.startswith("SEE LICENSE IN"):
            yield text


def _person(author: Any) -> str:
    if isinstance(author, dict):
        name, mail = author.get("name"), author.get("email")
        return f"{name} <{mail}>" if name and mail else str(name or "")
    return author if isinstance(author, str) else ""
