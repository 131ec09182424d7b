"""Which images are pulled and which are built (reference/stacks.md 1.4, `pull_policy`, `platform`; 1.6)."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest

from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.stacks.engine import Engine
from buildtool.stacks.images import ImagePolicy, ensure_images
from buildtool.stacks.model import Project
from tests.unit.stacks.conftest import load_texts


class Aged(Engine):
    """An engine whose images came so many seconds ago."""

    def __init__(self, seconds: float) -> None:
        self._stamp = datetime.fromtimestamp(time.time() - seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S.123456789Z")

    def image(self, name: str) -> dict[str, Any] | None:
        return {"Metadata": {"LastTagTime": self._stamp}}


class Tools:
    """What was asked of the registry and of the builder."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def build(self, project: Project, names: list[str], reasons: Mapping[str, str]) -> None:
        self.asked += [f"build {name}" for name in names]

    def pull(self, image: str, platform: str) -> None:
        self.asked.append(f"pull {image} {platform}".strip())

    def try_pull(self, image: str, platform: str) -> bool:
        self.asked.append(f"try {image} {platform}".strip())
        return "there" in image


HOUR, DAY = 3600, 24 * 3600


def asked(
    attributes: str, *, there: bool, age: float = 0, policy: ImagePolicy | None = None, stale: bool = False
) -> list[str]:
    project = load_texts(f"name: p\nservices: {{s: {{{attributes}}}}}")
    image = project.services["s"].get("image") or "p-s"
    tools = Tools()
    ensure_images(
        Aged(age),
        project,
        ["s"],
        {image: "sha256:1"} if there else {},
        policy or ImagePolicy(),
        tools,
        {"s": "context changed"} if stale else {},
    )
    return tools.asked


@pytest.mark.parametrize(
    ("attributes", "there", "age", "expected"),
    [
        ("image: x", False, 0, ["pull x"]),
        ("image: x", True, 9 * DAY, []),
        ("image: x, platform: linux/arm64", False, 0, ["pull x linux/arm64"]),
        ("image: x, pull_policy: always", True, 0, ["pull x"]),
        ("image: x, pull_policy: missing", True, 9 * DAY, []),
        ("image: x, pull_policy: if_not_present", False, 0, ["pull x"]),
        ("image: x, pull_policy: never", True, 9 * DAY, []),
        ("image: x, pull_policy: daily", True, 23 * HOUR, []),
        ("image: x, pull_policy: daily", True, 25 * HOUR, ["pull x"]),
        ("image: x, pull_policy: weekly", True, 6 * DAY, []),
        ("image: x, pull_policy: weekly", True, 8 * DAY, ["pull x"]),
        ("image: x, pull_policy: every_2h", True, 1 * HOUR, []),
        ("image: x, pull_policy: every_2h", True, 3 * HOUR, ["pull x"]),
        ("image: x, pull_policy: every_1d12h", True, 37 * HOUR, ["pull x"]),
        ("image: x, pull_policy: refresh, pull_refresh_after: 3h", True, 2 * HOUR, []),
        ("image: x, pull_policy: refresh, pull_refresh_after: 3h", True, 4 * HOUR, ["pull x"]),
        ("build: .", False, 0, ["build s"]),
        ("build: .", True, 9 * DAY, []),
        ("build: ., pull_policy: build", True, 0, ["build s"]),
        ("build: ., image: x", False, 0, ["try x", "build s"]),
        ("build: ., image: there", False, 0, ["try there"]),
        ("build: ., image: x", True, 0, []),
        ("build: ., image: x, pull_policy: build", False, 0, ["build s"]),
        ("build: ., image: x, pull_policy: never", False, 0, ["build s"]),
        ("build: ., image: x, pull_policy: always", True, 0, ["pull x"]),
        ("image: x, pull_policy: always, provider: {type: y}", True, 0, []),
    ],
)
def test_a_policy(attributes: str, there: bool, age: float, expected: list[str]) -> None:
    assert asked(attributes, there=there, age=age) == expected


@pytest.mark.parametrize(
    ("attributes", "there", "policy", "expected"),
    [
        ("image: x", True, ImagePolicy(pull="always"), ["pull x"]),
        ("image: x, pull_policy: always", True, ImagePolicy(pull="missing"), []),
        ("build: .", True, ImagePolicy(build=True), ["build s"]),
        ("build: ., image: x", False, ImagePolicy(build=True), ["build s"]),
        ("build: ., image: there", False, ImagePolicy(no_build=True), ["try there"]),
        ("build: .", True, ImagePolicy(no_build=True), []),
    ],
)
def test_a_flag_beats_the_file(attributes: str, there: bool, policy: ImagePolicy, expected: list[str]) -> None:
    assert asked(attributes, there=there, policy=policy) == expected


def test_what_has_changed_is_built() -> None:
    assert asked("build: .", there=True, stale=True) == ["build s"]
    assert asked("build: .", there=True, stale=True, policy=ImagePolicy(no_build=True)) == []


@pytest.mark.parametrize(
    ("attributes", "policy", "message"),
    [
        ("image: x, pull_policy: never", ImagePolicy(), "image 'x' is missing, and its pull policy is never"),
        ("build: ., image: x", ImagePolicy(no_build=True), "image 'x' of service 's' is missing"),
        ("build: .", ImagePolicy(no_build=True), "image 'p-s' of service 's' is missing, and --no-build was given"),
    ],
)
def test_what_must_be_there_and_is_not_is_told(attributes: str, policy: ImagePolicy, message: str) -> None:
    with pytest.raises(BuildtoolError, match=message):
        asked(attributes, there=False, policy=policy)


def test_flags_that_contradict_are_refused() -> None:
    with pytest.raises(InvalidInput, match="incompatible"):
        ImagePolicy(build=True, no_build=True)
    with pytest.raises(InvalidInput, match="invalid --pull option"):
        ImagePolicy(pull="sometimes")
