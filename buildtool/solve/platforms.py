"""Builds for several platforms, and for another one than this machine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from buildtool.errors import Unavailable
from buildtool.graph import Exec, Node, Source, StepId, of_platform
from buildtool.images import Image
from buildtool.images.groups import IndexNotes
from buildtool.oci import Platform, host_platform, parse_platform
from buildtool.solve.prepare import Prepared
from buildtool.solve.request import BuildRequest, marks

BINFMT = Path("/proc/sys/fs/binfmt_misc")
_EMULATORS = {
    "386": "i386",
    "amd64": "x86_64",
    "arm64": "aarch64",
    "arm": "arm",
    "loong64": "loongarch64",
    "mips64le": "mips64el",
    "mipsle": "mipsel",
    "ppc64le": "ppc64le",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_NATIVE = {("amd64", "386"), ("arm64", "arm")}


def by_platform(prepared: Prepared) -> list[Prepared]:
    """What was prepared, for each platform's image alone; the steps and what is known of them are shared."""
    plan = prepared.plan
    if not plan.others:
        return [prepared]
    return [
        replace(
            prepared, plan=of_platform(plan, number), request=replace(prepared.request, platform=str(image.platform))
        )
        for number, image in enumerate(plan.images)
    ]


def index_notes(request: BuildRequest, images: Sequence[Image]) -> IndexNotes:
    """What the request annotates the images' index with."""
    entries = {image.id: marks(request.annotate, "manifest-descriptor", image.config.platform) for image in images}
    return IndexNotes(
        index=marks(request.annotate, "index"),
        descriptor=marks(request.annotate, "index-descriptor"),
        entries={image: found for image, found in entries.items() if found},
    )


def refuse_foreign(prepared: Prepared) -> None:
    """Raise Unavailable, before anything is done, when a RUN has no result yet and its programs cannot run here.

    It stands at the step's place and says how to let the kernel run them.
    """
    for step in prepared.plan.graph:
        node = prepared.node(step)
        if isinstance(node.step, Exec) and step not in prepared.hits:
            platform = _platform_of(prepared, node)
            if not runs_here(platform):
                raise Unavailable(
                    f"this RUN executes programs for {platform}, which nothing runs on {host_platform()}",
                    where=node.span,
                    hint=_how_to(platform),
                )


def runs_here(platform: Platform, binfmt: Path = BINFMT) -> bool:
    """Whether the kernel executes the platform's programs: its own, or by an emulator that is registered."""
    host = host_platform()
    if platform.os != host.os:
        return False
    if platform.architecture == host.architecture or (host.architecture, platform.architecture) in _NATIVE:
        return True
    return bool(_emulator(platform, binfmt))


def _emulator(platform: Platform, binfmt: Path) -> str:
    """The binfmt_misc entry that executes the platform's programs; "" when there is none that is enabled."""
    name = f"qemu-{_EMULATORS.get(platform.architecture, platform.architecture)}"
    try:
        entry = (binfmt / name).read_text()
    except OSError:
        return ""
    return name if entry.startswith("enabled") else ""


def _how_to(platform: Platform) -> str:
    if platform.os != host_platform().os:
        return "copy what was made elsewhere, or build it in a stage FROM --platform=$BUILDPLATFORM"
    mounted = (BINFMT / "status").exists()
    first = "" if mounted else "mount -t binfmt_misc binfmt_misc /proc/sys/fs/binfmt_misc && "
    register = f"{first}apt-get install qemu-user-static binfmt-support"
    return (
        f"register an emulator: `{register}`; or build it in a stage FROM --platform=$BUILDPLATFORM, "
        "where nothing has to be emulated"
    )


def _platform_of(prepared: Prepared, node: Node) -> Platform:
    """The platform of the tree a RUN stands on: its base image's, else the stage's."""
    assert isinstance(node.step, Exec)
    current: StepId | None = node.parent
    while current is not None:
        below = prepared.node(current)
        if isinstance(below.step, Source) and below.step.chain_id:
            name, images = below.step.chain_id, prepared.base_images
            return (images.get(f"{name} {node.step.platform}") or images[name]).config.platform
        current = below.parent
    return parse_platform(node.step.platform) if node.step.platform else host_platform()
