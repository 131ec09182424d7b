"""A stage while it is lowered: the image it is so far, its variables, the step it stands on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import msgspec

from buildtool.graph.options import BaseImage
from buildtool.graph.scope import DEFAULT_PATH, Scope
from buildtool.graph.steps import StepId
from buildtool.oci import ContainerConfig

DEFAULT_SHELL = ("/bin/sh", "-c")


@dataclass(frozen=True, slots=True)
class HistoryLine:
    """One line of the image's history made here; `layer` tells that a layer belongs to it.

    `optional`: only if there is something in it (COPY --if-exists).
    """

    created_by: str
    layer: bool
    optional: bool = False


@dataclass
class StageState:
    """What the next instruction of a stage builds upon.

    `chain` are the steps whose layers lie above the base image, bottom first. `cmd_set` tells that CMD stood in
    this very stage: ENTRYPOINT drops an inherited one only; `workdir_set` that WORKDIR did in this file; `untouched`
    that the tree is an image's, with nothing but layers of COPY --link on it.
    """

    tip: StepId
    base: BaseImage | None
    config: ContainerConfig
    scope: Scope
    author: str = ""
    chain: list[StepId] = field(default_factory=list)
    history: list[HistoryLine] = field(default_factory=list)
    cmd_set: bool = False
    workdir_set: bool = False
    untouched: bool = False

    def set(self, **fields: Any) -> None:
        """Change fields of the image's config."""
        self.config = msgspec.structs.replace(self.config, **fields)

    def note(self, created_by: str, *, layer: bool = False, optional: bool = False) -> None:
        """Add a line of history, worded as BuildKit does: `# buildkit` marks RUN, COPY and ADD."""
        marked = layer and not created_by.startswith("WORKDIR ")
        self.history.append(HistoryLine(created_by + " # buildkit" if marked else created_by, layer, optional))

    def set_env(self, pairs: dict[str, str]) -> None:
        """Set variables; one that exists keeps its place."""
        self.scope.set_env(pairs)
        self.set(env=[f"{name}={value}" for name, value in self.scope.env.items()])

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.shell or DEFAULT_SHELL)

    @property
    def workdir(self) -> str:
        return self.config.working_dir or "/"

    def child(self) -> StageState:
        """The state of a stage that stands on this one."""
        return StageState(
            tip=self.tip,
            base=self.base,
            config=msgspec.structs.replace(self.config, on_build=None),
            scope=self.scope.child(),
            author=self.author,
            chain=list(self.chain),
            history=list(self.history),
            workdir_set=self.workdir_set,
            untouched=self.untouched,
        )


def begin(tip: StepId, base: BaseImage | None, globals_: dict[str, str], build_args: Any) -> StageState:
    """The state right after FROM an image (None: scratch), with a PATH always, for scratch with a WORKDIR as well."""
    config = (base.config.config if base is not None else ContainerConfig(working_dir="/")) or ContainerConfig()
    env: dict[str, str] = {}
    for entry in config.env or ():
        name, _, value = entry.partition("=")
        env[name] = value
    state = StageState(
        tip=tip,
        base=base,
        config=msgspec.structs.replace(config, on_build=None),
        scope=Scope(globals_, build_args, env),
        author=base.config.author if base is not None else "",
        untouched=base is not None,
    )
    if "PATH" not in env:
        state.set_env({"PATH": DEFAULT_PATH})
    return state
