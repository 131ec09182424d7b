"""Repositories in an S3 bucket: each blob once, and a small document for each link, manifest, tag and referrer.

    blobs/<algorithm>/<hex>                            bytes
    repositories/<name>/_blobs/<algorithm>/<hex>       {size, pushed}
    repositories/<name>/_manifests/<algorithm>/<hex>   {data, mediaType, size, pushed, subject, blobs, children}
    repositories/<name>/_tags/<tag>                    {digest, tagged}
    repositories/<name>/_referrers/<subject>/<digest>  a descriptor
    names/<name, ! for />                              {}

Any number of servers may use one bucket. Nothing is locked: every document is put whole, what others need first.
Garbage collection announces what it deletes (`deleting/…`) before it looks for links, or manifests, a last time;
whoever makes one looks for that announcement afterwards: one of the two sees the other.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import msgspec

from buildtool.cache import Ingest
from buildtool.oci import sha256
from buildtool.registry.server import manifests
from buildtool.registry.server.bucket import Bucket, Exists, StorageFailed
from buildtool.registry.server.content import StoredBlob, StoredManifest
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import is_digest, tag_order
from buildtool.registry.server.repositories import check_size, digest_like, immutable, sha512_of, unknown
from buildtool.registry.server.rules import RuleSet

_PATIENCE = 60.0
_DEAD = 600.0


class ObjectRepositories:
    """All repositories of one bucket. Synchronous and thread-safe."""

    writable = True

    def __init__(self, bucket: Bucket, immutable: Callable[[], RuleSet] = RuleSet, *, redirect: bool = True) -> None:
        """`redirect`: clients fetch blobs from the bucket themselves, by signed URLs."""
        self.bucket = bucket
        self._immutable = immutable
        self._redirect = redirect

    # Reading

    def exists(self, name: str) -> bool:
        """Whether anything has been pushed there with a manifest."""
        return self.bucket.head(f"names/{flat(name)}") is not None

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        """By tag or digest."""
        digest = self._resolved(name, reference)
        document = self.bucket.get(manifest_key(name, digest)) if digest else None
        if digest is None or document is None:
            return None
        return StoredManifest(digest, document["mediaType"], manifest_data(document))

    def manifest_digest(self, name: str, reference: str) -> str | None:
        """The digest that a tag points at, or the digest itself when the repository has it."""
        digest = self._resolved(name, reference)
        if digest is None or self.bucket.head(manifest_key(name, digest)) is None:
            return None
        return digest

    def _resolved(self, name: str, reference: str) -> str | None:
        if is_digest(reference):
            return reference
        tag = self.bucket.get(tag_key(name, reference))
        return None if tag is None else str(tag["digest"])

    def blob(self, name: str, digest: str) -> StoredBlob | None:
        """A blob of this repository; also a manifest's bytes, which are blobs too."""
        link = self.bucket.get(link_key(name, digest))
        if link is None:
            document = self.bucket.get(manifest_key(name, digest))
            if document is None:
                return None
            data = manifest_data(document)
            return StoredBlob(len(data), None, lambda: iter((data,)))
        key = blob_key(digest)
        url = partial(self.bucket.signed, key) if self._redirect else None
        stream = self.bucket.stream
        return StoredBlob(
            int(link["size"]), None, partial(stream, key), url, lambda start, count: stream(key, start, count)
        )

    def tags(self, name: str, last: str, limit: int) -> list[str]:
        """In the order of `tag_order`, after `last`, no more than `limit`."""
        after = tag_order(last)
        return sorted((tag for tag in self.all_tags(name) if tag_order(tag) > after), key=tag_order)[:limit]

    def repositories(self, last: str, limit: int) -> list[str]:
        """In the order of their keys, after `last`, no more than `limit`."""
        return [key.replace("!", "/") for key in _first(self.bucket.list("names", flat(last)), limit)]

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """Descriptors of the manifests whose subject is this digest."""
        folder = f"repositories/{name}/_referrers/{path_of(digest)}"
        found = (self.bucket.get(f"{folder}/{key}") for key, _, _ in list(self.bucket.list(folder)))
        return [document for document in found if document is not None]

    # Blobs in

    def add_blob(self, name: str, ingest: Ingest, digest: str) -> int:
        """Make what was uploaded a blob of the repository; its size. Raises ApiError DIGEST_INVALID."""
        found = ingest.digest() if digest.startswith("sha256:") else sha512_of(ingest.path)
        if found != digest:
            raise ApiError(
                "DIGEST_INVALID", "provided digest did not match uploaded content", {"digest": digest, "is": found}
            )
        deadline = time.monotonic() + _PATIENCE
        while True:
            known = self.bucket.head(blob_key(digest))
            if known is None or known[0] != ingest.written:
                self.bucket.upload(blob_key(digest), ingest.path)
            if self._link(name, digest, ingest.written):
                return ingest.written
            if time.monotonic() > deadline:  # whoever announced it has died: it deletes nothing any more
                self.bucket.delete(deleting_key(digest))
            time.sleep(0.2)

    def mount(self, name: str, digest: str, source: str) -> bool:
        """Link a blob of another repository here; False when that one does not have it."""
        link = self.bucket.get(link_key(source, digest))
        if link is None or self.bucket.head(blob_key(digest)) is None:
            return False
        return self._link(name, digest, int(link["size"]))

    def touch_blob(self, name: str, digest: str, older_than: float) -> None:
        """Somebody relies on this blob being here: garbage collection counts its age from now."""
        link = self.bucket.get(link_key(name, digest))
        if link is not None and link["pushed"] < time.time() - older_than:
            self.bucket.put(link_key(name, digest), {**link, "pushed": time.time()})

    def _link(self, name: str, digest: str, size: int) -> bool:
        """Link a blob that is there; False when it is being deleted just now."""
        self.bucket.put(link_key(name, digest), {"size": size, "pushed": time.time()})
        if self.bucket.head(deleting_key(digest)) is None and self.bucket.head(blob_key(digest)) is not None:
            return True
        self.bucket.delete(link_key(name, digest))
        return False

    def delete_blob(self, name: str, digest: str) -> bool:
        """Take a blob out of the repository; tells whether it was there."""
        if self.bucket.head(link_key(name, digest)) is None:
            return False
        self.bucket.delete(link_key(name, digest))
        return True

    # Manifests in

    def put_manifest(self, name: str, reference: str, data: bytes, parsed: manifests.Parsed) -> str:
        """Store a manifest under a tag or its digest; its digest.

        Raises ApiError when something that it refers to is not here or has another size, or the digest is another.
        """
        tag = "" if is_digest(reference) else reference
        digest = sha256(data) if tag else digest_like(data, reference)
        if not tag and reference != digest:
            raise ApiError("DIGEST_INVALID", "provided digest did not match uploaded content", {"digest": reference})
        if tag:
            self._check_mutable(name, tag, digest)
        self._check_references(name, parsed)
        document = {
            "data": data,
            "mediaType": parsed.media_type,
            "size": len(data),
            "pushed": time.time(),
            "subject": parsed.subject,
            "blobs": [one.digest for one in parsed.blobs],
            "children": [one.digest for one in parsed.children],
        }
        known = self.bucket.head(manifest_key(name, digest)) is not None
        self.bucket.put(manifest_key(name, digest), document)
        try:
            self._wait_for_sweep(name)
            self._check_references(name, parsed)  # again: something may have been deleted since
        except ApiError:
            if not known:
                self.bucket.delete(manifest_key(name, digest))
            raise
        if parsed.subject:
            descriptor = manifests.descriptor_of(parsed, digest, len(data))
            self.bucket.put(referrer_key(name, parsed.subject, digest), descriptor)
        self.bucket.put(f"names/{flat(name)}", {})
        if tag:
            self._tag(name, tag, digest)
        return digest

    def _wait_for_sweep(self, name: str) -> None:
        """Until nobody drops links of this repository who has not seen the manifest that was put."""
        deadline = time.monotonic() + _PATIENCE
        while (marker := self.bucket.get(dropping_key(name))) is not None:
            if marker["since"] < time.time() - _DEAD:
                self.bucket.delete(dropping_key(name))
                return
            if time.monotonic() > deadline:
                raise StorageFailed(f"garbage collection in {name} takes very long")
            time.sleep(0.05)

    def _tag(self, name: str, tag: str, digest: str) -> None:
        document = {"digest": digest, "tagged": time.time()}
        if not self._immutable().is_immutable(name, tag):
            self.bucket.put(tag_key(name, tag), document)
            return
        try:
            self.bucket.create(tag_key(name, tag), document)
        except Exists:
            self._check_mutable(name, tag, digest)

    def _check_mutable(self, name: str, tag: str, digest: str) -> None:
        if self._immutable().is_immutable(name, tag):
            known = self.bucket.get(tag_key(name, tag))
            if known is not None and known["digest"] != digest:
                raise immutable(name, tag, known["digest"])

    def _check_references(self, name: str, parsed: manifests.Parsed) -> None:
        missing = []
        for reference in parsed.blobs:
            link = self.bucket.get(link_key(name, reference.digest))
            if link is not None:
                check_size(reference, link)
            elif not reference.may_be_elsewhere:
                missing.append(reference)
        for reference in parsed.children:
            document = self.bucket.get(manifest_key(name, reference.digest))
            if document is None:
                missing.append(reference)
            else:
                check_size(reference, document)
        if missing:
            raise unknown(missing)

    def delete_manifest(self, name: str, reference: str) -> bool:
        """Delete a tag, or a manifest with every tag that points at it; tells whether it was there."""
        if not is_digest(reference):
            if self.bucket.head(tag_key(name, reference)) is None:
                return False
            self._check_mutable(name, reference, "")
            self.bucket.delete(tag_key(name, reference))
            return True
        document = self.bucket.get(manifest_key(name, reference))
        if document is None:
            return False
        tags = [tag for tag in self.all_tags(name) if self._resolved(name, tag) == reference]
        for tag in tags:
            self._check_mutable(name, tag, "")
        self.bucket.delete(*(tag_key(name, tag) for tag in tags))
        self.drop_manifest(name, reference, document)
        return True

    def drop_manifest(self, name: str, digest: str, document: dict[str, Any]) -> None:
        """Delete a manifest that no tag names."""
        if document["subject"]:
            self.bucket.delete(referrer_key(name, document["subject"], digest))
        self.bucket.delete(manifest_key(name, digest))
        if next(self.bucket.list(f"repositories/{name}/_manifests"), None) is None:
            self.bucket.delete(f"names/{flat(name)}")

    def all_tags(self, name: str) -> list[str]:
        """Every tag."""
        return [key for key, _, _ in self.bucket.list(f"repositories/{name}/_tags")]

    def collect(self, grace: float, untagged: float | None) -> tuple[int, int]:
        """Garbage collection: how many blobs went, and their bytes."""
        from buildtool.registry.server.sweep import sweep

        return sweep(self, grace, untagged)


