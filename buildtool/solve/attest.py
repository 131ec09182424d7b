"""Attestations of a finished build, kept with its image."""

from __future__ import annotations

import time

import msgspec

from buildtool.images import Image, Images
from buildtool.images.attestations import PROVENANCE, Wanted
from buildtool.solve.history import BuildRecord
from buildtool.solve.prepare import Prepared


def attest(images: Images, wanted: Wanted, prepared: Prepared, image: Image, record: BuildRecord) -> None:
    """Make what is wanted and keep it with the image; drop what is not to be there. Blocking."""
    if wanted.without:
        images.attestations.drop(image.id, wanted.without)
    if wanted.provenance:
        from buildtool.solve.provenance import provenance

        predicate = provenance(wanted, prepared, image, record, time.time())
        images.attestations.put(image.id, PROVENANCE, msgspec.json.encode(predicate))
    if wanted.sbom:
        from buildtool.images.sbom.documents import PREDICATE_TYPES
        from buildtool.images.sbom.of_image import sbom_of

        for form, document in sbom_of(images, image, wanted.sbom).items():
            images.attestations.put(image.id, PREDICATE_TYPES[form], document)
