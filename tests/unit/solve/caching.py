"""Caches for tests of those that travel: in directories, with a memory of what was done."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from buildtool.cache import BlobStore
from buildtool.errors import BuildtoolError
from buildtool.images import Image, LayerSource
from buildtool.oci import Descriptor
from buildtool.registry.downloads import GrowingBlob
from buildtool.registry.layout_blobs import from_layout
from buildtool.registry.progress import Progress
from buildtool.solve.caches.backend import Loaded
from buildtool.solve.caches.layout import CacheLayout
from buildtool.solve.caches.options import CacheOrigin, Caches, CacheTarget
from tests.unit.solve.conftest import Workshop


@dataclass
class Place:
    """A directory as a cache. `log` tells what was asked of it: `load`, `find`, `record`, `bundle`, `blob`, `fetch`.

    What is in `broken` fails.
    """

    directory: Path
    log: list[str] = field(default_factory=list)
    broken: set[str] = field(default_factory=set)

    def note(self, what: str) -> None:
        self.log.append(what)
        if what in self.broken:
            raise BuildtoolError(f"{what} does not work")

    def count(self, what: str) -> int:
        return self.log.count(what)

    async def open(self) -> _Layout:
        self.note("open")
        self.directory.mkdir(exist_ok=True)
        return _Layout(self)

    def caches(
        self, store: Any, *, read: bool = True, write: bool = True, mode: Any = "max", **target: Any
    ) -> Caches:
        """For a build's request, on this store."""

        async def fetch(layer: LayerSource, tell: Callable[[str], None]) -> None:
            self.note("fetch")
            assert layer.blob is not None
            await _fetch(layer, store.blobs)

        origins = (CacheOrigin(str(self.directory), self.open, target.pop("answer_within", 5.0)),) if read else ()
        targets = (CacheTarget(str(self.directory), self.open, mode, **target),) if write else ()
        return Caches(origins, targets, fetch=fetch)


class _Layout(CacheLayout):
    def __init__(self, place: Place, tag: str = "") -> None:
        super().__init__(place.directory, tag)
        self._place = place

    def named(self, suffix: str) -> _Layout:
        return _Layout(self._place, f"latest-{suffix}")

    async def load(self) -> list[Loaded]:
        self._place.note("load")
        return await super().load()

    async def find(self, key: str) -> bytes | None:
        self._place.note("find")
        return await super().find(key)

    async def put_blob(self, blob: Descriptor, path: Path) -> None:
        self._place.note("blob")
        await super().put_blob(blob, path)

    async def put_record(self, keys: Sequence[str], data: bytes, blob: Descriptor) -> None:
        self._place.note("record")
        await super().put_record(keys, data, blob)

    async def put_bundle(self, data: bytes, media_type: str, blobs: Sequence[Descriptor]) -> None:
        self._place.note("bundle")
        await super().put_bundle(data, media_type, blobs)


async def _fetch(layer: LayerSource, blobs: BlobStore) -> None:
    assert layer.blob is not None
    growing = GrowingBlob()
    try:
        source = layer.sources[0].partition("://")[2]
        await from_layout(source, layer.blob, blobs, Progress(lambda _: None, ""), growing)
    finally:
        growing.close()


def file_of(shop: Workshop, image: Image, path: str) -> str:
    """The content of a file of the image; what of it is in a cache still is fetched."""
    for layer in image.layers:
        if layer.snapshot is None and layer.blob is not None and not shop.store.blobs.has(layer.blob.digest):
            shop.run(_fetch(layer, shop.store.blobs))
    return shop.tree(image)[path].content


def executed(shop: Workshop, text: str, **options: Any) -> list[str]:
    """Build; the steps that were executed, as progress names them."""
    outcome = shop.build(text, **options)
    return [step.name for step in outcome.result.steps if not step.cached]
