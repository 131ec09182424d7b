"""SBOMs by scanner images, and of the stages and contexts that a Buildfile wants to be scanned.

A scanner is run as a RUN step of a small build: on its image, with what is to be scanned mounted read-only; what it
leaves in a directory is taken from its layer. So it has the isolation, the network and the cache of any step.
Source: moby/buildkit, docs/attestations/sbom-protocol.md and sbom.md.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.graph import ImagePlan, Plan
from buildtool.graph.contexts import ImageContext
from buildtool.solve.caches.options import Caches
from buildtool.solve.request import BuildRequest

if TYPE_CHECKING:
    from buildtool.images import Image

CORE = "sbom"
"""What the main target's scan is called."""
STAGE = "buildtool-sbom-scan"
_IMAGE = "buildtool-sbom-image"
_ROOT = "/run/src/core"
_SOURCE = f"{_ROOT}/{CORE}"
_EXTRAS = "/run/src/extras"
_OUT = "/run/out"
_MOST = 64 << 20


@dataclass(frozen=True, slots=True)
class Extra:
    """Something besides the image that is scanned: a stage by its number in the Buildfile, or (None) the context."""

    name: str
    stage: int | None


def extras(plan: Plan) -> list[Extra]:
    """What else the Buildfile wants to be scanned: see Plan.scans."""
    found = [Extra(f"{CORE}-{name or index}", index) for index, name in plan.scans]
    return [*found, Extra(f"{CORE}-context", None)] if plan.scan_context else found


def scanner_request(request: BuildRequest, generator: str) -> BuildRequest:
    """The build of the scanner's image alone: its config tells what to run."""
    text = f"FROM --platform=$BUILDPLATFORM {generator}\n"
    return replace(_plain(request), dockerfile=text, dockerfile_name="--sbom=generator", target="", contexts={})


def scan_request(
    request: BuildRequest, image: Image, generator: str, scanner: ImagePlan, more: list[Extra]
) -> BuildRequest:
    """The build that runs a scanner over an image and the extras. Raises InvalidInput for one that runs nothing."""
    command = [*(scanner.config.entrypoint or ()), *(scanner.config.cmd or ())]
    if not command:
        raise InvalidInput(
            f"the scanner image {generator} has neither an entrypoint nor a command",
            hint="--sbom=generator= takes an image that keeps to BuildKit's SBOM scanning protocol",
        )
    mounts = [f"--mount=type=bind,from={_IMAGE},target={_SOURCE}"]
    for each in more:
        place = "" if each.stage is None else f"from={each.stage},"
        mounts.append(f"--mount=type=bind,{place}target={_EXTRAS}/{each.name}")
    variables = {"BUILDKIT_SCAN_SOURCE": _SOURCE, "BUILDKIT_SCAN_DESTINATION": _OUT}
    if more:
        variables["BUILDKIT_SCAN_SOURCE_EXTRAS"] = f"{_EXTRAS}/"
    lines = [
        f"FROM --platform=$BUILDPLATFORM {generator} AS {STAGE}",
        *(f"ENV {name}={value}" for name, value in variables.items()),
        "USER 0",
        f"WORKDIR {_OUT}",
        f"WORKDIR {posixpath.join('/', scanner.config.working_dir or '/')}",
        f"RUN {' '.join(mounts)} {json.dumps(command)}",
    ]
    before = f"{request.dockerfile.rstrip()}\n" if any(each.stage is not None for each in more) else ""
    contexts = {**request.contexts, _IMAGE: ImageContext(image.id)}
    return replace(_plain(request), dockerfile=before + "\n".join(lines) + "\n", target=STAGE, contexts=contexts)


def extra_request(request: BuildRequest, extra: Extra) -> BuildRequest:
    """The build of one of the extras."""
    if extra.stage is None:
        text = "FROM scratch\nCOPY . /\n"
        return replace(_plain(request), dockerfile=text, dockerfile_name=f"--sbom {extra.name}", target="")
    return replace(_plain(request), target=str(extra.stage))


def _plain(request: BuildRequest) -> BuildRequest:
    """The same sources, for what is no image of its own."""
    quiet: dict[str, Any] = {"tags": (), "labels": {}, "annotations": {}, "attest": None, "debug": None}
    caches = Caches(request.caches.origins, (), fetch=request.caches.fetch)
    return replace(request, no_cache=False, no_cache_filter=(), pull=False, caches=caches, **quiet)


def scans(layer: Path, generator: str) -> dict[str, bytes]:
    """The SPDX documents that a scanner left, by name, the main target's first. Raises BuildtoolError."""
    found = dict(sorted(_documents(layer / _OUT.lstrip("/")), key=lambda each: (each[0] != CORE, each[0])))
    if not found:
        raise BuildtoolError(
            f"the scanner image {generator} wrote no document",
            hint="it is to write $BUILDKIT_SCAN_DESTINATION/NAME.spdx.json",
        )
    for name, data in found.items():
        try:
            document = msgspec.json.decode(data)
        except msgspec.DecodeError as error:
            raise BuildtoolError(f"{name}.spdx.json of the scanner image {generator} is no JSON: {error}") from None
        if not isinstance(document, Mapping) or "spdxVersion" not in document:
            raise BuildtoolError(f"{name}.spdx.json of the scanner image {generator} is no SPDX document")
    return found


def _documents(directory: Path) -> Iterator[tuple[str, bytes]]:
    if directory.is_symlink() or not directory.is_dir():
        return
    for path in directory.glob("*.spdx.json"):
        if path.is_symlink() or not path.is_file():
            continue
        if path.stat().st_size > _MOST:
            raise BuildtoolError(f"{path.name} of the scanner is larger than {_MOST >> 20} MiB")
        yield path.name.removesuffix(".spdx.json"), path.read_bytes()
