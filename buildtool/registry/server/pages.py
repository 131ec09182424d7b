"""The web pages: repositories, tags, images with their layers and what refers to them. Rendered here, no scripts."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote

from aiohttp import web

from buildtool.aio import offload
from buildtool.errors import Corrupt
from buildtool.images.attached import ATTESTATION_MANIFEST, PREDICATE_TYPE, REFERENCE_DIGEST, REFERENCE_TYPE
from buildtool.oci import Descriptor, decode_config, decode_index, decode_manifest, media_types, sha256
from buildtool.registry.server.access import ANYBODY, Identity
from buildtool.registry.server.documents import visible_repositories
from buildtool.registry.server.names import is_digest, is_name, is_tag

if TYPE_CHECKING:
    import jinja2

    from buildtool.registry.server.app import Server
    from buildtool.registry.server.content import StoredManifest

_PAGE = 100
_DOCUMENT = 4 << 20
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; base-uri 'none'",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Cache-Control": "no-store",
}
_IMAGE = re.compile(r"/ui/(?P<name>.+?)/-/(?P<reference>[^/]+)")
_NOP = re.compile(r"^/bin/sh -c #\(nop\)\s*")
_SHELL = re.compile(r"^(?:RUN )?/bin/sh -c ")
_KNOWN = (
    ("https://spdx.dev/Document", "SBOM (SPDX)"),
    ("https://cyclonedx.org/bom", "SBOM (CycloneDX)"),
    ("https://slsa.dev/provenance", "Provenance (SLSA)"),
)
"""Predicate types of statements by their beginning, in words."""


class _NoPage(Exception):
    """There is nothing there, or nothing that may be seen."""


async def answer(request: web.BaseRequest, server: Server, who: Identity) -> web.StreamResponse:
    """A page, the style sheet, or a page that says that there is none."""
    path = unquote(request.path)
    if path == "/ui/style.css":
        return web.Response(text=_style(), content_type="text/css", headers={"Cache-Control": "max-age=3600"})
    if path == "/login":
        if who == ANYBODY and server.access.asks:
            challenge = {"WWW-Authenticate": 'Basic realm="buildtool registry", charset="UTF-8"'}
            return web.Response(status=401, text="login required\n", headers=challenge)
        return web.Response(status=303, headers={"Location": "/"})
    if request.method not in ("GET", "HEAD"):
        return web.Response(status=405, text="pages are only read\n", headers={"Allow": "GET, HEAD"})
    status = 200
    try:
        template, values = await offload(_values, request, server, who, path)
    except _NoPage:
        status, template, values = 404, "absent.html", {}
    shown = {"user": who.name, "may_log_in": server.access.asks and who == ANYBODY, "host": request.host, **values}
    text = await offload(_templates().get_template(template).render, **shown)
    return web.Response(status=status, text=text, content_type="text/html", headers=_HEADERS)


def _values(request: web.BaseRequest, server: Server, who: Identity, path: str) -> tuple[str, dict[str, Any]]:
    if path == "/":
        return "repositories.html", _repositories(request, server, who)
    match = _IMAGE.fullmatch(path)
    name = match["name"] if match else path.removeprefix("/ui/")
    if not path.startswith("/ui/") or not is_name(name) or not server.access.allows(who, "pull", name):
        raise _NoPage
    if match:
        return "image.html", _image(server, name, match["reference"])
    return "tags.html", _tags(request, server, name)


def _repositories(request: web.BaseRequest, server: Server, who: Identity) -> dict[str, Any]:
    wanted, last = request.query.get("q", "").strip(), request.query.get("last", "")
    found: list[str] = []
    while len(found) <= _PAGE:
        batch = visible_repositories(server, who, last, 1000)
        found += [name for name in batch if wanted in name]
        if len(batch) < 1000:
            break
        last = batch[-1]
    more = found[_PAGE - 1] if len(found) > _PAGE else ""
    rows = [{"name": name, "tags": len(server.content.tags(name, "", 1001))} for name in found[:_PAGE]]
    return {"repositories": rows, "query": wanted, "more": more}


def _tags(request: web.BaseRequest, server: Server, name: str) -> dict[str, Any]:
    if not server.content.exists(name):
        raise _NoPage
    found = server.content.tags(name, request.query.get("last", ""), _PAGE + 1)
    rows = []
    for tag in found[:_PAGE]:
        manifest = server.content.manifest(name, tag)
        if manifest is not None:
            rows.append({"tag": tag, "digest": manifest.digest, **_summary(server, name, manifest)})
    latest = server.content.manifest_digest(name, "latest") is not None
    pull = "latest" if latest else found[0] if found else ""
    return {"name": name, "tags": rows, "more": found[_PAGE - 1] if len(found) > _PAGE else "", "pull": pull}


def _summary(server: Server, name: str, manifest: StoredManifest) -> dict[str, Any]:
    """What a line about an image says."""
    try:
        if manifest.media_type in media_types.INDEXES:
            entries = [one for one in decode_index(manifest.data).manifests if not _is_about(one)]
            sizes = [size for one in entries if (size := _size(server, name, one.digest)) is not None]
            span = [human(size) for size in sorted({min(sizes), max(sizes)})] if sizes else []
            return {"platforms": _platforms([str(one.platform) for one in entries if one.platform]), "size": span}
        decoded = decode_manifest(manifest.data)
        config = _config(server, name, decoded.config.digest, decoded.config.media_type)
        kind = str(config.platform) if config else decoded.artifact_type or decoded.config.media_type
        return {"platforms": [kind], "size": [human(sum(layer.size for layer in decoded.layers))]}
    except Corrupt:
        return {"platforms": ["damaged"], "size": []}


def _is_about(entry: Descriptor) -> bool:
    """Whether an index names this as what is stated about another of its manifests."""
    return (entry.annotations or {}).get(REFERENCE_TYPE) == ATTESTATION_MANIFEST


def _read(server: Server, name: str, digest: str) -> StoredManifest | None:
    found = server.content.manifest(name, digest)
    return None if found is None or found.media_type not in media_types.MANIFESTS else found


def _size(server: Server, name: str, digest: str) -> int | None:
    """Bytes of an image's layers."""
    found = _read(server, name, digest)
    return None if found is None else sum(layer.size for layer in decode_manifest(found.data).layers)


