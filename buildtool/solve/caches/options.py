"""What a build is to do with caches that travel, as its request says it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Literal

from buildtool.images import LayerSource
from buildtool.images.forms import GZIP, Compression
from buildtool.solve.caches.backend import CacheBackend
from buildtool.solve.events import Tell

Open = Callable[[], Awaitable[CacheBackend]]
"""Reaches the place. Raises BuildtoolError when it cannot be."""
Fetch = Callable[[LayerSource, Tell], Awaitable[None]]
"""Brings the blob of a layer into the store, from one of its sources. Raises BuildtoolError."""


@dataclass(frozen=True, slots=True)
class CacheOrigin:
    """A cache to take results from. `seconds` is how long it may take to answer once."""

    name: str
    open: Open
    seconds: float = 20.0


_TIMES, _SECONDS = 3, 20.0


@dataclass(frozen=True, slots=True)
class CacheTarget:
    """A cache to give results to: those of the layers of the image (`min`), or of all steps (`max`).

    With `ignore_errors` a failure is a warning. `seconds` is how long giving may take in all. `mounts` are ids of
    cache mounts that go along (`*`: those of the build).
    """

    name: str
    open: Open
    mode: Literal["min", "max"] = "min"
    compression: Compression = GZIP
    ignore_errors: bool = True
    seconds: float = 600.0
    mounts: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Caches:
    """All of a build's. `inline`: records about the image's layers go into its config."""

    origins: tuple[CacheOrigin, ...] = ()
    targets: tuple[CacheTarget, ...] = ()
    inline: bool = False
    fetch: Fetch | None = field(default=None, repr=False)

    @property
    def patience(self) -> float:
        """For how many seconds nothing at all may come of a layer that is fetched: three times what an answer may
        take.
        """
        return _TIMES * max((origin.seconds for origin in self.origins), default=_SECONDS)
