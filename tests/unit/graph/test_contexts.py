"""Named contexts: which one a name means, and what it stands for in a plan."""

from __future__ import annotations

import pytest

from buildtool.buildfile import parse
from buildtool.errors import InvalidInput
from buildtool.graph import Copy, Plan, PlanOptions, Remote, missing_bases, plan
from buildtool.graph.contexts import (
    Context,
    DirectoryContext,
    ImageContext,
    RemoteContext,
    StageContext,
    find_context,
)
from buildtool.oci import parse_platform

AMD = parse_platform("linux/amd64")


def planned(text: str, **contexts: Context) -> Plan:
    return plan(parse(text, "Buildfile"), PlanOptions(contexts=contexts, platform=AMD), {})


def test_names_are_those_of_images_and_a_platform_goes_first() -> None:
    one, other = DirectoryContext("one"), DirectoryContext("other")
    contexts: dict[str, Context] = {"alpine": one, "alpine::linux/arm64": other, "x/y:1": one}
    for name in ("alpine", "alpine:latest", "docker.io/library/alpine"):
        assert find_context(contexts, name, AMD) is one
    assert find_context(contexts, "alpine", parse_platform("linux/arm64")) is other
    assert find_context(contexts, "x/y:1", AMD) is one
    assert find_context(contexts, "x/y", AMD) is find_context(contexts, "", AMD) is None


def test_a_stage_of_the_name_is_replaced_and_what_it_needs_is_not_needed() -> None:
    text = "FROM nowhere AS made\nRUN x\nFROM scratch\nCOPY --from=made /a /b\n"
    result = planned(text, made=DirectoryContext("made"))
    steps = [result.node(step).step for step in result.graph]
    assert [step.context for step in steps if isinstance(step, Copy)] == ["made", ""]
    options = PlanOptions(contexts={"made": ImageContext("other:1")}, platform=AMD)
    assert [need.reference for need in missing_bases(parse(text, "Buildfile"), options, {})] == ["other:1"]


def test_a_directory_as_a_base_is_the_first_layer() -> None:
    result = planned("FROM base\nLABEL a=b\n", base=DirectoryContext("base"))
    assert result.image.base is None
    assert [line.layer for line in result.image.history] == [True, False]
    assert len(result.image.chain) == 1


def test_a_fetched_context_is_one_step_however_often_it_is_used() -> None:
    remote = Remote("git", "https://h/x.git")
    text = "FROM scratch\nCOPY --from=src a /a\nCOPY --from=src b /b\n"
    result = planned(text, src=RemoteContext(remote))
    assert [result.node(step).step for step in result.graph].count(remote) == 1


def test_a_target_has_to_be_above() -> None:
    text = "FROM scratch\nCOPY --from=x a /b\nFROM scratch AS later\n"
    with pytest.raises(InvalidInput, match="no such stage above") as failure:
        plan(parse(text, "Buildfile"), PlanOptions(contexts={"x": StageContext("later")}, target="0"), {})
    assert failure.value.where is not None


def test_the_target_may_be_a_context_itself() -> None:
    result = planned("FROM nowhere AS made\nRUN x\n", made=DirectoryContext("made"))
    assert len(result.image.chain) == 1
