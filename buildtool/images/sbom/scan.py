"""One walk over an image's tree, and every package database that is met on the way."""

from __future__ import annotations

import stat
import struct
from collections.abc import Callable, Iterator
from typing import Any

from buildtool.cache.trees import Tree
from buildtool.errors import Corrupt
from buildtool.images.sbom import apk, cargo, dpkg, golang, npm, python, rpm
from buildtool.images.sbom.bill import Bill, Distribution, Package
from buildtool.images.sbom.elf import Elf, looks_like_elf

_NOT_FILES = ("/proc", "/sys", "/dev")
Database = Callable[[Tree, Distribution], Iterator[Package]]
_DATABASES: tuple[tuple[str, Database], ...] = (("dpkg", dpkg.packages), ("apk", apk.packages), ("rpm", rpm.packages))


def scan(tree: Tree) -> Bill:
    """The packages of a tree: dpkg, apk and rpm by their databases, Python, npm, Go and Cargo by files anywhere.

    Symlinks are not followed on the walk, and nothing outside the tree is read. A database that cannot be read is
    among the bill's faults, and what the others tell is there nevertheless. Blocking.
    """
    found: dict[tuple[Any, ...], Package] = {}
    faults: list[str] = []
    try:
        distribution = _distribution(tree)
    except OSError as error:
        distribution = Distribution()
        faults.append(f"os-release: {error}")

    def add(what: str, packages: Iterator[Package]) -> None:
        try:
            for package in packages:
                found.setdefault((package.purl, package.found_in), package)
        except (Corrupt, OSError, ValueError, LookupError, struct.error) as error:
            faults.append(f"{what}: {error}")

    for name, database in _DATABASES:
        add(name, database(tree, distribution))
    for path, status in tree.walk():
        if not stat.S_ISREG(status.st_mode) or path.startswith(_NOT_FILES):
            continue
        for reader in (python, npm, cargo):
            if reader.is_record(path):
                add(path, reader.packages(tree, path))
        if status.st_mode & 0o111 and status.st_size > 1024:
            add(path, _of_program(tree, path))
    ordered = sorted(found.values(), key=lambda package: (package.purl, package.found_in))
    return Bill(tuple(ordered), distribution, tuple(sorted(faults)))


def _of_program(tree: Tree, path: str) -> Iterator[Package]:
    """Go and Rust write into an executable what it was built from."""
    with tree.real(path).open("rb") as file:
        if not looks_like_elf(file.read(4)):
            return
        try:
            elf = Elf(file)
        except Corrupt:
            return  # no program that anything could be known of
        yield from golang.packages(elf, path)
        yield from cargo.of_program(elf, path)


def _distribution(tree: Tree) -> Distribution:
    values: dict[str, str] = {}
    for path in ("/usr/lib/os-release", "/etc/os-release"):
        for line in tree.read_text(path).splitlines():
            name, separator, value = line.strip().partition("=")
            if separator and not name.startswith("#"):
                values[name] = value.strip("\"'")
    return Distribution(values.get("ID", ""), values.get("VERSION_ID", ""), values.get("PRETTY_NAME", ""))
