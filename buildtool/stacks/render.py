"""What `config` prints: the canonical model in its order, dollar signs doubled so that none is a variable again."""

from __future__ import annotations

import re
from typing import Any

from buildtool.stacks.attributes import DEPLOY, WATCH
from buildtool.stacks.emit import to_json, to_yaml
from buildtool.stacks.kinds import Order
from buildtool.stacks.model import Project
from buildtool.stacks.schema import FILE, NETWORK, SERVICE

_ORDER = ("name", "services", "networks", "volumes", "secrets", "configs", "models")


_RUNS = re.compile(r"(\d+)|([^\W\d_])|(.)", re.DOTALL)


def natural(name: str) -> list[tuple[int, Any]]:
    """The sort key of names in YAML: numbers by their value, before letters and after all else."""
    return [
        (1, (int(number), len(number))) if number else (2, letter) if letter else (0, other)
        for number, letter, other in _RUNS.findall(name)
    ]


def arranged(project: Project, order: Order = None) -> dict[str, Any]:
    """The model as plain values, in the order in which it is printed; `order` is that of the user's own names."""
    model: dict[str, Any] = FILE.arrange(project.model, order)
    out = {key: model[key] for key in _ORDER if model.get(key)}
    for kind in _ORDER[1:]:
        part = project.model.get(kind)
        for key in part if isinstance(part, dict) else ():
            if kind in out and out[kind].get(key) is None:
                out[kind][key] = {}
    out.update((key, value) for key, value in model.items() if key.startswith("x-"))
    return out


def render_yaml(project: Project, *, escape: bool = True) -> str:
    """`config` as YAML."""
    model = arranged(project, natural)
    return to_yaml(_escaped(model) if escape else model)


def render_json(project: Project, *, escape: bool = True) -> str:
    """`config --format json`: of extensions only those at the top are kept, as docker compose has it."""
    model = without_extensions(arranged(project))
    ordered = {key: _sorted_service(key, value) for key, value in sorted(model.items())}
    return to_json(_escaped(ordered) if escape else ordered)


def _sorted_service(key: str, value: Any) -> Any:
    if key == "services":
        return {name: service_json(service) for name, service in value.items()}
    if key == "networks":
        return {name: network_json(network) for name, network in value.items()}
    return value


def network_json(network: dict[str, Any]) -> dict[str, Any]:
    """One network with `ipam` in its place, also when nothing is said of it."""
    filled = {"ipam": {}} | network
    return {key: filled[key] for key in NETWORK.fields if key in filled}


def service_json(service: dict[str, Any]) -> dict[str, Any]:
    """One service with `command` and `entrypoint` in their places, null when the file says nothing of them."""
    filled = {"command": None, "entrypoint": None} | service
    if filled.get("deploy") is not None:
        deploy = {"resources": {}, "placement": {}} | filled["deploy"]
        filled["deploy"] = {key: deploy[key] for key in DEPLOY.fields if key in deploy}
    if filled.get("develop") is not None:
        filled["develop"] = {"watch": [_watch_json(rule) for rule in filled["develop"].get("watch") or ()]}
    return {key: filled[key] for key in SERVICE.fields if key in filled}


def _watch_json(rule: dict[str, Any]) -> dict[str, Any]:
    """One rule of `develop.watch`: its hook is a structure that Go never leaves out."""
    filled = {**rule, "exec": {"command": None} | (rule.get("exec") or {})}
    return {key: filled[key] for key in WATCH.fields if key in filled}


def without_extensions(value: Any, *, top: bool = True) -> Any:
    """The model without `x-` keys below the top."""
    if isinstance(value, dict):
        return {
            key: without_extensions(item, top=False)
            for key, item in value.items()
            if top or not (isinstance(key, str) and key.startswith("x-"))
        }
    if isinstance(value, list):
        return [without_extensions(item, top=False) for item in value]
    return value


def _escaped(value: Any) -> Any:
    if isinstance(value, str):
        return value.replace("$", "$$")
    if isinstance(value, dict):
        return {key: _escaped(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_escaped(item) for item in value]
    return value
