"""Repositories: which blobs, manifests and tags each of them has, as documents in the store's state.db.

A blob's bytes are in the store once, whoever pushed them; a repository has a link to those that were pushed or
mounted there. One transaction a change: a reader never sees half of one, and what was acknowledged survives a kill.
Names are keys in a table, never paths.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from buildtool.cache import Documents, Ingest, Pins, Store
from buildtool.oci import Digest, sha256
from buildtool.registry.server import manifests
from buildtool.registry.server.content import StoredBlob, StoredManifest
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import is_digest
from buildtool.registry.server.rules import RuleSet

_CHUNK = 1 << 20
_REFERRERS_LIMIT = 3 << 20


class Repositories:
    """All repositories of one store. Synchronous and thread-safe."""

    writable = True

    def __init__(self, store: Store, immutable: Callable[[], RuleSet] = RuleSet) -> None:
        """`immutable` gives the rules that say which tags stay what they are."""
        self.store = store
        self._immutable = immutable
        self._names = store.state.documents("registry-repositories")

    # Reading

    def exists(self, name: str) -> bool:
        """Whether anything has been pushed there with a manifest."""
        return self._names.get(name) is not None

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        """By tag or digest."""
        digest = self.manifest_digest(name, reference)
        document = self._manifests(name).get(digest) if digest else None
        if digest is None or document is None or not self.store.blobs.has(Digest(document["blob"])):
            return None
        return StoredManifest(digest, document["mediaType"], self.store.blobs.read(Digest(document["blob"])))

    def manifest_digest(self, name: str, reference: str) -> str | None:
        """The digest that a tag points at, or the digest itself when the repository has it."""
        if is_digest(reference):
            return reference if self._manifests(name).get(reference) is not None else None
        tag = self._tags(name).get(reference)
        return None if tag is None else str(tag["digest"])

    def blob(self, name: str, digest: str) -> StoredBlob | None:
        """A blob of this repository; also a manifest's bytes, which are blobs too."""
        link = self._blobs(name).get(digest) or self._manifests(name).get(digest)
        if link is None or not self.store.blobs.has(Digest(link["blob"])):  # quarantined: to be pushed again
            return None
        return StoredBlob(int(link["size"]), self.store.blobs.path(Digest(link["blob"])))

    def tags(self, name: str, last: str, limit: int) -> list[str]:
        """In the order of `tag_order`, after `last`, no more than `limit`."""
        rows = self.store.state.query(
            "SELECT key FROM documents WHERE kind = ? AND (lower(key), key) > (lower(?), ?) "
            "ORDER BY lower(key), key LIMIT ?",
            (self._tags(name).kind, last, last, limit),
        )
        return [str(row[0]) for row in rows]

    def repositories(self, last: str, limit: int) -> list[str]:
        """Sorted, after `last`, no more than `limit`."""
        return self._keys(self._names, last, limit)

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is this digest."""
        return [document for _, document in self._referrers(name, digest).items()]

    def _keys(self, documents: Documents, last: str, limit: int) -> list[str]:
        rows = self.store.state.query(
            "SELECT key FROM documents WHERE kind = ? AND key > ? ORDER BY key LIMIT ?", (documents.kind, last, limit)
        )
        return [str(row[0]) for row in rows]

    # Blobs in

    def add_blob(self, name: str, ingest: Ingest, digest: str) -> int:
        """Make what was uploaded a blob of the repository; its size. Raises ApiError DIGEST_INVALID."""
        found = ingest.digest() if digest.startswith("sha256:") else sha512_of(ingest.path)
        if found != digest:
            raise ApiError(
                "DIGEST_INVALID", "provided digest did not match uploaded content", {"digest": digest, "is": found}
            )
        with self.store.leases.hold(f"registry blob {name}") as lease:
            lease.blob(ingest.digest())
            blob = ingest.commit()
            self._link(name, digest, blob, ingest.written)
        return ingest.written

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Link a blob of another repository here; False when that one does not have it."""
        with self.store.leases.hold(f"registry mount {name}") as lease:
            link = self._blobs(source).get(digest)
            if link is None:
                return False
            blob = Digest(link["blob"])
            lease.blob(blob)
            if not self.store.blobs.has(blob):
                return False
            self._link(name, digest, blob, int(link["size"]))
        return True

    def touch_blob(self, name: str, digest: str, older_than: float) -> None:
        """Somebody relies on this blob being here: garbage collection counts its age from now."""
        link = self._blobs(name).get(digest)
        if link is not None and link["pushed"] < time.time() - older_than:
            self._blobs(name).put(digest, {**link, "pushed": time.time()})

    def link(self, name: str, digest: str, size: int) -> None:
        """Enter a blob that is in the store already."""
        with self.store.leases.hold(f"registry blob {name}") as lease:
            lease.blob(Digest(digest))
            if self.store.blobs.has(Digest(digest)):
                self._link(name, digest, Digest(digest), size)

    def _link(self, name: str, digest: str, blob: Digest, size: int) -> None:
        document = {"blob": blob, "size": size, "pushed": time.time()}
        self._blobs(name).put(digest, document)  # durable with the manifest that needs it

    def delete_blob(self, name: str, digest: str) -> bool:
        """Take a blob out of the repository; tells whether it was there."""
        return self._blobs(name).delete(digest)

    # Manifests in

    def put_manifest(self, name: str, reference: str, data: bytes, parsed: manifests.Parsed) -> str:
        """Store a manifest under a tag or its digest; its digest.

        Raises ApiError when something that it refers to is not here or has another size, or the digest is another.
        """
        digest = digest_like(data, reference) if is_digest(reference) else sha256(data)
        if is_digest(reference) and reference != digest:
            raise ApiError("DIGEST_INVALID", "provided digest did not match uploaded content", {"digest": reference})
        with self.store.leases.hold(f"registry manifest {name}") as lease:
            blob = sha256(data)
            lease.blob(blob)
            self._check_references(name, parsed)
            self.store.blobs.put(data)
            with self.store.state.transaction(durable=True):
                self._check_references(name, parsed)  # again: something may have been deleted since
                if not is_digest(reference):
                    self._check_mutable(name, reference, digest)
                self._enter(name, digest, blob, len(data), parsed, "" if is_digest(reference) else reference)
        return digest

    def cache_manifest(self, name: str, tag: str, data: bytes, parsed: manifests.Parsed) -> None:
        """Store a manifest of a mirrored repository; what it refers to comes when somebody asks for it."""
        with self.store.leases.hold(f"registry mirror {name}") as lease:
            digest = sha256(data)
            lease.blob(digest)
            self.store.blobs.put(data)
            with self.store.state.transaction():
                self._enter(name, digest, digest, len(data), parsed, tag, cached=True)

    def refresh_tag(self, name: str, tag: str) -> None:
        """A mirrored tag is as it was."""
        known = self._tags(name).get(tag)
        if known is not None:
            self._tags(name).put(tag, {**known, "tagged": time.time()})

    def use_manifest(self, name: str, digest: str, older_than: float) -> None:
        """Somebody pulls a mirrored manifest: its age counts from now, if it is older than that."""
        known = self._manifests(name).get(digest)
        if known is not None and known.get("cached") and known["pushed"] < time.time() - older_than:
            self._manifests(name).put(digest, {**known, "pushed": time.time()})

    def is_fresh(self, name: str, tag: str, seconds: float) -> bool:
        """Whether a mirrored tag was looked at so lately."""
        known = self._tags(name).get(tag)
        return known is not None and known["tagged"] > time.time() - seconds

    def _enter(
        self,
        name: str,
        digest: str,
        blob: Digest,
        size: int,
        parsed: manifests.Parsed,
        tag: str,
        *,
        cached: bool = False,
    ) -> None:
        document: dict[str, Any] = {
            "mediaType": parsed.media_type,
            "blob": blob,
            "size": size,
            "pushed": time.time(),
            "subject": parsed.subject,
            "blobs": [one.digest for one in parsed.blobs],
            "children": [one.digest for one in parsed.children],
        }
        if cached:
            document["cached"] = True
        self._manifests(name).put(digest, document)
        self._names.put(name, {})
        if tag:
            self._tags(name).put(tag, {"digest": digest, "tagged": time.time()})
        if parsed.subject:
            self._refer(name, digest, size, parsed)

    def _check_mutable(self, name: str, tag: str, digest: str) -> None:
        """Raises ApiError DENIED when the tag is another image's and may not change."""
        known = self._tags(name).get(tag)
        if known is not None and known["digest"] != digest and self._immutable().is_immutable(name, tag):
            raise immutable(name, tag, known["digest"])

    def _refer(self, name: str, digest: str, size: int, parsed: manifests.Parsed) -> None:
        descriptor = manifests.descriptor_of(parsed, digest, size)
        self._referrers(name, parsed.subject).put(digest, descriptor)

    def _check_references(self, name: str, parsed: manifests.Parsed) -> None:
        blobs, known, missing = self._blobs(name), self._manifests(name), []
        for reference in parsed.blobs:
            link = blobs.get(reference.digest)
            if link is not None and self.store.blobs.has(Digest(link["blob"])):
                check_size(reference, link)
            elif not reference.may_be_elsewhere:
                missing.append(reference)
        for reference in parsed.children:
            document = known.get(reference.digest)
            if document is None:
                missing.append(reference)
            else:
                check_size(reference, document)
        if missing:
            raise unknown(missing)

    def delete_manifest(self, name: str, reference: str) -> bool:
        """Delete a tag, or a manifest with every tag that points at it; tells whether it was there."""
        with self.store.state.transaction(durable=True):
            if not is_digest(reference):
                if self._tags(name).get(reference) is not None:
                    self._check_mutable(name, reference, "")
                return self._tags(name).delete(reference)
            document = self._manifests(name).get(reference)
            if document is None:
                return False
            tags = [tag for tag, found in self._tags(name).items() if found["digest"] == reference]
            for tag in tags:
                self._check_mutable(name, tag, "")
            for tag in tags:
                self._tags(name).delete(tag)
            self._drop_manifest(name, reference, document)
        return True

    def _drop_manifest(self, name: str, digest: str, document: dict[str, Any]) -> None:
        self._manifests(name).delete(digest)
        if document["subject"]:
            self._referrers(name, document["subject"]).delete(digest)
        if not self._keys(self._manifests(name), "", 1):
            self._names.delete(name)

    # Garbage

    def collect(self, grace: float, untagged: float | None) -> tuple[int, int]:
        """Garbage collection: how many blobs went, and their bytes."""
        if untagged is not None:
            self.drop_untagged(untagged)
        self.drop_unreferenced(grace)
        report = self.store.gc(self.pins(), actions="all")
        return len(report.blobs), report.bytes

    def pins(self) -> Pins:
        """What gc must keep: everything that any repository links to."""
        rows = self.store.state.query(
            "SELECT json_extract(CAST(body AS TEXT), '$.blob') FROM documents "
            "WHERE kind GLOB 'registry-blobs:*' OR kind GLOB 'registry-manifests:*'"
        )
        return Pins(blobs={Digest(row[0]) for row in rows})

    def drop_untagged(self, age: float) -> int:
        """Delete manifests older than `age` seconds that no tag names, no index has as a child, and that refer to
        nothing that is kept; how many."""
        dropped = 0
        limit = time.time() - age
        for name in [name for name, _ in self._names.items()]:
            with self.store.state.transaction(durable=True):
                known = dict(self._manifests(name).items())
                kept = needed_manifests(known, {tag["digest"] for _, tag in self._tags(name).items()})
                for digest, document in known.items():
                    if digest not in kept and document["pushed"] < limit:
                        self._drop_manifest(name, digest, document)
                        dropped += 1
        return dropped

    def drop_unused(self, age: float) -> int:
        """Delete mirrored manifests that nobody has pulled for `age` seconds, with their tags; how many."""
        dropped = 0
        limit = time.time() - age
        for name in [name for name, _ in self._names.items()]:
            with self.store.state.transaction():
                known = dict(self._manifests(name).items())
                old = {digest for digest, one in known.items() if one.get("cached") and one["pushed"] < limit}
                for tag in [tag for tag, found in self._tags(name).items() if found["digest"] in old]:
                    self._tags(name).delete(tag)
                for digest in old:
                    self._drop_manifest(name, digest, known[digest])
                dropped += len(old)
        return dropped

    def drop_unreferenced(self, age: float) -> int:
        """Unlink blobs that no manifest of their repository needs and that were pushed longer than `age` seconds
        ago (uploads whose manifest never came); how many."""
        dropped = 0
        limit = time.time() - age
        for name in self._repositories_with_blobs():
            with self.store.state.transaction():
                needed = {digest for _, one in self._manifests(name).items() for digest in one["blobs"]}
                blobs = self._blobs(name)
                for digest, link in list(blobs.items()):
                    if digest not in needed and link["pushed"] < limit:
                        dropped += blobs.delete(digest)
        return dropped

    def _repositories_with_blobs(self) -> Iterator[str]:
        rows = self.store.state.query("SELECT DISTINCT kind FROM documents WHERE kind GLOB 'registry-blobs:*'")
        return (str(row[0]).partition(":")[2] for row in rows)

    # Documents

    def _blobs(self, name: str) -> Documents:
        return self.store.state.documents(f"registry-blobs:{name}")

    def _manifests(self, name: str) -> Documents:
        return self.store.state.documents(f"registry-manifests:{name}")

    def _tags(self, name: str) -> Documents:
        return self.store.state.documents(f"registry-tags:{name}")

    def _referrers(self, name: str, digest: str) -> Documents:
        return self.store.state.documents(f"registry-referrers:{name}@{digest}")


