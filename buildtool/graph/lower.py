"""Instructions that touch files become steps: RUN, COPY, ADD, WORKDIR."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, cast

from buildtool.buildfile import expand_text, parse_mount
from buildtool.buildfile.instructions import Copy as CopyInstruction
from buildtool.buildfile.instructions import Heredoc, Instruction, MountOption, Run, Word, Workdir
from buildtool.errors import InvalidInput, Span
from buildtool.graph.downloads import pattern_of, remote_source
from buildtool.graph.entitlements import run_devices, run_network, run_security
from buildtool.graph.scope import Scope
from buildtool.graph.state import StageState
from buildtool.graph.steps import (
    Copy,
    Exec,
    InlineFile,
    Merge,
    Mkdir,
    MountType,
    Remote,
    Squash,
    Step,
    StepId,
    StepMount,
)

TreeOf = Callable[[str, Span], StepId]
_NUMERIC_OWNER = re.compile(r"\d+(:\d+)?")


class AddStep(Protocol):
    """Puts a step into the graph. `places` are where its sources stand in the Buildfile; hidden steps show no
    progress.
    """

    def __call__(
        self,
        step: Step,
        inputs: tuple[StepId, ...],
        instruction: Instruction,
        *,
        places: tuple[tuple[str, Span], ...] = (),
        hidden: bool = False,
    ) -> StepId: ...


class Lowering:
    """Lowers instructions of one stage. `add_step` puts a step into the graph, `tree_of` finds what `--from=`
    names. `strict`: see Buildfile.strict. `hostname` is that of commands, if not the usual one; `cache_namespace`
    goes before the ids of cache mounts.
    """

    def __init__(
        self,
        add_step: AddStep,
        tree_of: TreeOf,
        platform: str,
        network: str,
        hosts: tuple[str, ...],
        *,
        strict: bool = False,
        hostname: str = "",
        entitlements: frozenset[str] = frozenset(),
        cache_namespace: str = "",
    ) -> None:
        self._add = add_step
        self._tree_of = tree_of
        self._platform = platform
        self._network = network
        self._hosts = hosts
        self._strict = strict
        self._hostname = hostname
        self._cache_namespace = cache_namespace
        self._entitlements = entitlements

    def lower(self, state: StageState, instruction: Run | CopyInstruction | Workdir) -> None:
        """Add the instruction's steps and make them the state's tip."""
        match instruction:
            case Workdir():
                self._workdir(state, instruction)
            case Run():
                self._run(state, instruction)
            case CopyInstruction():
                self._copy(state, instruction)

    def _workdir(self, state: StageState, instruction: Workdir) -> None:
        path = _join(state.workdir, state.scope.expand(instruction.path) or ".")
        state.set(working_dir=path)
        if path == "/":
            state.note("WORKDIR /")
            return
        self._advance(state, self._add(Mkdir(path, state.config.user), (state.tip,), instruction))
        state.note(f"WORKDIR {path}", layer=True)

    def _run(self, state: StageState, instruction: Run) -> None:
        script = instruction.script
        file = None
        if script is None:
            args = tuple(instruction.command.exec_form or ())
            if not args:
                raise InvalidInput("RUN: the command is empty", where=instruction.span)
        elif script.file_name is not None:
            args = (f"/dev/pipes/{script.file_name}",)
            file = InlineFile(script.file_name, script.text)
        else:
            args = (*state.shell, script.text)
        inputs: list[StepId] = [state.tip]
        mounts = tuple(self._mount(state, option, inputs, instruction) for option in instruction.mounts)
        text = "\n".join((*args, file.content if file is not None else ""))
        build_args = state.scope.visible_args(text if self._strict else None)
        step = Exec(
            args=args,
            cwd=state.workdir,
            user=state.config.user,
            env=state.scope.environment(build_args),
            build_args=build_args,
            hidden_args=state.scope.hidden_args(build_args),
            mounts=mounts,
            network=run_network(state, instruction, self._network, self._entitlements),
            security=run_security(state, instruction, self._entitlements),
            devices=run_devices(state, instruction, self._entitlements),
            extra_hosts=self._hosts,
            script=file,
            platform=self._platform,
            execution=instruction.execution,
            hostname=self._hostname,
        )
        self._advance(state, self._add(step, tuple(inputs), instruction))
        shown = state.scope.shown_args(build_args, strict=self._strict)
        prefix = f"|{len(shown)} " + "".join(f"{name}={value} " for name, value in shown) if shown else ""
        state.note(f"RUN {prefix}{' '.join(args)}", layer=True)

    def _mount(self, state: StageState, option: MountOption, inputs: list[StepId], run: Run) -> StepMount:
        mount = parse_mount(option, state.scope.expand)
        where = mount.span or option.span
        source: int | None = None
        if mount.type == "cache" and mount.from_:
            source = len(inputs)
            inputs.append(self._tree_of(mount.from_, where))
        elif mount.type == "cache" and mount.source:
            raise InvalidInput(
                "RUN --mount: source of a cache mount is a directory in what from names, and from is missing",
                where=where,
                hint="write from=STAGE, or leave source out",
            )
        if mount.type == "bind":
            source = len(inputs)
            tree = self._tree_of(mount.from_, where) if mount.from_ else self._context_tree(mount.source, where, run)
            inputs.append(tree)
        return StepMount(
            type=cast(MountType, mount.type),
            target=_join(state.workdir, mount.target),
            source=_clean(mount.source, False) if source is not None else "",
            input=source,
            readonly=mount.readonly,
            id=self._cache_id(mount.id) if mount.type == "cache" else mount.id,
            sharing=mount.sharing,
            size=mount.size,
            mode=mount.mode,
            uid=mount.uid,
            gid=mount.gid,
            required=mount.required,
            env=mount.env or "",
        )

    def _cache_id(self, name: str) -> str:
        return f"{self._cache_namespace}/{name}" if self._cache_namespace else name

    def _context_tree(self, path: str, where: Span, run: Run) -> StepId:
        """A tree with a part of the context in it, for a mount: the context itself may change while the step runs."""
        source = _clean(path, False)
        step = Copy((source,), "/", from_context=True, link=True, parents=source != ".")
        return self._add(step, (), run, places=((source, where),), hidden=True)

    def _copy(self, state: StageState, instruction: CopyInstruction) -> None:
        scope, view = state.scope, state.scope.view()
        sources = tuple(scope.expand(word, view) for word in instruction.sources)
        checksum = scope.expand(instruction.checksum, view) if instruction.checksum is not None else ""
        remotes = [_remote(*each, instruction, checksum) for each in zip(sources, instruction.sources, strict=True)]
        _check_checksum(instruction, remotes)
        inline = tuple(_inline(heredoc, scope, view) for heredoc in instruction.heredocs)
        destination = _destination(state.workdir, scope.expand(instruction.destination, view))
        if len(sources) + len(inline) > 1 and not destination.endswith("/"):
            raise InvalidInput(
                f"When using {instruction.keyword} with more than one source file, "
                "the destination must be a directory and end with a /",
                where=instruction.destination.span,
            )
        chown = scope.expand(instruction.chown, view) if instruction.chown is not None else ""
        link = instruction.link and (not chown or _NUMERIC_OWNER.fullmatch(chown) is not None)
        plain = Copy(
            sources=(),
            destination=destination,
            from_context=instruction.from_ is None,
            chown=chown,
            chmod=scope.expand(instruction.chmod, view) if instruction.chmod is not None else "",
            link=link,
            parents=instruction.parents,
            excludes=tuple(word.text for word in instruction.excludes),
            unpack=instruction.unpack if instruction.is_add else False,
            if_exists=instruction.if_exists,
        )
        places = [
            (pattern_of(remote) if remote is not None else _clean(source, instruction.parents), word.span)
            for source, remote, word in zip(sources, remotes, instruction.sources, strict=True)
        ]
        parts = _parts(places, remotes, inline)
        below: tuple[StepId, ...] = () if link else (state.tip,)
        added = state.tip
        for number, (here, files, remote) in enumerate(parts):
            step = replace(plain, sources=tuple(name for name, _ in here), inline=files, link=link and not number)
            tree: tuple[StepId, ...] = ()
            if remote is not None:
                step = replace(step, from_context=False, unpack=instruction.unpack or False)
                tree = (self._add(remote, (), instruction, places=((remote.url, here[0][1]),), hidden=True),)
            elif instruction.from_ is not None:
                tree = (self._tree_of(instruction.from_.text, instruction.from_.span),)
            onto = (added,) if number else below
            added = self._add(step, (*onto, *tree), instruction, places=tuple(here), hidden=bool(number))
        if len(parts) > 1:
            added = self._add(Squash(len(parts)), (*below, added), instruction, hidden=True)
        if link:
            added = self._add(Merge(state.untouched), (state.tip, added), instruction, hidden=True)
        self._advance(state, added, linked=link)
        flags = "".join(
            f" --{name}{value}"
            for name, value in (
                ("parents", "" if plain.parents else None),
                ("chown=", plain.chown or None),
                ("chmod=", plain.chmod or None),
                ("if-exists", "" if instruction.if_exists else None),
            )
            if value is not None
        )
        shown = [*sources, *(f"<<{file.name}" for file in inline)]
        target = scope.expand(instruction.destination, view)
        made_by = f"{instruction.keyword}{flags} {' '.join(shown)} {target}"
        state.note(made_by, layer=True, optional=instruction.if_exists)

    def _advance(self, state: StageState, step: StepId, *, linked: bool = False) -> None:
        state.tip = step
        state.untouched = state.untouched and linked
        state.chain.append(step)


def _join(workdir: str, path: str) -> str:
    """A path in the image, absolute and clean."""
    return posixpath.normpath("/" + posixpath.join(workdir, path).lstrip("/")) if path else ""


def _destination(workdir: str, text: str) -> str:
    """The destination, absolute and clean; a trailing slash stays, and `.` means the directory as well."""
    path = _join(workdir, text or ".")
    if path != "/" and (text.endswith("/") or text.rpartition("/")[2] in (".", "") or not text):
        return path + "/"
    return path


def _remote(source: str, word: Word, instruction: CopyInstruction, checksum: str) -> Remote | None:
    if not source:
        raise InvalidInput(f"{instruction.keyword}: a source is empty", where=word.span, hint="write . for all files")
    remote = remote_source(source, word, instruction, checksum)
    if remote is None and instruction.keep_git_dir:
        raise InvalidInput("ADD --keep-git-dir: the source is no git repository", where=word.span)
    return remote


def _check_checksum(instruction: CopyInstruction, remotes: list[Remote | None]) -> None:
    if instruction.checksum is None:
        return
    if len(remotes) + len(instruction.heredocs) > 1:
        raise InvalidInput("ADD --checksum can't be specified for multiple sources", where=instruction.checksum.span)
    if remotes == [None] or not remotes:
        raise InvalidInput(
            "ADD --checksum: only a download has a checksum to be verified",
            where=instruction.checksum.span,
            hint="remove the flag: files of the context are verified by their content anyway",
        )


def _parts(
    places: list[tuple[str, Span]], remotes: list[Remote | None], inline: tuple[InlineFile, ...]
) -> list[tuple[list[tuple[str, Span]], tuple[InlineFile, ...], Remote | None]]:
    """The sources by the tree they come from, in their order: each fetched one is a part of its own."""
    parts: list[tuple[list[tuple[str, Span]], tuple[InlineFile, ...], Remote | None]] = []
    for place, remote in zip(places, remotes, strict=True):
        if remote is None and parts and parts[-1][2] is None:
            parts[-1][0].append(place)
        else:
            parts.append(([place], (), remote))
    if inline:
        here = parts.pop()[0] if parts and parts[-1][2] is None else []
        parts.append((here, inline, None))
    return parts


def _inline(heredoc: Heredoc, scope: Scope, view: Mapping[str, str]) -> InlineFile:
    content = heredoc.content
    if heredoc.expand:
        content = expand_text(content, view, where=heredoc.span, undefined=scope.note)
    return InlineFile(heredoc.name, content)


def _clean(source: str, parents: bool) -> str:
    """A source relative to the root it is looked for in: `..` leads nowhere above it; "." is the root itself.

    With --parents a `/./` in it is kept: what stands before it is not part of the copied path.
    """
    if parents and "/./" in f"/{source}":
        head, _, tail = f"/{source}".partition("/./")
        return f"{_clean(head, False)}/./{_clean(tail, False)}"
    return posixpath.normpath("/" + source.lstrip("/")).lstrip("/") or "."


def describe(instruction: Instruction) -> str:
    """The instruction as progress shows it: one line, blanks collapsed."""
    return " ".join(instruction.source.split())
