"""Prepares builds, and brings what is needed for it: base images as names, and what lies elsewhere."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Mapping
from types import MappingProxyType

from buildtool.aio import offload
from buildtool.cache import Lease, Store
from buildtool.errors import BuildtoolError, NotFound
from buildtool.graph import Node, Remote
from buildtool.graph import image_key as image_key_of
from buildtool.images import Images
from buildtool.solve.base_trees import BaseRegistry
from buildtool.solve.bases import MissingBase
from buildtool.solve.events import Event, telling
from buildtool.solve.prepare import MissingRemotes, Prepared, prepare
from buildtool.solve.records import Records, Sites
from buildtool.solve.remotes import Access, Fetched, Remotes
from buildtool.solve.request import BuildRequest
from buildtool.solve.threads import first_error

_UPLOADED = "uploaded"


class Preparing:
    """For all builds of one store. Without `registry`, a base image that is not here is an error."""

    def __init__(
        self, store: Store, images: Images, records: Records, remotes: Remotes, registry: BaseRegistry | None
    ) -> None:
        self._store = store
        self._images = images
        self._records = records
        self._registry = registry
        self.remotes = remotes

    async def prepare(
        self,
        request: BuildRequest,
        lease: Lease,
        emit: Callable[[Event], None],
        generations: Mapping[str, str] = MappingProxyType({}),
    ) -> Prepared:
        """Prepare; base images that are missing (all of them with `request.pull`) are looked up first."""
        pulled: set[str] = set()
        asked: set[str] = set()
        fetched: dict[Remote, Fetched] = {}
        while True:
            try:
                fresh = pulled if request.pull and self._registry is not None else None
                return await offload(self._prepare, request, lease, fresh, fetched, generations, asked)
            except MissingRemotes as missing_remotes:
                fetched |= await self._fetch(missing_remotes.nodes, request, lease, emit)
            except MissingBase as missing:
                need = missing.need
                wanted = image_key_of(need.reference, need.platform)
                asked.add(wanted)
                if missing.do and self._registry is None:
                    continue
                if self._registry is None or wanted in pulled:
                    raise
                try:
                    await self._registry.resolve(need.reference, need.platform, request, telling(emit))
                except BuildtoolError as error:
                    if missing.do:
                        continue
                    what = f"{missing.message} and cannot be pulled: {error.message}"
                    hint = "\n".join(filter(None, (error.hint, missing.hint)))
                    raise NotFound(what, where=need.span, hint=hint) from error
                pulled.add(wanted)

    async def _fetch(
        self, nodes: list[Node], request: BuildRequest, lease: Lease, emit: Callable[[Event], None]
    ) -> dict[Remote, Fetched]:
        """Bring what lies elsewhere, all at once. Raises the first error, at its place in the Buildfile."""
        access = Access(request.secrets, request.build_args, request.agents)
        tasks: dict[Remote, asyncio.Task[Fetched]] = {}
        try:
            async with asyncio.TaskGroup() as group:
                for node in nodes:
                    work = self._fetch_one(node, access, lease, telling(emit))
                    tasks[_remote(node)] = group.create_task(work)
        except BaseExceptionGroup as failures:
            raise first_error(failures) from None
        return {step: task.result() for step, task in tasks.items()}

    async def _fetch_one(self, node: Node, access: Access, lease: Lease, tell: Callable[[str], None]) -> Fetched:
        try:
            return await self.remotes.fetch(_remote(node), access, lease, tell)
        except BuildtoolError as error:
            error.where = error.where or (node.places[0][1] if node.places else node.span)
            raise

    def _prepare(
        self,
        request: BuildRequest,
        lease: Lease,
        fresh: set[str] | None = None,
        fetched: dict[Remote, Fetched] | None = None,
        generations: Mapping[str, str] = MappingProxyType({}),
        asked: Collection[str] = (),
    ) -> Prepared:
        identity = f"{request.context_key or request.context} {request.dockerfile_name}"
        if request.context_key == _UPLOADED:  # every uploaded context has that key: the name tells them apart
            identity += f" {request.tags[0].partition(':')[0] if request.tags else ''}"
        sites = Sites(self._store, identity)
        return prepare(request, self._images, self._records, sites, lease, fresh, fetched, generations, asked)


def _remote(node: Node) -> Remote:
    assert isinstance(node.step, Remote)
    return node.step
