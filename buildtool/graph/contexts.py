"""Named contexts (`--build-context NAME=…`): what stands in for a stage, an image or a `--from`. Pure.

Source: ../shared/reference/build.md, 1.5.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from buildtool.errors import InvalidInput
from buildtool.graph.steps import Remote
from buildtool.oci import Platform, best_platform, parse_reference


@dataclass(frozen=True, slots=True)
class DirectoryContext:
    """A directory that the daemon reads, known to the request by its name."""

    name: str


@dataclass(frozen=True, slots=True)
class ImageContext:
    """An image, by reference or id; of an index `offered` tells the image of each platform."""

    reference: str
    offered: tuple[tuple[Platform, str], ...] = ()

    def for_platform(self, platform: Platform) -> ImageContext:
        """The one that suits the platform, else the first."""
        place = best_platform(platform, [each for each, _ in self.offered])
        return self if place is None else ImageContext(self.offered[place][1])


@dataclass(frozen=True, slots=True)
class StageContext:
    """A stage of the same Buildfile."""

    name: str


@dataclass(frozen=True, slots=True)
class RemoteContext:
    """A git repository, or a file or tar archive of an http server."""

    step: Remote


Context: TypeAlias = DirectoryContext | ImageContext | StageContext | RemoteContext


def familiar(name: str) -> str:
    """The name under which a context stands: as an image's familiar name, without `:latest`."""
    try:
        return parse_reference(name).familiar.removesuffix(":latest")
    except InvalidInput:
        return name


def find_context(contexts: Mapping[str, Context], name: str, platform: Platform) -> Context | None:
    """The context of a name; `name::os/arch` goes before `name`."""
    if not contexts or not name:
        return None
    plain = familiar(name)
    for key in (f"{plain}::{platform}", f"{name}::{platform}", plain, name):
        if key in contexts:
            found = contexts[key]
            return found.for_platform(platform) if isinstance(found, ImageContext) else found
    return None
