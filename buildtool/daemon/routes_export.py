"""/buildtool/v1/images: what a build gives out besides the image in the store: archives, file trees."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.cache import Tree
from buildtool.daemon.answers import json_answer, nothing
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import in_own_thread, written
from buildtool.errors import InvalidInput
from buildtool.images import Image
from buildtool.oci import parse_reference

routes = Routes()

_FORMS = ("docker", "oci", "tar")


@routes.add("GET", "/buildtool/v1/images/{id}/export", stream=True)
async def export(call: Call) -> web.StreamResponse:
    """An image as an archive: `docker` or `oci`, with `name`s; or as the `tar` of its file tree.

    With the digest of an index, or with `and` (further images, that a build without a name made), the archive is one
    of an index; `notes` (JSON) annotates it.
    """
    from buildtool.images.forms import Compression
    from buildtool.images.groups import IndexNotes

    form, images = call.text("form"), call.services.images
    if form not in _FORMS:
        raise InvalidInput(f"unknown form {form!r}", hint=f"There are {', '.join(_FORMS)}.")
    names = [parse_reference(name).with_default_tag() for name in call.texts("name")]
    options = (call.text(name) for name in ("compression", "compression-level", "force-compression"))
    compression = Compression.read(*options)
    found = [
        image for name in (call.names["id"], *call.texts("and")) for image in await offload(images.members, name)
    ]
    members = [await images.bring(image) for image in found]
    notes = msgspec.convert(call.document("notes") or {}, IndexNotes)
    if form == "tar" and len(members) > 1:
        raise InvalidInput("one tar has one image's file tree: name one of them")

    def archive(write: Callable[[bytes], None]) -> None:
        if form == "tar":
            _write_tree(call, members[0], write)
        else:
            types = call.flag("docker-types")
            images.export(
                members, names, write, compression, docker=form == "docker", notes=notes, docker_types=types
            )

    return await written(call, "application/x-tar", archive)


@routes.add("GET", "/buildtool/v1/images/diff")
async def diff(call: Call) -> web.StreamResponse:
    """What differs between two images; the layers that are elsewhere are fetched."""
    from buildtool.images.difference import image_differences, made_by

    images = call.services.images
    names = [call.text(name) for name in ("before", "now")]
    before, now = [await images.bring(await offload(images.get, name)) for name in names]

    def work() -> dict[str, Any]:
        with images.store.leases.hold("diff") as lease:
            for layer in (*before.layers, *now.layers):
                if layer.snapshot is not None:
                    lease.snapshot(layer.snapshot)
                if layer.blob is not None:
                    lease.blob(layer.blob.digest)
            found = image_differences(images.store, before, now)
        layers = [made_by(before), made_by(now)]
        return {"before": before.id, "now": now.id, "layers": layers, "differences": msgspec.to_builtins(found)}

    return json_answer(await in_own_thread(work, "diff"))


def _write_tree(call: Call, image: Image, write: Callable[[bytes], None]) -> None:
    from buildtool.containers.tarwalk import tar_merged
    from buildtool.images.times import parse_time

    store = call.services.store
    with store.leases.hold("export") as lease:
        snapshots = call.services.images.snapshots(image)
        lease.keep(snapshots)
        created = parse_time(image.config.created)
        tree = Tree([store.snapshots.fs(snapshot) for snapshot in snapshots])
        for chunk in tar_merged(tree, None if created is None else int(created)):
            write(chunk)


@routes.add("POST", "/buildtool/v1/images/{id}/settle")
async def settle(call: Call) -> web.StreamResponse:
    """Name an image (with `and`, the index of several) NAME@DIGEST for each `name`; with `unpack` all its layers are
    fetched and unpacked.
    """
    from buildtool.images.groups import IndexNotes

    images = call.services.images
    found = [await offload(images.get, name) for name in (call.names["id"], *call.texts("and"))]
    notes = msgspec.convert(call.document("notes") or {}, IndexNotes)
    repositories = [parse_reference(name) for name in call.texts("name")]
    if call.flag("unpack"):
        for image in [await images.bring(image) for image in found]:
            await offload(images.snapshots, image)
    names = [await offload(images.name_by_digest, each, found, notes) for each in repositories]
    return json_answer({"names": [name.familiar for name in names]})


@routes.add("DELETE", "/buildtool/v1/images/{id}/unnamed")
async def forget(call: Call) -> web.StreamResponse:
    """Remove an image if it has no name and no container: one that was made to be written to a file."""
    images, users = call.services.images, call.services.image_users()

    def work() -> None:
        image = images.find(call.names["id"])
        if image is not None and not (image.references or image.repo_digests or image.held or users(image.id)):
            images.delete(image.id, noprune=True)

    await offload(work)
    call.services.collect_soon()
    return nothing()
