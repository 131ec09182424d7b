"""npm packages: the package.json of each directory in a node_modules; lock files where none is beside them.

Source: docs.npmjs.com, package.json and package-lock.json (lockfileVersion 1 to 3); folders(5).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import msgspec

from buildtool.cache.trees import Tree
from buildtool.images.sbom.bill import Package

_LOCKS = ("/package-lock.json", "/npm-shrinkwrap.json")
_RECORD = re.compile(r".*/node_modules/(?:@[^/]+/)?[^/@.][^/]*/package\.json")


def is_record(path: str) -> bool:
    """Whether the file at this path tells of installed packages."""
    if path.endswith(_LOCKS):
        return "/node_modules/" not in path
    return path.endswith("/package.json") and _RECORD.fullmatch(path) is not None


def packages(tree: Tree, path: str) -> Iterator[Package]:
    """The package of a package.json; none for one without name and version. Of a lock file, those that it names.

    Raises ValueError.
    """
    is_lock = path.endswith(_LOCKS)
    if is_lock and tree.exists(f"{path.rpartition('/')[0]}/node_modules"):
        return  # what is installed tells more
    document = msgspec.json.decode(tree.read_text(path).encode(errors="surrogateescape"))
    if not isinstance(document, dict):
        return
    if is_lock:
        yield from _locked(document, path)
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


def _locked(document: dict[str, Any], path: str) -> Iterator[Package]:
    """What a lock file names, without what is for development only and what is a link into the project itself."""
    placed = document.get("packages")
    if isinstance(placed, dict):
        for place, entry in placed.items():
            _, inside, name = place.rpartition("node_modules/")
            if inside:
                yield from _lock_entry(name, entry, path)
        return
    pending = [document]
    while pending:
        named = pending.pop().get("dependencies")
        for name, entry in named.items() if isinstance(named, dict) else ():
            yield from _lock_entry(name, entry, path)
            if isinstance(entry, dict):
                pending.append(entry)


def _lock_entry(name: str, entry: Any, path: str) -> Iterator[Package]:
    if not isinstance(entry, dict) or entry.get("dev") is True or entry.get("link") is True:
        return
    name, version = entry.get("name", name), entry.get("version")  # an alias has the name of what it stands for
    if not isinstance(name, str) or not isinstance(version, str) or not name or not version:
        return
    if version.startswith("npm:"):  # an alias, as lockfileVersion 1 has it
        name, _, version = version.removeprefix("npm:").rpartition("@")
    scope, _, short = name.rpartition("/")
    licenses = tuple(_licenses(entry.get("license"), None))
    yield Package("npm", short, version, path, namespace=scope, licenses=licenses)


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
