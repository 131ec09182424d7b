"""Stages: which of them the target needs, on what each stands, and which images have to be known.

ONBUILD triggers of a base become the first instructions of the stage, so an unknown base hides what they need:
resolve again when it is known, until nothing is missing.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from buildtool.buildfile import expand_word, parse_instruction
from buildtool.buildfile.instructions import Buildfile, Copy, Instruction, OnBuild, Run, Stage
from buildtool.errors import InvalidInput, NotFound, Span
from buildtool.graph.contexts import Context, ImageContext, StageContext, find_context
from buildtool.graph.options import BaseImage, BaseNeed, PlanOptions
from buildtool.graph.scope import global_scope
from buildtool.oci import Platform, parse_platform

SCRATCH = "scratch"
CONTEXT = "context"


@dataclass(frozen=True, slots=True)
class ResolvedStage:
    """A needed stage. It stands on stage `base_stage`, on the image `base_image` (empty: scratch), or on the tree
    of a named context.
    """

    stage: Stage
    base_stage: int | None
    base_image: str
    platform: Platform
    instructions: tuple[Instruction, ...]
    context: Context | None = None


@dataclass(frozen=True, slots=True)
class Resolution:
    """The needed stages in order of the file, the target's index, the images still unknown, the FROM variables."""

    stages: dict[int, ResolvedStage]
    target: int
    missing: list[BaseNeed]
    globals: dict[str, str]


def image_key(reference: str, platform: Platform) -> str:
    """How `bases` names an image: the reference, and the platform wanted."""
    return f"{reference} {platform}"


def resolve_stages(buildfile: Buildfile, options: PlanOptions, bases: Mapping[str, BaseImage]) -> Resolution:
    """Find what the target needs. Raises NotFound for an unknown target, InvalidInput for an impossible FROM."""
    if not buildfile.stages:
        raise InvalidInput("the Buildfile has no FROM", hint="every Buildfile begins a stage with FROM")
    target = _target(buildfile, options.target)
    name = buildfile.stages[target].name or (options.target if options.target else "")
    walk = _Walk(buildfile, options, bases, global_scope(buildfile, options, name))
    walk.visit(target)
    return Resolution(dict(sorted(walk.found.items())), target, list(walk.missing.values()), walk.globals)


def _target(buildfile: Buildfile, name: str) -> int:
    if not name:
        return len(buildfile.stages) - 1
    index = stage_index(buildfile.stages, name, len(buildfile.stages))
    if index is None:
        raise NotFound(f"target stage {name!r} could not be found", hint=_meant(name, stage_names(buildfile.stages)))
    return index


def stage_index(stages: Sequence[Stage], name: str, before: int) -> int | None:
    """The stage of this name (case does not matter, the last one wins) or number among the first `before`."""
    wanted = name.lower()
    for stage in reversed(stages[:before]):
        if stage.name == wanted:
            return stage.index
    return int(name) if name.isdigit() and int(name) < before else None


def stage_names(stages: Sequence[Stage]) -> tuple[str, ...]:
    """The names that stages were given."""
    return tuple(stage.name for stage in stages if stage.name)


def _meant(name: str, choices: Sequence[str]) -> str:
    close = difflib.get_close_matches(name.lower(), choices, n=1)
    if close:
        return f"did you mean {close[0]!r}?"
    return f"the stages are: {', '.join(choices)}" if choices else "no stage has a name"


def froms_of(instruction: Instruction) -> Iterator[tuple[str, Span]]:
    """The stages or images an instruction takes files from, and where it says so."""
    if isinstance(instruction, Copy) and instruction.from_ is not None:
        yield instruction.from_.text, instruction.from_.span
    elif isinstance(instruction, Run):
        for mount in instruction.mounts:
            for key, word in mount.options:
                if key == "from" and word is not None:
                    yield word.text, word.span


