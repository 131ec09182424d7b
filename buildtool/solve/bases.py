"""Base images: found among the local ones, or an error that says at which FROM one has to be fetched."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from buildtool.buildfile.instructions import Buildfile
from buildtool.errors import InvalidInput, NotFound
from buildtool.graph import BaseImage, BaseNeed, PlanOptions, image_key, missing_bases
from buildtool.images import Image, Images
from buildtool.oci import best_platform


class MissingBase(NotFound):
    """An image has to be pulled before the build can be planned."""

    need: BaseNeed


def find_bases(
    buildfile: Buildfile, options: Sequence[PlanOptions], images: Images, fresh: Collection[str] | None = None
) -> tuple[dict[str, BaseImage], dict[str, Image]]:
    """The configs of all images the target needs for each platform, and the images by their chain_id and `base_name`.

    With `fresh`, only the local images of these (by `image_key`) are good enough. Of a name that has images for
    several platforms the fitting one counts. A build for one platform takes another's where there is no
    other; one for several does not. Raises MissingBase at the place that names another, or one that is not here.
    """
    bases: dict[str, BaseImage] = {}
    found: dict[str, Image] = {}
    for each in options:
        while missing := missing_bases(buildfile, each, bases):  # ONBUILD triggers of a base may name more
            for need in missing:
                image = _find(need, images, fresh, strict=each.several)
                base = BaseImage(need.reference, image.config)
                bases[image_key(need.reference, need.platform)] = base
                found.setdefault(base.chain_id, image)
                found[base_name(base)] = image
    return bases, found


def base_name(base: BaseImage) -> str:
    """What the images of `find_bases` are called beside their chain_id: those of two platforms may share that."""
    return f"{base.chain_id} {base.config.platform}"


def _find(need: BaseNeed, images: Images, fresh: Collection[str] | None, *, strict: bool) -> Image:
    try:
        if fresh is not None and image_key(need.reference, need.platform) not in fresh:
            raise NotFound(need.reference)
        members = images.members(need.reference)
        place = best_platform(need.platform, [image.config.platform for image in members])
        if place is None and strict:
            there = ", ".join(str(image.config.platform) for image in members)
            missing = MissingBase(
                f"base image {need.reference!r} is in the local store for {there}, not for {need.platform}",
                where=need.span,
                hint=f"pull it with --platform {need.platform}, or load or bootstrap one for that platform",
            )
            missing.need = need
            raise missing
        return members[place or 0]
    except MissingBase:
        raise
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
