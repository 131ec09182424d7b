"""What a complete model must fulfil: everything named exists, and nothing contradicts itself.

Source: reference/stacks.md 1.12, "Errors to reproduce".
"""

from __future__ import annotations

from typing import Any

from buildtool.buildfile.suggest import did_you_mean
from buildtool.stacks import elsewhere
from buildtool.stacks.durations import nanoseconds
from buildtool.stacks.model import Project
from buildtool.stacks.normalise import LABEL_PREFIX
from buildtool.stacks.tree import Map, Path

_ALSO_EXTERNAL = frozenset(("name", "external"))


def check_consistency(project: Project) -> None:
    """Raise StackError for the first thing that cannot be."""
    if not project.services:
        raise project.error((), "the stack has no services", "Write them below `services:`.")
    names: dict[str, str] = {}
    for name, service in project.services.items():
        path: Path = ("services", name)
        if not isinstance(service, Map):
            raise project.error(path, "must be a mapping", "Give the service at least an image or a build section.")
        _image(project, path, service)
        _references(project, path, service)
        _dependencies(project, path, service)
        _deploy(project, path, service)
        _mounts(project, path, service)
        _watch(project, path, service)
        _labels(project, path, service)
        if elsewhere.KEY in service and elsewhere.fault(service[elsewhere.KEY]):
            raise project.error((*path, elsewhere.KEY), elsewhere.fault(service[elsewhere.KEY]))
        own = service.get("container_name")
        if own:
            if own in names:
                raise project.error((*path, "container_name"), f"{own!r} is already the name of {names[own]!r}")
            names[own] = name
    _objects(project)
    _circles(project)


def _image(project: Project, path: Path, service: Map) -> None:
    build = service.get("build")
    if not service.get("image") and build is None and not service.get("provider"):
        raise project.error(path, "service has neither an image nor a build context specified")
    if isinstance(build, Map):
        if build.get("dockerfile_inline") and build.get("dockerfile"):
            raise project.error((*path, "build"), "declares mutually exclusive dockerfile and dockerfile_inline")
        platforms, platform = build.get("platforms"), service.get("platform")
        if platforms and platform and platform not in platforms:
            raise project.error(
                (*path, "build", "platforms"), f"does not have the service's platform {platform!r} among its values"
            )
        for context, where in (build.get("additional_contexts") or {}).items():
            if where.startswith("service:"):
                wanted = where.removeprefix("service:")
                known = project.services.get(wanted) or project.disabled.get(wanted)
                at = (*path, "build", "additional_contexts", context)
                if known is None:
                    raise _undefined(project, at, "service", wanted, project.services)
                if not known.get("build"):
                    raise project.error(at, f"service {wanted!r} has no build section")


def _references(project: Project, path: Path, service: Map) -> None:
    mode, networks = service.get("network_mode"), service.get("networks") or {}
    if mode and networks:
        raise project.error((*path, "network_mode"), "declares mutually exclusive `network_mode` and `networks`")
    for key in networks:
        if key not in project.part("networks"):
            raise _undefined(project, (*path, "networks", key), "network", key, project.part("networks"))
    for index, item in enumerate(service.get("volumes") or []):
        source = item.get("source")
        if item.get("type") == "volume" and source and source not in project.part("volumes"):
            at = (*path, "volumes", index)
            raise _undefined(project, at, "volume", source, project.part("volumes"))
    for kind, single in (("secrets", "secret"), ("configs", "config")):
        for index, item in enumerate(service.get(kind) or []):
            if item["source"] not in project.part(kind):
                raise _undefined(project, (*path, kind, index), single, item["source"], project.part(kind))
    build = service.get("build") or {}
    for index, item in enumerate(build.get("secrets") or []):
        if item["source"] not in project.part("secrets"):
            at = (*path, "build", "secrets", index)
            raise _undefined(project, at, "secret", item["source"], project.part("secrets"))
    for key in service.get("models") or {}:
        if key not in project.part("models"):
            raise _undefined(project, (*path, "models", key), "model", key, project.part("models"))


def _undefined(project: Project, path: Path, kind: str, name: str, known: Any) -> Exception:
    service = path[1]
    otherwise = "" if kind == "service" else f"Declare it at the top level, below `{kind}s:`."
    return project.error(
        path,
        f"service {str(service)!r} refers to undefined {kind} {name}",
        did_you_mean(name, known, otherwise=otherwise),
    )


def _dependencies(project: Project, path: Path, service: Map) -> None:
    for key, how in (service.get("depends_on") or {}).items():
        if key == path[1]:
            raise project.error((*path, "depends_on", key), "a service cannot depend on itself")
        if key not in project.services and key not in project.disabled and how.get("required", True):
            raise project.error(
                (*path, "depends_on", key),
                f"service {str(path[1])!r} depends on undefined service {key!r}",
                did_you_mean(key, project.services),
            )


