"""From a parsed Buildfile to the graph of its steps and the image they make. Pure: nothing is read or run here."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from buildtool.buildfile import expand_word
from buildtool.buildfile.analysis import base_platform, relative_workdir
from buildtool.buildfile.checks import message_undefined_var
from buildtool.buildfile.instructions import Buildfile, Copy, Instruction, Run, Warning, Workdir
from buildtool.errors import InvalidInput, Span
from buildtool.graph.configure import configure
from buildtool.graph.contexts import (
    Context,
    DirectoryContext,
    ImageContext,
    RemoteContext,
    StageContext,
    find_context,
)
from buildtool.graph.lower import Lowering, describe
from buildtool.graph.options import BaseImage, BaseNeed, PlanOptions
from buildtool.graph.scope import source_date_epoch, with_epoch
from buildtool.graph.stages import (
    CONTEXT,
    SCRATCH,
    Resolution,
    ResolvedStage,
    image_key,
    resolve_stages,
    stage_index,
)
from buildtool.graph.state import HistoryLine, StageState, begin
from buildtool.graph.steps import Copy as CopyStep
from buildtool.graph.steps import Node, Source, Step, StepId, step_id
from buildtool.oci import ContainerConfig, Platform

if TYPE_CHECKING:
    import networkx as nx

_TRUE = ("1", "t", "true")
ARROW = "->"
EARLIEST = 315532800
"""1980-01-01: the time of images that nothing else dates (ZIP files and others cannot hold an earlier one)."""


@dataclass(frozen=True, slots=True)
class ImagePlan:
    """The image besides its layers. `history` are the lines made here, above those of `base` (None: scratch).

    `epoch` is the latest time of a file in those layers, `created` the time of the image itself.
    `chain` are the steps whose layers lie above the base's, bottom first: one for each history line with a layer.
    """

    base: BaseImage | None
    chain: tuple[StepId, ...]
    config: ContainerConfig
    author: str
    history: tuple[HistoryLine, ...]
    platform: Platform
    epoch: int
    created: int


@dataclass(frozen=True, slots=True)
class Plan:
    """The steps and the image. Nodes of `graph` are StepIds with the attribute `node` (a Node).

    An edge A → B means "B needs the file tree of A". `visible` are the steps progress shows, in the order of the
    Buildfile, which is a topological one. `stages` are the indexes of the stages that are needed,
    `shells` of those whose base image sets a SHELL. `scans` are the stages besides the target, by index and name,
    that an SBOM is to be made of as well (BUILDKIT_SBOM_SCAN_STAGE); `scan_context` says so of the build context.
    A build for several platforms has `others`: the target and the image of each platform but the first.
    """

    graph: nx.DiGraph[StepId]
    target: StepId
    visible: tuple[StepId, ...]
    image: ImagePlan
    warnings: tuple[Warning, ...]
    stages: frozenset[int]
    shells: frozenset[int]
    scans: tuple[tuple[int, str | None], ...] = ()
    scan_context: bool = False
    others: tuple[tuple[StepId, ImagePlan], ...] = ()

    @property
    def targets(self) -> tuple[StepId, ...]:
        """What all images' file trees are, in the order of the platforms."""
        return (self.target, *(target for target, _ in self.others))

    @property
    def images(self) -> tuple[ImagePlan, ...]:
        """The images of all platforms."""
        return (self.image, *(image for _, image in self.others))

    @property
    def exported(self) -> frozenset[StepId]:
        """The steps whose layers some image has."""
        return frozenset(step for image in self.images for step in image.chain)

    def epoch_of(self, step: StepId) -> int:
        """The latest time of a file in the step's layer: that of the first image which has it."""
        return next((image.epoch for image in self.images if step in image.chain), self.image.epoch)

    def node(self, step: StepId) -> Node:
        """The node of a step."""
        node: Node = self.graph.nodes[step]["node"]
        return node


def missing_bases(buildfile: Buildfile, options: PlanOptions, bases: Mapping[str, BaseImage]) -> list[BaseNeed]:
    """The images that must be added to `bases` (by `image_key`) before `plan` can be made.

    Ask again with them: the ONBUILD triggers of an image may need more.
    """
    return resolve_stages(buildfile, options, bases).missing


def plan(buildfile: Buildfile, options: PlanOptions, bases: Mapping[str, BaseImage]) -> Plan:
    """The graph of the steps that the target needs.

    Raises InvalidInput (with its span) for what the Buildfile asks and cannot be, NotFound for an unknown target, and
    ValueError when an image is missing from `bases`.
    """
    options = with_epoch(options)
    resolution = resolve_stages(buildfile, options, bases)
    if resolution.missing:
        raise ValueError(f"unknown base images: {[need.reference for need in resolution.missing]}")
    planner = _Planner(buildfile, options, bases, resolution)
    for stage in resolution.stages.values():
        planner.add_stage(stage)
    return planner.finish()


