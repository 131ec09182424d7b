"""Base images: found among the local ones, or an error that says at which FROM one has to be fetched."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Sequence

from buildtool.buildfile.instructions import Buildfile
from buildtool.errors import InvalidInput, NotFound
from buildtool.graph import BaseImage, BaseNeed, PlanOptions, image_key, missing_bases
from buildtool.images import Image, Images
from buildtool.oci import best_platform, is_digest


class MissingBase(NotFound):
    """An image has to be pulled before the build can be planned; or should be, and what is here will `do`."""

    need: BaseNeed
    do: bool = False


def find_bases(
    buildfile: Buildfile,
    options: Sequence[PlanOptions],
    images: Images,
    fresh: Collection[str] | None = None,
    asked: Collection[str] = (),
) -> tuple[dict[str, BaseImage], dict[str, Image]]:
    """The configs of all images the target needs for each platform, and the images by their chain_id and `base_name`.

    With `fresh`, only the local images of these (by `image_key`) are good enough. Of a name that means an index the
    fitting image counts. A single image for another platform is taken when it was made here, or when its registry
    (`asked`) has no other; the plan then has a warning. Raises MissingBase at the place that names another.
    """
    bases: dict[str, BaseImage] = {}
    found: dict[str, Image] = {}
    for each in options:
        while missing := missing_bases(buildfile, each, bases):  # ONBUILD triggers of a base may name more
            for need in missing:
                image = _find(need, images, fresh, asked)
                base = BaseImage(need.reference, image.config)
                bases[image_key(need.reference, need.platform)] = base
                found.setdefault(base.chain_id, image)
                found[base_name(base)] = image
    return bases, found


def base_name(base: BaseImage) -> str:
    """What the images of `find_bases` are called beside their chain_id: those of two platforms may share that."""
    return f"{base.chain_id} {base.config.platform}"


def _find(need: BaseNeed, images: Images, fresh: Collection[str] | None, asked: Collection[str]) -> Image:
    try:
        key = image_key(need.reference, need.platform)
        if fresh is not None and key not in fresh:
            raise NotFound(need.reference)
        members = images.members(need.reference)
        place = best_platform(need.platform, [image.config.platform for image in members])
        alone = len(members) == 1 and images.group(need.reference) is None
        known = alone and (members[0].created_locally or is_digest(need.reference))
        if place is None and not known and not (alone and key in asked):
            there = ", ".join(str(image.config.platform) for image in members)
            missing = MissingBase(
                f"base image {need.reference!r} is in the local store for {there}, not for {need.platform}",
                where=need.span,
                hint=f"pull it with --platform {need.platform}, or load or bootstrap one for that platform",
            )
            missing.need, missing.do = need, alone
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
