"""The file systems of containers: what changed, paths in and out, the whole of it, and an image of it."""

from __future__ import annotations

from typing import Any, BinaryIO

from buildtool.aio import offload
from buildtool.cache import Store
from buildtool.cache.trees import Tree
from buildtool.containers import changes, commit
from buildtool.containers.archive import Archives
from buildtool.containers.base import Bases
from buildtool.containers.bridge import Drain
from buildtool.containers.container import Container
from buildtool.containers.lifecycle import Lifecycle
from buildtool.containers.registry import Registry
from buildtool.containers.tarwalk import tar_merged
from buildtool.errors import Conflict, Unavailable
from buildtool.images import Images
from buildtool.runtime import Task

Json = dict[str, Any]
Jsons = list[Json]
Strings = list[str]


class Files:
    """What the Engine API does with containers' files. A container is named as for `Containers`."""

    def __init__(
        self, store: Store, images: Images, registry: Registry, bases: Bases, archives: Archives, lifecycle: Lifecycle
    ) -> None:
        self._store, self._images, self._registry = store, images, registry
        self._bases, self._archives, self._lifecycle = bases, archives, lifecycle

    async def changes(self, reference: str) -> Jsons | None:
        """GET /containers/{id}/changes; None when there are none, as Docker says it."""
        container = self._registry.get(reference)
        base = self._bases.get(container.record.snapshots)
        return await offload(changes.changes, base.tree, container.directory / "upper") or None

    async def archive_stat(self, reference: str, path: str) -> Json:
        """What a path is: the X-Docker-Container-Path-Stat object. Raises NotFound."""
        return await self._archives.head(self._registry.get(reference), path)

    async def archive_get(self, reference: str, path: str) -> tuple[Json, Drain]:
        """What a path is, and its tar (an async iterator with aclose). Raises NotFound."""
        container = self._registry.get(reference)
        found = await self._archives.get(container, path)
        self._lifecycle.publish(container, "archive-path")
        return found

    async def archive_put(
        self,
        reference: str,
        path: str,
        source: BinaryIO,
        *,
        no_overwrite: bool = False,
        copy_ids: bool = False,
        before_first_start: bool = False,
    ) -> None:
        """Unpack a tar, plain or compressed, into a directory. Raises NotFound, InvalidInput, Forbidden."""
        container = self._registry.get(reference)
        await self._archives.put(
            container,
            path,
            source,
            no_overwrite_dir_non_dir=no_overwrite,
            copy_uid_gid=copy_ids,
            before_first_start=before_first_start,
        )
        self._lifecycle.publish(container, "extract-to-dir")

    async def export(self, reference: str) -> Drain:
        """The whole file system as a tar (an async iterator with aclose), mounts left out."""
        container = self._registry.get(reference)
        base = self._bases.get(container.record.snapshots)
        tree = Tree([*base.lower, container.directory / "upper"])
        self._lifecycle.publish(container, "export")
        return Drain.of(lambda: tar_merged(tree))

    async def commit(
        self,
        reference: str,
        *,
        repo: str = "",
        tag: str = "",
        comment: str = "",
        author: str = "",
        pause: bool = True,
        changes: Strings | None = None,
        config: Any = None,
    ) -> str:
        """POST /commit: the new image's id. The container is paused meanwhile unless told otherwise."""
        container = self._registry.get(reference)
        request = await offload(
            lambda: commit.parse_request(
                container.record,
                repo=repo,
                tag=tag,
                comment=comment,
                author=author,
                changes=changes or [],
                config=config,
            )
        )
        base = self._images.get(container.record.image_id)
        frozen = pause and container.alive and not container.state.paused
        if frozen:
            try:
                await _task(container).pause()
            except Unavailable:  # a plain user's daemon has no freezer: as with pause=0
                frozen = False
        try:
            upper = container.directory / "upper"
            image = await offload(commit.commit, self._store, self._images, base, container.record, upper, request)
        finally:
            if frozen:
                await _task(container).resume()
        self._lifecycle.publish(container, "commit", comment=comment, imageID=image.id, imageRef=repo)
        return image.id


def _task(container: Container) -> Task:
    if container.task is None or not container.alive:
        raise Conflict(f"container {container.id} is not running")
    return container.task
