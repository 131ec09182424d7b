"""Blobs as files: verified, copied. Blocking."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

from buildtool.errors import Corrupt, NotFound
from buildtool.oci import Descriptor

CHUNK = 1 << 20


def verify(path: Path, descriptor: Descriptor) -> None:
    """Raises NotFound, Corrupt when the file's bytes are not the descriptor's."""
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        raise NotFound(f"{path}: there is no blob {descriptor.digest}") from None
    if size != descriptor.size:
        raise Corrupt(f"{path}: {size} bytes instead of {descriptor.size}")
    hasher = hashlib.new(descriptor.digest.partition(":")[0])
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            hasher.update(chunk)
    _same(path, hasher.hexdigest(), descriptor)


def copy_verified(source: Path, target: Path, descriptor: Descriptor, report: Callable[[int], None]) -> None:
    """Copy a blob; the target is complete, with the right digest, or absent."""
    hasher = hashlib.new(descriptor.digest.partition(":")[0])
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
    done = 0
    try:
        with source.open("rb") as file, temporary.open("wb") as out:
            while chunk := file.read(CHUNK):
                hasher.update(chunk)
                out.write(chunk)
                done += len(chunk)
                report(done)
        _same(source, hasher.hexdigest(), descriptor)
        temporary.rename(target)
    finally:
        temporary.unlink(missing_ok=True)


def _same(path: Path, found: str, descriptor: Descriptor) -> None:
    algorithm, _, wanted = descriptor.digest.partition(":")
    if found != wanted:
        raise Corrupt(f"{path}: its bytes have the digest {algorithm}:{found}, {descriptor.digest} was to come")
