"""Manifests, tags, referrers, catalog: end-1, end-3, end-7 to end-9, end-12 and the catalog."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.oci import media_types
from buildtool.registry.server import manifests
from buildtool.registry.server.answers import Call, json_answer, listing, nothing, read_body
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import check_digest, is_digest, is_tag, tag_order
from buildtool.registry.work import settled

if TYPE_CHECKING:
    from buildtool.registry.server.access import Identity
    from buildtool.registry.server.app import Server

_BATCH = 1000
_REFERRERS = manifests.LIMIT - 4096


async def base(call: Call) -> web.StreamResponse:
    """GET /v2/: this is a registry, and the credentials are good."""
    return json_answer({})


async def get_manifest(call: Call) -> web.StreamResponse:
    """GET and HEAD: the bytes and the type as they were pushed."""
    name, reference = call.target.name, call.target.reference
    known = is_digest(reference) or is_tag(reference)
    if known and call.mirror is not None and call.server.local is not None:
        await call.mirror.manifest(call.server.local, name, reference)
    found = await offload(call.server.content.manifest, name, reference) if known else None
    if found is None:
        raise ApiError("MANIFEST_UNKNOWN", "manifest unknown", {"name": name, "reference": reference[:200]})
    headers = {
        "Content-Type": found.media_type,
        "Docker-Content-Digest": found.digest,
        "ETag": f'"{found.digest}"',
    }
    if found.digest in call.header("If-None-Match"):  # some clients send it without the quotes of an ETag
        return nothing(304, headers)
    if call.request.method == "HEAD":
        return nothing(200, headers | {"Content-Length": str(len(found.data))})
    response = nothing(200, headers)
    response.body = found.data
    return response


async def put_manifest(call: Call) -> web.StreamResponse:
    """PUT: accepted when all it refers to is here."""
    name, reference = call.target.name, call.target.reference
    if not is_digest(reference) and not is_tag(reference):
        raise ApiError(
            "MANIFEST_INVALID", "the reference is neither a tag nor a digest", {"reference": reference[:200]}
        )
    store = call.store
    data = await read_body(call.request, manifests.LIMIT)
    parsed = manifests.parse(data, call.header("Content-Type"))
    digest = await settled(store.put_manifest, name, reference, data, parsed)
    headers = {"Location": f"/v2/{name}/manifests/{digest}", "Docker-Content-Digest": digest}
    if parsed.subject:
        headers["OCI-Subject"] = parsed.subject
    return nothing(201, headers)


async def delete_manifest(call: Call) -> web.StreamResponse:
    """DELETE: a tag, or a manifest with its tags."""
    name, reference = call.target.name, call.target.reference
    known = is_digest(reference) or is_tag(reference)
    if not known or not await settled(call.store.delete_manifest, name, reference):
        raise ApiError("MANIFEST_UNKNOWN", "manifest unknown", {"name": name, "reference": reference[:200]})
    call.server.collect_soon()
    return nothing(202)


async def tags(call: Call) -> web.StreamResponse:
    """GET: sorted, in pages."""
    name = call.target.name
    last, limit = call.page()
    if call.mirror is not None:
        remote = await call.mirror.tags(name)
        if remote:
            found = [tag for tag in remote if tag_order(tag) > tag_order(last)][: limit + 1]
            return listing(f"/v2/{name}/tags/list", "tags", {"name": name, "tags": found}, limit)
    found = await offload(call.server.content.tags, name, last, limit + 1)
    if not found and not await offload(call.server.content.exists, name):
        raise ApiError("NAME_UNKNOWN", "repository name not known to registry", {"name": name})
    return listing(f"/v2/{name}/tags/list", "tags", {"name": name, "tags": found}, limit)


async def catalog(call: Call) -> web.StreamResponse:
    """GET: all repositories that the caller may pull from, sorted, in pages."""
    last, limit = call.page()
    found = await offload(visible_repositories, call.server, call.who, last, limit + 1)
    return listing("/v2/_catalog", "repositories", {"repositories": found}, limit)


def visible_repositories(server: Server, who: Identity, last: str, limit: int) -> list[str]:
    """Names after `last`, no more than `limit`, of what they may pull from. Blocking."""
    found: list[str] = []
    while len(found) < limit:
        batch = server.content.repositories(last, _BATCH)
        found += [name for name in batch if server.access.allows(who, "pull", name)]
        if len(batch) < _BATCH:
            break
        last = batch[-1]
    return found[:limit]


async def referrers(call: Call) -> web.StreamResponse:
    """GET: an index of the manifests whose subject is the digest; an empty one for a digest nobody knows.

    In pages when it would be larger than a manifest may be.
    """
    digest = check_digest(call.target.reference)
    found = await call.mirror.referrers(call.target.name, digest) if call.mirror is not None else None
    if found is None:
        found = await offload(call.server.content.referrers, call.target.name, digest)
    wanted = call.query("artifactType")
    headers = {}
    if wanted:
        found = [descriptor for descriptor in found if descriptor.get("artifactType") == wanted]
        headers["OCI-Filters-Applied"] = "artifactType"
    page, last = _page(found, call.query("last"))
    if last:
        query = urlencode({**({"artifactType": wanted} if wanted else {}), "last": last})
        headers["Link"] = f'</v2/{call.target.name}/referrers/{digest}?{query}>; rel="next"'
    index = {"schemaVersion": 2, "mediaType": media_types.INDEX, "manifests": page}
    return json_answer(index, headers=headers, content_type=media_types.INDEX)


def _page(found: list[dict[str, Any]], last: str) -> tuple[list[dict[str, Any]], str]:
    """The descriptors after a digest that one index can hold; and the last of them, "" when none follow."""
    page: list[dict[str, Any]] = []
    size = 0
    for descriptor in sorted(found, key=lambda one: str(one["digest"])):
        if descriptor["digest"] <= last:
            continue
        size += len(msgspec.json.encode(descriptor)) + 1
        if page and size > _REFERRERS:
            return page, str(page[-1]["digest"])
        page.append(descriptor)
    return page, ""