def _platforms(names: list[str]) -> list[str]:
    return sorted({name for name in names if not name.startswith("unknown/")})


def _image(server: Server, name: str, reference: str) -> dict[str, Any]:
    if not is_digest(reference) and not is_tag(reference):
        raise _NoPage
    manifest = server.content.manifest(name, reference)
    if manifest is None:
        raise _NoPage
    values: dict[str, Any] = {
        "name": name,
        "reference": reference,
        "by_digest": is_digest(reference),
        "digest": manifest.digest,
        "media_type": manifest.media_type,
        "referrers": [
            {
                "digest": one["digest"],
                "kind": one.get("artifactType") or one["mediaType"],
                "annotations": one.get("annotations") or {},
            }
            for one in server.content.referrers(name, manifest.digest)
        ],
    }
    try:
        values |= (
            _index(server, name, manifest)
            if manifest.media_type in media_types.INDEXES
            else _manifest(server, name, manifest)
        )
    except Corrupt as error:
        values["fault"] = error.message
    return values


def _index(server: Server, name: str, manifest: StoredManifest) -> dict[str, Any]:
    """Its images, what is stated about them, and the image itself when there is but one."""
    index = decode_index(manifest.data)
    images = [one for one in index.manifests if not _is_about(one)]
    children = []
    for one in images:
        size = _size(server, name, one.digest)
        children.append(
            {
                "digest": one.digest,
                "platform": str(one.platform) if one.platform else "",
                "kind": one.artifact_type or one.media_type,
                "size": "" if size is None else human(size),
            }
        )
    platforms = {str(one.digest): str(one.platform) for one in images if one.platform}
    stated = [
        {"digest": one.digest, "kind": kind, "of": platforms.get(one.annotations[REFERENCE_DIGEST], "")}
        for one in index.manifests
        if _is_about(one) and one.annotations and REFERENCE_DIGEST in one.annotations
        for kind in _statements(server, name, one.digest)
    ]
    only = _read(server, name, images[0].digest) if len(images) == 1 else None
    values = {} if only is None else _manifest(server, name, only)
    return {**values, "children": children, "stated": stated, "annotations": index.annotations or {}}


