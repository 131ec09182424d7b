"""What a build would know of its variables at each instruction, without building: for checks and outlines. Pure.

Stages are evaluated in order, as far as the text and what the caller knows of base images tell. Nothing stops it: an
expansion that fails is remembered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from buildtool.buildfile.instructions import (
    Arg,
    Buildfile,
    Copy,
    Env,
    Expose,
    Instruction,
    Label,
    OnBuild,
    Run,
    Stage,
    StopSignal,
    User,
    Volume,
    Word,
    Workdir,
)
from buildtool.buildfile.mounts import Mount, parse_mount
from buildtool.buildfile.words import expand_name, expand_text, expand_word, expand_words, variables
from buildtool.errors import InvalidInput, Span
from buildtool.oci.platform import Platform, host_platform, parse_platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_NOT_ENV = frozenset({"BUILDKIT_SBOM_SCAN_CONTEXT", "BUILDKIT_SBOM_SCAN_STAGE"})
_FIRST_DIGITS = re.compile(r"[0-9]+")


@dataclass(frozen=True, slots=True)
class BaseFacts:
    """What is known of a base image: its environment, its platform, and whether it sets a SHELL."""

    env: Mapping[str, str] = field(default_factory=dict)
    platform: Platform | None = None
    shell: bool = False


Bases = Callable[[str, Platform], BaseFacts | None]
"""Asked with an image's reference and the platform wanted; None when nothing is known of it."""


@dataclass(frozen=True, slots=True)
class Given:
    """What a build is started with. `platform` is the target's, of this machine when None."""

    build_args: Mapping[str, str | None] = field(default_factory=dict)
    target: str = ""
    platform: Platform | None = None
    bases: Bases = lambda reference, platform: None


@dataclass(frozen=True, slots=True)
class ArgFact:
    """A declared ARG: its value ("" when it has none), what its comment says, the ARGs its default was made of."""

    name: str
    value: str
    description: str
    span: Span
    needs: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Undefined:
    """A variable used where nothing defines it; `known` are the names that are defined there.

    `certain` is False when the base image, of which nothing is known, may define it.
    """

    name: str
    span: Span
    known: frozenset[str]
    certain: bool


@dataclass
class StageFacts:
    """One stage evaluated.

    `base` is the stage it stands on, else `image` is its base image ("" for scratch, or when its name is not known).
    `sources` are the stages that it copies or mounts from. `copies` are the expanded sources of COPY and ADD from the
    context, `workdirs` the expanded paths of WORKDIR.
    """

    stage: Stage
    base: StageFacts | None
    image: str
    platform: Platform
    facts: BaseFacts | None
    env: dict[str, str]
    values: dict[str, str] = field(default_factory=dict)
    declared: set[str] = field(default_factory=set)
    args: dict[str, ArgFact] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)
    sources: list[StageFacts] = field(default_factory=list)
    mounts: list[Mount] = field(default_factory=list)
    undefined: list[Undefined] = field(default_factory=list)
    copies: list[tuple[Copy, Word, str]] = field(default_factory=list)
    workdirs: list[tuple[Workdir, str]] = field(default_factory=list)
    errors: list[InvalidInput] = field(default_factory=list)

    @property
    def inherits_shell(self) -> bool:
        """Whether the base image sets a SHELL."""
        if self.base is not None:
            return self.base.inherits_shell
        return self.facts is not None and self.facts.shell

    @property
    def certain(self) -> bool:
        """Whether the whole environment is known."""
        if self.base is not None:
            return self.base.certain
        return self.facts is not None or self.stage.from_.image.text == "scratch"


def evaluate(buildfile: Buildfile, given: Given) -> list[StageFacts]:
    """All stages, in order. Raises InvalidInput when the global ARGs cannot be expanded."""
    return _Evaluation(buildfile, given).stages()


def find_stage(stages: list[StageFacts], name: str) -> StageFacts | None:
    """The stage of this name (case does not matter, the last one wins) or number."""
    for facts in reversed(stages):
        if facts.stage.name == name.lower():
            return facts
    return stages[int(name)] if _FIRST_DIGITS.fullmatch(name[:9]) and int(name[:9]) < len(stages) else None


def reachable(facts: StageFacts) -> list[StageFacts]:
    """The stage and all that it needs, itself first."""
    found = [facts]
    for each in found:
        needed = [*([each.base] if each.base is not None else []), *each.sources]
        found += [stage for index, stage in enumerate(needed) if stage not in found and stage not in needed[:index]]
    return found


