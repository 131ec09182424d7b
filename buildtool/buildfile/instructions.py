"""Typed instructions: what the parser makes of a Buildfile, before any expansion.

A `Word` is raw text with its source span; `$VAR` in it is expanded later (buildfile.words.expand) with the
environment of that point, by whoever lowers the stages. Every instruction keeps the span of its keyword, the
original text (for history and progress) and the flags as given.
Source: Dockerfile reference; ../shared/reference/build.md, table 1.2.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

from buildtool.errors import Span


@dataclass(frozen=True, slots=True)
class Word:
    """A raw word: quotes, escapes and variables are still in it. Its span points at its first character.

    `escape` is the escape character of the file it stands in (`\\` or a backtick).
    """

    text: str
    span: Span
    escape: str = "\\"


@dataclass(frozen=True, slots=True)
class Heredoc:
    """`<<[-]NAME`: `content` is the body (tabs already stripped for `<<-`); `expand` is False for a quoted name."""

    name: str
    content: str
    expand: bool
    span: Span
    fd: int = 0


@dataclass(frozen=True, slots=True)
class Base:
    """What every instruction has. `source` is the logical line as written, continuations joined."""

    span: Span
    source: str
    keyword: str


@dataclass(frozen=True, slots=True)
class From(Base):
    image: Word
    name: str | None = None
    platform: Word | None = None
    description: str = ""


@dataclass(frozen=True, slots=True)
class Arg(Base):
    """`ARG a b=c`: a None value means no default. `descriptions` (one a pair) come from comments `# a What a is`."""

    pairs: tuple[tuple[Word, Word | None], ...]
    descriptions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Env(Base):
    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Label(Base):
    pairs: tuple[tuple[Word, Word], ...]
    legacy: bool = False


@dataclass(frozen=True, slots=True)
class Command:
    """Shell form: `shell` holds the text. Exec form: `exec_form` holds the JSON array (maybe empty)."""

    shell: str | None
    exec_form: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class MountOption:
    """One `RUN --mount=…`: key/value pairs as written, in order (keys lower-cased, aliases kept)."""

    options: tuple[tuple[str, Word | None], ...]
    span: Span


@dataclass(frozen=True, slots=True)
class Script:
    """What a RUN in shell form hands to the shell, or, when `file_name` is set, a file to execute instead.

    The file (mode 0755) is meant to stand at /dev/pipes/<file_name> for the time of the step.
    """

    text: str
    file_name: str | None = None


@dataclass(frozen=True, slots=True)
class Execution:
    """How a RUN is executed, and when anew: no part of what it does. Durations are nanoseconds, 0 = none.

    A result older than `cache_ttl` is none; with `no_cache` there never is one. A try that takes longer than
    `timeout` fails, and what failed is tried `retry` times more.
    """

    cache_ttl: int = 0
    no_cache: bool = False
    retry: int = 0
    timeout: int = 0


AS_USUAL = Execution()


@dataclass(frozen=True, slots=True)
class Run(Base):
    command: Command
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[MountOption, ...] = ()
    network: Word | None = None
    security: Word | None = None
    devices: tuple[Word, ...] = ()
    heredoc_only: bool = False
    execution: Execution = AS_USUAL

    @property
    def script(self) -> Script | None:
        """The shell form's text with its heredocs; None for the exec form.

        A RUN that is nothing but one heredoc runs the body itself: by the shell, or as a file when it starts with
        `#!`. With more around it the heredocs are put back for the shell to read.
        """
        if self.command.shell is None:
            return None
        if self.heredoc_only:
            body = self.heredocs[0]
            return Script(body.content, body.name if body.content.startswith("#!") else None)
        return Script(self.command.shell + "".join(f"\n{h.content}{h.name}" for h in self.heredocs))


@dataclass(frozen=True, slots=True)
class Copy(Base):
    """COPY and ADD (`keyword` tells). Sources are words; heredocs are further sources named by their NAME.

    With `if_exists` sources that are not there are left out.
    """

    sources: tuple[Word, ...]
    destination: Word
    heredocs: tuple[Heredoc, ...] = ()
    from_: Word | None = None
    chown: Word | None = None
    chmod: Word | None = None
    link: bool = False
    parents: bool = False
    excludes: tuple[Word, ...] = ()
    checksum: Word | None = None
    keep_git_dir: bool = False
    unpack: bool | None = None
    if_exists: bool = False

    @property
    def is_add(self) -> bool:
        return self.keyword == "ADD"


@dataclass(frozen=True, slots=True)
class Workdir(Base):
    path: Word


@dataclass(frozen=True, slots=True)
class User(Base):
    user: Word


@dataclass(frozen=True, slots=True)
class Cmd(Base):
    command: Command


@dataclass(frozen=True, slots=True)
class Entrypoint(Base):
    command: Command


@dataclass(frozen=True, slots=True)
class Expose(Base):
    ports: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class Volume(Base):
    paths: tuple[Word, ...]


@dataclass(frozen=True, slots=True)
class StopSignal(Base):
    signal: Word


@dataclass(frozen=True, slots=True)
class HealthCheck(Base):
    """`command` None means HEALTHCHECK NONE. Durations are nanoseconds, 0 = default; retries 0 = default."""

    command: Command | None
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class Shell(Base):
    argv: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Maintainer(Base):
    name: Word


@dataclass(frozen=True, slots=True)
class OnBuild(Base):
    """`trigger` is the instruction text after ONBUILD, as it goes into the image config (heredoc bodies included)."""

    trigger: str
    instruction: Instruction


Instruction: TypeAlias = (
    From | Arg | Env | Label | Run | Copy | Workdir | User | Cmd | Entrypoint | Expose | Volume | StopSignal
    | HealthCheck | Shell | Maintainer | OnBuild
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Stage:
    """FROM and what follows it. `index` counts from 0; `name` is lower-case or None."""

    index: int
    from_: From
    instructions: tuple[Instruction, ...]

    @property
    def name(self) -> str | None:
        return self.from_.name


@dataclass(frozen=True, slots=True)
class Warning:
    """A build check that fired: BuildKit's rule name, message, place."""

    rule: str
    message: str
    span: Span