class _Planner:
    def __init__(
        self,
        buildfile: Buildfile,
        options: PlanOptions,
        bases: Mapping[str, BaseImage],
        resolution: Resolution,
    ) -> None:
        import networkx as nx  # 180 ms and 20 MB that a daemon without builds does not pay

        self.graph: nx.DiGraph[StepId] = nx.DiGraph()
        self.buildfile = buildfile
        self.options = options
        self.bases = bases
        self.resolution = resolution
        self.states: dict[int, StageState] = {}
        self.shells: set[int] = set()
        self.platform = ""
        self.visible: list[StepId] = []
        self.warnings: list[Warning] = []
        self.stage_name = ""
        self.ordinal = 0

    def add_stage(self, resolved: ResolvedStage) -> None:
        stage = resolved.stage
        self.stage_name = stage.name or (f"stage-{stage.index}" if len(self.resolution.stages) > 1 else "")
        self.ordinal = 0
        self.platform = _platforms_name(resolved.platform, self.options) if self.options.several else ""
        if resolved.base_stage is not None:
            state = self.states[resolved.base_stage].child()
            inherits = resolved.base_stage in self.shells
        else:
            base = self.bases[image_key(resolved.base_image, resolved.platform)] if resolved.base_image else None
            self._check_platform(base, resolved)
            tip = self._source(base, stage.from_.span, stage.from_ if resolved.context is None else None)
            if resolved.context is not None:
                tip = self._context(resolved.context, stage.from_.image.span, visible=stage.from_)
            state = begin(tip, base, self.resolution.globals, self.options.build_args)
            if resolved.context is not None:
                state.chain.append(tip)
                state.note(f"FROM {stage.from_.image.text}", layer=True)
            inherits = bool(state.config.shell)
        if inherits:
            self.shells.add(stage.index)
        self.states[stage.index] = state
        lowering = Lowering(
            self._add,
            lambda name, span: self._tree_of(name, span, resolved),
            str(resolved.platform),
            self.options.network,
            self.options.extra_hosts,
            entitlements=self.options.entitlements,
            strict=self.buildfile.strict,
            hostname=self.options.build_args.get("BUILDKIT_SANDBOX_HOSTNAME") or "",
            cache_namespace=self.options.build_args.get("BUILDKIT_CACHE_MOUNT_NS") or "",
        )
        for self.ordinal, instruction in enumerate(resolved.instructions, 1):
            if isinstance(instruction, Run | Copy | Workdir):
                if isinstance(instruction, Workdir) and not state.workdir_set:
                    path = expand_word(instruction.path, state.scope.view())
                    self.warnings += relative_workdir(instruction, path)
                    state.workdir_set = True
                lowering.lower(state, instruction)
            elif not configure(state, instruction):
                raise InvalidInput(f"{instruction.keyword} cannot stand here", where=instruction.span)
        for name, span, known in state.scope.undefined:
            message = message_undefined_var(name, known)
            self.warnings.append(Warning("UndefinedVar", message, span))

    def finish(self) -> Plan:
        state = self.states[self.resolution.target]
        epoch = source_date_epoch(state.scope, self.options)
        if self.options.labels:
            state.set(labels=(state.config.labels or {}) | dict(self.options.labels))
        times = created_epoch(state.base) if epoch is None else epoch
        image = ImagePlan(
            base=state.base,
            chain=tuple(state.chain),
            config=state.config,
            author=state.author,
            history=tuple(state.history),
            platform=_image_platform(state.base, self.options),
            epoch=times,
            created=self.options.commit_epoch if epoch is None and self.options.commit_epoch is not None else times,
        )
        return Plan(
            self.graph,
            state.tip,
            tuple(self.visible),
            image,
            tuple(self.warnings),
            frozenset(self.resolution.stages),
            frozenset(self.shells),
            tuple(self._scanned("BUILDKIT_SBOM_SCAN_STAGE")),
            bool([*self._scanned("BUILDKIT_SBOM_SCAN_CONTEXT", target=True)]),
        )

    def _scanned(self, name: str, *, target: bool = False) -> Iterator[tuple[int, str | None]]:
        """The stages that this ARG says yes in, or names."""
        for index, state in sorted(self.states.items()):
            stage = self.resolution.stages[index].stage
            value = state.scope.declared.get(name) or self.resolution.globals.get(name, "")
            named = stage.name and stage.name in [each.strip() for each in value.split(",")]
            if (target or index != self.resolution.target) and (named or value.lower() in _TRUE):
                yield index, stage.name

    def _check_platform(self, base: BaseImage | None, resolved: ResolvedStage) -> None:
        if base is not None:
            where = resolved.stage.from_.image.span
            self.warnings += base_platform(base.reference, base.config.platform, resolved.platform, where)

    def _source(self, base: BaseImage | None, span: Span, instruction: Instruction | None) -> StepId:
        step = Source(base.chain_id, base.reference) if base is not None else Source("", SCRATCH)
        return self._insert(step, (), instruction, span)

    def _add(
        self,
        step: Step,
        inputs: tuple[StepId, ...],
        instruction: Instruction,
        *,
        places: tuple[tuple[str, Span], ...] = (),
        hidden: bool = False,
    ) -> StepId:
        return self._insert(step, inputs, None if hidden else instruction, instruction.span, places)

    def _insert(
        self,
        step: Step,
        inputs: tuple[StepId, ...],
        instruction: Instruction | None,
        span: Span,
        places: tuple[tuple[str, Span], ...] = (),
    ) -> StepId:
        """Add a step unless an equal one is there. Without an instruction it is not shown."""
        name = step_id(step, inputs)
        if name in self.graph:
            return name
        where = " ".join(filter(None, (self.platform, self.stage_name)))
        prefix = f"[{where}] " if where else ""
        site = " ".join(filter(None, (str(self.options.platform) if self.platform else "", self.stage_name or "0")))
        node = Node(
            id=name,
            step=step,
            inputs=inputs,
            name=prefix + describe(instruction) if instruction is not None else "",
            stage=self.stage_name,
            site=f"{site}/{self.ordinal}{'' if instruction is not None else f'/{len(self.graph)}'}",
            span=span,
            places=places,
        )
        attributes: dict[str, Any] = {"node": node}
        self.graph.add_node(name, **attributes)
        self.graph.add_edges_from((needed, name) for needed in inputs)
        if instruction is not None:
            self.visible.append(name)
        return name

    def _context(self, context: Context, span: Span, visible: Instruction | None = None) -> StepId:
        """The tree of a named context that is a directory or is fetched; as a stage (`visible`) it is a layer."""
        everything = CopyStep((".",), "/", from_context=True, link=True)
        if isinstance(context, DirectoryContext):
            return self._insert(replace(everything, context=context.name), (), visible, span)
        assert isinstance(context, RemoteContext)
        fetched = self._insert(context.step, (), None, span, ((context.step.url, span),))
        if visible is None:
            return fetched
        return self._insert(replace(everything, from_context=False), (fetched,), visible, span)

    def _tree_of(self, name: str, span: Span, resolved: ResolvedStage) -> StepId:
        """The step whose tree `--from=name` means."""
        if name == SCRATCH:
            return self._source(None, span, None)
        if name == CONTEXT:
            raise InvalidInput(
                "--from=context is not a stage", where=span, hint="leave --from out to copy from the context"
            )
        context = find_context(self.options.contexts, name, resolved.platform) if not name.isdigit() else None
        if isinstance(context, ImageContext):
            return self._source(self.bases[image_key(context.reference, resolved.platform)], span, None)
        if context is not None and not isinstance(context, StageContext):
            return self._context(context, span)
        if isinstance(context, StageContext):
            name = context.name
        index = stage_index(self.buildfile.stages, name, resolved.stage.index)
        if index is not None:
            return self.states[index].tip
        return self._source(self.bases[image_key(name, resolved.platform)], span, None)


def _image_platform(base: BaseImage | None, options: PlanOptions) -> Platform:
    """The one that was asked for (of the base's own, a variant that this leaves open is kept), else the base's."""
    target = options.platform
    if base is None:
        return target
    own = base.config.platform
    same = (own.os, own.architecture) == (target.os, target.architecture)
    return own if not options.explicit or (same and not target.variant) else target


def _platforms_name(platform: Platform, options: PlanOptions) -> str:
    """How names of steps tell their platform: the stage's, and what it builds for where that is another one."""
    target = options.platform
    if platform == target:
        return str(platform)
    return f"{platform}{ARROW}{str(target).removeprefix(f'{platform.os}/')}"


def created_epoch(base: BaseImage | None) -> int:
    """The time of an image built upon this base when nobody says otherwise: the base's own, in seconds."""
    if base is None or not base.config.created:
        return EARLIEST
    try:
        created = datetime.fromisoformat(base.config.created)
    except ValueError:
        return EARLIEST
    if created.tzinfo is None:
        created = created.replace(tzinfo=UTC)
    return max(int(created.timestamp()), EARLIEST)
