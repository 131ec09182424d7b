"""A stack as an artifact of a registry: the files it is made of as the layers of an OCI manifest.

`publish` makes one, `-f oci://REFERENCE` reads it; the form is docker compose's, each reads what the other wrote.
Source: OCI image-spec v1.1, manifest.md, "Guidelines for Artifact Usage"; media types and annotations of docker
compose 2.40.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from buildtool.errors import Corrupt, InvalidInput
from buildtool.oci import Digest, sha256
from buildtool.stacks.interpolation import BadTemplate, MissingVariable, substitute
from buildtool.stacks.model import Files, Project
from buildtool.stacks.paths import absolute, is_remote

PROJECT = "application/vnd.docker.compose.project"
FILE = "application/vnd.docker.compose.file+yaml"
ENV_FILE = "application/vnd.docker.compose.envfile"
EMPTY = "application/vnd.oci.empty.v1+json"
OLD_EMPTY = "application/vnd.docker.compose.config.empty.v1+json"
MANIFEST = "application/vnd.oci.image.manifest.v1+json"
_PREFIX = "com.docker.compose"
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Part:
    """One file of the stack: its media type, its name in the artifact, its bytes; `extends` marks those that are only
    extended, not merged."""

    __slots__ = ("content", "extends", "media_type", "name")

    def __init__(self, media_type: str, name: str, content: bytes, *, extends: bool = False) -> None:
        self.media_type = media_type
        self.name = name
        self.content = content
        self.extends = extends

    @property
    def digest(self) -> Digest:
        """Of the content."""
        return sha256(self.content)

    def descriptor(self) -> dict[str, Any]:
        """As a layer of the manifest."""
        key = "envfile" if self.media_type == ENV_FILE else "file"
        annotations = {f"{_PREFIX}.{key}": self.name}
        if self.extends:
            annotations[f"{_PREFIX}.extends"] = "true"
        return {
            "mediaType": self.media_type,
            "digest": self.digest,
            "size": len(self.content),
            "annotations": annotations,
        }


def parts_of(project: Project, files: Files, *, with_env: bool) -> list[Part]:
    """The stack's files, with the names that env files and extended files have in the artifact written into them.

    Raises InvalidInput for a stack that needs more of this machine than its files.
    """
    waiting = [(path, os.path.basename(path), False) for path in project.files]  # noqa: PTH119
    environments: dict[str, str] = {}
    parts: list[Part] = []
    seen = {path for path, _, _ in waiting}
    while waiting:
        path, name, extends = waiting.pop(0)
        text = files.read(path)
        edits: list[tuple[int, int, str]] = []
        base = os.path.dirname(path) if extends else project.directory  # noqa: PTH120
        for kind, node in _references(text):
            other = absolute(_expanded(node.value, project.environment), base)
            if is_remote(node.value):
                continue
            if kind == "include":
                raise InvalidInput(
                    f"{path}: a stack that includes local files cannot be published",
                    hint="Name the included files with -f, or publish them and include oci://…",
                )
            called = _name(other, project.directory, "env" if kind == "env_file" else "yaml")
            if kind == "env_file":
                environments[other] = called
            elif other not in seen:
                seen.add(other)
                waiting.append((other, called, True))
            edits.append((node.start_mark.index, node.end_mark.index, called))
        parts.append(Part(FILE, name, _edited(text, edits).encode(), extends=extends))
    if with_env:
        for path, name in environments.items():
            if files.exists(path):
                parts.append(Part(ENV_FILE, name, files.read(path).encode()))
    return parts


def manifest(parts: Sequence[Part], *, old: bool = False) -> bytes:
    """The manifest of the artifact. `old`: for registries that know no artifact types (OCI 1.0)."""
    import json

    config = {"mediaType": OLD_EMPTY if old else EMPTY, "digest": sha256(b"{}"), "size": 2}
    document = {"schemaVersion": 2, "mediaType": MANIFEST}
    if not old:
        document["artifactType"] = PROJECT
    document |= {"config": config, "layers": [part.descriptor() for part in parts]}
    return json.dumps(document, separators=(",", ":")).encode()


def layers_of(document: Mapping[str, Any], name: str) -> list[dict[str, Any]]:
    """The layers of a stack's manifest. Raises InvalidInput when it is the manifest of something else."""
    config = (document.get("config") or {}).get("mediaType")
    kind = document.get("artifactType") or (PROJECT if config == OLD_EMPTY else config or "an index")
    if kind != PROJECT:
        raise InvalidInput(
            f"{name} is not a stack, but {kind}", hint="Stacks are put there with: compose publish NAME"
        )
    return [layer for layer in document.get("layers") or [] if layer.get("mediaType") in (FILE, ENV_FILE)]


def unpacked(layers: Sequence[tuple[Mapping[str, Any], bytes]], name: str) -> dict[str, bytes]:
    """The files that layers and their contents stand for; `compose.yaml` has all that is merged, in order.

    Raises Corrupt for a layer without a name, or with one that leads elsewhere.
    """
    found: dict[str, bytes] = {}
    for layer, content in layers:
        annotations = layer.get("annotations") or {}
        env = layer.get("mediaType") == ENV_FILE
        if not env and f"{_PREFIX}.extends" not in annotations:
            before = found.get("compose.yaml")
            found["compose.yaml"] = content if before is None else before + b"\n---\n" + content
            continue
        called = annotations.get(f"{_PREFIX}.{'envfile' if env else 'file'}") or ""
        if not called or "/" in called or "\0" in called or called in (".", "..", "compose.yaml"):
            raise Corrupt(f"{name}: a layer has the file name {called!r}")
        found[called] = content
    if "compose.yaml" not in found:
        raise Corrupt(f"{name} has no compose file")
    return found


def _references(text: str) -> Iterator[tuple[str, ScalarNode]]:
    """The nodes that name other files: of kind `env_file`, `extends`, `include`."""
    for document in yaml.compose_all(text, _Loader):
        for entry in _items(_value(document, "include")):
            for node in _scalars(_value(entry, "path") if isinstance(entry, MappingNode) else entry):
                yield "include", node
        services = _value(document, "services")
        for _, service in services.value if isinstance(services, MappingNode) else ():
            for entry in _items(_value(service, "env_file")):
                for node in _scalars(_value(entry, "path") if isinstance(entry, MappingNode) else entry):
                    yield "env_file", node
            for node in _scalars(_value(_value(service, "extends"), "file")):
                yield "extends", node


def _value(node: Node | None, key: str) -> Node | None:
    if not isinstance(node, MappingNode):
        return None
    return next((value for name, value in node.value if isinstance(name, ScalarNode) and name.value == key), None)


def _items(node: Node | None) -> list[Node]:
    if isinstance(node, SequenceNode):
        return list(node.value)
    return [] if node is None else [node]


def _scalars(node: Node | None) -> list[ScalarNode]:
    return [item for item in _items(node) if isinstance(item, ScalarNode)]


def _expanded(text: str, environment: Mapping[str, str]) -> str:
    try:
        return substitute(text, environment, lambda _variable: None)
    except (BadTemplate, MissingVariable) as error:
        raise InvalidInput(f"cannot tell which file {text!r} is: {error}") from None


def _name(path: str, directory: str, ending: str) -> str:
    """The same on every machine that has the stack."""
    return f"{sha256(os.path.relpath(path, directory).encode()).removeprefix('sha256:')}.{ending}"


def _edited(text: str, edits: list[tuple[int, int, str]]) -> str:
    for start, end, value in sorted(set(edits), reverse=True):
        text = text[:start] + value + text[end:]
    return text
