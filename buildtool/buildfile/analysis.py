"""All build checks of a parsed file, those that need the context and the base images too. Pure.

`check` is what a build, `buildtool build --check` and `buildtool lint` have in common.
"""

from __future__ import annotations

import posixpath
import re
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator

from buildtool.buildfile.checks import (
    by_place,
    message_base_platform,
    message_copy_ignored,
    message_undefined_var,
    read_override,
)
from buildtool.buildfile.evaluation import Given, StageFacts, Undefined, evaluate, find_stage, reachable
from buildtool.buildfile.ignore import IgnoreRules
from buildtool.buildfile.instructions import Buildfile, CheckPolicy, Warning, Workdir
from buildtool.buildfile.sourcemap import raw_line
from buildtool.buildfile.suggest import closest, did_you_mean
from buildtool.errors import InvalidInput, NotFound, Span
from buildtool.oci.platform import Platform

OVERRIDE = "BUILDKIT_DOCKERFILE_CHECK"
"""The build arg whose value stands for the file's `check` directive."""
_REMOTE = re.compile(r"[a-z][a-z0-9+.-]*://|git@", re.IGNORECASE)
_WHERE_BUILT = frozenset(
    {"JSONArgsRecommended", "WorkdirRelativePath", "LegacyKeyValueFormat", "SecretsUsedInArgOrEnv",
     "MultipleInstructionsDisallowed", "ExposeProtoCasing", "ExposeInvalidFormat"}
)  # fmt: skip
_ALL = ("*", "**", "**/*")
_ABSOLUTE = re.compile(r"/|[A-Za-z]:[\\/]")


def check(buildfile: Buildfile, given: Given | None = None, ignore: IgnoreRules | None = None) -> list[Warning]:
    """The checks that fire, in the order of their places, as far as the file's options let them.

    `given` are the build's arguments and what is known of base images: without facts about an image UndefinedVar
    tells only of variables that look like a slip of the pen, and InvalidBaseImagePlatform is silent. `ignore` are the
    rules of the context's ignore file. With a target only the stages it needs are looked at for what depends on
    values.
    """
    given = given or Given()
    policy = policy_of(buildfile, given)
    stages = _looked_at(buildfile, given)
    written = of_needed(
        buildfile,
        buildfile.found,
        range(len(buildfile.stages)) if stages is None else [facts.stage.index for facts in stages],
        [facts.stage.index for facts in stages or () if facts.inherits_shell],
    )
    found = {*written, *_of_values(stages or (), ignore)}
    return sorted((w for w in found if policy.allows(w.rule, w.span.line, w.span.file)), key=by_place)


def of_needed(
    buildfile: Buildfile, found: Iterable[Warning], stages: Collection[int], shells: Collection[int]
) -> Iterator[Warning]:
    """The findings of parsing as BuildKit has them when it knows more.

    Some it makes only in `stages` that are built (by index). In those of `shells` the base image sets a SHELL: that a
    command is in shell form is meant there.
    """
    starts = [raw_line(stage.from_.span) for stage in buildfile.stages]
    for warning in found:
        stage = bisect_right(starts, raw_line(warning.span)) - 1
        if warning.rule == "JSONArgsRecommended" and stage in shells:
            continue
        if warning.rule not in _WHERE_BUILT or stage < 0 or stage in stages:
            yield warning


def _looked_at(buildfile: Buildfile, given: Given) -> list[StageFacts] | None:
    """The stages that are needed; None when that cannot be told."""
    try:
        return _wanted(buildfile, given)
    except (InvalidInput, NotFound):
        return None


def first_error(buildfile: Buildfile, given: Given | None = None) -> InvalidInput | NotFound | None:
    """What will stop a build of this file before its first step: an expansion that fails, an unknown target."""
    try:
        stages = _wanted(buildfile, given or Given())
    except (InvalidInput, NotFound) as error:
        return error
    errors = [error for facts in stages for error in facts.errors]
    return min(errors, key=lambda error: raw_line(error.where) if error.where else 0, default=None)


def policy_of(buildfile: Buildfile, given: Given) -> CheckPolicy:
    """The file's check options, or those that the build arg BUILDKIT_DOCKERFILE_CHECK gives instead."""
    text = given.build_args.get(OVERRIDE)
    if not text:
        return buildfile.checks
    override = read_override(text, buildfile.file)
    own = buildfile.checks
    above = [(skip, file) for skip, file in zip(own.skips, own.files, strict=True) if skip[1]]
    skips = (*override.skips, *(skip for skip, _ in above))
    files = (*override.files, *(file for _, file in above))
    return CheckPolicy(skips, override.error, override.experimental, files)


