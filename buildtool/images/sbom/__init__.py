"""What software an image holds: packages read from the databases in its file tree, as SPDX or CycloneDX documents.

Nothing of the image is executed, and nothing is asked of the network. The same tree gives the same bill and the same
bytes of its documents, whenever and wherever they are made.
"""

from __future__ import annotations

from buildtool.images.sbom.bill import Bill, Package
from buildtool.images.sbom.cyclonedx import to_cyclonedx
from buildtool.images.sbom.documents import FORMATS, PREDICATE_TYPES, Subject, make_sbom
from buildtool.images.sbom.scan import scan
from buildtool.images.sbom.spdx import to_spdx

__all__ = [
    "FORMATS",
    "PREDICATE_TYPES",
    "Bill",
    "Package",
    "Subject",
    "make_sbom",
    "scan",
    "to_cyclonedx",
    "to_spdx",
]
