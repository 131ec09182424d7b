"""A finished build's outputs, given: pushed, written to files and directories, told of in the metadata file."""

from __future__ import annotations

import json
import os
import sys

from buildtool.cli.archives import write_stream
from buildtool.cli.build_outputs import Outputs
from buildtool.cli.build_statements import write_statements
from buildtool.cli.copying import extract
from buildtool.client import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.build_outputs import Output
    from buildtool.cli.call import Call


def give(call: Call, outputs: Outputs, result: dict[str, Any], stated: list[dict[str, Any]], *, quiet: bool) -> str:
    """Give everything; the digest of the manifest that was pushed last, "" when none was.

    `stated` are the statements about the image, for files beside its own.
    """
    image, digest = str(result["image_id"]), ""
    try:
        for item in outputs.items:
            if item.pushes:
                for name in dict.fromkeys([*outputs.names, *item.names]):
                    digest = _push(call, name, item, quiet=quiet) or digest
            elif item.dest:
                _write(call, image, item, outputs)
                if item.kind == "local":
                    write_statements(stated, item.dest)
    finally:
        if not outputs.keeps_image and result.get("is_new"):
            call.client.call("DELETE", f"/buildtool/v1/images/{image}/unnamed").read()
    return digest


def _push(call: Call, name: str, item: Output, *, quiet: bool) -> str:
    from buildtool.cli import credentials
    from buildtool.cli.handlers.registry import split_name
    from buildtool.cli.progress import show_json_stream

    repository, tag = split_name(name)
    query: dict[str, Any] = {"tag": tag or "latest"}
    form = item.form()
    if form:
        query |= {"force-compression": "false"} | form
    response = call.client.call(
        "POST", f"/images/{quote_path(repository)}/push", query, body=b"", headers=credentials.auth_headers(name)
    )
    told = show_json_stream(response, sys.stderr, quiet=quiet)
    return next((str(each["Digest"]) for each in reversed(told) if isinstance(each, dict) and "Digest" in each), "")


def _write(call: Call, image: str, item: Output, outputs: Outputs) -> None:
    form = item.kind if item.kind in ("docker", "oci") else "tar"
    query: dict[str, Any] = {"form": form, "name": [*outputs.names, *item.names]} | item.form()
    response = call.client.call("GET", f"/buildtool/v1/images/{image}/export", query)
    if item.kind == "local" or not item.switch("tar", default=True):
        os.makedirs(item.dest, exist_ok=True)
        if item.attributes.get("mode") == "delete":
            _empty(item.dest)
        extract(response, item.dest, rename="", keep_owners=False)
        return
    write_stream(response, "" if item.dest == "-" else item.dest, f"the {item.kind} archive")


def _empty(folder: str) -> None:
    import shutil

    for entry in os.scandir(folder):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path)
        else:
            os.unlink(entry.path)


def write_metadata(
    path: str, outputs: Outputs, result: dict[str, Any], pushed: str, provenance: dict[str, Any] | None
) -> None:
    """The file of --metadata-file, with the names of buildx."""
    manifest = dict(result.get("manifest") or {})
    if pushed:
        manifest["digest"] = pushed
    names = list(dict.fromkeys([*outputs.names, *(name for item in outputs.items for name in item.names)]))
    document: dict[str, Any] = {
        "buildx.build.ref": result.get("build_id", ""),
        "containerimage.config.digest": result["image_id"],
        "containerimage.digest": manifest.get("digest", ""),
        "containerimage.descriptor": manifest,
    }
    if provenance is not None:
        document["buildx.build.provenance"] = provenance
    if names:
        document["image.name"] = ",".join(names)
    with open(path, "w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.write("\n")
