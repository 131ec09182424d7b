"""What planning is given besides the Buildfile: the caller's choices and the base images' configs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from buildtool.errors import Span
from buildtool.graph.contexts import Context
from buildtool.oci import ImageConfig, Platform, chain_id, host_platform


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanOptions:
    """`platform` is the one built for, `build_platform` the one built on. `build_args`: None = declared without a
    value. `epoch` is SOURCE_DATE_EPOCH, `context_epoch` what SOURCE_DATE_EPOCH=context means: the time of
    the context's commit or document, None for a directory. `commit_epoch` is the time of the commit that the context
    is checked out at: the image's where SOURCE_DATE_EPOCH says nothing (`epoch_is_commits` is planning's own).
    `explicit`: the platform was asked for, and is the image's whatever its base is for.
    `several`: the plan is one of a build for several platforms, so that names of steps tell theirs.
    `entitlements` are those granted: `network.host`,
    `security.insecure`, `device` (every one) and `device=NAME`. `contexts` are the named ones.
    """

    build_args: Mapping[str, str | None] = field(default_factory=dict)
    target: str = ""
    platform: Platform = field(default_factory=host_platform)
    build_platform: Platform = field(default_factory=host_platform)
    explicit: bool = False
    several: bool = False
    labels: Mapping[str, str] = field(default_factory=dict)
    network: str = "default"
    entitlements: frozenset[str] = frozenset()
    extra_hosts: tuple[str, ...] = ()
    epoch: int | None = None
    context_epoch: int | None = None
    commit_epoch: int | None = None
    epoch_is_commits: bool = False
    contexts: Mapping[str, Context] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class BaseImage:
    """An image a Buildfile names: what planning needs to know of it. `reference` finds it again."""

    reference: str
    config: ImageConfig

    @property
    def chain_id(self) -> str:
        """The identity of its file tree; empty when it has no layers."""
        diff_ids = self.config.rootfs.diff_ids
        return chain_id(diff_ids) if diff_ids else ""


@dataclass(frozen=True, slots=True)
class BaseNeed:
    """An image that has to be known before the plan can be made, and the place that names it.

    `also` are the stage names it might have been meant to be, when a stage could stand there.
    """

    reference: str
    platform: Platform
    span: Span
    also: tuple[str, ...] = ()
