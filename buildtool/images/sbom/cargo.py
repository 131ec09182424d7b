"""Rust crates: what `cargo auditable` wrote into a program, what `cargo install` notes, and Cargo.lock files.

Source: rust-secure-code/cargo-auditable (the JSON in .dep-v0); The Cargo Book (Cargo.lock, `cargo install`).
"""

from __future__ import annotations

import re
import tomllib
import zlib
from collections.abc import Iterator

import msgspec

from buildtool.cache.trees import Tree
from buildtool.errors import Corrupt
from buildtool.images.sbom.bill import Package
from buildtool.images.sbom.elf import Elf

_LIMIT = 8 << 20
_INSTALLED = re.compile(r"(\S+) (\S+) \((.*)\)")


class _Crate(msgspec.Struct):
    name: str
    version: str
    kind: str = "runtime"


class _Audit(msgspec.Struct):
    packages: list[_Crate] = []


def is_record(path: str) -> bool:
    """Whether the file at this path tells of crates."""
    return path.endswith(("/Cargo.lock", "/.crates2.json"))


def packages(tree: Tree, path: str) -> Iterator[Package]:
    """The crates that a lock file names, or that were installed by `cargo install`. Raises ValueError."""
    text = tree.read_text(path)
    if path.endswith(".json"):
        for name in msgspec.json.decode(text).get("installs", {}):
            if (match := _INSTALLED.fullmatch(name)) is not None:
                yield Package("cargo", match[1], match[2], path)
        return
    for crate in tomllib.loads(text).get("package", ()):
        if isinstance(crate.get("name"), str) and isinstance(crate.get("version"), str):
            yield Package("cargo", crate["name"], crate["version"], path)


def of_program(elf: Elf, path: str) -> Iterator[Package]:
    """The crates that an audited program was built from, without those that only built it. Raises Corrupt."""
    section = elf.section(".dep-v0")
    if section is None:
        return
    try:
        unpacker = zlib.decompressobj()
        data = unpacker.decompress(elf.content(section), _LIMIT)
        audit = msgspec.json.decode(data, type=_Audit)
    except (zlib.error, msgspec.MsgspecError) as error:
        raise Corrupt(f"the list of crates cannot be read: {error}") from None
    for crate in audit.packages:
        if crate.kind != "build":
            yield Package("cargo", crate.name, crate.version, path)