def path_of(digest: str) -> str:
    """A digest as part of a key."""
    return digest.replace(":", "/")


def digest_in(path: str) -> str:
    """The digest at the end of a key."""
    algorithm, _, encoded = path.rpartition("/")
    return f"{algorithm.rpartition('/')[2]}:{encoded}"


def flat(name: str) -> str:
    """A repository's name as one part of a key."""
    return name.replace("/", "!")


def blob_key(digest: str) -> str:
    """Where a blob's bytes are."""
    return f"blobs/{path_of(digest)}"


def deleting_key(digest: str) -> str:
    """Where it says that a blob is being deleted."""
    return f"deleting/{path_of(digest)}"


def dropping_key(name: str) -> str:
    """Where it says that links of a repository are being dropped."""
    return f"deleting/links/{flat(name)}"


def link_key(name: str, digest: str) -> str:
    """Where it says that a repository has a blob."""
    return f"repositories/{name}/_blobs/{path_of(digest)}"


def manifest_key(name: str, digest: str) -> str:
    """Where a manifest is."""
    return f"repositories/{name}/_manifests/{path_of(digest)}"


def tag_key(name: str, tag: str) -> str:
    """Where it says what a tag is."""
    return f"repositories/{name}/_tags/{tag}"


def referrer_key(name: str, subject: str, digest: str) -> str:
    """Where it says that a manifest refers to a subject."""
    return f"repositories/{name}/_referrers/{path_of(subject)}/{path_of(digest)}"


def _first(keys: Iterator[tuple[str, int, Any]], limit: int) -> list[str]:
    found: list[str] = []
    for key, _, _ in keys:
        if len(found) >= limit:
            break
        found.append(key)
    return found


def manifest_data(document: dict[str, Any]) -> bytes:
    """A manifest's bytes."""
    return msgspec.convert(document["data"], bytes)