def failure(policy: CheckPolicy, warnings: Iterable[Warning]) -> InvalidInput | None:
    """The error that a build ends with when checks fired and `error=true` asks for it."""
    fired = sorted(warnings, key=by_place)
    if not policy.error or not fired:
        return None
    rules = ", ".join(sorted({warning.rule for warning in fired}))
    hint = "the Buildfile says check=error=true; mend it, or skip rules with check=skip=RULE;error=true"
    return InvalidInput(f"lint violation found for rules: {rules}", where=fired[0].span, hint=hint)


def copies_ignored(keyword: str, sources: Iterable[tuple[str, Span]], ignore: IgnoreRules) -> Iterator[Warning]:
    """CopyIgnoredFile for the sources (expanded, with their places) of a COPY or ADD from the build context."""
    for source, span in sources:
        path = posixpath.normpath("/" + source).lstrip("/")
        everything = not path and any(rule.pattern in _ALL for rule in ignore.rules) and not ignore.has_negations
        if keyword == "ADD" and _REMOTE.match(source):
            continue
        if everything or (ignore.excludes(path) and not ignore.may_contain_included(path)):
            yield Warning("CopyIgnoredFile", message_copy_ignored(keyword, posixpath.normpath(source)), span)


def relative_workdir(instruction: Workdir, path: str) -> Iterator[Warning]:
    """WorkdirRelativePath for the expanded path of a stage's first WORKDIR; parsing judges those of plain text."""
    if instruction.path.text.lstrip("\"'").startswith("$") and path and not _ABSOLUTE.match(path):
        text = f'Relative workdir "{path}" can have unexpected results if the base image changes'
        yield Warning("WorkdirRelativePath", text, instruction.path.span)


def base_platform(image: str, actual: Platform, wanted: Platform, span: Span) -> Iterator[Warning]:
    """InvalidBaseImagePlatform: systems and architectures are compared, variants are not."""
    if (actual.os, actual.architecture) != (wanted.os, wanted.architecture):
        text = message_base_platform(image, str(actual), str(wanted))
        yield Warning("InvalidBaseImagePlatform", text, span)


def _wanted(buildfile: Buildfile, given: Given) -> list[StageFacts]:
    stages = evaluate(buildfile, given)
    if not given.target:
        return stages
    target = find_stage(stages, given.target)
    if target is None:
        names = [stage.name for stage in buildfile.stages if stage.name]
        hint = did_you_mean(given.target, names, otherwise=f"the stages are: {', '.join(names)}" if names else "")
        raise NotFound(f"target stage {given.target!r} could not be found", hint=hint)
    return sorted(reachable(target), key=lambda facts: facts.stage.index)


def _of_values(stages: Iterable[StageFacts], ignore: IgnoreRules | None) -> Iterator[Warning]:
    with_workdir: set[int] = set()
    for facts in stages:
        yield from _undefined(facts.undefined)
        yield from _base_platform(facts)
        inherits = facts.base is not None and facts.base.stage.index in with_workdir
        if facts.workdirs or inherits:
            with_workdir.add(facts.stage.index)
        if not inherits:
            yield from _workdir(facts)
        if ignore is not None:
            for copy, word, source in facts.copies:
                yield from copies_ignored(copy.keyword, [(source, word.span)], ignore)


def _undefined(found: list[Undefined]) -> Iterator[Warning]:
    for use in found:
        if use.certain or closest(use.name, use.known) is not None:
            yield Warning("UndefinedVar", message_undefined_var(use.name, use.known), use.span)


def _base_platform(facts: StageFacts) -> Iterator[Warning]:
    actual = facts.facts.platform if facts.facts is not None else None
    if actual is not None:
        yield from base_platform(facts.image, actual, facts.platform, facts.stage.from_.image.span)


def _workdir(facts: StageFacts) -> Iterator[Warning]:
    """WorkdirRelativePath for a path that variables give: the first WORKDIR of the file's stages decides."""
    for instruction, path in facts.workdirs[:1]:
        yield from relative_workdir(instruction, path)
