"""Referrers: what is attached to an image (signatures, SBOMs), asked of the registry or read from the fallback tag.

Source: OCI distribution-spec v1.1, "Listing Referrers", "Referrers Tag Schema", "Pushing Manifests with Subject".
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec

from buildtool.errors import Corrupt
from buildtool.oci import Descriptor, Digest, Index, decode_index, encode, media_types, sha256
from buildtool.registry.errors import Missing, RegistryRefused
from buildtool.registry.transport import read_all

if TYPE_CHECKING:
    from weakref import WeakKeyDictionary

    from buildtool.registry.repository import Repository

_LIMIT = 8 << 20
_MAX_PAGES = 1000


class _Referrer(msgspec.Struct, rename="camel"):
    """What of a manifest goes into the list of its subject's referrers."""

    subject: Descriptor | None = None
    config: Descriptor | None = None
    artifact_type: str | None = None
    annotations: dict[str, str] | None = None


async def referrers(repository: Repository, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
    """Descriptors of the manifests whose subject is this digest, of one artifact type or all.

    Raises RegistryRefused.
    """
    try:
        found = await _ask(repository, subject, artifact_type)
    except RegistryRefused as error:
        if error.status not in (404, 405, 400, 501):
            raise
        found = await _tagged(repository, subject) or []
    return [one for one in found if not artifact_type or one.artifact_type == artifact_type]


def fallback_tag(subject: Digest) -> str:
    """The tag that lists the referrers of a digest where there is no API for it."""
    algorithm, _, encoded = subject.partition(":")
    return f"{algorithm[:32]}-{encoded[:64]}"


async def enter(repository: Repository, data: bytes, media_type: str) -> None:
    """Put a pushed manifest into its subject's fallback tag; nothing for one without a subject.

    Raises RegistryRefused when the tag is something else than a list of referrers.

    Others may do the same at once: the registry offers no lock, so the tag is read again until the entry is in it.
    """
    shape = _shape(data)
    if shape is None or shape.subject is None:
        return
    entry = _descriptor(shape, data, media_type)
    subject = shape.subject.digest
    async with _lock(repository, subject):
        for _ in range(4):
            known = await _tagged(repository, subject)
            if known is None:
                raise RegistryRefused(
                    f"{repository.name}:{fallback_tag(subject)} is no index: what refers to {subject} was pushed but "
                    f"cannot be listed there",
                    status=409,
                )
            if any(one.digest == entry.digest for one in known):
                return
            index = encode(Index(2, media_types.INDEX, [*known, entry]))
            await repository.put_manifest(fallback_tag(subject), index, media_types.INDEX)


def subject_of(data: bytes) -> Digest | None:
    """The digest of a manifest's subject."""
    shape = _shape(data)
    return None if shape is None or shape.subject is None else shape.subject.digest


def _shape(data: bytes) -> _Referrer | None:
    if b'"subject"' not in data:
        return None
    try:
        return msgspec.json.decode(data, type=_Referrer)
    except msgspec.DecodeError:
        return None


def _descriptor(shape: _Referrer, data: bytes, media_type: str) -> Descriptor:
    artifact_type = shape.artifact_type or (shape.config.media_type if shape.config else None)
    return Descriptor(media_type, sha256(data), len(data), shape.annotations, artifact_type)


async def _ask(repository: Repository, subject: Digest, artifact_type: str) -> list[Descriptor]:
    from buildtool.registry.repository import next_page

    url = repository.connection.url(f"{repository.path}/referrers/{subject}")
    if artifact_type:
        url = url.update_query(artifactType=artifact_type)
    what = f"referrers of {repository.name}@{subject}"
    found: list[Descriptor] = []
    for _ in range(_MAX_PAGES):
        async with repository.connection.request("GET", url, scopes=repository.scopes, what=what) as answer:
            page = decode_index(await read_all(answer, _LIMIT, what)).manifests
            found += page
            following = next_page(answer)
        if following is None or not page:
            break
        url = following
    return found


async def _tagged(repository: Repository, subject: Digest) -> list[Descriptor] | None:
    """What the fallback tag lists; None when it is something else than an index."""
    try:
        fetched = await repository.manifest(fallback_tag(subject))
        return decode_index(fetched.data).manifests if fetched.media_type in media_types.INDEXES else None
    except Missing:
        return []
    except Corrupt:
        return None


_locks: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[tuple[str, str], asyncio.Lock]] | None = None


def _lock(repository: Repository, subject: Digest) -> asyncio.Lock:
    """One writer a tag within this process."""
    global _locks
    if _locks is None:
        from weakref import WeakKeyDictionary

        _locks = WeakKeyDictionary()
    locks = _locks.setdefault(asyncio.get_running_loop(), {})
    return locks.setdefault((repository.name, subject), asyncio.Lock())