def _deploy(project: Project, path: Path, service: Map) -> None:
    deploy = service.get("deploy") or {}
    replicas, scale = deploy.get("replicas"), service.get("scale")
    if scale is not None and replicas is not None and scale != replicas:
        raise project.error((*path, "scale"), "can't set distinct values on 'scale' and 'deploy.replicas'")
    count = scale if scale is not None else replicas
    if service.get("container_name") and (count or 1) > 1:
        raise project.error(
            (*path, "container_name"), f"cannot be used with {count} replicas: a container's name is unique"
        )
    resources = deploy.get("resources") or {}
    limits, reservations = resources.get("limits") or {}, resources.get("reservations") or {}
    for own, where, value in (
        ("cpus", "limits.cpus", limits.get("cpus")),
        ("mem_limit", "limits.memory", limits.get("memory")),
        ("pids_limit", "limits.pids", limits.get("pids")),
        ("mem_reservation", "reservations.memory", reservations.get("memory")),
    ):
        mine = service.get(own)
        if mine is not None and value is not None and str(mine) != str(value):
            raise project.error((*path, own), f"can't set distinct values on {own!r} and 'deploy.resources.{where}'")
    for index, device in enumerate(reservations.get("devices") or []):
        at = (*path, "deploy", "resources", "reservations", "devices", index)
        if not device.get("capabilities"):
            raise project.error(at, "capabilities is required")
        if device.get("count") is not None and device.get("device_ids"):
            raise project.error(at, '"count" and "device_ids" attributes are exclusive')


def _mounts(project: Project, path: Path, service: Map) -> None:
    seen: dict[str, str] = {}
    for kind in ("volumes", "devices"):
        for index, item in enumerate(service.get(kind) or []):
            target = item.get("target")
            if kind == "devices" and target is None:
                raise project.error((*path, kind, index), "target is missing")
            if target in seen and kind == "volumes":
                raise project.error((*path, kind, index), f"target {target!r} is already mounted by {seen[target]}")
            if kind == "volumes":
                seen[target] = f"volumes[{index}]"
            if item.get("type") == "bind" and not item.get("source"):
                raise project.error((*path, kind, index), "a bind mount needs a source")
    for index, item in enumerate(service.get("ports") or []):
        if "-" in str(item.get("published", "")) and not _is_range(str(item["published"])):
            raise project.error((*path, "ports", index), f"invalid published port {item['published']!r}")


def _is_range(text: str) -> bool:
    low, _, high = text.partition("-")
    return low.isdecimal() and high.isdecimal() and int(low) <= int(high)


def _watch(project: Project, path: Path, service: Map) -> None:
    develop = service.get("develop") or {}
    for index, rule in enumerate(develop.get("watch") or []):
        at = (*path, "develop", "watch", index)
        if rule["action"] not in ("rebuild", "restart") and not rule.get("target"):
            raise project.error(at, f"target is required for the action {rule['action']}")
        if rule["action"] == "sync+exec" and not (rule.get("exec") or {}).get("command"):
            raise project.error(at, "exec is required for the action sync+exec")
    refresh = service.get("pull_refresh_after")
    if refresh and nanoseconds(refresh) <= 0:
        raise project.error((*path, "pull_refresh_after"), "must be longer than nothing")


def _labels(project: Project, path: Path, service: Map) -> None:
    for key in service.get("labels") or {}:
        if key.startswith(f"{LABEL_PREFIX}."):
            raise project.error(
                (*path, "labels", key), f"labels that begin with {LABEL_PREFIX}. are reserved for Compose"
            )


def _objects(project: Project) -> None:
    for kind in ("networks", "volumes", "secrets", "configs"):
        for key, item in project.part(kind).items():
            path: Path = (kind, key)
            if not isinstance(item, Map):
                continue
            if item.get("external"):
                other = sorted(name for name in item if name not in _ALSO_EXTERNAL and not name.startswith("x-"))
                if other:
                    raise project.error(path, f"conflicting parameters 'external' and {other[0]!r} specified")
            elif kind in ("secrets", "configs"):
                ways = [name for name in ("file", "environment", "content") if item.get(name) is not None]
                if len(ways) > 1:
                    raise project.error(path, f"{'|'.join(ways)} attributes are mutually exclusive")
                if not ways and not item.get("driver"):
                    choices = "file, environment" + (", content" if kind == "configs" else "")
                    raise project.error(path, f"one of {choices} or external must be set")


def _circles(project: Project) -> None:
    """Dependencies, and builds that need each other, must not go round in circles."""
    edges: dict[str, list[str]] = {}
    for name, service in project.services.items():
        edges[name] = [other for other in service.get("depends_on") or {} if other in project.services]
    _refuse_circle(project, edges, "depends_on")
    builds: dict[str, list[str]] = {}
    for name, service in project.services.items():
        contexts = ((service.get("build") or {}).get("additional_contexts") or {}).values()
        builds[name] = [where.removeprefix("service:") for where in contexts if where.startswith("service:")]
    _refuse_circle(project, builds, "build")


def _refuse_circle(project: Project, edges: dict[str, list[str]], attribute: str) -> None:
    done: set[str] = set()
    for start in sorted(edges):
        trail: list[str] = []
        stack = [(start, iter(edges.get(start, ())))]
        if start in done:
            continue
        trail.append(start)
        while stack:
            node, rest = stack[-1]
            following = next((other for other in rest if other not in done), None)
            if following is None:
                done.add(node)
                trail.pop()
                stack.pop()
            elif following in trail:
                circle = [*trail[trail.index(following) :], following]
                raise project.error(
                    ("services", circle[0], attribute), f"dependency cycle detected: {' -> '.join(circle)}"
                )
            else:
                trail.append(following)
                stack.append((following, iter(edges.get(following, ()))))
