"""File trees as stacks of layers, and whether two of them are the same: the base of early cutoff.

Layers are compared from the outside in: equal snapshots and equal content keys need no look at the files; only two
different snapshots that RUN made are compared by the digests of their layers with times normalised (which the store
computes once and remembers, and an exported image needs anyway).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

Layer: TypeAlias = int | str
"""The snapshot that a RUN made, or the content key of a COPY, ADD or WORKDIR."""


@dataclass(frozen=True, slots=True)
class Layers:
    """A tree: the key of its base (Source) and the layers above, bottom first."""

    base: str
    layers: tuple[Layer, ...]


def without_empty(tree: Layers, is_empty: Callable[[int], bool]) -> Layers:
    """The same tree without layers that change nothing."""
    return Layers(tree.base, tuple(each for each in tree.layers if isinstance(each, str) or not is_empty(each)))


def same_tree(a: Layers, b: Layers, diff_id: Callable[[int], str | None]) -> bool:
    """Whether two trees hold the same files. `diff_id` digests the layer of a snapshot, None when it is gone."""
    if a.base != b.base or len(a.layers) != len(b.layers):
        return False
    unequal = [(one, other) for one, other in zip(a.layers, b.layers, strict=True) if one != other]
    if any(not isinstance(one, int) or not isinstance(other, int) for one, other in unequal):
        return False
    for one, other in unequal:
        digest = diff_id(int(one))
        if digest is None or digest != diff_id(int(other)):
            return False
    return True
