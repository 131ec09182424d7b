"""The registry client as the daemon uses it: pull, push, login, looking up.

Async, for one event loop. Progress goes to `emit`, one object of Docker's JSON stream at a time.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from buildtool.aio import offload
from buildtool.errors import BuildtoolError, InvalidInput, NotFound
from buildtool.images import Image, Images
from buildtool.images.forms import Compression
from buildtool.images.groups import NO_NOTES, IndexNotes
from buildtool.oci import (
    Descriptor,
    Platform,
    Reference,
    decode_config,
    decode_index,
    decode_manifest,
    media_types,
    parse_reference,
)
from buildtool.registry.ahead import Ahead
from buildtool.registry.attestations import keep_statements
from buildtool.registry.cache_repository import CacheRepository
from buildtool.registry.config import RegistryConfig
from buildtool.registry.credentials import Credentials, server_domain
from buildtool.registry.errors import Denied, Missing, RegistryRefused, Unauthorized
from buildtool.registry.progress import Emit, status
from buildtool.registry.pull import Puller, from_repository
from buildtool.registry.push import Manner, Pushed, Pusher
from buildtool.registry.remote_layers import RemoteLayers
from buildtool.registry.repository import Fetched, Repository, open_mirror
from buildtool.registry.retry import RetryPolicy
from buildtool.registry.seen import Seen
from buildtool.registry.selection import Selected, not_pullable, select
from buildtool.registry.transport import BROKEN, Connection, Transport

if TYPE_CHECKING:
    from buildtool.registry.remote_images import SearchResult

log = logging.getLogger(__name__)

_UP_TO_DATE = "Image is up to date for"
_DOWNLOADED = "Downloaded newer image for"


@dataclass(frozen=True)
class Remote:
    """What a registry has under a name."""

    descriptor: Descriptor
    platforms: list[Platform]


class Registries:
    """All registries, from this store's side."""

    def __init__(
        self, images: Images, config: RegistryConfig | None = None, retry: RetryPolicy | None = None
    ) -> None:
        self._images = images
        self._transport = Transport(config, retry)
        self._flights = images.locks
        self._seen = Seen(images.store)
        self._ahead: set[asyncio.Task[None]] = set()
        self._seen_is_clean = False
        self.remote_layers = RemoteLayers(images, self._transport, self._flights)

    async def close(self) -> None:
        """Close the connections."""
        for task in self._ahead:
            task.cancel()
        await asyncio.gather(*self._ahead, return_exceptions=True)
        await self._transport.close()

    def ahead(self, reference: Reference, credentials: Credentials | None, compression: Compression) -> Ahead:
        """Takes layers of an image that is going to be pushed there, with this compression, before it is one."""

        async def open() -> Pusher:
            connection = await self._transport.connect(reference.domain, credentials)
            return self._pusher(Repository(connection, reference.path, "pull", "push"), lambda _: None, compression)

        return Ahead(self._images, reference.repository, open, compression, self._ahead)

    def _pusher(
        self,
        repository: Repository,
        emit: Emit,
        compression: Compression,
        how: Manner = Manner(),  # noqa: B008
    ) -> Pusher:
        seen, layers = self._seen, self.remote_layers
        return Pusher(self._images, repository, seen, self._flights, layers, emit, compression, how)

    async def pull(
        self,
        name: str,
        emit: Emit,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> Image:
        """Pull `name[:tag][@digest]` (`latest` by default) and tell of it in Docker's words.

        Raises NotFound, RegistryRefused, RegistryUnreachable, Corrupt, InvalidInput, StoreFull; nothing has changed
        then.
        """
        reference = parse_reference(name).with_default_tag()
        if reference.digest:
            reference = replace(reference, tag="")
        async with self._resolved(reference, platform, credentials, emit) as (repository, selected):
            asked = reference.digest or reference.tag
            status(emit, f"Pulling from {reference.path}", asked)
            before = await offload(self._images.find, reference.familiar)
            same = before is not None and before.id == selected.manifest.config.digest
            same = same and before is not None and not await offload(self._images.lacks, before)
            told: Emit = (lambda _: None) if same else emit  # Docker lists no layers then
            fetch = from_repository(repository, self._images.store)
            image = await Puller(self._images, fetch, self._flights, told).pull(selected, reference)
            await keep_statements(self._images, repository, selected)
            await self._note(selected, reference)
        status(emit, f"Digest: {selected.digest}")
        status(emit, f"Status: {_UP_TO_DATE if same else _DOWNLOADED} {reference.familiar}")
        self._images.notify("pull", image, reference.familiar)
        return image

    async def resolve(
        self,
        name: str,
        emit: Emit,
        *,
        platform: Platform | None = None,
        credentials: Credentials | None = None,
    ) -> Image:
        """As `pull`, but its layers stay there until something needs them: see RemoteLayers.

        An image that is alone under its name may be for another platform.
        """
        reference = parse_reference(name).with_default_tag()
        if reference.digest:
            reference = replace(reference, tag="")
        async with self._resolved(reference, platform, credentials, emit, single=True) as (_, selected):
            status(emit, f"Pulling from {reference.path}", reference.digest or reference.tag)
            before = await offload(self._images.find, reference.familiar)
            image = await self.remote_layers.register(selected, reference, credentials)
            await self._note(selected, reference)
        status(emit, f"Digest: {selected.digest}")
        if not await offload(self._images.lacks, image):
            same = before is not None and before.id == image.id
            status(emit, f"Status: {_UP_TO_DATE if same else _DOWNLOADED} {reference.familiar}")
        self._images.notify("pull", image, reference.familiar)
        return image

    async def pull_all(
        self, name: str, emit: Emit, *, platform: Platform | None = None, credentials: Credentials | None = None
    ) -> None:
        """Pull every tag of a repository. Tags that are no image for this platform are told of and left out."""
        reference = parse_reference(name)
        if reference.tag or reference.digest:
            raise InvalidInput("tag can't be used with --all-tags/-a")
        connection = await self._transport.connect(reference.domain, credentials)
        try:
            tags = await Repository(connection, reference.path).tags()
        except RegistryRefused as error:
            raise _pull_error(error, reference) from error
        for tag in tags:
            one = replace(reference, tag=tag)
            try:
                await self.pull(str(one), emit, platform=platform, credentials=credentials)
            except NotFound as error:
                status(emit, f"Skipping {one.familiar}: {error.message}")

    async def _note(self, selected: Selected, reference: Reference) -> None:
        """Where these blobs are, for mounts; once in this process' life, what is known of vanished ones goes."""
        await offload(self._seen.note, [layer.digest for layer in selected.manifest.layers], reference.repository)
        if not self._seen_is_clean:
            self._seen_is_clean = True
            await offload(lambda: self._seen.clean(self._images.pins().blobs))

    @asynccontextmanager
    async def _resolved(
        self,
        reference: Reference,
        platform: Platform | None,
        credentials: Credentials | None,
        emit: Emit | None = None,
        *,
        single: bool = False,
    ) -> AsyncIterator[tuple[Repository, Selected]]:
        """The first of the registry's addresses (mirrors, then itself) that has the image."""
        asked = reference.digest or reference.tag
        found: tuple[Repository, Selected] | None = None
        for mirror in self._transport.config.mirrors_of(reference.domain):
            try:
                repository = await open_mirror(self._transport, mirror, reference.path)
                top = await repository.manifest(asked)
                found = repository, await select(repository, top, platform, reference.familiar, single=single)
                break
            except (BuildtoolError, *BROKEN) as error:
                log.warning("mirror %s does not give %s: %s", mirror, reference, error)
        if found is None:
            connection = await self._connect(reference.domain, credentials, emit)
            repository = Repository(connection, reference.path)
            try:
                top = await repository.manifest(asked)
            except RegistryRefused as error:
                raise _pull_error(error, reference) from error
            found = repository, await select(repository, top, platform, reference.familiar, single=single)
        yield found

    async def push(
        self,
        reference: Reference,
        emit: Emit,
        *,
        credentials: Credentials | None = None,
        compression: str = "",
        level: str = "",
        force: bool = True,
        platform: Platform | None = None,
        members: Sequence[Image] = (),
        notes: IndexNotes = NO_NOTES,
        how: Manner = Manner(),  # noqa: B008 - a frozen value
    ) -> list[Pushed]:
        """Push one tag, or every tag of the repository that there is here when the reference has none.

        With `members`, which need no name here, that image or the index of them (which has these `notes`): under the
        reference's tag, or without one under its digest.

        `compression`: "gzip" or "zstd" for all layers (without `force` for those that their image does not name
        compressed), at this level; "" for as the image names them, and gzip for the others. Of a name that means an
        index all its images go, or the one for `platform`.
        Raises NotFound when there is no such image here, RegistryRefused, RegistryUnreachable, Corrupt.
        """
        if reference.digest:
            raise InvalidInput("cannot push a digest reference")
        wanted = Compression.read(compression, level, str(force and bool(compression)))
        going = [(reference, list(members), notes)] if members else await offload(self._going, reference, platform)
        status(emit, f"The push refers to repository [{reference.repository}]")
        connection = await self._connect(reference.domain, credentials, emit, insecure=how.insecure)
        repository = Repository(connection, reference.path, "pull", "push")
        pusher = self._pusher(repository, emit, wanted, how)
        done: list[Pushed] = []
        for one, images, about in going:
            image = images[0]
            if len(images) == 1:
                pushed = await pusher.push(image, one)
            else:
                pushed = await pusher.push_index(images, one, about)
            status(emit, f"{pushed.tag}: digest: {pushed.digest} size: {pushed.size}")
            emit({"progressDetail": {}, "aux": {"Tag": pushed.tag, "Digest": pushed.digest, "Size": pushed.size}})
            self._images.notify("push", image, one.familiar)
            done.append(pushed)
        return done

    async def _connect(
        self, domain: str, credentials: Credentials | None, emit: Emit | None, *, insecure: bool = False
    ) -> Connection:
        """A connection whose warnings are told."""
        connection = await self._transport.connect(domain, credentials, insecure=insecure)
        if emit is not None:
            connection.on_notice = lambda text: status(emit, f"Warning from {domain}: {text}")
        return connection

    def _going(
        self, reference: Reference, platform: Platform | None
    ) -> list[tuple[Reference, list[Image], IndexNotes]]:
        found = []
        for one, _ in self._tagged(reference):
            group, name = self._images.group(str(one)), str(one)
            images = self._images.members(name) if platform is None else [self._images.get(name, platform)]
            found.append((one, images, group.notes if group is not None else NO_NOTES))
        return found

    def _tagged(self, reference: Reference) -> list[tuple[Reference, Image]]:
        if reference.tag:
            try:
                return [(reference, self._images.get(str(reference)))]
            except NotFound:
                raise NotFound(f"tag does not exist: {reference.familiar}") from None
        found = [
            (name, image)
            for image in self._images.list()
            for name in image.references
            if name.repository == reference.repository
        ]
        if not found:
            raise NotFound(f"An image does not exist locally with the tag: {reference.familiar}")
        return sorted(found, key=lambda pair: pair[0].tag)

    async def cache(
        self,
        reference: Reference,
        *,
        credentials: Credentials | None = None,
        write: bool = False,
        as_index: bool = False,
        platforms: Collection[Platform] = (),
    ) -> CacheRepository:
        """The build cache under a reference; its layers can be fetched from now on. Raises RegistryUnreachable."""
        connection = await self._transport.connect(reference.domain, credentials)
        self.remote_layers.remember(reference.repository, credentials)
        repository = Repository(connection, reference.path, "pull", *(["push"] if write else []))
        return CacheRepository(repository, reference, as_index=as_index, platforms=platforms)

    async def login(self, server: str, credentials: Credentials) -> str:
        """Check credentials; the identity token that the registry wants to see in their place, "" when none.

        Raises Unauthorized, RegistryUnreachable.
        """
        connection = await self._transport.connect(server_domain(server), credentials)
        try:
            return await connection.check_login()
        except RegistryRefused as error:
            raise Unauthorized(f"login attempt to {connection.url('')} failed: {error}", status=401) from error

    async def search(self, term: str, limit: int, *, credentials: Credentials | None = None) -> list[SearchResult]:
        """Images by a word: of Docker Hub, or of a registry that has a catalog (`host/word`)."""
        from buildtool.registry.remote_images import search

        return await search(self._transport, term, limit, credentials)

    async def statements(
        self, name: str, *, platform: Platform | None = None, credentials: Credentials | None = None
    ) -> list[tuple[str, dict[str, Any]]]:
        """Predicate types and in-toto statements about an image, from beside it in its registry.

        Raises NotFound, RegistryRefused, Corrupt.
        """
        from buildtool.registry.attestations import read_statements, statement_document

        reference = parse_reference(name).with_default_tag()
        async with self._resolved(reference, platform, credentials) as (repository, selected):
            top = await repository.manifest(selected.digest)
            found = await read_statements(repository, top, selected.fetched.digest)
        return [(kind, statement_document(data)) for kind, data in found]

    async def look_up(self, name: str, *, credentials: Credentials | None = None) -> Remote:
        """What a registry has under a name, without pulling it. Raises NotFound, Denied."""
        reference = parse_reference(name).with_default_tag()
        connection = await self._transport.connect(reference.domain, credentials)
        repository = Repository(connection, reference.path)
        try:
            top = await repository.manifest(reference.digest or reference.tag)
            platforms = await _platforms(repository, top)
        except RegistryRefused as error:
            if isinstance(error, Missing):
                raise
            raise Denied(error.message, status=error.status, code=error.error_code) from error
        return Remote(top.descriptor, platforms)


async def _platforms(repository: Repository, top: Fetched) -> list[Platform]:
    if top.media_type in media_types.INDEXES:
        return [entry.platform for entry in decode_index(top.data).manifests if entry.platform is not None]
    config = decode_manifest(top.data).config
    if config.media_type not in media_types.CONFIGS:
        return []
    return [decode_config(await repository.small_blob(config)).platform]


def _pull_error(error: RegistryRefused, reference: Reference) -> BuildtoolError:
    if isinstance(error, (Missing, Denied, Unauthorized)):
        return not_pullable(error, reference)
    return error
