"""Looking at what registries have, without a store: an image's documents, its tags, repositories by a word."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import msgspec
from yarl import URL

from buildtool.errors import Corrupt, InvalidInput, NotFound
from buildtool.images.shapes import config_shape
from buildtool.oci import ContainerConfig, Platform, Reference, decode_index, media_types, parse_reference
from buildtool.registry.credentials import Credentials
from buildtool.registry.errors import RegistryRefused
from buildtool.registry.referrers import referrers
from buildtool.registry.repository import Repository, next_page
from buildtool.registry.selection import select
from buildtool.registry.transport import Transport, read_all

_LIMIT = 16 << 20
_HUB_SEARCH = "https://index.docker.io/v1/search"
_MAX_PAGES = 1000


class _HubResult(msgspec.Struct):
    name: str
    description: str | None = None
    star_count: int = 0
    is_official: bool = False


class _HubAnswer(msgspec.Struct):
    results: list[_HubResult] = []


class _Catalog(msgspec.Struct):
    repositories: list[str] | None = None


async def open_repository(transport: Transport, reference: Reference, credentials: Credentials | None) -> Repository:
    """The repository of a reference, to read."""
    return Repository(await transport.connect(reference.domain, credentials), reference.path)


async def inspect_remote(
    transport: Transport, name: str, platform: Platform | None, credentials: Credentials | None
) -> dict[str, Any]:
    """What `image inspect` says of a local image, of one in a registry; with its layers' blobs, the platforms of its
    index and its referrers. Raises NotFound, RegistryRefused."""
    reference = parse_reference(name).with_default_tag()
    repository = await open_repository(transport, reference, credentials)
    top = await repository.wanted_manifest(reference.digest or reference.tag)
    selected = await select(repository, top, platform, reference.familiar)
    config, manifest = selected.config, selected.manifest
    history = config.history or []
    shape: dict[str, Any] = {
        "Id": manifest.config.digest,
        "RepoTags": [reference.familiar] if reference.tag else [],
        "RepoDigests": [f"{reference.familiar_repository}@{top.digest}"],
        "Comment": history[-1].comment if history else "",
        "Created": config.created or "0001-01-01T00:00:00Z",
        "Author": config.author,
        "Config": config_shape(config.config or ContainerConfig()),
        "Architecture": config.architecture,
        "Variant": config.variant,
        "Os": config.os,
        "Size": sum(layer.size for layer in manifest.layers),
        "RootFS": {"Type": "layers", "Layers": config.rootfs.diff_ids},
        "Descriptor": msgspec.to_builtins(top.descriptor),
        "Manifest": msgspec.to_builtins(selected.fetched.descriptor),
        "Layers": [msgspec.to_builtins(layer) for layer in manifest.layers],
    }
    if top.media_type in media_types.INDEXES:
        entries = decode_index(top.data).manifests
        shape["Platforms"] = [
            {"Platform": str(one.platform), "Digest": one.digest, "Size": one.size} for one in entries if one.platform
        ]
    attached = await referrers(repository, top.digest)
    if attached:
        shape["Referrers"] = [msgspec.to_builtins(one) for one in attached]
    return shape


@dataclass(frozen=True)
class SearchResult:
    """One line of `search`."""

    name: str
    description: str = ""
    stars: int = 0
    official: bool = False


async def search(
    transport: Transport, term: str, limit: int, credentials: Credentials | None, *, hub: str = _HUB_SEARCH
) -> list[SearchResult]:
    """Docker Hub by its search API, other registries (`host/word`) by their catalog. Raises RegistryRefused."""
    if not term.strip():
        raise InvalidInput("the term to search for is empty")
    domain, word = _split(term)
    if domain == "docker.io":
        return await _search_hub(transport, word, limit, credentials, hub)
    return await _search_catalog(transport, domain, word, limit, credentials)


def search_domain(term: str) -> str:
    """The registry that a search is about."""
    return _split(term)[0]


def _split(term: str) -> tuple[str, str]:
    first, slash, rest = term.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        return ("docker.io" if first in ("docker.io", "index.docker.io") else first), rest
    return "docker.io", term


async def _search_hub(
    transport: Transport, word: str, limit: int, credentials: Credentials | None, hub: str
) -> list[SearchResult]:
    url = URL(hub)
    headers = {"X-Docker-Token": "true"}
    if credentials and credentials.username:
        headers["Authorization"] = credentials.basic()
    what = "search on Docker Hub"
    async with transport.get(url.with_query(q=word, n=limit), headers, what) as answer:
        try:
            found = msgspec.json.decode(await read_all(answer, _LIMIT, what), type=_HubAnswer).results
        except msgspec.DecodeError as error:
            raise Corrupt(f"{what}: the answer is malformed: {error}") from None
    return [SearchResult(one.name, one.description or "", one.star_count, one.is_official) for one in found[:limit]]


async def _search_catalog(
    transport: Transport, domain: str, word: str, limit: int, credentials: Credentials | None
) -> list[SearchResult]:
    connection = await transport.connect(domain, credentials)
    what = f"catalog of {domain}"
    url = connection.url("_catalog").update_query(n=1000)
    found: list[SearchResult] = []
    for _ in range(_MAX_PAGES):
        try:
            async with connection.request("GET", url, scopes=("registry:catalog:*",), what=what) as answer:
                page = msgspec.json.decode(await read_all(answer, _LIMIT, what), type=_Catalog).repositories or []
                following = next_page(answer)
        except msgspec.DecodeError as error:
            raise Corrupt(f"{what}: the answer is malformed: {error}") from None
        except RegistryRefused as error:
            if error.status in (404, 405):
                raise NotFound(
                    f"{domain} cannot be searched: it has no catalog", hint="look at the registry's web page"
                ) from error
            raise
        found += [SearchResult(f"{domain}/{name}") for name in page if word in name]
        if following is None or len(found) >= limit:
            break
        url = following
    return found[:limit]


async def tags_of(transport: Transport, name: str, credentials: Credentials | None) -> list[str]:
    """All tags of a repository. Raises NotFound, InvalidInput for a name with a tag."""
    reference = parse_reference(name)
    if reference.tag or reference.digest:
        raise InvalidInput(f"{name}: name a repository, without tag or digest")
    repository = await open_repository(transport, reference, credentials)
    try:
        return await repository.tags()
    except RegistryRefused as error:
        if error.status == 404:
            raise NotFound(f"{repository.name} does not exist: {error.message}") from error
        raise
