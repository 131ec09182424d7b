"""Build checks: style and safety rules that never change what is built, with BuildKit's names.

Here are the rules that the text alone decides. UndefinedVar, CopyIgnoredFile and InvalidBaseImagePlatform need the
base image or the context: buildfile.analysis has them, with the words of `message_…`.
Source: ../shared/reference/build.md, table 1.4.
"""

from __future__ import annotations

import functools
import re
from collections import Counter
from collections.abc import Iterator, Sequence

from buildtool.buildfile.instructions import (
    Arg,
    CheckPolicy,
    Cmd,
    Entrypoint,
    Env,
    Expose,
    HealthCheck,
    Instruction,
    Label,
    Maintainer,
    Shell,
    Stage,
    Warning,
    Word,
    Workdir,
)
from buildtool.buildfile.scanner import Comment, Logical, Scanned
from buildtool.buildfile.sourcemap import raw_line
from buildtool.buildfile.suggest import closest
from buildtool.buildfile.words import expand_word, variables
from buildtool.errors import InvalidInput, Span
from buildtool.oci.platform import parse_platform
from buildtool.oci.reference import parse_reference

PLATFORM_ARGS = frozenset(
    f"{side}{part}" for side in ("BUILD", "TARGET") for part in ("PLATFORM", "OS", "OSVERSION", "ARCH", "VARIANT")
) | {"TARGETSTAGE"}  # fmt: skip
_SECRET = re.compile(r"(?i)(_|^)(apikey|auth|credentials?|key|password|pword|passwd|secret|token)(_|$)")
_NOT_SECRET = re.compile(r"(?i)(_|^)(public|file|version)(_|$)")
_CHECK_COMMENT = re.compile(r"check\s*=\s*(.+)", re.IGNORECASE)
_ABSOLUTE = re.compile(r"/|\$|[A-Za-z]:[\\/]")
HIDDEN = "***"
"""Stands for the value of a secret wherever a build is told of."""
_SIGNALS = "to prevent unintended behavior related to OS signals"


def read_policy(scanned: Scanned) -> CheckPolicy:
    """What the `check` directive and `# check=` comments say. Raises InvalidInput for a bad directive."""
    skips: list[tuple[int, int, frozenset[str]]] = []
    files: list[str] = []
    error, experimental = False, frozenset[str]()
    if "check" in scanned.directives:
        where = scanned.source.span(scanned.directive_lines["check"])
        skip, error, experimental = _read_options(scanned.directives["check"], where)
        skips.append((1, 0, skip))
        files.append("")
    for line in scanned.lines:
        for comment in line.comments:
            if match := _CHECK_COMMENT.match(comment.text):
                try:
                    skip, _, _ = _read_options(match[1], line.source.span(comment.line))
                except InvalidInput:
                    continue  # a comment, after all
                first, last = line.source.span(line.first_line), line.source.span(line.last_line)
                skips.append((first.line, max(last.line, first.line), skip))
                files.append(first.file)
    return CheckPolicy(tuple(skips), error, experimental, tuple(files))


def read_override(text: str, file: str) -> CheckPolicy:
    """The policy that a build arg BUILDKIT_DOCKERFILE_CHECK gives instead of the file's own. Raises InvalidInput."""
    skip, error, experimental = _read_options(text, Span(file, 1, 1, 1, ""))
    return CheckPolicy(((1, 0, skip),), error, experimental, ("",))


def _read_options(text: str, where: Span) -> tuple[frozenset[str], bool, frozenset[str]]:
    """Read `skip=A,B;error=true;experimental=all`."""
    rules: dict[str, set[str]] = {"skip": set(), "experimental": set()}
    error = False
    for part in filter(None, (part.strip() for part in text.split(";"))):
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if equals and key in rules:
            rules[key].update(name.strip() for name in value.split(","))
        elif equals and key == "error" and value.lower() in ("true", "1", "t", "false", "0", "f"):
            error = value.lower() in ("true", "1", "t")
        else:
            raise InvalidInput(
                f"invalid check option {part!r}",
                where=where,
                hint="options are skip=RULES, error=true (or false) and experimental=RULES",
            )
    return frozenset(rules["skip"]), error, frozenset(rules["experimental"])


def find(scanned: Scanned, global_args: Sequence[Arg], stages: Sequence[Stage]) -> tuple[Warning, ...]:
    """Run the rules over a parsed file, whatever its options say; warnings come in the order of their lines."""
    return tuple(sorted(_all(scanned, global_args, stages), key=by_place))


def by_place(warning: Warning) -> tuple[int, int, str]:
    """The order in which warnings are shown."""
    return raw_line(warning.span), warning.span.column, warning.rule


