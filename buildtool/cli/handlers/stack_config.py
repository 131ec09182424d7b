"""`compose config`: the stack checked and printed."""

from __future__ import annotations

import sys

from buildtool.cli.parse import UsageError
from buildtool.cli.stack_project import find, warn

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project, Request

_FORMATS = ("", "yaml", "json")


def config(call: Call) -> int:
    """Print the canonical stack, or the part of it that a flag asks for."""
    from buildtool.stacks.load import load
    from buildtool.stacks.profiles import enable_services
    from buildtool.stacks.reading import FileSystem

    if call.text("format") not in _FORMATS:
        raise UsageError(f'unsupported format "{call.text("format")}": choose yaml or json')
    request = _request(call)
    if call.switch("environment"):
        load(request, FileSystem())  # which gives it the project's name
        return _write(call, "".join(f"{key}={value}\n" for key, value in sorted(request.environment.items())))
    if call.texts("explain"):
        load(request, FileSystem())
        return _write(call, "".join(_explained(request, name) for name in call.texts("explain")))
    if call.switch("variables"):
        return _write(call, _variables(request))
    if call.switch("profiles"):
        request.profiles = ["*"]
    project = load(request, FileSystem())
    warn(project.warnings)
    enable_services(project, call.arguments)
    if call.arguments:
        _keep(project, call.arguments)
    if call.switch("quiet"):
        return 0
    return _write(call, _text(call, project))


def _request(call: Call) -> Request:
    request = find(call)
    request.interpolate = not call.switch("no-interpolate")
    request.resolve_paths = not call.switch("no-path-resolution")
    request.normalise = not call.switch("no-normalize")
    request.consistent = request.interpolate and not call.switch("no-consistency")
    request.resolve_environment = request.interpolate and not call.switch("no-env-resolution")
    request.read_env_files = not call.given("hash")  # docker compose's hash is of their names
    request.all_resources = request.all_resources or not request.interpolate
    return request


def _keep(project: Project, names: list[str]) -> None:
    """Only the named services, and what they depend on."""
    from buildtool.stacks.profiles import prune_resources

    wanted, waiting = set(), list(names)
    while waiting:
        name = waiting.pop()
        if name in project.services and name not in wanted:
            wanted.add(name)
            waiting += project.services[name].get("depends_on") or {}
    for name in [name for name in project.services if name not in wanted]:
        del project.services[name]
    prune_resources(project)


def _text(call: Call, project: Project) -> str:
    from buildtool.stacks.render import render_json, render_yaml

    if call.given("hash"):
        return _hashes(project, call.text("hash"))
    for flag, names in _LISTS.items():
        if call.switch(flag):
            return "".join(f"{name}\n" for name in names(project))
    if call.switch("resolve-image-digests") or call.switch("lock-image-digests"):
        from buildtool.cli.stack_digests import lock_text, pin

        if call.switch("lock-image-digests"):
            return lock_text(call, project)
        pin(call, project)
    escape = not call.switch("no-interpolate")
    as_json = call.text("format") == "json"
    return (render_json if as_json else render_yaml)(project, escape=escape)


def _hashes(project: Project, wanted: str) -> str:
    from buildtool.errors import NotFound
    from buildtool.stacks.hashing import service_hash

    names = sorted(project.services) if wanted == "*" else wanted.split(",")
    for name in names:
        if name not in project.services:
            raise NotFound(f"no such service: {name}")
    return "".join(f"{name} {service_hash(project.services[name])}\n" for name in names)


def _images(project: Project) -> list[str]:
    return sorted(
        service.get("image") or f"{project.name}-{name}"
        for name, service in project.services.items()
        if not service.get("provider")
    )


def _profiles(project: Project) -> list[str]:
    return sorted({profile for service in project.services.values() for profile in service.get("profiles") or []})


_LISTS = {
    "services": lambda project: sorted(project.services),
    "volumes": lambda project: sorted(project.part("volumes")),
    "networks": lambda project: sorted(project.part("networks")),
    "models": lambda project: sorted({item["model"] for item in project.part("models").values()}),
    "profiles": _profiles,
    "images": _images,
}


def _explained(request: Request, name: str) -> str:
    """A variable's value for interpolation and where it comes from; then the places whose value does not count."""
    import os

    places = [(f"from {file}", value) for file, value in request.origins.get(name, [])]
    if name in os.environ:
        places.append(("from the environment", os.environ[name]))
    elif name == "COMPOSE_PROJECT_NAME" and not places:
        places.append(("the project's name", request.environment[name]))
    if not places:
        return f"{name} is not set\n"
    lines = [f"{name}={places[-1][1]} ({places[-1][0]})\n"]
    return "".join(lines + [f"  not {value} ({where})\n" for where, value in reversed(places[:-1])])


def _variables(request: Request) -> str:
    """A table of the variables in the files: whether they are required, their default and alternative values."""
    from buildtool.stacks.interpolation import Variable, variables
    from buildtool.stacks.load import raw_model
    from buildtool.stacks.reading import FileSystem

    found: dict[str, Variable] = {}

    def visit(node: object) -> None:
        if isinstance(node, str):
            for variable in variables(node):
                known = found.setdefault(variable.name, variable)
                known.default = known.default or variable.default
                known.alternate = known.alternate or variable.alternate
                known.required = known.required or variable.required
        elif isinstance(node, dict):
            for item in node.values():
                visit(item)
        elif isinstance(node, list):
            for item in node:
                visit(item)

    visit(raw_model(request, FileSystem()))
    lines = [("NAME", "REQUIRED", "DEFAULT VALUE", "ALTERNATE VALUE")]
    lines += [(v.name, str(v.required).lower(), v.default, v.alternate) for _, v in sorted(found.items())]
    widths = [max(20, *(len(line[column]) + 4 for line in lines)) for column in range(4)]
    rows = ("".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) for line in lines)
    return "".join(f"{row.rstrip()}\n" for row in rows)


def _write(call: Call, text: str) -> int:
    if call.text("output"):
        with open(call.text("output"), "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    return 0
