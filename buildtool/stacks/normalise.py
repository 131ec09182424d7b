"""What a model leaves unsaid, said: the default network, names, implied dependencies, values from outside.

Source: reference/stacks.md 1.12, "Normalise adds".
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from buildtool.errors import InvalidInput
from buildtool.stacks.envfile import parse_env_file
from buildtool.stacks.model import Files, Project
from buildtool.stacks.tree import Map, Seq

LABEL_PREFIX = "com.docker.compose"
_SHARED = ("network_mode", "ipc", "pid", "uts", "cgroup")


class MissingEnvFile(InvalidInput):
    """An `env_file` that is required is not there (docker compose ends with 14 then)."""

    exit_code = 14


def resolve_environment(project: Project, files: Files, warn: Callable[[str], None]) -> None:
    """Put what env files, label files and the environment say into the services. Raises InvalidInput for a file
    that is not there.
    """
    for name, service in project.services.items():
        if isinstance(service, Map):
            _environment(project, name, service, files, warn)
            _label_files(project, name, service, files, warn)


def normalise(project: Project) -> None:
    """Complete the model, in place. Raises StackError."""
    uses_default = False
    for service in project.services.values():
        if not isinstance(service, Map):
            continue  # told by the check of consistency
        if not service.get("networks") and not service.get("network_mode") and not service.get("provider"):
            networks = Map(service.mark)
            networks.put("default", None)
            service.put("networks", networks, service.mark)
        uses_default = uses_default or "default" in (service.get("networks") or ())
        _dependencies(service)
        _build(project, service)
        if service.get("scale") is not None and isinstance(service.get("deploy"), Map):
            service["deploy"].setdefault("replicas", service["scale"])
    if uses_default and "default" not in project.part("networks"):
        project.declare("networks").put("default", Map())
    _names(project)


def _names(project: Project) -> None:
    for kind in ("networks", "volumes", "secrets", "configs", "models"):
        for key, item in project.part(kind).items():
            if isinstance(item, Map) and not item.get("name") and kind != "models":
                item.put("name", key if item.get("external") else f"{project.name}_{key}")


def _dependencies(service: Map) -> None:
    """Links, shared namespaces and volumes of other services order the start as depends_on does."""
    implied: dict[str, bool] = {}
    for source in service.get("volumes_from") or []:
        name = source.partition(":")[0]
        if not source.startswith("container:"):
            implied[name] = False
    for key in _SHARED:
        value = service.get(key)
        if isinstance(value, str) and value.startswith("service:"):
            implied[value.removeprefix("service:")] = True
    for link in service.get("links") or []:
        implied[link.partition(":")[0]] = True
    if not implied:
        return
    known = service.get("depends_on")
    if not isinstance(known, Map):
        known = Map(service.mark)
        service.put("depends_on", known, service.mark)
    for name, restart in implied.items():
        if name not in known:
            how = Map(service.mark)
            how.put("condition", "service_started")
            if restart:
                how.put("restart", True)
            how.put("required", True)
            known.put(name, how)


def _build(project: Project, service: Map) -> None:
    build = service.get("build")
    if not isinstance(build, Map):
        return
    if not build.get("context"):
        build.put("context", project.directory if project.request.resolve_paths else ".", build.mark)
    if not build.get("dockerfile") and not build.get("dockerfile_inline"):
        build.put("dockerfile", "Dockerfile", build.mark)
    arguments = build.get("args")
    if isinstance(arguments, Map):
        for key, value in list(arguments.items()):
            if value is None and project.request.interpolate:
                if key in project.environment:
                    arguments[key] = project.environment[key]
                else:
                    del arguments[key]


def _environment(project: Project, name: str, service: Map, files: Files, warn: Callable[[str], None]) -> None:
    from_files: dict[str, str] = {}
    own: dict[str, Any] = {}
    for key, value in (service.get("environment") or {}).items():
        own[key] = project.environment.get(key) if value is None else value
    # Values in env files see the project's variables and the service's own before those of the files.
    listed = service.get("env_file") or [] if project.request.read_env_files else []
    for index, entry in enumerate(listed):
        text = _read_listed(project, ("services", name, "env_file", index), entry["path"], files, entry["required"])
        if text is None:
            continue
        known = {key: value for key, value in own.items() if value is not None}
        from_files |= parse_env_file(
            text,
            entry["path"],
            {**from_files, **known, **project.environment},
            lambda variable: warn(f'The "{variable}" variable is not set. Defaulting to a blank string.'),
            raw=entry.get("format") == "raw",
        )
    if project.request.read_env_files:
        service.pop("env_file", None)
    if not from_files and not own:
        return
    merged = Map(service.place("environment"))
    for key, value in {**from_files, **own}.items():
        merged.put(key, value)
    service.put("environment", merged, service.marks.get("environment"))


def _label_files(project: Project, name: str, service: Map, files: Files, warn: Callable[[str], None]) -> None:
    listed = service.pop("label_file", None)
    if not isinstance(listed, Seq):
        return
    project.label_files[name] = list(listed)
    found: dict[str, str] = {}
    for index, path in enumerate(listed):
        text = _read_listed(project, ("services", name, "label_file", index), path, files, True)
        found |= parse_env_file(text or "", path, project.environment, lambda _variable: None)
    labels = Map(service.mark)
    for key, value in {**found, **(service.get("labels") or {})}.items():
        labels.put(key, value)
    service.put("labels", labels, service.marks.get("labels"))


def _read_listed(
    project: Project, path: tuple[str | int, ...], file: str, files: Files, required: bool
) -> str | None:
    try:
        return files.read(file)
    except FileNotFoundError:
        if not required:
            return None
        error = project.error(path, f"env file {file} not found")
        raise MissingEnvFile(
            error.message, where=error.where, hint="Make the file, or write `required: false` beside its path."
        ) from None
    except OSError as error:
        raise project.error(path, f"cannot read {file}: {(error.strerror or str(error)).lower()}") from error