class _Evaluation:
    def __init__(self, buildfile: Buildfile, given: Given) -> None:
        self.buildfile = buildfile
        self.given = given
        self.platform = given.platform or host_platform()
        self.globals: dict[str, str] = {}
        self.args: dict[str, ArgFact] = {}
        self.done: list[StageFacts] = []

    def stages(self) -> list[StageFacts]:
        self._read_globals()
        for stage in self.buildfile.stages:
            facts = self._begin(stage)
            self.done.append(facts)
            for instruction in stage.instructions:
                try:
                    self._instruction(facts, instruction)
                except InvalidInput as error:
                    facts.errors.append(error)
        return self.done

    def _read_globals(self) -> None:
        stages = self.buildfile.stages
        target = self.given.target or stages[-1].name or ""
        names = {"BUILD": host_platform(), "TARGET": self.platform}
        scope = {"TARGETSTAGE": target or "default"}
        for prefix, platform in names.items():
            scope |= {
                f"{prefix}PLATFORM": str(platform), f"{prefix}OS": platform.os, f"{prefix}OSVERSION": "",
                f"{prefix}ARCH": platform.architecture, f"{prefix}VARIANT": platform.variant,
            }  # fmt: skip
        build_args = self.given.build_args
        scope |= {name: value for name in scope if (value := build_args.get(name)) is not None}
        for arg in self.buildfile.global_args:
            for index, (name, default) in enumerate(arg.pairs):
                value = build_args.get(name.text)
                needs: frozenset[str] = frozenset()
                if value is None and default is not None:
                    value = expand_word(default, scope)
                    needs = _variables(default) - {name.text}
                    if name.text in self.args and name.text in _variables(default):
                        needs |= self.args[name.text].needs
                if value is not None:
                    scope[name.text] = value
                self.args[name.text] = ArgFact(name.text, value or "", arg.descriptions[index], name.span, needs)
        self.globals = scope

    def _begin(self, stage: Stage) -> StageFacts:
        image, platform, errors = "", self.platform, []
        try:
            image = expand_word(stage.from_.image, self.globals)
            if stage.from_.platform is not None:
                platform = parse_platform(expand_word(stage.from_.platform, self.globals))
        except InvalidInput as error:
            errors.append(InvalidInput(error.message, where=error.where or stage.from_.span, hint=error.hint))
        if not image and not errors:
            text = f"base name ({stage.from_.image.text}) should not be blank"
            hint = "give the ARG a default value, or a value with --build-arg"
            errors.append(InvalidInput(text, where=stage.from_.image.span, hint=hint))
        base = None if image.isdigit() else find_stage(self.done, image)
        used = {name for word in (stage.from_.image, stage.from_.platform) if word for name in _variables(word)}
        if base is not None:
            return StageFacts(
                stage, base, "", base.platform, None, dict(base.env), dict(base.values), set(base.declared),
                dict(self.args), used, errors=errors,
            )  # fmt: skip
        image = "" if image == "scratch" else image
        facts = self.given.bases(image, platform) if image else None
        env = {"PATH": DEFAULT_PATH} | dict(facts.env if facts is not None else {})
        return StageFacts(stage, None, image, platform, facts, env, args=dict(self.args), used=used, errors=errors)

    def _instruction(self, facts: StageFacts, instruction: Instruction) -> None:
        view = facts.env | facts.values

        def expand(word: Word) -> str:
            return expand_word(word, view, undefined=note)

        def note(name: str, span: Span) -> None:
            if name not in facts.declared and name not in _NOT_ENV:
                known = frozenset(view) | facts.declared
                facts.undefined.append(Undefined(name, span, known, facts.certain))

        match instruction:
            case Arg():
                self._arg(facts, instruction, expand, view)
            case Env():
                for word, value in instruction.pairs:
                    text = expand(value)
                    name = expand_name(word, view, undefined=note)
                    facts.env[name] = text
                    facts.values.pop(name, None)
            case Label():
                for word, value in instruction.pairs:
                    expand_name(word, view, undefined=note)
                    expand(value)
            case Copy():
                self._copy(facts, instruction, expand)
                for heredoc in instruction.heredocs:
                    if heredoc.expand:
                        expand_text(heredoc.content, view, where=heredoc.span, undefined=note)
            case Run():
                for option in instruction.mounts:
                    facts.mounts.append(parse_mount(option, expand))
                self._needs(facts, [mount.from_ for mount in facts.mounts if mount.from_])
            case Workdir():
                facts.workdirs.append((instruction, expand(instruction.path)))
            case Expose():
                for word in instruction.ports:
                    expand_words(word, view)
            case OnBuild():
                pass
            case _:
                for word in _plain_words(instruction):
                    expand(word)

    def _arg(self, facts: StageFacts, arg: Arg, expand: Callable[[Word], str], view: dict[str, str]) -> None:
        """Each pair sees those before it; `view` is what `expand` looks at."""
        for index, (name, default) in enumerate(arg.pairs):
            value = self.given.build_args.get(name.text)
            inherited = value is None and default is None and name.text in self.globals
            if inherited:
                value = self.globals[name.text]
            elif value is None and default is not None:
                value = expand(default)
            if value is not None and name.text not in _NOT_ENV:
                view[name.text] = facts.values[name.text] = value
            if not inherited:
                facts.args[name.text] = ArgFact(name.text, value or "", arg.descriptions[index], name.span)
            facts.used.add(name.text)
            facts.declared.add(name.text)

    def _copy(self, facts: StageFacts, copy: Copy, expand: Callable[[Word], str]) -> None:
        sources = [(copy, word, expand(word)) for word in copy.sources]
        for word in filter(None, (copy.destination, copy.chown, copy.chmod, copy.checksum)):
            expand(word)
        if copy.from_ is None:
            facts.copies += sources
        else:
            self._needs(facts, [copy.from_.text])

    def _needs(self, facts: StageFacts, names: list[str]) -> None:
        for name in names:
            source = find_stage(self.done[:-1], name)
            if source is not None and source not in facts.sources:
                facts.sources.append(source)


def _plain_words(instruction: Instruction) -> Iterator[Word]:
    match instruction:
        case User(user=word) | StopSignal(signal=word):
            yield word
        case Volume(paths=words):
            yield from words


def _variables(word: Word) -> frozenset[str]:
    try:
        return variables(word)
    except InvalidInput:
        return frozenset()
