"""Base images: found among the local ones, or an error that says at which FROM one has to be fetched."""

from __future__ import annotations

import difflib
from collections.abc import Collection

from buildtool.buildfile.instructions import Buildfile
from buildtool.errors import InvalidInput, NotFound
from buildtool.graph import BaseImage, BaseNeed, PlanOptions, image_key, missing_bases
from buildtool.images import Image, Images


class MissingBase(NotFound):
    """An image has to be pulled before the build can be planned."""

    need: BaseNeed


def find_bases(
    buildfile: Buildfile, options: PlanOptions, images: Images, fresh: Collection[str] | None = None
) -> tuple[dict[str, BaseImage], dict[str, Image]]:
    """The configs of all images the target needs, and the images by their chain_id.

    With `fresh`, only the local images of these references are good enough. Raises MissingBase at the place that
    names another, or one that is not here.
    """
    bases: dict[str, BaseImage] = {}
    found: dict[str, Image] = {}
    while missing := missing_bases(buildfile, options, bases):  # ONBUILD triggers of a base may name more
        for need in missing:
            image = _find(need, images, fresh)
            base = BaseImage(need.reference, image.config)
            bases[image_key(need.reference, need.platform)] = base
            found[base.chain_id] = image
    return bases, found


def _find(need: BaseNeed, images: Images, fresh: Collection[str] | None) -> Image:
    try:
        if fresh is not None and need.reference not in fresh:
            raise NotFound(need.reference)
        return images.get(need.reference)
    except InvalidInput as error:
        raise InvalidInput(error.message, where=need.span, hint=error.hint) from None
    except NotFound:
        message = f"base image {need.reference!r} is not in the local store"
        missing = MissingBase(message, where=need.span, hint=_base_hint(need, images))
        missing.need = need
        raise missing from None


def _base_hint(need: BaseNeed, images: Images) -> str:
    stages = difflib.get_close_matches(need.reference, need.also, n=1)
    if stages:
        return f"did you mean the stage {stages[0]!r}?"
    names = [reference.familiar for image in images.list() for reference in image.references]
    close = difflib.get_close_matches(need.reference, names, n=1)
    meant = f"did you mean {close[0]!r}? " if close else ""
    name = need.reference.partition(":")[0].rpartition("/")[2]
    make = need.reference if name in ("busybox", "debian") else "debian:bookworm"
    return (
        f"{meant}bring it in with `buildtool load -i FILE` or `buildtool import`, "
        f"or make a base with `buildtool image bootstrap {make}`"
    )
