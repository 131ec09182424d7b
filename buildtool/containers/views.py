"""The list of containers and the inspection of one, with what images and the disk add to the records."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

from buildtool.aio import offload
from buildtool.containers import links, listing, present
from buildtool.containers.base import Bases
from buildtool.containers.container import Container
from buildtool.containers.registry import Registry
from buildtool.containers.volumes import disk_usage
from buildtool.errors import InvalidInput, NotFound
from buildtool.images import Images
from buildtool.networks import Networks

Json = dict[str, Any]


class Views:
    """Reads, changes nothing."""

    def __init__(self, registry: Registry, images: Images, bases: Bases, networks: Networks) -> None:
        self._registry, self._images, self._bases, self._networks = registry, images, bases, networks

    async def summaries(self, *, all: bool, limit: int | None, size: bool, filters: Any) -> list[Json]:
        """GET /containers/json."""
        chosen = listing.select(self._registry, all=all, limit=limit, filters=filters, ancestry=self._ancestry)
        names: dict[tuple[str, str], str] = {}
        documents = []
        for container in chosen:
            record = container.record
            key = (record.config.image, record.image_id)
            if key not in names:
                names[key] = self._image_name(*key)
            document = present.summary(record, names[key])
            self._name_networks(container, document)
            if size:
                sizes = await offload(self._sizes, container)
                document |= {name: value for name, value in sizes.items() if value}
            documents.append(document)
        return documents

    async def inspect(self, container: Container, *, size: bool) -> Json:
        """GET /containers/{id}/json."""
        running = [exec.id for exec in container.execs.values() if exec.running]
        lower = self._bases.lower(container.record.snapshots)
        document = present.inspect(container.record, container.directory, running, lower)
        document["HostConfig"]["Links"] = links.shown(self._registry, container.record)
        self._name_networks(container, document)
        if size:
            document |= await offload(self._sizes, container)
        return document

    def _name_networks(self, container: Container, document: Json) -> None:
        """A container that has run knows its networks' ids while it is stopped, too."""
        if not container.state.started_at and not container.state.error:
            return
        for name, endpoint in document["NetworkSettings"]["Networks"].items():
            if not endpoint["NetworkID"]:
                with suppress(NotFound, InvalidInput):
                    endpoint["NetworkID"] = self._networks.get(name).id

    def _image_name(self, reference: str, image_id: str) -> str:
        """The reference as given, or the id when it means another image by now."""
        image = self._images.find(reference)
        return reference if image is not None and image.id == image_id else image_id

    def _ancestry(self, name: str) -> listing.Test:
        image = self._images.find(name)
        if image is None:
            return lambda image_id: False
        wanted, layers = image.id, image.diff_ids

        def test(image_id: str) -> bool:
            if image_id == wanted:
                return True
            other = self._images.find(image_id)
            return other is not None and other.diff_ids[: len(layers)] == layers

        return test

    def _sizes(self, container: Container) -> Json:
        own = disk_usage(container.directory / "upper")
        image = self._images.find(container.record.image_id)
        return {"SizeRw": own, "SizeRootFs": own + (image.size if image else 0)}
