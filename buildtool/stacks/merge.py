"""Merging canonical models: the file on the right wins.

Mappings merge key by key, sequences are appended; the tables below are the exceptions. Both sides are canonical, so
short and long forms merge alike.
Source: Compose specification, "Merge and override"; reference/stacks.md 1.11.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from buildtool.stacks.tree import Map, Override, Path, Reset, Seq

_REPLACED = frozenset(
    (
        "services.*.command",
        "services.*.entrypoint",
        "services.*.healthcheck.test",
        "services.*.ulimits.*",
        "services.*.build.ulimits.*",
        "services.*.develop.watch.*.exec.command",
    )
)
# Of these null is a value: what the image has.
_NULL_REPLACES = frozenset(("services.*.command", "services.*.entrypoint"))
# Mappings of the user's own keys, in which null is a value: `environment: {NAME: }` takes it from outside.
_NULL_COUNTS = frozenset(("services.*.environment", "services.*.build.args"))


def _port(item: Map) -> object:
    return (item.get("host_ip") or "", item.get("published"), item["target"], item["protocol"])


def _by(*keys: str) -> Callable[[Map], object]:
    def identity(item: Map) -> object:
        return next((item[key] for key in keys if item.get(key) is not None), None)

    return identity


def _config(item: Map) -> object:
    return item.get("target") or f"/{item['source']}"


def _path_before_options(item: str) -> object:
    return item.partition(":")[0]


def _itself(item: Any) -> object:
    return item


_Identity = Callable[[Any], object]
_KEYED: dict[str, _Identity] = {
    "services.*.ports": _port,
    "services.*.volumes": _by("target"),
    "services.*.devices": _by("target", "source"),
    "services.*.secrets": _by("target"),
    "services.*.configs": _config,
    "services.*.build.secrets": _by("target", "source"),
    "services.*.env_file": _by("path"),
    "services.*.tmpfs": _path_before_options,
    "networks.*.ipam.config": _by("subnet"),
}
_UNIQUE: dict[str, _Identity] = _KEYED | dict.fromkeys(
    (
        "services.*.build.additional_contexts",
        "services.*.build.cache_from",
        "services.*.build.cache_to",
        "services.*.build.extra_hosts",
        "services.*.build.platforms",
        "services.*.build.tags",
        "services.*.cap_add",
        "services.*.cap_drop",
        "services.*.device_cgroup_rules",
        "services.*.dns",
        "services.*.dns_opt",
        "services.*.dns_search",
        "services.*.expose",
        "services.*.external_links",
        "services.*.extra_hosts",
        "services.*.group_add",
        "services.*.label_file",
        "services.*.links",
        "services.*.networks.*.aliases",
        "services.*.networks.*.link_local_ips",
        "services.*.profiles",
        "services.*.security_opt",
        "services.*.volumes_from",
    ),
    _itself,
)
# The user's own names stand at these places: `*` in the tables above.
_NAMED = frozenset(
    ("services", "networks", "volumes", "secrets", "configs", "models", "services.*.networks", "services.*.ulimits",
     "services.*.build.ulimits", "services.*.depends_on", "services.*.models")
)  # fmt: skip


def merge(left: Map, right: Map) -> Map:
    """A new model of both. `!reset` on the right takes away, `!override` replaces; both are used up."""
    merged = _mappings(left, right, ())
    assert isinstance(merged, Map)
    return merged


def merge_service(left: Map, right: Map) -> Map:
    """The same for two services (`extends`)."""
    merged = _mappings(left, right, ("services", "*"))
    assert isinstance(merged, Map)
    return merged


def settle(node: Any) -> Any:
    """The model without tags: what `!reset` stands at is gone, `!override` is its value."""
    if isinstance(node, Map):
        out = Map(node.mark)
        for key, value in node.items():
            if value.__class__ is not Reset:
                out.put(key, settle(value), node.place(key))
        return out
    if isinstance(node, Seq):
        items = Seq(node.mark)
        for index, value in enumerate(node):
            if value.__class__ is not Reset:
                items.add(settle(value), node.place(index))
        return items
    return settle(node.value) if isinstance(node, Override) else node


def _values(left: Any, right: Any, pattern: Path) -> Any:
    if isinstance(right, Override):
        return settle(right.value)
    left = settle(left)
    if left is None or left.__class__ is Reset:
        return right
    name = ".".join(map(str, pattern))
    if right is None and name not in _NULL_REPLACES:
        return left
    if name in _REPLACED:
        return right
    if isinstance(left, Map) and isinstance(right, Map):
        if name == "services.*.logging" and _other_driver(left, right):
            return right
        return _mappings(left, right, pattern)
    if isinstance(left, Seq) and isinstance(right, Seq):
        return _sequences(left, right, _UNIQUE.get(name), pattern)
    return right


def _other_driver(left: Map, right: Map) -> bool:
    return bool(left.get("driver") and right.get("driver") and left["driver"] != right["driver"])


def _mappings(left: Map, right: Map, pattern: Path) -> Map:
    name = ".".join(map(str, pattern))
    null_counts = name in _NULL_COUNTS
    step = (*pattern, "*") if name in _NAMED else None
    out = Map(right.mark or left.mark)
    for key, value in left.items():
        if value.__class__ is not Reset:
            out.put(key, value, left.place(key))
    for key, value in right.items():
        if value.__class__ is Reset:
            out.pop(key, None)
            out.marks.pop(key, None)
        elif key not in out or (null_counts and not isinstance(value, Override)):
            out.put(key, value, right.place(key))
        else:
            merged = _values(out[key], value, step or (*pattern, key))
            mark = left.place(key) if value is None or isinstance(value, (Map, Seq)) else right.place(key)
            out.put(key, merged, mark)
    return out


def _sequences(left: Seq, right: Seq, identity: Callable[[Any], object] | None, pattern: Path) -> Seq:
    out = Seq(left.mark)
    places: dict[object, int] = {}
    for side in (left, right):
        for index, item in enumerate(side):
            mark = side.place(index)
            if identity is None or item.__class__ in (Reset, Override):
                out.add(item, mark)
                continue
            key = identity(item)
            at = places.get(key)
            if at is None:
                places[key] = len(out)
                out.add(item, mark)
            elif pattern[-1:] == ("config",):
                out[at] = _mappings(out[at], item, (*pattern, "*"))
            else:
                out[at] = item
                out.marks[at] = mark
    return out