def _statements(server: Server, name: str, digest: str) -> list[str]:
    """What the statements of an attestation manifest are."""
    found = _read(server, name, digest)
    layers = [] if found is None else decode_manifest(found.data).layers
    return [_what(layer) for layer in layers]


def _what(layer: Descriptor) -> str:
    """A layer in words: its statement's type, its file's name, or its media type."""
    marks = layer.annotations or {}
    kind = marks.get(PREDICATE_TYPE) or marks.get("org.opencontainers.image.title") or layer.media_type
    return next((text for start, text in _KNOWN if kind.startswith(start)), kind)


def _manifest(server: Server, name: str, manifest: StoredManifest) -> dict[str, Any]:
    decoded = decode_manifest(manifest.data)
    values: dict[str, Any] = {
        "annotations": decoded.annotations or {},
        "artifact_type": decoded.artifact_type,
        "config_digest": decoded.config.digest,
        "size": human(sum(layer.size for layer in decoded.layers)),
        "layers": [
            {"line": "", "digest": one.digest, "size": human(one.size), "kind": _what(one)} for one in decoded.layers
        ],
    }
    try:
        config = _config(server, name, decoded.config.digest, decoded.config.media_type)
    except Corrupt as error:
        return {**values, "fault": error.message}
    if config is None:
        values["kind"] = decoded.artifact_type or decoded.config.media_type
        return values
    layers = iter(values["layers"])
    lines = []
    for entry in config.history or []:
        line = _line(entry.created_by)
        made = None if entry.empty_layer else next(layers, None)
        lines.append({**(made or {"digest": "", "size": "", "kind": ""}), "line": line, "created": entry.created})
    settings = config.config
    values |= {
        "platform": str(config.platform),
        "created": config.created,
        "layers": lines + list(layers),
        "labels": (settings.labels if settings else None) or {},
        "env": (settings.env if settings else None) or [],
        "command": _words(settings.entrypoint if settings else None) + _words(settings.cmd if settings else None),
        "ports": sorted((settings.exposed_ports if settings else None) or {}),
        "run_as": settings.user if settings else "",
        "folder": settings.working_dir if settings else "",
    }
    return values


def _line(created_by: str) -> str:
    """The Buildfile's line, without what builders put around it."""
    line = _NOP.sub("", created_by.removesuffix(" # buildkit")).strip()
    return _SHELL.sub("RUN ", line)


def _words(command: list[str] | None) -> list[str]:
    return command or []


def _config(server: Server, name: str, digest: str, media_type: str) -> Any:
    """An image's configuration; None for artifacts, and when it is not there."""
    if media_type not in media_types.CONFIGS:
        return None
    blob = server.content.blob(name, digest)
    if blob is None or blob.size > _DOCUMENT:
        return None
    try:
        return decode_config(blob.read())
    except OSError:
        return None


def human(size: int) -> str:
    """Bytes for people."""
    value = float(size)
    for unit in ("B", "kB", "MB", "GB"):
        if value < 1000:
            return f"{value:.3g} {unit}"
        value /= 1000
    return f"{value:.3g} TB"


def _when(text: str | None) -> str:
    return (text or "")[:19].replace("T", " ")


@lru_cache(maxsize=1)
def _templates() -> jinja2.Environment:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("buildtool.registry.server", "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["style_url"] = _style_url
    environment.filters["url"] = lambda text: quote(str(text), safe="/:@")
    environment.filters["short"] = lambda digest: str(digest).partition(":")[2][:12]
    environment.filters["when"] = _when
    return environment


@lru_cache(maxsize=1)
def _style() -> str:
    loader = _templates().loader
    assert loader is not None
    return loader.get_source(_templates(), "style.css")[0]


def _style_url() -> str:
    """Browsers keep the style sheet: another one has another address."""
    return f"/ui/style.css?v={sha256(_style().encode())[7:19]}"
