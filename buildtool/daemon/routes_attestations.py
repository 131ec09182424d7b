"""What is stated about images: Docker's list of attestations, our own calls for the SBOM and the provenance."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon.answers import json_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routes_registry import credentials_of
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput, NotFound
from buildtool.images.attached import IN_TOTO
from buildtool.images.attestations import PROVENANCE, PROVENANCE_V02
from buildtool.oci import Platform, best_platform, parse_reference, sha256

routes = Routes()


@routes.add("GET", "/images/{name:path}/attestations")
async def attestations(call: Call) -> web.StreamResponse:
    """The in-toto statements about an image; their bodies only with `statement`. Source: Engine API 1.55."""
    kinds, wanted = call.texts("type"), _platform(call)

    def work() -> list[dict[str, Any]]:
        images = call.services.images
        image = images.get(call.names["name"])
        if wanted is not None and best_platform(wanted, [image.config.platform]) is None:
            raise NotFound(f"image {call.names['name']} is for {image.config.platform}, not for {wanted}")
        found = images.attestations.statements(image, image.manifest.digest, image.references)
        return [_statement(kind, data, call.flag("statement")) for kind, data in found if not kinds or kind in kinds]

    return json_answer(await offload(work))


def _statement(kind: str, data: bytes, with_body: bool) -> dict[str, Any]:
    descriptor = {"mediaType": IN_TOTO, "digest": sha256(data), "size": len(data)}
    body = {"Statement": msgspec.Raw(data)} if with_body else {}
    return {"Descriptor": descriptor, "PredicateType": kind, **body}


def _platform(call: Call) -> Platform | None:
    given = call.texts("platform")
    if len(given) > 1:
        raise InvalidInput("only one platform value is currently supported")
    if not given:
        return None
    try:
        return msgspec.json.decode(given[0], type=Platform)
    except msgspec.DecodeError as error:
        raise InvalidInput(f"invalid platform: {error}") from None


@routes.add("GET", "/buildtool/v1/images/{name:path}/sbom")
async def sbom(call: Call) -> web.StreamResponse:
    """The packages in an image, as an SPDX or CycloneDX document; with `remote` the one beside it in its registry."""
    from buildtool.images.sbom.documents import FORMATS, PREDICATE_TYPES

    form, name = call.text("format", "spdx"), call.names["name"]
    if form not in FORMATS:
        raise InvalidInput(f"unknown format of an SBOM: {form}", hint=f"There are {' and '.join(FORMATS)}.")
    if call.flag("remote"):
        return json_answer(await _remote(call, PREDICATE_TYPES[form]))
    images = call.services.images
    image = await offload(images.get, name)
    image = await images.bring(image)

    def work() -> bytes:
        from buildtool.images.sbom.of_image import sbom_of

        return sbom_of(images, image, (form,))[form]

    return json_answer(msgspec.Raw(await offload(work)))


@routes.add("GET", "/buildtool/v1/images/{name:path}/provenance")
async def provenance(call: Call) -> web.StreamResponse:
    """How an image was built: the predicate, or with `statement` the in-toto statement about its manifest; with
    `remote` what is beside it in its registry."""
    if call.flag("remote"):
        return json_answer(await _remote(call, PROVENANCE, PROVENANCE_V02))
    return json_answer(msgspec.Raw(await offload(_local, call)))


def _local(call: Call) -> bytes:
    images = call.services.images
    image = images.get(call.names["name"])
    if call.flag("statement"):
        stated = dict(images.attestations.statements(image, image.manifest.digest, image.references))
        found = stated.get(PROVENANCE) or stated.get(PROVENANCE_V02)
    else:
        kinds = (PROVENANCE, PROVENANCE_V02)
        found = next(filter(None, (images.attestations.predicate(image.id, kind) for kind in kinds)), None)
    if found is None:
        hint = "Build it with --provenance=true or --provenance=mode=max."
        if image.repo_digests:
            hint = "--remote asks its registry."
        raise NotFound(f"nothing is known here of how image {call.names['name']} was built", hint=hint)
    return found


def _name_there(call: Call) -> str:
    """The image's name in a registry: the one given, unless the image that it names here came from elsewhere."""
    name = call.names["name"]
    image = call.services.images.find(name)
    known = image.repo_digests if image is not None else []
    if not known or any(parse_reference(name).repository == each.repository for each in known):
        return name
    return str(known[0])


async def _remote(call: Call, *predicate_types: str) -> Any:
    """The predicate (or the statement) of one of these types beside an image in its registry."""
    name = await offload(_name_there, call)
    found = await call.services.registries().statements(name, credentials=credentials_of(call))
    for kind, document in found:
        if kind in predicate_types:
            return document if call.flag("statement") else document.get("predicate")
    known = ", ".join(kind for kind, _ in found) or "nothing"
    raise NotFound(
        f"{name} has no attestation of type {predicate_types[0]} in its registry", hint=f"There is {known}."
    )