def _all(scanned: Scanned, global_args: Sequence[Arg], stages: Sequence[Stage]) -> Iterator[Warning]:
    yield from _lines(scanned)
    yield from _stage_names(scanned, stages)
    yield from _froms(global_args, stages)
    known: dict[str, frozenset[type]] = {}
    for stage in stages:
        yield from _stage(stage, known)


def _lines(scanned: Scanned) -> Iterator[Warning]:
    keywords = [line.keyword for line in scanned.lines]
    first = next(index for index, word in enumerate(keywords) if word.upper() == "FROM")
    lower = sum(word == word.lower() for word in keywords[first:])
    upper = sum(word == word.upper() for word in keywords[first:])
    style, convert = ("lowercase", str.lower) if lower > upper else ("uppercase", str.upper)
    for index, line in enumerate(scanned.lines):
        where = line.span(0, len(line.keyword))
        if index >= first and convert(line.keyword) != line.keyword:
            yield Warning(
                "ConsistentInstructionCasing",
                f"Command '{line.keyword}' should match the case of the command majority ({style})",
                where,
            )
        for number in line.empty_lines[:1]:
            yield Warning("NoEmptyContinuation", "Empty continuation line", line.source.span(number))


def _stage_names(scanned: Scanned, stages: Sequence[Stage]) -> Iterator[Warning]:
    seen: set[str] = set()
    froms = [line for line in scanned.lines if line.keyword.upper() == "FROM"]
    for stage, line in zip(stages, froms, strict=True):
        where = line.span(0)
        name = stage.name
        words = line.text.split()
        if name is None:
            continue
        keyword, written = words[-2], words[-1]
        if written != name:
            yield Warning("StageNameCasing", f"Stage name '{written}' should be lowercase", where)
        if (line.keyword == line.keyword.lower()) != (keyword == keyword.lower()):
            yield Warning("FromAsCasing", f"'{keyword}' and '{line.keyword}' keywords' casing do not match", where)
        if name in ("scratch", "context"):
            text = f'Stage name should not use the same name as reserved stage "{name}"'
            yield Warning("ReservedStageName", text, where)
        if name in seen:
            yield Warning("DuplicateStageName", f'Duplicate stage name "{name}", stage names should be unique', where)
        seen.add(name)
        yield from _descriptions(line, "FROM", (name,))
    for line in scanned.lines:
        if line.keyword.upper() == "ARG":
            names = re.findall(r"(?:^|\s)([A-Za-z_]\w*)(?==|\s|$)", line.text[line.arguments :])
            yield from _descriptions(line, "ARG", names)


def _descriptions(line: Logical, keyword: str, names: Sequence[str]) -> Iterator[Warning]:
    def describes(comment: Comment) -> bool:
        return any(comment.text.startswith(f"{name} ") for name in names)

    if line.comments and names and not any(map(describes, line.comments)):
        text = f"Comment for {keyword} should follow the format: `# {names[0]} <description>`"
        yield Warning("InvalidDefinitionDescription", text, line.span(0, len(line.keyword)))


def _froms(global_args: Sequence[Arg], stages: Sequence[Stage]) -> Iterator[Warning]:
    declared = {key.text for arg in global_args for key, _ in arg.pairs}
    known = declared | PLATFORM_ARGS
    defaults = _defaults(global_args)
    for stage in stages:
        for word in filter(None, (stage.from_.image, stage.from_.platform)):
            for name in sorted(_variables(word) - known):
                yield Warning("UndefinedArgInFrom", message_undefined_arg(name, known), word.span)
        yield from _platform(stage)
        image = stage.from_.image
        if _variables(image):
            value = _expand(image, defaults)
            if value is not None and not _is_reference(value):
                text = f"Default value for ARG {image.text} results in empty or invalid base image name"
                yield Warning("InvalidDefaultArgInFrom", text, image.span)


def _is_reference(text: str) -> bool:
    try:
        parse_reference(text)
    except InvalidInput:
        return False
    return True


def _platform(stage: Stage) -> Iterator[Warning]:
    platform = stage.from_.platform
    if platform is None:
        return
    used = _variables(platform)
    if used == {"TARGETPLATFORM"} and _expand(platform, {"TARGETPLATFORM": "os/arch"}) == "os/arch":
        text = f"Setting platform to predefined {platform.text} in FROM is redundant as this is the default behavior"
        yield Warning("RedundantTargetPlatform", text, platform.span)
    elif not used and not _is_named_after(stage, platform.text):
        text = f'FROM --platform flag should not use constant value "{platform.text}"'
        yield Warning("FromPlatformFlagConstDisallowed", text, platform.span)


def _is_named_after(stage: Stage, text: str) -> bool:
    """Whether the stage's name says that it is for this platform (or the platform is none)."""
    try:
        platform = parse_platform(text)
    except InvalidInput:
        return True
    return bool(stage.name) and any(part in (stage.name or "") for part in (platform.os, platform.architecture))


