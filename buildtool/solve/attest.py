"""Attestations of a finished build, kept with its image."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any, TypeAlias

import msgspec

from buildtool.aio import offload
from buildtool.cache import SnapshotId
from buildtool.errors import StepFailed
from buildtool.graph import Plan
from buildtool.images import Image, Images
from buildtool.images.attestations import PROVENANCE, PROVENANCE_V02, Wanted
from buildtool.solve.events import Tell
from buildtool.solve.history import BuildRecord
from buildtool.solve.prepare import Prepared
from buildtool.solve.request import BuildRequest

Aside: TypeAlias = Callable[[BuildRequest], Coroutine[Any, Any, tuple[Plan, list[SnapshotId]]]]
"""Builds something besides: its plan, and the snapshots of the tree that it results in, bottom first."""


async def attest(
    images: Images, wanted: Wanted, prepared: Prepared, image: Image, record: BuildRecord, aside: Aside, tell: Tell
) -> Image:
    """Make what is wanted and keep it with the image; drop what is not to be there. Raises what a scanner fails with.

    The image comes back as it is then: an SBOM needs all of its layers here.
    """
    if wanted.without:
        await offload(images.attestations.drop, image.id, wanted.without)
    if wanted.provenance:
        await offload(_state_provenance, images, wanted, prepared, image, record)
    if wanted.sbom:
        image = await images.bring(image)
        if wanted.generator:
            await _scan(images, wanted.generator, prepared, image, aside, tell)
        else:
            await _read_packages(images, wanted, prepared, image, aside)
    return image


def _state_provenance(images: Images, wanted: Wanted, prepared: Prepared, image: Image, record: BuildRecord) -> None:
    from buildtool.solve.provenance import provenance

    predicate, kind, other = provenance(wanted, prepared, image, record, time.time()), PROVENANCE, PROVENANCE_V02
    if wanted.version == "v0.2":
        from buildtool.solve.provenance_v02 import to_v02

        predicate, kind, other = to_v02(predicate), other, kind
    images.attestations.drop(image.id, [other])
    images.attestations.put(image.id, kind, msgspec.json.encode(predicate))


async def _scan(images: Images, generator: str, prepared: Prepared, image: Image, aside: Aside, tell: Tell) -> None:
    """Let a scanner image look at the image, and at what the Buildfile wants to be looked at besides."""
    from buildtool.images.sbom.documents import PREDICATE_TYPES
    from buildtool.solve.scanning import CORE, extras, scan_request, scanner_request, scans

    tell(f"scanning with {generator}")
    request = prepared.request
    scanner, _ = await aside(scanner_request(request, generator))
    try:
        _, chain = await aside(scan_request(request, image, generator, scanner.image, extras(prepared.plan)))
    except StepFailed as error:
        error.where = None
        error.message = f"the scanner image {generator} failed: {error.message}"
        raise
    found = await offload(scans, images.store.snapshots.fs(chain[-1]), generator)

    def keep() -> None:
        first = next(iter(found))
        for name, document in found.items():
            images.attestations.put(
                image.id, PREDICATE_TYPES["spdx"], document, "" if name in (CORE, first) else name
            )

    await offload(keep)


async def _read_packages(images: Images, wanted: Wanted, prepared: Prepared, image: Image, aside: Aside) -> None:
    """Read the package databases of the image, and of what the Buildfile wants to be looked at besides."""
    from buildtool.images.sbom.documents import PREDICATE_TYPES
    from buildtool.images.sbom.of_image import sbom_of, sbom_of_tree
    from buildtool.solve.scanning import extra_request, extras

    for form, document in (await offload(sbom_of, images, image, wanted.sbom)).items():
        await offload(images.attestations.put, image.id, PREDICATE_TYPES[form], document)
    for each in extras(prepared.plan):
        _, chain = await aside(extra_request(prepared.request, each))
        documents = await offload(sbom_of_tree, images, image, each.name, chain, wanted.sbom)
        for form, document in documents.items():
            await offload(images.attestations.put, image.id, PREDICATE_TYPES[form], document, each.name)
