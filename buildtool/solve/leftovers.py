"""Images that builds left without a name: nothing but the build cache has a use for them.

As in Docker such an image stays until `image prune`, and its layers with it. Where the build cache is collected
automatically, it is a part of the cache: it goes when it was made longer ago than entries may be unused, and together
with an entry whose layer it has.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

from buildtool.cache import Pins
from buildtool.errors import Conflict, NotFound
from buildtool.images import Image, Images
from buildtool.oci import Digest
from buildtool.solve.result import COMMENT


class Leftovers:
    """Those of one store. `in_use` gives the containers of an image, `others` what else than images pins."""

    def __init__(self, images: Images, in_use: Callable[[Digest], Sequence[str]], others: Callable[[], Pins]) -> None:
        self._images = images
        self._in_use = in_use
        self._others = others

    def all(self) -> list[Image]:
        """Built here, without a name, a container, or an image committed from them."""
        images = self._images.list()
        parents = {image.parent for image in images}
        return [
            image for image in images if _is_left(image) and image.id not in parents and not self._in_use(image.id)
        ]

    def pins(self) -> Pins:
        """What is needed by all else."""
        return self._images.pins(without={image.id for image in self.all()}) | self._others()

    def release(self, snapshots: Collection[int], made_before: float | None) -> bool:
        """Delete those that have one of these layers or are that old; whether there was any."""
        gone = False
        for image in self.all():
            old = made_before is not None and max(image.created_locally, image.last_tagged) < made_before
            if old or any(layer.snapshot in snapshots for layer in image.layers):
                try:
                    self._images.delete(image.id, in_use=self._in_use)
                except (Conflict, NotFound):  # used or named meanwhile
                    continue
                gone = True
        return gone

    def all_pins(self) -> Pins:
        """What is needed now, by those that are left too."""
        return self._images.pins() | self._others()


def _is_left(image: Image) -> bool:
    if image.references or image.repo_digests or image.held or not image.created_locally:
        return False
    history = image.config.history or []
    return bool(history) and history[-1].comment == COMMENT
