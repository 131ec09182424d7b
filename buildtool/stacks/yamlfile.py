"""From YAML text to the tree of `buildtool.stacks.tree`.

The C parser composes nodes with marks; what they mean is decided here: Compose's scalars, string keys only, no key
twice, `<<` on mappings, the tags `!reset` and `!override`.
"""

from __future__ import annotations

import base64
import binascii
from typing import Any

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

from buildtool.stacks.scalars import DateScalar, resolve, to_text
from buildtool.stacks.tree import Map, Mark, Override, Path, Reset, Seq, Source, StackError

_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
# An alias may be used often, and aliases within aliases multiply: a file of a few lines would fill the memory.
_MOST_NODES = 100_000
_STRING = "tag:yaml.org,2002:str"
_TAG = "tag:yaml.org,2002:"


def parse(text: str, name: str) -> list[Map]:
    """The documents of a file, empty ones left out. Raises StackError with the place."""
    source = Source(name, text)
    reader = _Reader(source)
    documents: list[Map] = []
    try:
        for node in yaml.compose_all(text, _Loader):
            if node is None or (isinstance(node, ScalarNode) and node.value in ("", "~", "null")):
                continue
            if not isinstance(node, MappingNode):
                raise StackError((), "top-level object must be a mapping", reader.mark(node))
            documents.append(reader.mapping(node, ()))
    except yaml.MarkedYAMLError as error:
        problem = " ".join(part for part in (error.context, error.problem) if part)
        mark = error.problem_mark or error.context_mark
        place = Mark(source, mark.line, mark.column) if mark is not None else None
        raise StackError((), f"this is not YAML: {problem}", place, hint=_yaml_hint(text, place)) from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position)
        raise StackError((), f"this is not YAML: {error.reason}", Mark(source, line, 0)) from None
    return documents


def _yaml_hint(text: str, place: Mark | None) -> str:
    lines = text.splitlines()
    if place is not None and place.line < len(lines) and "\t" in lines[place.line].split("#")[0]:
        return "A tab stands there: YAML is indented with spaces."
    return ""


class _Reader:
    def __init__(self, source: Source) -> None:
        self._source = source
        self._nodes = 0
        self._open: set[int] = set()

    def mark(self, node: Node) -> Mark:
        return Mark(self._source, node.start_mark.line, node.start_mark.column)

    def value(self, node: Node, path: Path) -> Any:
        self._nodes += 1
        if self._nodes > _MOST_NODES:
            raise StackError(path, f"the file has more than {_MOST_NODES} values once its aliases are written out")
        if node.tag == "!reset":
            return Reset()
        if node.tag == "!override":
            return Override(self._untagged(node, path))
        return self._untagged(node, path)

    def _untagged(self, node: Node, path: Path) -> Any:
        if isinstance(node, ScalarNode):
            return self._scalar(node, path)
        if isinstance(node, MappingNode):
            return self.mapping(node, path)
        assert isinstance(node, SequenceNode)
        self._enter(node, path)
        out = Seq(self.mark(node))
        for index, item in enumerate(node.value):
            out.add(self.value(item, (*path, index)), self.mark(item))
        self._open.discard(id(node))
        return out

    def mapping(self, node: MappingNode, path: Path) -> Map:
        self._enter(node, path)
        out = Map(self.mark(node))
        merged: list[Map] = []
        for key_node, value_node in node.value:
            if isinstance(key_node, ScalarNode) and key_node.value == "<<" and not key_node.style:
                merged += self._merge_sources(value_node, path)
                continue
            key = self._key(key_node, path)
            mark = self.mark(key_node)
            if key in out:
                first = out.marks[key]
                line = first.line + 1 if first is not None else 0
                raise StackError((*path, key), f"key {key!r} already set on line {line}", mark)
            out.put(key, self.value(value_node, (*path, key)), mark)
        for source in merged:
            for key, value in source.items():
                if key not in out:
                    out.put(key, value, source.place(key))
        self._open.discard(id(node))
        return out

    def _merge_sources(self, node: Node, path: Path) -> list[Map]:
        nodes = node.value if isinstance(node, SequenceNode) else [node]
        sources = []
        for item in nodes:
            if not isinstance(item, MappingNode):
                raise StackError(path, "`<<` takes a mapping or a list of mappings", self.mark(item))
            sources.append(self.mapping(item, path))
        return sources

    def _enter(self, node: Node, path: Path) -> None:
        if id(node) in self._open:
            raise StackError(path, "an anchor contains an alias of itself", self.mark(node))
        self._open.add(id(node))

    def _key(self, node: Node, path: Path) -> str:
        if isinstance(node, ScalarNode):
            value = self._scalar(node, path)
            if isinstance(value, str):
                return value
            shown = "null" if value is None else to_text(value)
        else:
            shown = "a mapping" if isinstance(node, MappingNode) else "a list"
        where = f" in {_dotted(path)}" if path else ""
        raise StackError((), f"non-string key{where}: {shown}", self.mark(node), hint="Put the key in quotes.")

    def _scalar(self, node: ScalarNode, path: Path) -> Any:
        tag = node.tag
        if node.style:
            return self._decoded(node, path) if tag == f"{_TAG}binary" else str(node.value)
        if tag.startswith("!") and tag not in ("!", "!reset", "!override"):
            raise StackError(path, f"unknown tag {tag}", self.mark(node), hint="Compose has !reset and !override.")
        if tag == f"{_TAG}binary":
            return self._decoded(node, path)
        if tag == "!":
            return str(node.value)
        try:
            return resolve(node.value)
        except DateScalar:
            raise StackError(
                path, f"{node.value} is a date in YAML, which no attribute takes", self.mark(node), hint="Quote it."
            ) from None

    def _decoded(self, node: ScalarNode, path: Path) -> str:
        try:
            return base64.b64decode(node.value, validate=False).decode()
        except (binascii.Error, UnicodeDecodeError):
            raise StackError(path, "!!binary is not base64 of UTF-8 text", self.mark(node)) from None


def _dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)
