"""How an image was built, as a SLSA provenance predicate.

`min` says what the build was made from and where; `max` adds what it was asked for (build args, labels, ids of
secrets and agents), its steps, the Buildfile's text and which layer each step made. Values of secrets are never in
it: neither what was given as a secret, nor build args and variables whose names are those of secrets, nor credentials
in URLs.
Source: SLSA v1.1, provenance; the shape of BuildKit's, docs/attestations/slsa-definitions.md.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

from buildtool import __version__
from buildtool.graph import Copy, Exec, Node, Remote, Source, StepId, definition
from buildtool.images import Image
from buildtool.images.attestations import Wanted, image_url
from buildtool.images.times import format_time
from buildtool.oci import host_platform, media_types, parse_reference
from buildtool.solve.history import BuildRecord
from buildtool.solve.prepare import Prepared
from buildtool.solve.redaction import Redaction, redaction_of
from buildtool.solve.request import BuildRequest, LocalContext

BUILD_TYPE = "urn:buildtool:build:v1"
"""Described in docs/attestations.md."""
BUILDER = "urn:buildtool:builder"


def provenance(wanted: Wanted, prepared: Prepared, image: Image, record: BuildRecord, ended: float) -> dict[str, Any]:
    """The predicate of a build that ended at this time (in seconds), in the mode that `wanted` says. Pure."""
    request = prepared.request
    full = wanted.provenance == "max"
    hide = redaction_of(request.secrets, request.build_args)
    parts = _Parts(prepared, image, hide)
    external: dict[str, Any] = {"configSource": parts.config_source(), "request": _request(request, full, hide)}
    internal: dict[str, Any] = {"builderPlatform": str(host_platform())}
    metadata: dict[str, Any] = {}
    if wanted.vcs:
        metadata["vcs"] = dict(sorted(wanted.vcs.items()))
    if full:
        internal["buildConfig"] = {"steps": parts.steps()}
        metadata["source"] = {"filename": request.dockerfile_name, "text": hide.buildfile(request.dockerfile)}
        metadata["layers"] = parts.layers()
    complete = {"request": full, "resolvedDependencies": not parts.reads_a_directory()}
    found: dict[str, Any] = hide.everywhere(
        {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": external,
                "internalParameters": internal,
                "resolvedDependencies": list(parts.dependencies()),
            },
            "runDetails": {
                "builder": {"id": wanted.builder_id or BUILDER, "version": {"buildtool": __version__}},
                "metadata": {
                    "invocationId": record.id,
                    "startedOn": format_time(record.began),
                    "finishedOn": format_time(ended),
                    "buildtool_hermetic": parts.is_hermetic(),
                    "buildtool_completeness": complete,
                    "buildtool_reproducible": wanted.reproducible,
                    **({"buildtool_metadata": metadata} if metadata else {}),
                },
            },
        }
    )
    return found


def _request(request: BuildRequest, full: bool, hide: Redaction) -> dict[str, Any]:
    """What was asked for, under the names that BuildKit's frontend has for it."""
    args = {
        "target": request.target,
        "platform": request.platform,
        "no-cache": "" if request.no_cache else None,
        "force-network-mode": "" if request.network_mode == "default" else request.network_mode,
        "add-hosts": ",".join(request.extra_hosts),
        "context-mode": request.context_mode,
    }
    found: dict[str, Any] = {"frontend": "dockerfile.v0"}
    values = {name: value for name, value in args.items() if value or (name == "no-cache" and value is not None)}
    if full:
        for name, value in request.build_args.items():
            values[f"build-arg:{name}"] = hide.variable(name, value or "")
        values |= {f"label:{name}": value for name, value in request.labels.items()}
        found["secrets"] = [{"id": name} for name in sorted(request.secrets)]
        found["ssh"] = [{"id": name} for name in sorted(request.agents)]
    found["args"] = dict(sorted(values.items()))
    names = [context.name for context in request.contexts.values() if isinstance(context, LocalContext)]
    local = ["context"] if request.context is not None and not request.context_source else []
    found["locals"] = [{"name": name} for name in (*local, *sorted(names))]
    return found


