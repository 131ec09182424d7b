"""`registry verify` of a bucket."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

from buildtool.registry.server.bucket import Bucket
from buildtool.registry.server.objects import (
    blob_key,
    digest_in,
    link_key,
    manifest_data,
    path_of,
    referrer_key,
    tag_key,
)
from buildtool.registry.server.sweep import all_names, manifests_of
from buildtool.registry.server.verify import QUARANTINE, Fault, Report, check_links


def verify_bucket(bucket: Bucket, *, quarantine: bool = False) -> Report:
    """Look at everything, while servers use it. Blocking."""
    report = Report(faults=[])
    assert report.faults is not None
    sizes: dict[str, int] = {}
    for key, size, _ in list(bucket.list("blobs")):
        digest = digest_in(key)
        fault = _damage(bucket, digest, report)
        if fault is None:
            sizes[digest] = size
            continue
        if quarantine:
            bucket.move(blob_key(digest), f"{QUARANTINE}/{path_of(digest)}")
        report.faults.append(Fault("corrupt-blob", "", digest, fault, quarantine))
    for name in all_names(bucket):
        report.faults.extend(_repository(bucket, name, sizes, report))
    return report


def _damage(bucket: Bucket, digest: str, report: Report) -> str | None:
    hasher = hashlib.new(digest.partition(":")[0])
    try:
        for chunk in bucket.stream(blob_key(digest)):
            hasher.update(chunk)
            report.bytes += len(chunk)
    except FileNotFoundError:
        return None
    report.blobs += 1
    found = f"{digest.partition(':')[0]}:{hasher.hexdigest()}"
    return None if found == digest else f"its bytes have the digest {found}"


def _repository(bucket: Bucket, name: str, sizes: dict[str, int], report: Report) -> Iterator[Fault]:
    known = manifests_of(bucket, name)
    blobs = {digest_in(key) for key, _, _ in bucket.list(f"repositories/{name}/_blobs")}
    damaged = {fault.subject for fault in report.faults or ()}
    for digest in sorted(blobs - damaged):
        link = bucket.get(link_key(name, digest))
        if link is None:
            continue
        size = sizes.get(digest)
        if size is None and bucket.head(blob_key(digest)) is None:
            yield Fault("missing-blob", name, digest, "its bytes are not there")
        elif size is not None and size != link["size"]:
            yield Fault("wrong-size", name, digest, f"{size} bytes instead of {link['size']}")
    tags = {}
    for tag in [key for key, _, _ in bucket.list(f"repositories/{name}/_tags")]:
        document = bucket.get(tag_key(name, tag))
        if document is not None:
            tags[tag] = document["digest"]
    report.manifests += len(known)
    report.tags += len(tags)
    yield from check_links(
        name,
        blobs,
        known,
        tags,
        manifest_data,
        lambda subject, digest: bucket.head(referrer_key(name, subject, digest)) is not None,
    )
