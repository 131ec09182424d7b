"""`--change` of import and commit: Buildfile instructions applied to an image's config.

They mean exactly what they mean in a Buildfile: the graph's own fold of config instructions does the work.
"""

from __future__ import annotations

import posixpath
from collections.abc import Sequence

from buildtool.buildfile import parse_instruction
from buildtool.buildfile.instructions import Arg, Instruction, Maintainer, Shell, Workdir
from buildtool.errors import InvalidInput
from buildtool.graph.configure import configure
from buildtool.graph.scope import Scope
from buildtool.graph.state import StageState
from buildtool.graph.steps import StepId
from buildtool.oci import ContainerConfig

ALLOWED = "CMD, ENTRYPOINT, ENV, EXPOSE, HEALTHCHECK, LABEL, ONBUILD, STOPSIGNAL, USER, VOLUME, WORKDIR"


def apply_changes(config: ContainerConfig, changes: Sequence[str]) -> ContainerConfig:
    """The config with these instructions (`CMD ["sh"]`, `ENV A=1`, `WORKDIR /srv` …) applied in order.

    Variables in them are those of the config's environment. Raises InvalidInput for what is no instruction or none
    that changes the config only.
    """
    env = dict(entry.partition("=")[::2] for entry in config.env or ())
    state = StageState(tip=StepId(""), base=None, config=config, scope=Scope({}, {}, env))
    for text in changes:
        if text.strip():
            _apply(state, parse_instruction(text, "<change>"))
    return state.config


def _apply(state: StageState, instruction: Instruction) -> None:
    if isinstance(instruction, Workdir):
        path = state.scope.expand(instruction.path)
        state.set(working_dir=posixpath.normpath(posixpath.join(state.workdir, path)))
        return
    refused = isinstance(instruction, (Arg, Maintainer, Shell))
    if refused or not configure(state, instruction):
        raise InvalidInput(
            f"{instruction.keyword.lower()} is not a valid change command",
            where=instruction.span,
            hint=f"these are: {ALLOWED}",
        )