@dataclasses.dataclass
class _Parts:
    prepared: Prepared
    image: Image
    hide: Redaction

    def nodes(self) -> Iterator[Node]:
        return (self.prepared.node(step) for step in self.prepared.plan.graph)

    def config_source(self) -> dict[str, Any]:
        request = self.prepared.request
        found: dict[str, Any] = {"path": request.dockerfile_name}
        if request.context_source:
            found |= _fetched(self.hide.url(request.context_key), request.context_source)
        return found

    def dependencies(self) -> Iterator[dict[str, Any]]:
        """Every image, repository and download that the build read, once."""
        seen: set[str] = set()
        candidates = [self._dependency(node) for node in self.nodes()]
        request = self.prepared.request
        if request.context_source:
            candidates.append(_fetched(self.hide.url(request.context_key), request.context_source))
        for each in candidates:
            if each is not None and each["uri"] not in seen:
                seen.add(each["uri"])
                yield each

    def _dependency(self, node: Node) -> dict[str, Any] | None:
        step = node.step
        if isinstance(step, Remote):
            url = self.hide.url(step.url) + (f"#{step.ref}" if step.ref else "")
            return _fetched(url, self.prepared.fetched[step].key)
        if not isinstance(step, Source) or step.chain_id not in self.prepared.base_images:
            return None
        image = self.prepared.base_images[step.chain_id]
        digest = image.manifest.digest
        try:
            reference = parse_reference(step.reference).with_default_tag()
            known = [each for each in image.repo_digests if each.repository == reference.repository]
            digest = known[0].digest or digest if known else digest
            url = image_url(reference, image.config.platform)
        except ValueError:
            url = f"pkg:docker/{step.reference}"
        return {"uri": url, "digest": {"sha256": digest.removeprefix("sha256:")}}

    def reads_a_directory(self) -> bool:
        """Whether files come from where only the client knows what they are."""
        request = self.prepared.request
        copies = [node.step for node in self.nodes() if isinstance(node.step, Copy) and node.step.from_context]
        return any(step.context or (step.sources and not request.context_source) for step in copies)

    def is_hermetic(self) -> bool:
        """Whether no command had a network."""
        return all(node.step.network == "none" for node in self.nodes() if isinstance(node.step, Exec))

    def steps(self) -> list[dict[str, Any]]:
        """The graph, in an order in which each step stands behind its inputs."""
        found = []
        for node in self.nodes():
            entry: dict[str, Any] = {"id": node.id, "op": self._definition(node)}
            if node.inputs:
                entry["inputs"] = list(node.inputs)
            if node.name:
                entry["name"] = node.name
            if node.span is not None:
                entry["place"] = f"{node.span.file}:{node.span.line}"
            found.append(entry)
        return found

    def _definition(self, node: Node) -> dict[str, Any]:
        fields = definition(node.step)
        if isinstance(node.step, Exec):
            pairs = [text.partition("=") for text in node.step.env]
            fields["env"] = [f"{name}={self.hide.variable(name, value)}" for name, _, value in pairs]
            fields["build_args"] = [[name, self.hide.variable(name, value)] for name, value in node.step.build_args]
        elif isinstance(node.step, Remote):
            fields["url"] = self.hide.url(node.step.url)
        return fields

    def layers(self) -> dict[StepId, list[dict[str, Any]]]:
        """Which layer of the image a step made."""
        chain = self.prepared.plan.image.chain
        own = self.image.layers[len(self.image.layers) - len(chain) :]
        return {
            step: [{"mediaType": media_types.LAYER, "digest": layer.diff_id, "size": layer.size}]
            for step, layer in zip(chain, own, strict=False)
        }


def _fetched(url: str, key: str) -> dict[str, Any]:
    """A resource by its URL and the key of what came from there (`git:COMMIT:…`, `http:SHA256:…`)."""
    kind, _, rest = key.partition(":")
    digest = rest.partition(":")[0]
    return {"uri": url, "digest": {"sha1" if kind == "git" and len(digest) == 40 else "sha256": digest}}
