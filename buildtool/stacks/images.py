"""Which images a project needs, and what is to be done to have them."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.stacks.durations import nanoseconds
from buildtool.stacks.engine import Engine
from buildtool.stacks.model import Project
from buildtool.stacks.names import image_name


class ImageTools(Protocol):
    """Builds and pulls for a stack; the command line has both."""

    def build(self, project: Project, names: list[str], reasons: Mapping[str, str]) -> None:
        """Build the images of these services, and tell why. Raises BuildtoolError."""
        ...

    def pull(self, image: str, platform: str) -> None:
        """Pull one image. Raises BuildtoolError."""
        ...

    def try_pull(self, image: str, platform: str) -> bool:
        """Pull one image that could be built; whether it could be pulled."""
        ...


class ImagePolicy:
    """`--build`, `--no-build` and `--pull`."""

    def __init__(self, *, build: bool = False, no_build: bool = False, pull: str = "policy") -> None:
        if pull not in ("policy", "always", "missing", "never", "build", "if_not_present"):
            raise InvalidInput(
                f"invalid --pull option {pull!r}", hint="Choose from always, missing, never and build."
            )
        if build and no_build:
            raise InvalidInput("--build and --no-build are incompatible")
        self.build = build
        self.no_build = no_build
        self.pull = pull


def ensure_images(
    engine: Engine,
    project: Project,
    services: list[str],
    known: dict[str, str],
    policy: ImagePolicy,
    tools: ImageTools,
    stale: Mapping[str, str],
) -> bool:
    """Build and pull what the services need; `known` are the images that are there. True when anything was done.

    `stale` tells why images of services that are there are to be built anew.
    """
    to_build: list[str] = []
    to_pull: dict[str, str] = {}
    to_try: dict[str, str] = {}
    for name in services:
        service = project.services[name]
        if service.get("provider"):
            continue
        image = image_name(project, name, service)
        wanted = _pull_policy(service, policy)
        has_build = service.get("build") is not None
        if has_build and image not in known and service.get("image") and _pulls_first(wanted, policy):
            to_try[image] = service.get("platform") or ""
            to_build.append(name)
            continue
        if has_build and (policy.build or wanted == "build" or image not in known or name in stale):
            if policy.no_build and image not in known:
                raise _missing(image, name)
            if not policy.no_build:
                to_build.append(name)
            continue
        if has_build and not (wanted == "always" and service.get("image")):
            continue
        if _has_to_pull(engine, image, wanted, image in known, service.get("pull_refresh_after") or ""):
            to_pull[image] = service.get("platform") or ""
    _pull(to_pull, tools.pull)
    got = _try(to_try, tools)
    to_build = [name for name in to_build if image_name(project, name, project.services[name]) not in got]
    for name in to_build:
        if policy.no_build:
            raise _missing(image_name(project, name, project.services[name]), name)
    if to_build:
        tools.build(project, to_build, stale)
    return bool(to_build or to_pull or got)


def _pulls_first(wanted: str, policy: ImagePolicy) -> bool:
    """Whether an image that could be built, has a name and is not there is looked for in its registry first.

    Source: Compose specification, build.md, "Using build and image".
    """
    return wanted in ("missing", "if_not_present") and not policy.build


def _try(images: dict[str, str], tools: ImageTools) -> set[str]:
    """Pull what can be pulled; which that was. A failure is told by the tools, and no error."""
    got: set[str] = set()

    def attempt(image: str, platform: str) -> None:
        if tools.try_pull(image, platform):
            got.add(image)

    _pull(images, attempt)
    return got


def _missing(image: str, name: str) -> BuildtoolError:
    return BuildtoolError(f"image {image!r} of service {name!r} is missing, and --no-build was given")


def may_be_stale(service: Mapping[str, Any], policy: ImagePolicy) -> bool:
    """Whether a change of what the service's image was built from builds it anew.

    Not with --no-build, and not an image that is to be pulled from time to time.
    """
    if service.get("build") is None or policy.no_build:
        return False
    return _pull_policy(service, policy) in ("missing", "if_not_present", "never", "build") or not service.get(
        "image"
    )


def _pull(images: dict[str, str], pull: Callable[[str, str], None]) -> None:
    from buildtool.stacks.graph import Walk

    walk = Walk()
    for image, platform in images.items():

        def work(image: str = image, platform: str = platform) -> None:
            pull(image, platform)

        walk.add(("image", image), work)
    walk.run()


def _pull_policy(service: Mapping[str, Any], policy: ImagePolicy) -> str:
    if policy.pull != "policy":
        return policy.pull
    return service.get("pull_policy") or "missing"


def _has_to_pull(engine: Engine, image: str, wanted: str, there: bool, refresh: str) -> bool:
    if wanted == "always":
        return True
    if wanted == "never":
        if not there:
            raise BuildtoolError(f"image {image!r} is missing, and its pull policy is never")
        return False
    if not there:
        return True
    if wanted == "refresh":
        wanted = f"every_{refresh or '24h'}"
    period = {"daily": "24h", "weekly": "168h"}.get(wanted, wanted.removeprefix("every_") if "_" in wanted else "")
    if not period or wanted == "if_not_present":
        return False
    details = engine.image(image) or {}
    tagged = (details.get("Metadata") or {}).get("LastTagTime") or ""
    return _age_seconds(tagged) > nanoseconds(period) / 10**9


def _age_seconds(stamp: str) -> float:
    """How long ago a time of RFC 3339 was; very long when it is none."""
    from datetime import datetime

    try:
        return time.time() - datetime.fromisoformat(stamp[:19] + "+00:00").timestamp()
    except ValueError:
        return 10.0**12