@dataclass
class _Walk:
    buildfile: Buildfile
    options: PlanOptions
    bases: Mapping[str, BaseImage]
    globals: dict[str, str]
    found: dict[int, ResolvedStage] = field(default_factory=dict)
    missing: dict[str, BaseNeed] = field(default_factory=dict)

    def visit(self, first: int) -> None:
        pending = [first]
        while pending:
            index = pending.pop()
            if index in self.found:
                continue
            resolved = self._resolve(self.buildfile.stages[index])
            self.found[index] = resolved
            if resolved.base_stage is not None:
                pending.append(resolved.base_stage)
            for instruction in resolved.instructions:
                for name, span in froms_of(instruction):
                    source = self._source(name, span, index, resolved.platform)
                    if source is not None:
                        pending.append(source)

    def _resolve(self, stage: Stage) -> ResolvedStage:
        platform = self._platform(stage)
        where = stage.from_.image.span
        instead = find_context(self.options.contexts, stage.name or "", platform)
        if isinstance(instead, StageContext) and stage_index([stage], instead.name, 1) is not None:
            instead = None  # target: names the stage itself
        if instead is not None:
            return self._from_context(stage, instead, platform, (), where)
        image = expand_word(stage.from_.image, self.globals)
        if not image:
            raise InvalidInput(
                f"base name ({stage.from_.image.text}) should not be blank",
                where=where,
                hint="give the ARG a default value, or a value with --build-arg",
            )
        context = find_context(self.options.contexts, image, platform)
        if context is not None:
            return self._from_context(stage, context, platform, stage.instructions, where)
        base = stage_index(self.buildfile.stages, image, stage.index) if not image.isdigit() else None
        triggers: Sequence[str] = ()
        if base is not None:
            triggers = self._stage_triggers(base)
            image = ""
        elif image == SCRATCH:
            image = ""
        else:
            known = self._image(image, platform, where)
            config = known.config.config if known is not None else None
            triggers = (config.on_build if config is not None else None) or ()
        instructions = (*(self._trigger(text, where) for text in triggers), *stage.instructions)
        return ResolvedStage(stage, base, image, platform, instructions)

    def _from_context(
        self, stage: Stage, context: Context, platform: Platform, own: tuple[Instruction, ...], where: Span
    ) -> ResolvedStage:
        """A stage that stands on a named context, or (without instructions of its `own`) is one."""
        if isinstance(context, StageContext):
            index = self._named_stage(context.name, where, stage.index)
            triggers = self._stage_triggers(index) if own else ()
            instructions = (*(self._trigger(text, where) for text in triggers), *own)
            return ResolvedStage(stage, index, "", platform, instructions)
        if isinstance(context, ImageContext):
            known = self._image(context.reference, platform, where)
            config = known.config.config if known is not None else None
            triggers = ((config.on_build if config is not None else None) or ()) if own else ()
            instructions = (*(self._trigger(text, where) for text in triggers), *own)
            return ResolvedStage(stage, None, context.reference, platform, instructions)
        return ResolvedStage(stage, None, "", platform, own, context)

    def _named_stage(self, name: str, where: Span, before: int) -> int:
        """The stage that `target:name` means for a stage."""
        index = stage_index(self.buildfile.stages, name, before)
        if index is None:
            raise InvalidInput(
                f"the context target:{name}: there is no such stage above this one",
                where=where,
                hint=_meant(name, stage_names(self.buildfile.stages)),
            )
        return index

    def _stage_triggers(self, index: int) -> Sequence[str]:
        return [item.trigger for item in self.buildfile.stages[index].instructions if isinstance(item, OnBuild)]

    def _platform(self, stage: Stage) -> Platform:
        """The stage's own, else that of the stage it is made from, else the one that is built for."""
        if stage.from_.platform is None:
            image = expand_word(stage.from_.image, self.globals)
            base = stage_index(self.buildfile.stages, image, stage.index) if not image.isdigit() else None
            return self.options.platform if base is None else self._platform(self.buildfile.stages[base])
        try:
            return parse_platform(expand_word(stage.from_.platform, self.globals))
        except InvalidInput as error:
            raise InvalidInput(error.message, where=stage.from_.platform.span, hint=error.hint) from None

    def _trigger(self, text: str, where: Span) -> Instruction:
        try:
            return parse_instruction(text, "<onbuild>")
        except InvalidInput as error:
            raise InvalidInput(f"ONBUILD trigger {text!r} of the base image: {error.message}", where=where) from None

    def _source(self, name: str, span: Span, index: int, platform: Platform) -> int | None:
        """The stage `--from=name` means, or None for an image (which is then known or missing)."""
        if name in ("", SCRATCH, CONTEXT):
            return None
        context = find_context(self.options.contexts, name, platform) if not name.isdigit() else None
        if isinstance(context, StageContext):
            return self._named_stage(context.name, span, index)
        if isinstance(context, ImageContext):
            self._image(context.reference, platform, span)
        if context is not None:
            return None
        stage = stage_index(self.buildfile.stages, name, index)
        if stage is None:
            later = stage_index(self.buildfile.stages, name, len(self.buildfile.stages))
            if later is not None:
                raise InvalidInput(
                    f"--from={name}: that stage is not above this one",
                    where=span,
                    hint="a stage can use earlier stages only",
                )
            if name.isdigit():
                raise InvalidInput(
                    f"--from={name}: there is no stage {name}", where=span, hint="stages are counted from 0, in order"
                )
            self._image(name, platform, span)
        return stage

    def _image(self, name: str, platform: Platform, span: Span) -> BaseImage | None:
        key = image_key(name, platform)
        known = self.bases.get(key)
        if known is None and key not in self.missing:
            self.missing[key] = BaseNeed(name, platform, span, stage_names(self.buildfile.stages))
        return known