def needed_manifests(known: dict[str, dict[str, Any]], roots: set[str]) -> set[str]:
    """The roots, the children of what is needed, and what refers to something needed."""
    referring: dict[str, list[str]] = {}
    for digest, document in known.items():
        referring.setdefault(document["subject"], []).append(digest)
    needed: set[str] = set()
    pending = [digest for digest in roots if digest in known]
    while pending:
        digest = pending.pop()
        if digest in needed:
            continue
        needed.add(digest)
        pending += [child for child in known[digest]["children"] if child in known]
        pending += referring.get(digest, [])
    return needed


def check_size(reference: manifests.Reference, document: dict[str, Any]) -> None:
    """Raises ApiError when what is here has another size than the manifest says."""
    if int(document["size"]) != reference.size:
        raise ApiError(
            "MANIFEST_INVALID",
            f"the size of {reference.digest} is {document['size']}, the manifest says {reference.size}",
            {"digest": reference.digest},
        )


def immutable(name: str, tag: str, digest: str) -> ApiError:
    """A tag that may not change was to change."""
    return ApiError("DENIED", f"tag {tag} of {name} is immutable: it stays {digest}", {"tag": tag})


def unknown(missing: list[manifests.Reference]) -> ApiError:
    """A manifest refers to what is not here: one error for each, up to a hundred."""
    first, *others = (
        ApiError(
            "MANIFEST_BLOB_UNKNOWN",
            f"manifest references a manifest or blob unknown to the repository: {digest}",
            {"digest": digest},
        )
        for digest in list(dict.fromkeys(reference.digest for reference in missing))[:100]
    )
    first.others = others
    return first


def sha512_of(path: Path) -> str:
    """The SHA-512 digest of a file."""
    hasher = hashlib.sha512()
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            hasher.update(chunk)
    return f"sha512:{hasher.hexdigest()}"


def digest_like(data: bytes, reference: str) -> str:
    """The digest of the bytes, by the algorithm of another one."""
    return f"sha512:{hashlib.sha512(data).hexdigest()}" if reference.startswith("sha512:") else sha256(data)
