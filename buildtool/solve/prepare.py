"""From a request to everything that can be known before a step runs: plan, files of the context, definition keys,
hits.
"""

from __future__ import annotations

import functools
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

from buildtool.buildfile import IgnoreRules, parse
from buildtool.buildfile.analysis import copies_ignored, failure, of_needed, policy_of
from buildtool.buildfile.evaluation import Given
from buildtool.buildfile.instructions import Warning
from buildtool.cache import Lease
from buildtool.errors import InvalidInput
from buildtool.graph import (
    BaseImage,
    Copy,
    Exec,
    Node,
    Plan,
    PlanOptions,
    Remote,
    Source,
    StepId,
    digest_of,
    plan_all,
    platform_options,
)
from buildtool.images import Image, Images
from buildtool.oci import host_platform, parse_platforms
from buildtool.solve.bases import base_name, find_bases
from buildtool.solve.expiry import executed_anew, renew
from buildtool.solve.explain import Difference
from buildtool.solve.files import ContextFiles, NoFiles
from buildtool.solve.fingerprints import FileIndex, with_git_mode
from buildtool.solve.keys import Preimage, definition_preimage, source_key
from buildtool.solve.ownership import parse_chmod
from buildtool.solve.records import Records, Sites, StepResult
from buildtool.solve.remotes import Fetched
from buildtool.solve.request import BuildRequest, BuildWarning, LocalContext
from buildtool.solve.sources import Selected, select_files


class MissingRemotes(Exception):
    """Something has to be fetched before the keys of the steps are known."""

    def __init__(self, nodes: list[Node]) -> None:
        super().__init__("remote sources are not fetched yet")
        self.nodes = nodes


@dataclass
class Prepared:
    """A build before its first step. `hits` are the steps whose definition key has a result.

    `generations` are those of the steps with --cache-ttl or --no-cache, each with the key that the step has without
    one; `reasons` say why such a step is executed.
    """

    request: BuildRequest
    plan: Plan
    lease: Lease
    sites: Sites
    context: ContextFiles | None
    base_images: dict[str, Image]
    selected: dict[StepId, Selected] = field(default_factory=dict)
    keys: dict[StepId, str] = field(default_factory=dict)
    preimages: dict[StepId, Preimage] = field(default_factory=dict)
    hits: dict[StepId, StepResult] = field(default_factory=dict)
    warnings: list[BuildWarning] = field(default_factory=list)
    generations: dict[StepId, tuple[str, str]] = field(default_factory=dict)
    reasons: dict[StepId, Difference] = field(default_factory=dict)
    contexts: dict[str, ContextFiles] = field(default_factory=dict)
    fetched: Mapping[Remote, Fetched] = field(default_factory=dict)

    def base(self, base: BaseImage) -> Image:
        """The image in the store that planning knows as this one."""
        return self.base_images.get(base_name(base)) or self.base_images[base.chain_id]

    def node(self, step: StepId) -> Node:
        return self.plan.node(step)


def prepare(
    request: BuildRequest,
    images: Images,
    records: Records,
    sites: Sites,
    lease: Lease,
    fresh: Collection[str] | None = None,
    fetched: Mapping[Remote, Fetched] | None = None,
    elsewhere: Mapping[str, str] = MappingProxyType({}),
    asked: Collection[str] = (),
) -> Prepared:
    """Parse, find the bases, plan, look at the context, compute keys and look them up. Blocking.

    `fresh`, `asked`: see find_bases. `elsewhere` are generations that caches have results of, by the key without one.
    Raises InvalidInput, NotFound (MissingBase), Unavailable, each with its place in the Buildfile, and MissingRemotes
    for what has to be fetched and is not among `fetched`.
    """
    buildfile = parse(request.dockerfile, request.dockerfile_name)
    if request.no_cache_filter:
        buildfile = executed_anew(buildfile, request.no_cache_filter)
    platforms = parse_platforms(request.platform) if request.platform else [host_platform()]
    options = platform_options(_options(request), platforms)
    bases, base_images = find_bases(buildfile, options, images, fresh, asked)
    planned = plan_all(buildfile, options, bases)
    context = _context(request, images)
    fetched = fetched or {}
    nodes = [planned.node(step) for step in planned.graph]
    missing = [node for node in nodes if isinstance(node.step, Remote) and node.step not in fetched]
    if missing:
        raise MissingRemotes(missing)
    prepared = Prepared(request, planned, lease, sites, context, base_images, fetched=fetched)
    prepared.contexts = {
        each.name: _named_context(each, images)
        for each in request.contexts.values()
        if isinstance(each, LocalContext)
    }
    policy = policy_of(buildfile, Given(build_args=request.build_args))
    written = of_needed(buildfile, buildfile.warnings, planned.stages, planned.shells)
    ignored = _ignored_copies(planned, context) if context is not None else ()
    fired = [w for w in (*written, *planned.warnings, *ignored) if policy.allows(w.rule, w.span.line, w.span.file)]
    violation = failure(policy, fired)
    if violation is not None:
        raise violation
    prepared.warnings = [BuildWarning(warning.message, warning.span) for warning in fired]
    if request.pull and fresh is None:
        prepared.warnings.append(BuildWarning("--pull: there is no registry client here; local images are used"))
    for step in planned.graph:
        _add_key(prepared, planned.node(step), records, elsewhere)
    for each in (context, *prepared.contexts.values()):
        if each is not None:
            each.index.save()
    if not request.no_cache:
        wanted = {step: key for step, key in prepared.keys.items() if planned.node(step).has_layer}
        found = records.find_all(wanted.values(), lease)
        prepared.hits = {step: found[key] for step, key in wanted.items() if key in found}
    return prepared