@dataclass(frozen=True, slots=True)
class CheckPolicy:
    """What `# check=` says, at the top of the file and above single instructions.

    A skip is (first line, last line, rules), last line 0 = to the end of the file; "all" stands for every rule.
    `error` asks to fail when a check fires. Experimental rules are off unless named. `files` says for each skip in
    which file its lines are, "" for all (a composed Buildfile has lines of several).
    """

    skips: tuple[tuple[int, int, frozenset[str]], ...] = ()
    error: bool = False
    experimental: frozenset[str] = frozenset()
    files: tuple[str, ...] = ()

    def allows(self, rule: str, line: int, file: str = "") -> bool:
        """Whether a rule may fire at a line; without a `file`, at this line of any."""
        if rule in EXPERIMENTAL_RULES and not self.experimental & {rule, "all"}:
            return False
        files = self.files or ("",) * len(self.skips)
        return not any(
            first <= line and (line <= last or not last) and skipped & {rule, "all"}
            for (first, last, skipped), at in zip(self.skips, files, strict=True)
            if not file or at in ("", file)
        )


EXPERIMENTAL_RULES = frozenset({"CopyIgnoredFile", "InvalidDefinitionDescription"})


@dataclass(frozen=True, slots=True)
class Buildfile:
    """A parsed Buildfile: the ARGs before the first FROM, the stages in order, directives, warnings.

    `warnings` are those of `found` that `checks` allows; warnings made later must ask it too. `escape` is the file's
    escape character.
    """

    file: str
    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]
    directives: dict[str, str] = field(default_factory=dict)
    warnings: tuple[Warning, ...] = ()
    escape: str = "\\"
    checks: CheckPolicy = CheckPolicy()
    found: tuple[Warning, ...] = ()

    @property
    def strict(self) -> bool:
        """`# cache=strict`: a RUN sees those declared ARGs only that it names."""
        return "cache" in self.directives
