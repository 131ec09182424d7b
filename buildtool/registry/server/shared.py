"""The daemon's own images as a read-only registry: nothing is copied, layers that exist only unpacked are made on
the fly.

The daemon may be running and changing its store meanwhile: every request looks at it anew, and an image that is
deleted while somebody pulls it breaks off.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from buildtool.cache import Store
from buildtool.images import Image, Images
from buildtool.oci import Digest, Reference
from buildtool.registry.server.content import StoredBlob, StoredManifest
from buildtool.registry.server.names import tag_order


class SharedImages:
    """Images by name, those whose layers are all here. `docker.io/library/busybox` is served as `busybox` and as
    `library/busybox`, `host/a/b` as `a/b`.
    """

    writable = False

    def __init__(self, store: Store) -> None:
        self._store = store
        self._version = -1
        self._images: list[Image] = []

    def exists(self, name: str) -> bool:
        return any(True for _ in self._in(name))

    def manifest(self, name: str, reference: str) -> StoredManifest | None:
        for tag, image in self._in(name):
            if reference in (tag.tag, image.manifest.digest):
                data = self._store.blobs.read(image.manifest.digest)
                return StoredManifest(image.manifest.digest, image.manifest.media_type, data)
        return None

    def manifest_digest(self, name: str, reference: str) -> str | None:
        found = self.manifest(name, reference)
        return None if found is None else found.digest

    def blob(self, name: str, digest: str) -> StoredBlob | None:
        for _, image in self._in(name):
            if digest in (image.id, image.manifest.digest):
                return self._stored(Digest(digest))
            for layer in image.layers:
                if layer.blob is not None and layer.blob.digest == digest:
                    return self._stored(layer.blob.digest)
                if layer.blob is None and layer.diff_id == digest and layer.snapshot is not None:
                    return StoredBlob(layer.size, None, partial(self._store.layers.tar, layer.snapshot, layer.epoch))
        return None

    def _stored(self, digest: Digest) -> StoredBlob | None:
        if not self._store.blobs.has(digest):
            return None
        return StoredBlob(self._store.blobs.size(digest), self._store.blobs.path(digest))

    def tags(self, name: str, last: str, limit: int) -> list[str]:
        found = {tag.tag for tag, _ in self._in(name)}
        return sorted((tag for tag in found if tag_order(tag) > tag_order(last)), key=tag_order)[:limit]

    def repositories(self, last: str, limit: int) -> list[str]:
        names = {name for image in self._now() for reference in image.references for name in _names(reference)}
        return sorted(name for name in names if name > last)[:limit]

    def referrers(self, name: str, digest: str) -> list[dict[str, Any]]:
        """The daemon keeps none."""
        return []

    def _in(self, name: str) -> Iterator[tuple[Reference, Image]]:
        for image in self._now():
            for reference in image.references:
                if name in _names(reference):
                    yield reference, image

    def _now(self) -> list[Image]:
        """The images there are, read again when the store has changed."""
        version = int(self._store.state.query("PRAGMA data_version")[0][0])
        if version != self._version:
            images = Images(self._store)
            self._images = [image for image in images.list() if not images.lacks(image)]
            self._version = version
        return self._images


def _names(reference: Reference) -> tuple[str, ...]:
    short = reference.path.removeprefix("library/") if reference.domain == "docker.io" else reference.path
    return (reference.path, short)
