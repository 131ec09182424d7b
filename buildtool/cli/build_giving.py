"""A finished build's outputs, given: pushed, written to files and directories, told of in the metadata file."""

from __future__ import annotations

import json
import os
import sys

from buildtool.cli.archives import write_stream
from buildtool.cli.build_outputs import Outputs
from buildtool.cli.build_statements import provenance_of
from buildtool.cli.build_trees import write_trees
from buildtool.cli.copying import extract
from buildtool.client import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.build_outputs import Output
    from buildtool.cli.call import Call


def give(
    call: Call, outputs: Outputs, result: dict[str, Any], stated: dict[str, list[dict[str, Any]]], *, quiet: bool
) -> str:
    """Give everything; the digest of what was pushed last (a manifest or an index), "" when nothing was.

    `stated` are the statements about each image, for files beside its own.
    """
    images, digest = made(result), ""
    try:
        for item in outputs.items:
            _settle(call, images, item, outputs, result)
            if item.pushes:
                for name in dict.fromkeys([*outputs.names, *item.names]):
                    digest = _push(call, name, item, images, result, quiet=quiet) or digest
            elif item.dest:
                if item.kind in ("local", "tar"):
                    write_trees(call, images, item, stated)
                else:
                    _write(call, images, item, outputs, result)
    finally:
        for image in images if not outputs.keeps_image else ():
            if image["is_new"]:
                call.client.call("DELETE", f"/buildtool/v1/images/{image['id']}/unnamed").read()
    return digest


def made(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The images of a build's result, one for each platform: `id`, `platform`, `is_new`."""
    one = {"id": str(result["image_id"]), "platform": result.get("platform", ""), "is_new": result.get("is_new")}
    return list(result.get("images") or [one])


def _settle(call: Call, images: list[dict[str, Any]], item: Output, outputs: Outputs, result: dict[str, Any]) -> None:
    """Names of the kind NAME@DIGEST, and layers that are to be here."""
    if not item.is_image:
        return
    names = [*outputs.names, *item.names]
    canonical = names if item.switch("name-canonical") else []
    prefix = item.attributes.get("dangling-name-prefix", "")
    if prefix and not names:
        canonical = [prefix]
    if canonical or item.switch("unpack"):
        query = _all_of(images, result) | {"name": canonical, "unpack": "1" if item.switch("unpack") else "0"}
        query["and"] = query.pop("image")[1:]
        call.client.call("POST", f"/buildtool/v1/images/{images[0]['id']}/settle", query, body=b"").read()


def _all_of(images: list[dict[str, Any]], result: dict[str, Any]) -> dict[str, Any]:
    return {"image": [str(image["id"]) for image in images], "notes": json.dumps(result.get("notes") or {})}


def _push(
    call: Call, name: str, item: Output, images: list[dict[str, Any]], result: dict[str, Any], *, quiet: bool
) -> str:
    from buildtool.cli import credentials
    from buildtool.cli.handlers.registry import split_name
    from buildtool.cli.progress import show_json_stream

    repository, tag = split_name(name)
    query: dict[str, Any] = {} if item.by_digest else {"tag": tag or "latest"}
    if item.by_digest or not item.is_image:
        query |= _all_of(images, result) | {"note": "true" if item.is_image else "false"}
    query |= {"docker-types": "1"} if item.docker_types else {}
    query |= {"insecure": "1"} if item.switch("registry.insecure") else {}
    form = item.form()
    if form:
        query |= {"force-compression": "false"} | form
    response = call.client.call(
        "POST", f"/images/{quote_path(repository)}/push", query, body=b"", headers=credentials.auth_headers(name)
    )
    told = show_json_stream(response, sys.stderr, quiet=quiet)
    return next((str(each["Digest"]) for each in reversed(told) if isinstance(each, dict) and "Digest" in each), "")


def _write(call: Call, images: list[dict[str, Any]], item: Output, outputs: Outputs, result: dict[str, Any]) -> None:
    first, *others = (str(image["id"]) for image in images)
    query: dict[str, Any] = {"form": item.kind, "name": [*outputs.names, *item.names]} | item.form()
    query |= {"docker-types": "1"} if item.docker_types else {}
    if others:
        query |= {"and": others, "notes": json.dumps(result.get("notes") or {})}
    response = call.client.call("GET", f"/buildtool/v1/images/{first}/export", query)
    if not item.switch("tar", default=True):
        os.makedirs(item.dest, exist_ok=True)
        extract(response, item.dest, rename="", keep_owners=False)
        return
    write_stream(response, "" if item.dest == "-" else item.dest, f"the {item.kind} archive")


def write_metadata(
    path: str,
    outputs: Outputs,
    result: dict[str, Any],
    pushed: str,
    stated: dict[str, list[dict[str, Any]]],
) -> None:
    """The file of --metadata-file, with the names of buildx."""
    manifest = dict(result.get("index") or result.get("manifest") or {})
    if pushed:
        manifest["digest"] = pushed
    names = list(dict.fromkeys([*outputs.names, *(name for item in outputs.items for name in item.names)]))
    document: dict[str, Any] = {
        "buildx.build.ref": result.get("build_id", ""),
        **({} if result.get("index") else {"containerimage.config.digest": result["image_id"]}),
        "containerimage.digest": manifest.get("digest", ""),
        "containerimage.descriptor": manifest,
    }
    images = made(result)
    for image in images:
        provenance = provenance_of(stated.get(image["id"], []))
        if provenance is not None:
            platform = f"/{image['platform']}" if len(images) > 1 else ""
            document[f"buildx.build.provenance{platform}"] = provenance
    if names:
        document["image.name"] = ",".join(names)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
