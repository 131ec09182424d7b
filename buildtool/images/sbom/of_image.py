"""The SBOM of an image in the store."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from buildtool.cache import SnapshotId
from buildtool.cache.trees import Tree
from buildtool.images.model import Image
from buildtool.images.sbom.bill import Bill
from buildtool.images.sbom.documents import Subject, make_sbom
from buildtool.images.sbom.scan import scan
from buildtool.images.service import Images
from buildtool.images.times import EARLIEST, format_time, parse_time


def bill_of(images: Images, image: Image) -> Bill:
    """The packages in an image; layers that are not unpacked yet are. Blocking."""
    with images.store.leases.hold(f"look into {image.id}") as lease:
        snapshots = images.snapshots(image)
        lease.keep(snapshots)
        return scan(Tree([images.store.snapshots.fs(snapshot) for snapshot in snapshots], immutable=True))


def sbom_of_tree(
    images: Images, image: Image, name: str, snapshots: Sequence[SnapshotId], forms: tuple[str, ...]
) -> dict[str, bytes]:
    """The documents about another tree, which an image was made from. Blocking."""
    bill = scan(Tree([images.store.snapshots.fs(snapshot) for snapshot in snapshots], immutable=True))
    created = format_time(parse_time(image.config.created) or EARLIEST)
    subject = Subject(name, f"{image.id} {name}", created)
    return {form: msgspec.json.encode(make_sbom(form, bill, subject)) for form in forms}


def sbom_of(images: Images, image: Image, forms: tuple[str, ...]) -> dict[str, bytes]:
    """The documents (JSON) in the given forms. Blocking."""
    bill = bill_of(images, image)
    name = image.references[0].familiar if image.references else image.id
    created = format_time(parse_time(image.config.created) or EARLIEST)
    subject = Subject(name, image.id, created)
    return {form: msgspec.json.encode(make_sbom(form, bill, subject)) for form in forms}
