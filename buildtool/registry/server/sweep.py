"""Garbage collection in a bucket, while any number of servers push. One runs at a time."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buildtool.registry.server.bucket import Bucket, Exists
from buildtool.registry.server.repositories import needed_manifests

if TYPE_CHECKING:
    from buildtool.registry.server.objects import ObjectRepositories

log = logging.getLogger("buildtool.registry")

_LOCK = "locks/collection"
_LOCK_SECONDS = 3600.0


def sweep(repositories: ObjectRepositories, grace: float, untagged: float | None) -> tuple[int, int]:
    """Drop old links that no manifest needs, then blobs without any link; how many, and their bytes."""
    bucket = repositories.bucket
    if not _lock(bucket):
        log.info("another server collects garbage just now")
        return 0, 0
    try:
        _delete_old_uploads(bucket, grace)
        for name in all_names(bucket):
            if untagged is not None:
                _drop_untagged(repositories, name, untagged)
            _drop_links(repositories, name, grace)
        return _drop_blobs(bucket, grace)
    finally:
        bucket.delete(_LOCK)


def _lock(bucket: Bucket) -> bool:
    document = {"until": time.time() + _LOCK_SECONDS}
    for _ in range(2):
        try:
            bucket.create(_LOCK, document)
            return True
        except Exists:
            held = bucket.get(_LOCK)
            if held is not None and held["until"] > time.time():
                return False
            bucket.delete(_LOCK)  # of a server that died
    return False


def all_names(bucket: Bucket) -> list[str]:
    """Every repository that has anything."""
    found = {key.partition("/_")[0] for key, _, _ in bucket.list("repositories")}
    return sorted(found)


def manifests_of(bucket: Bucket, name: str) -> dict[str, dict[str, Any]]:
    """All manifests of a repository, by digest."""
    from buildtool.registry.server.objects import digest_in, manifest_key

    keys = [digest_in(key) for key, _, _ in bucket.list(f"repositories/{name}/_manifests")]
    documents = ((digest, bucket.get(manifest_key(name, digest))) for digest in keys)
    return {digest: document for digest, document in documents if document is not None}


def _drop_untagged(repositories: ObjectRepositories, name: str, age: float) -> None:
    known = manifests_of(repositories.bucket, name)
    tagged = {repositories._resolved(name, tag) or "" for tag in repositories.all_tags(name)}
    kept = needed_manifests(known, tagged)
    for digest, document in known.items():
        if digest not in kept and document["pushed"] < time.time() - age:
            repositories.drop_manifest(name, digest, document)


def _drop_links(repositories: ObjectRepositories, name: str, grace: float) -> None:
    from buildtool.registry.server.objects import dropping_key, link_key

    bucket = repositories.bucket
    old = _old_links(bucket, name, time.time() - grace)
    if not old - _needed(bucket, name):
        return
    bucket.put(dropping_key(name), {"since": time.time()})
    try:  # a manifest that comes from here on waits, and looks for its blobs afterwards
        bucket.delete(*(link_key(name, digest) for digest in old - _needed(bucket, name)))
    finally:
        bucket.delete(dropping_key(name))


def _old_links(bucket: Bucket, name: str, limit: float) -> set[str]:
    from buildtool.registry.server.objects import digest_in, link_key

    digests = [digest_in(key) for key, _, _ in bucket.list(f"repositories/{name}/_blobs")]
    links = ((digest, bucket.get(link_key(name, digest))) for digest in digests)
    return {digest for digest, link in links if link is not None and link["pushed"] < limit}


def _needed(bucket: Bucket, name: str) -> set[str]:
    return {digest for document in manifests_of(bucket, name).values() for digest in document["blobs"]}


def _linked(bucket: Bucket) -> set[str]:
    from buildtool.registry.server.objects import digest_in

    return {digest_in(key) for key, _, _ in bucket.list("repositories") if "/_blobs/" in key}


def _drop_blobs(bucket: Bucket, grace: float) -> tuple[int, int]:
    from buildtool.registry.server.objects import blob_key, deleting_key, digest_in

    limit = datetime.fromtimestamp(time.time() - grace, UTC)
    linked = _linked(bucket)
    old = {
        digest_in(key): size
        for key, size, modified in bucket.list("blobs")
        if digest_in(key) not in linked and modified <= limit
    }
    for digest in old:
        bucket.put(deleting_key(digest), {"since": time.time()})
    try:
        linked = _linked(bucket) if old else set()
        gone = {digest: size for digest, size in old.items() if digest not in linked}
        for digest in gone:
            bucket.delete(blob_key(digest))
    finally:
        bucket.delete(*(deleting_key(digest) for digest in old))
    return len(gone), sum(gone.values())


def _delete_old_uploads(bucket: Bucket, grace: float) -> None:
    """Sessions that nobody goes on with, on whichever server."""
    limit = datetime.fromtimestamp(time.time() - max(grace, 3600.0), UTC)
    bucket.delete(*(f"uploads/{key}" for key, _, modified in _old(bucket, limit)))


def _old(bucket: Bucket, limit: datetime) -> Iterator[tuple[str, int, datetime]]:
    return (item for item in list(bucket.list("uploads")) if item[2] < limit)