def _ignored_copies(planned: Plan, context: ContextFiles) -> Iterator[Warning]:
    """CopyIgnoredFile: what the needed stages copy out of the context, and the ignore file excludes."""
    for step in planned.graph:
        node = planned.node(step)
        added = isinstance(node.step, Copy) and (bool(node.name) or node.step.unpack is not False)
        if added and isinstance(node.step, Copy) and node.step.from_context and not node.step.context:
            keyword = "COPY" if node.step.unpack is False else "ADD"
            yield from copies_ignored(keyword, node.places, context.rules)


def _options(request: BuildRequest) -> PlanOptions:
    return PlanOptions(
        build_args=request.build_args,
        target=request.target,
        explicit=bool(request.platform),
        labels=request.labels,
        network="default" if request.network_mode in ("", "bridge") else request.network_mode,
        entitlements=request.entitlements,
        extra_hosts=request.extra_hosts,
        epoch=request.epoch,
        context_epoch=request.context_epoch,
        commit_epoch=request.commit_epoch,
        contexts=request.named_contexts(),
    )


def _context(request: BuildRequest, images: Images) -> ContextFiles | None:
    if request.context is None:
        return None
    rules = IgnoreRules.parse(request.ignore or "", request.ignore_name)
    directory, key = images.store.root / "build-index", request.context_key or str(request.context)
    if request.context_mode == "git":
        index = FileIndex(directory, f"{key} git", request.context, with_git_mode)
        return ContextFiles(request.context, rules, index, with_git_mode)
    if request.context_mode not in ("", "keep"):
        raise InvalidInput(f"unknown context mode {request.context_mode!r}", hint="There are keep and git.")
    return ContextFiles(request.context, rules, FileIndex(directory, key, request.context))


def _named_context(context: LocalContext, images: Images) -> ContextFiles:
    rules = IgnoreRules.parse(context.ignore or "", context.ignore_name)
    key = context.key or f"{context.name}={context.directory}"
    index = FileIndex(images.store.root / "build-index", key, context.directory)
    return ContextFiles(context.directory, rules, index)


def _add_key(prepared: Prepared, node: Node, records: Records, elsewhere: Mapping[str, str]) -> None:
    step = node.step
    if isinstance(step, Source):
        prepared.keys[node.id] = source_key(step)
        return
    if isinstance(step, Remote):
        prepared.keys[node.id] = prepared.fetched[step].key
        return
    content = ""
    if isinstance(step, Copy):
        _check_chmod(step, node)
        if step.from_context:
            files = prepared.contexts[step.context] if step.context else prepared.context
            if files is None and step.sources:
                raise InvalidInput(
                    "there is no build context to copy from", where=node.span, hint="build from a directory"
                )
            selected = select_files(
                files or NoFiles(), node, f"the context {step.context}" if step.context else "the build context"
            )
            prepared.selected[node.id] = selected
            content = selected.digest
            for name in selected.selection.unmatched:
                place = dict(node.places).get(name, node.span)
                prepared.warnings.append(BuildWarning(f"no file matches {name!r}", place))
    inputs = [prepared.keys[needed] for needed in node.inputs]
    generation = ""
    if isinstance(step, Exec) and (step.execution.no_cache or step.execution.cache_ttl):
        key_of = functools.cache(lambda number: digest_of(definition_preimage(node, inputs, generation=number)))
        if key_of("") in elsewhere:
            generation, reason = elsewhere[key_of("")], None
        else:
            generation, reason = renew(key_of, step.execution, records, anew=prepared.request.no_cache)
        prepared.generations[node.id] = (key_of(""), generation)
        if reason is not None:
            prepared.reasons[node.id] = reason
    preimage = definition_preimage(node, inputs, content, generation)
    prepared.preimages[node.id] = preimage
    prepared.keys[node.id] = digest_of(preimage)


def _check_chmod(step: Copy, node: Node) -> None:
    try:
        if step.chmod:
            parse_chmod(step.chmod)
    except InvalidInput as error:
        raise InvalidInput(error.message, where=node.span, hint=error.hint) from None
