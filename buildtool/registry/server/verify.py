"""`registry verify`: everything a registry keeps is hashed and followed again, while it serves or when it does not.

A blob whose bytes are not its name's is damaged. With `quarantine` it is moved aside: to clients it is missing then,
and the next push brings it again.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from buildtool.cache import Store
from buildtool.errors import BuildtoolError
from buildtool.oci import Digest
from buildtool.registry.server import manifests

QUARANTINE = "quarantine"
_CHUNK = 1 << 20


@dataclass(frozen=True)
class Fault:
    """`kind`: corrupt-blob, missing-blob, wrong-size, dangling-tag, broken-manifest, dangling-referrer."""

    kind: str
    repository: str
    subject: str
    message: str
    quarantined: bool = False


@dataclass
class Report:
    """What was looked at, and what is wrong."""

    blobs: int = 0
    bytes: int = 0
    manifests: int = 0
    tags: int = 0
    faults: list[Fault] | None = None


def verify(store: Store, *, quarantine: bool = False, progress: Callable[[Report], None] | None = None) -> Report:
    """Look at everything. Blocking; the store may be open for reading only, and in use by a server."""
    report = Report(faults=[])
    assert report.faults is not None
    for fault in _damaged(store, report, quarantine, progress):
        report.faults.append(fault)
    for name in _names(store):
        report.faults.extend(_repository(store, name, report))
    return report


def _damaged(
    store: Store, report: Report, quarantine: bool, progress: Callable[[Report], None] | None
) -> Iterator[Fault]:
    for digest in sorted(store.blobs.list()):
        path = store.blobs.path(digest)
        fault = _damage(path, digest, report)
        if fault is None:
            continue
        if quarantine:
            folder = store.root / QUARANTINE
            folder.mkdir(exist_ok=True)
            path.rename(folder / path.name)
        yield Fault("corrupt-blob", "", digest, fault, quarantine)
        if progress is not None:
            progress(report)


def _damage(path: Path, digest: Digest, report: Report) -> str | None:
    """What is wrong with a blob; None when nothing is, or garbage collection has taken it meanwhile."""
    hasher = hashlib.sha256()
    try:
        with path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                hasher.update(chunk)
                report.bytes += len(chunk)
    except FileNotFoundError:
        return None
    except OSError as error:
        return f"cannot be read: {error.strerror}"
    report.blobs += 1
    found = f"sha256:{hasher.hexdigest()}"
    return None if found == digest else f"its bytes have the digest {found}"


def _names(store: Store) -> list[str]:
    rows = store.state.query("SELECT DISTINCT kind FROM documents WHERE kind GLOB 'registry-*:*'")
    kinds = (str(row[0]).partition(":")[2].partition("@")[0] for row in rows)
    return sorted(set(kinds))


def _repository(store: Store, name: str, report: Report) -> Iterator[Fault]:
    """The links of one repository, read in one go so that a push meanwhile is seen whole or not."""
    with nullcontext() if store.readonly else store.state.transaction():
        blobs = dict(store.state.documents(f"registry-blobs:{name}").items())
        known = dict(store.state.documents(f"registry-manifests:{name}").items())
        tags = dict(store.state.documents(f"registry-tags:{name}").items())
    for digest, link in (*blobs.items(), *known.items()):
        yield from _bytes_of(store, name, digest, link)

    def data(document: dict[str, Any]) -> bytes | None:
        blob = Digest(document["blob"])
        return store.blobs.read(blob) if store.blobs.has(blob) else None

    def is_listed(subject: str, digest: str) -> bool:
        return store.state.documents(f"registry-referrers:{name}@{subject}").get(digest) is not None

    yield from check_links(name, blobs, known, {tag: found["digest"] for tag, found in tags.items()}, data, is_listed)
    report.manifests += len(known)
    report.tags += len(tags)


def _bytes_of(store: Store, name: str, digest: str, link: dict[str, Any]) -> Iterator[Fault]:
    blob = Digest(link["blob"])
    try:
        size = store.blobs.size(blob)
    except BuildtoolError:
        yield Fault("missing-blob", name, digest, "its bytes are not there")
        return
    if size != link["size"]:
        yield Fault("wrong-size", name, digest, f"{size} bytes instead of {link['size']}")
    if digest.startswith("sha512:") and _sha512(store.blobs.path(blob)) != digest:
        yield Fault("corrupt-blob", name, digest, "its bytes have another digest")


def check_links(
    name: str,
    blobs: Collection[str],
    known: Mapping[str, dict[str, Any]],
    tags: Mapping[str, str],
    data: Callable[[dict[str, Any]], bytes | None],
    is_listed: Callable[[str, str], bool],
) -> Iterator[Fault]:
    """Whether what a repository's manifests and tags name is there. `data` gives a manifest's bytes, None when they
    are missing; `is_listed` says whether a manifest is among its subject's referrers."""
    for digest, document in known.items():
        found = data(document)
        if found is None:
            continue
        try:
            parsed = manifests.parse(found, document["mediaType"])
        except BuildtoolError as error:
            yield Fault("broken-manifest", name, digest, error.message)
            continue
        if document.get("cached"):
            continue  # a mirrored manifest: the rest comes when somebody asks for it
        for reference in parsed.blobs:
            if reference.digest not in blobs and not reference.may_be_elsewhere:
                yield Fault("broken-manifest", name, digest, f"{reference.digest} is not in the repository")
        for reference in parsed.children:
            if reference.digest not in known:
                yield Fault("broken-manifest", name, digest, f"its child {reference.digest} is not in the repository")
        if parsed.subject and not is_listed(parsed.subject, digest):
            yield Fault("dangling-referrer", name, digest, f"it is not among the referrers of {parsed.subject}")
    for tag, digest in tags.items():
        if digest not in known:
            yield Fault("dangling-tag", name, tag, f"it names {digest}, which is not there")


def _sha512(path: Path) -> str:
    hasher = hashlib.sha512()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return f"sha512:{hasher.hexdigest()}"
