"""Layers of an image that is still being built, on their way to where it will be pushed."""

from __future__ import annotations

from collections.abc import Sequence

from buildtool.images import Image, LayerSource
from buildtool.images.forms import Compression
from buildtool.solve.request import BuildRequest, Destination


def first_compression(request: BuildRequest) -> Compression | None:
    """How layers will be wanted first: by the pushes, by caches that travel; None when nobody wants any."""
    wanted = [each.compression for each in request.destinations]
    wanted += [each.compression for each in request.caches.targets]
    return next((each for each in wanted if each.name), None)


class Ahead:
    """Hands out what is known of an image, once a step was executed.

    Before, there may be nothing to push: a build whose steps are all cached makes the image that was pushed last
    time, which is one question to the registry instead of one a layer.
    """

    def __init__(self, destinations: Sequence[Destination], bases: Sequence[Image]) -> None:
        self._destinations = destinations
        self._bases = bases
        self._held: list[LayerSource] | None = []

    def executed(self) -> None:
        """A step was executed."""
        held, self._held = self._held, None
        if held is not None:
            for destination in self._destinations:
                for image in self._bases:
                    destination.begin_image(image)
                for layer in held:
                    destination.begin(layer)

    def add(self, layer: LayerSource) -> None:
        """A layer of the image is known."""
        if self._held is not None:
            self._held.append(layer)
            return
        for destination in self._destinations:
            destination.begin(layer)

    def cancel(self) -> None:
        """The build has failed. What is in a registry by now has no name there: its garbage collection finds it."""
        for destination in self._destinations:
            destination.cancel()
