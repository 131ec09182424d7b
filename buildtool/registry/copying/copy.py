"""Copy an image from one place to another: what it consists of first, then its manifest, byte for byte.

An index is copied with all it names, children first, so that nothing is visible that is not complete.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from buildtool.errors import Corrupt, InvalidInput, NotFound
from buildtool.oci import (
    Descriptor,
    Digest,
    Platform,
    best_platform,
    decode_index,
    decode_manifest,
    host_platform,
    is_digest,
    media_types,
    parse_reference,
)
from buildtool.registry.copying.archives import ArchivePlace
from buildtool.registry.copying.layout import LayoutPlace
from buildtool.registry.copying.place import Place
from buildtool.registry.copying.remote import RemotePlace
from buildtool.registry.progress import Emit, Progress, short, status
from buildtool.registry.repository import Fetched
from buildtool.registry.work import together

_MAX_NESTING = 8


@dataclass(frozen=True)
class CopyOptions:
    """`platform`: of an index only this one. `referrers`: signatures and such of all that is copied, too."""

    platform: Platform | None = None
    all_tags: bool = False
    referrers: bool = False
    streams: int = 6


@dataclass(frozen=True)
class Copied:
    """One image that was copied: its name at the target ("" for none) and its digest."""

    name: str
    digest: Digest


async def copy(
    source: Place, name: str, target: Place, target_name: str, emit: Emit, options: CopyOptions | None = None
) -> list[Copied]:
    """Copy one image, or with `all_tags` every one that has a name. Raises what the places refuse with; the target
    has then blobs at most, nothing that names them."""
    wanted = options or CopyOptions()
    copier = _Copier(source, target, emit, wanted)
    pairs = [(name, target_name)]
    if wanted.all_tags:
        pairs = [(one, _translated(one, target)) for one in await source.names()]
        if not pairs:
            raise NotFound("there are no tags to copy")
    done = [Copied(to, await copier.image(one, to)) for one, to in pairs]
    await target.finish()
    return done


def _translated(name: str, target: Place) -> str:
    """A name of the source as one of the target's: registries have tags only."""
    if not isinstance(target, RemotePlace) or ("/" not in name and ":" not in name):
        return name
    return parse_reference(name).with_default_tag().tag


@dataclass
class _Copier:
    source: Place
    target: Place
    emit: Emit
    options: CopyOptions
    done: set[Digest] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.slots = asyncio.Semaphore(self.options.streams)

    async def image(self, name: str, target_name: str) -> Digest:
        fetched = await self.source.manifest(name)
        if fetched.media_type in media_types.INDEXES and (self.options.platform or not self.target.multi):
            fetched = await self._for_platform(fetched)
        if is_digest(target_name):
            if target_name != fetched.digest:
                raise InvalidInput(f"the image has the digest {fetched.digest}, it cannot be stored as {target_name}")
            target_name = ""
        await self._content(fetched, 0)
        await self.target.put_manifest(target_name, fetched)
        if not target_name and isinstance(self.target, LayoutPlace):
            self.target.name_nothing(fetched)
        await self._referrers(fetched.digest, 0)
        return fetched.digest

    async def _for_platform(self, fetched: Fetched) -> Fetched:
        wanted = self.options.platform or host_platform()
        for _ in range(_MAX_NESTING):
            if fetched.media_type not in media_types.INDEXES:
                return fetched
            entries = decode_index(fetched.data).manifests
            place = best_platform(wanted, [one.platform for one in entries])
            if place is None:
                has = ", ".join(sorted({str(one.platform) for one in entries if one.platform})) or "none is named"
                raise NotFound(f"the image is not there for {wanted}", hint=f"its platforms: {has}")
            fetched = await self.source.manifest(entries[place].digest)
        raise Corrupt(f"indexes within indexes, more than {_MAX_NESTING} deep")

    async def _content(self, fetched: Fetched, depth: int) -> None:
        """Everything that the manifest names."""
        if depth > _MAX_NESTING:
            raise Corrupt(f"indexes within indexes, more than {_MAX_NESTING} deep")
        if fetched.media_type in media_types.INDEXES:
            for entry in decode_index(fetched.data).manifests:
                await self._child(entry, depth)
            return
        if fetched.media_type not in media_types.MANIFESTS:
            raise InvalidInput(f"manifests of the type {fetched.media_type} cannot be copied")
        manifest = decode_manifest(fetched.data)
        if isinstance(self.target, ArchivePlace) and self.target.docker:
            _refuse_artifact(manifest.config.media_type)
        unique = {one.digest: one for one in (manifest.config, *manifest.layers)}
        await together(self._blob(one) for one in unique.values())

    async def _child(self, entry: Descriptor, depth: int) -> None:
        if entry.digest in self.done:
            return
        child = await self.source.manifest(entry.digest)
        await self._content(child, depth + 1)
        await self.target.put_manifest("", child)
        self.done.add(entry.digest)
        await self._referrers(entry.digest, depth + 1)

    async def _referrers(self, subject: Digest, depth: int) -> None:
        if not self.options.referrers or depth > _MAX_NESTING:
            return
        for entry in await self.source.referrers(subject):
            status(self.emit, f"Copying referrer {entry.artifact_type or entry.media_type}", short(entry.digest))
            await self._child(entry, depth + 1)

    async def _blob(self, blob: Descriptor) -> None:
        if blob.digest in self.done:
            return
        foreign = "foreign" in blob.media_type or "nondistributable" in blob.media_type
        progress = Progress(self.emit, short(blob.digest))
        if foreign and not self.target.foreign:
            progress.say("Skipped foreign layer")
            return
        async with self.slots:
            if await self.target.has_blob(blob):
                progress.say("Already exists")
            elif await self.target.take_over(blob, self.source):
                progress.say("Mounted")
            else:
                progress.say("Copying")
                async with self.source.blob(blob, lambda n: progress.update("Downloading", n, blob.size)) as path:
                    await self.target.put_blob(blob, path, lambda n: progress.update("Pushing", n, blob.size))
                progress.say("Copied")
        self.done.add(blob.digest)


def _refuse_artifact(config_type: str) -> None:
    if config_type not in media_types.CONFIGS:
        raise InvalidInput(f"a docker-archive holds container images only, this is an artifact ({config_type})")
