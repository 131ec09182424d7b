"""One plan for several platforms."""

from __future__ import annotations

from buildtool.buildfile import parse
from buildtool.graph import (
    BaseImage,
    Exec,
    Plan,
    PlanOptions,
    image_key,
    of_platform,
    plan,
    plan_all,
    platform_options,
)
from buildtool.oci import ImageConfig, RootFS, parse_platform

AMD64, ARM64, ARM = parse_platform("linux/amd64"), parse_platform("linux/arm64"), parse_platform("linux/arm/v7")
TEXT = """\
FROM --platform=$BUILDPLATFORM scratch AS tools
RUN make
FROM tools AS build
ARG TARGETPLATFORM TARGETVARIANT
RUN build $TARGETPLATFORM $TARGETVARIANT
FROM scratch
COPY --from=build /a /a
RUN end
"""


def whole(*platforms: object, text: str = TEXT) -> Plan:
    options = platform_options(PlanOptions(build_platform=AMD64), list(platforms))  # type: ignore[arg-type]
    return plan_all(parse(text, "Buildfile"), options, {})


def runs(made: Plan) -> list[str]:
    nodes = (made.node(step) for step in made.graph)
    return [node.name for node in nodes if isinstance(node.step, Exec)]


def test_what_asks_for_nothing_of_the_target_is_there_once() -> None:
    names = runs(whole(AMD64, ARM64))
    assert names == [
        "[linux/amd64 tools] RUN make",
        "[linux/amd64 build] RUN build $TARGETPLATFORM $TARGETVARIANT",
        "[linux/amd64 stage-2] RUN end",
        "[linux/amd64->arm64 build] RUN build $TARGETPLATFORM $TARGETVARIANT",
        "[linux/arm64 stage-2] RUN end",
    ]


def test_a_step_for_several_targets_names_none_of_them() -> None:
    assert "[linux/amd64 tools] RUN make" in runs(whole(ARM64, ARM))


def test_one_platform_is_the_plan_as_ever() -> None:
    alone = plan(parse(TEXT, "Buildfile"), PlanOptions(build_platform=AMD64, platform=ARM64), {})
    assert whole(ARM64).visible == alone.visible and runs(whole(ARM64)) == runs(alone)


def test_each_platform_has_its_part_with_the_steps_of_a_build_for_it_alone() -> None:
    both = whole(AMD64, ARM)
    for number, platform in enumerate((AMD64, ARM)):
        part = of_platform(both, number)
        alone = plan(parse(TEXT, "Buildfile"), PlanOptions(build_platform=AMD64, platform=platform), {})
        assert set(part.graph) == set(alone.graph) and part.target == alone.target
        assert part.image == alone.image and part.image.platform == platform
        seen: set[str] = set()
        for step in part.graph:  # inputs come before what needs them
            assert seen.issuperset(part.node(step).inputs)
            seen.add(step)


def test_an_image_is_for_the_platform_that_was_asked_for_whatever_its_base() -> None:
    """As BuildKit: only without --platform the base's platform is the image's."""
    base = BaseImage("base", ImageConfig("amd64", "linux", RootFS("layers", []), variant="v3"))
    bases = {image_key("base", platform): base for platform in (AMD64, ARM64)}
    buildfile = parse("FROM base\n", "Buildfile")
    for asked, explicit, made in (
        (ARM64, True, "linux/arm64"),
        (ARM64, False, "linux/amd64/v3"),
        (AMD64, True, "linux/amd64/v3"),
    ):
        image = plan(buildfile, PlanOptions(platform=asked, explicit=explicit), bases).image
        assert str(image.platform) == made
    scratch = parse("FROM --platform=linux/amd64 scratch\n", "Buildfile")
    assert plan(scratch, PlanOptions(platform=ARM64, explicit=True), {}).image.platform == ARM64


def test_a_stage_has_the_platform_of_the_stage_it_is_made_from() -> None:
    made = whole(ARM64)
    step = next(made.node(each).step for each in made.graph if "build" in made.node(each).name)
    assert isinstance(step, Exec) and step.platform == "linux/amd64"
