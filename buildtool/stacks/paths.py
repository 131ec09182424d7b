"""Relative paths of a model, made absolute.

Source: Compose specification; reference/stacks.md 1.1 ("relative paths resolve against the first file's directory").
"""

from __future__ import annotations

import os
from collections.abc import Callable

from buildtool.stacks.tree import Map, Seq

_REMOTE = ("http://", "https://", "git://", "ssh://", "github.com/", "git@", "oci://")
_CONTEXT_SCHEMES = ("docker-image://", "oci-layout://", "service:", "target:", "docker-image:")


def is_remote(text: str) -> bool:
    """Whether this names something on another machine."""
    return text.startswith(_REMOTE) or "://" in text


def absolute(path: str, base: str) -> str:
    """The path from `base`, with `~` as the user's home."""
    if path == "~" or path.startswith("~/"):
        path = os.path.expanduser(path)  # noqa: PTH111 - a path as text goes into the model
    return os.path.normpath(os.path.join(base, path))  # noqa: PTH118


def resolve_service(service: Map, base: str) -> None:
    """Make a service's paths absolute, in place."""
    build = service.get("build")
    if isinstance(build, Map):
        _field(build, "context", base, unless=is_remote)
        _contexts(build.get("additional_contexts"), base)
        _ssh(build.get("ssh"), base)
    for item in _maps(service.get("env_file")):
        _field(item, "path", base)
    _items(service.get("label_file"), base)
    develop = service.get("develop")
    for item in _maps(develop.get("watch")) if isinstance(develop, Map) else ():
        _field(item, "path", base)
    for item in _maps(service.get("volumes")):
        if item.get("type") == "bind":
            _field(item, "source", base)


def resolve_model(model: Map, base: str) -> None:
    """Make all paths of a model absolute, in place."""
    for service in (model.get("services") or {}).values():
        if isinstance(service, Map):
            resolve_service(service, base)
    for kind in ("secrets", "configs"):
        for item in (model.get(kind) or {}).values():
            _field(item, "file", base)
    for volume in (model.get("volumes") or {}).values():
        options = volume.get("driver_opts") if isinstance(volume, Map) else None
        if isinstance(options, Map) and "bind" in str(options.get("o", "")).split(","):
            _field(options, "device", base)


def _field(item: object, key: str, base: str, *, unless: Callable[[str], bool] = lambda _text: False) -> None:
    if isinstance(item, Map):
        value = item.get(key)
        if isinstance(value, str) and value and "${" not in value and not unless(value):
            item[key] = absolute(value, base)


def _items(items: object, base: str) -> None:
    if isinstance(items, Seq):
        for index, item in enumerate(items):
            if isinstance(item, str):
                items[index] = absolute(item, base)


def _contexts(contexts: object, base: str) -> None:
    if isinstance(contexts, Map):
        for name, value in contexts.items():
            if isinstance(value, str) and not value.startswith(_CONTEXT_SCHEMES) and not is_remote(value):
                contexts[name] = absolute(value, base)


def _ssh(keys: object, base: str) -> None:
    if isinstance(keys, Seq):
        for index, item in enumerate(keys):
            name, separator, path = str(item).partition("=")
            if separator:
                keys[index] = f"{name}={absolute(path, base)}"


def _maps(items: object) -> list[Map]:
    return [item for item in items if isinstance(item, Map)] if isinstance(items, Seq) else []