def _defaults(global_args: Sequence[Arg]) -> dict[str, str]:
    values = dict.fromkeys(PLATFORM_ARGS, "x")
    for arg in global_args:
        for key, default in arg.pairs:
            if default is not None and (value := _expand(default, values)) is not None:
                values[key.text] = value
    return values


def _expand(word: Word, env: dict[str, str]) -> str | None:
    try:
        return expand_word(word, env)
    except InvalidInput:
        return None


def _variables(word: Word) -> frozenset[str]:
    try:
        return variables(word)
    except InvalidInput:
        return frozenset()


def _stage(stage: Stage, known: dict[str, frozenset[type]]) -> Iterator[Warning]:
    """Rules that depend on what was set before: `known` tells which of WORKDIR and SHELL a named stage has set."""
    seen: set[type] = set(known.get(stage.from_.image.text.lower(), ()))
    for instruction in stage.instructions:
        if isinstance(instruction, Workdir) and Workdir not in seen:
            path = instruction.path.text.strip("\"'")
            if not _ABSOLUTE.match(path):
                text = f'Relative workdir "{path}" can have unexpected results if the base image changes'
                yield Warning("WorkdirRelativePath", text, instruction.path.span)
        if isinstance(instruction, Cmd | Entrypoint) and instruction.command.shell is not None and Shell not in seen:
            text = f"JSON arguments recommended for {instruction.keyword} {_SIGNALS}"
            yield Warning("JSONArgsRecommended", text, instruction.span)
        if isinstance(instruction, Workdir | Shell):
            seen.add(type(instruction))
        yield from _instruction(instruction)
    if stage.name:
        known[stage.name] = frozenset(seen)
    yield from _repeated(stage)


def _repeated(stage: Stage) -> Iterator[Warning]:
    kinds = (Cmd, Entrypoint, HealthCheck)
    counts = Counter(type(instruction) for instruction in stage.instructions if isinstance(instruction, kinds))
    for instruction in stage.instructions:
        if isinstance(instruction, kinds) and counts[type(instruction)] > 1:
            counts[type(instruction)] -= 1
            text = (
                f"Multiple {instruction.keyword} instructions should not be used in the same stage because only the "
                "last one will be used"
            )
            yield Warning("MultipleInstructionsDisallowed", text, instruction.span)


def _instruction(instruction: Instruction) -> Iterator[Warning]:
    where = instruction.span
    if isinstance(instruction, Maintainer):
        text = "Maintainer instruction is deprecated in favor of using label"
        yield Warning("MaintainerDeprecated", text, where)
    elif isinstance(instruction, Env | Label) and instruction.legacy:
        keyword = instruction.keyword
        text = f'"{keyword} key=value" should be used instead of legacy "{keyword} key value" format'
        yield Warning("LegacyKeyValueFormat", text, where)
    elif isinstance(instruction, Expose):
        yield from _ports(instruction)
    yield from _secrets(instruction)


@functools.lru_cache(maxsize=4096)
def is_secret_name(name: str) -> bool:
    """Whether a variable of this name holds a secret, as far as names tell."""
    return _SECRET.search(name) is not None and _NOT_SECRET.search(name) is None


def _secrets(instruction: Instruction) -> Iterator[Warning]:
    if not isinstance(instruction, Arg | Env):
        return
    for key, _ in instruction.pairs:
        if is_secret_name(key.text):
            text = f'Do not use ARG or ENV instructions for sensitive data ({instruction.keyword} "{key.text}")'
            yield Warning("SecretsUsedInArgOrEnv", text, key.span)


def _ports(instruction: Expose) -> Iterator[Warning]:
    for port in instruction.ports:
        number, slash, protocol = port.text.partition("/")
        if "$" in port.text:
            continue
        if slash and protocol != protocol.lower():
            text = f"Defined protocol '{port.text}' in EXPOSE instruction should be lowercase"
            yield Warning("ExposeProtoCasing", text, port.span)
        if ":" in number:
            text = f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port.text}'"
            yield Warning("ExposeInvalidFormat", text, port.span)


def message_undefined_arg(name: str, known: frozenset[str] | set[str]) -> str:
    near = closest(name, known)
    return f"FROM argument '{name}' is not declared" + (f" (did you mean {near}?)" if near else "")


def message_undefined_var(name: str, known: frozenset[str] | set[str]) -> str:
    """The words of UndefinedVar; `known` are the names that are defined there."""
    near = closest(name, known)
    return f"Usage of undefined variable '${name}'" + (f" (did you mean ${near}?)" if near else "")


def message_base_platform(image: str, actual: str, wanted: str) -> str:
    """The words of InvalidBaseImagePlatform."""
    return f'Base image {image} was pulled with platform "{actual}", expected "{wanted}" for current build'


def message_copy_ignored(keyword: str, path: str) -> str:
    return f'Attempting to {keyword.capitalize()} file "{path}" that is excluded by .dockerignore'
