"""Builds for several platforms, and for another one than this machine's."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from buildtool.errors import Unavailable
from buildtool.graph import Exec, Node, Source, StepId, of_platform
from buildtool.images import Image
from buildtool.images.groups import IndexNotes
from buildtool.oci import Platform, host_platform, parse_platform
from buildtool.runtime.emulation import how_to_run, runs_here
from buildtool.solve.prepare import Prepared
from buildtool.solve.request import BuildRequest, marks


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


def _how_to(platform: Platform) -> str:
    advice = how_to_run(platform)
    if not advice:
        return "copy what was made elsewhere, or build it in a stage FROM --platform=$BUILDPLATFORM"
    return f"{advice}; or build it in a stage FROM --platform=$BUILDPLATFORM, where nothing has to be emulated"


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
