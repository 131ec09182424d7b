"""Services that another program provides (`provider: {type, options}`): started and removed by calling it.

The program is a plugin of docker's CLI (`docker-TYPE`) or stands in PATH. It is called as
`PROGRAM compose --project-name=P up|down --OPTION=VALUE… SERVICE` and answers with a JSON object a line: `info`,
`debug` and `error` for the user; `setenv` (`NAME=VALUE`, for dependents as SERVICE_NAME) and `rawsetenv` (as it is).
Source: docker/compose, docs/extension.md, "Provider services".
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Iterable
from typing import Any

from buildtool.errors import BuildtoolError, NotFound
from buildtool.stacks.model import Project
from buildtool.stacks.report import Report
from buildtool.stacks.tree import Map

_PLUGIN_FOLDERS = (
    "/usr/local/lib/docker/cli-plugins",
    "/usr/local/libexec/docker/cli-plugins",
    "/usr/lib/docker/cli-plugins",
    "/usr/libexec/docker/cli-plugins",
)


class ProviderFailed(BuildtoolError):
    """A provider said that it cannot, or ended with an exit code."""


def provide(project: Project, order: Iterable[str], report: Report, *, dry: bool = False) -> None:
    """Have every provided service up, and its variables in the services that depend on it.

    Raises NotFound for a program that is not there, ProviderFailed.
    """
    for name in order:
        if not project.services[name].get("provider"):
            continue
        report.state("Service", name, "Creating")
        given = {} if dry else _call(project, name, "up", report)
        for other, service in project.services.items():
            if name in (service.get("depends_on") or {}):
                _give(service, given, other, name, report)
        report.state("Service", name, "Created")


def withdraw(project: Project, report: Report, *, dry: bool = False) -> None:
    """Have every provided service taken down. What fails is told and does not hold up the rest."""
    for name, service in reversed(project.services.items()):
        if not service.get("provider"):
            continue
        report.state("Service", name, "Removing")
        try:
            if not dry:
                _call(project, name, "down", report)
        except BuildtoolError as error:
            report.warn(str(error))
            continue
        report.state("Service", name, "Removed")


def find_program(kind: str) -> str:
    """The program of a provider's type. Raises NotFound."""
    own = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")  # noqa: PTH111
    folders = [f"{own}/cli-plugins", *_PLUGIN_FOLDERS]
    found = shutil.which(f"docker-{kind}", path=os.pathsep.join(folders)) or shutil.which(kind)
    if kind == "compose" or found is None:
        raise NotFound(
            f"provider {kind!r}: there is no program of that name",
            hint=f"Install {kind} in PATH, or docker-{kind} as a plugin of docker's CLI.",
        )
    return found


def _call(project: Project, name: str, command: str, report: Report) -> dict[str, str]:
    """Call the provider; the variables that it sets, by their names for dependents."""
    provider = project.services[name]["provider"]
    program = find_program(provider["type"])
    words = [program, "compose", f"--project-name={project.name}", command]
    for key, value in (provider.get("options") or {}).items():
        words += [f"--{key}={item}" for item in (value if isinstance(value, list) else [value])]
    environment = {**os.environ, **project.environment}
    given: dict[str, str] = {}
    with subprocess.Popen(
        [*words, name], env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                if line.strip():
                    _hear(name, line, given, report)
        except BaseException:
            process.kill()
            raise
    if process.returncode:
        raise ProviderFailed(f"provider of service {name!r}: {command} ended with exit code {process.returncode}")
    return given


def _hear(name: str, line: str, given: dict[str, str], report: Report) -> None:
    try:
        message: Any = json.loads(line)
        kind, text = message["type"], str(message.get("message") or "")
    except (ValueError, TypeError, LookupError, AttributeError):
        raise ProviderFailed(
            f"provider of service {name!r} answered {line.strip()[:200]!r}: that is no message"
        ) from None
    if kind == "error":
        raise ProviderFailed(f"provider of service {name!r}: {text}")
    if kind == "info":
        report.state("Service", name, text.partition("\n")[0])
    elif kind in ("setenv", "rawsetenv"):
        key, equals, value = text.partition("=")
        if not equals:
            raise ProviderFailed(f"provider of service {name!r} sets {text!r}: that is no NAME=VALUE")
        given[key if kind == "rawsetenv" else f"{name.upper()}_{key}"] = value
    elif kind != "debug":
        raise ProviderFailed(f"provider of service {name!r} answered with an unknown message: {kind}")


def _give(service: dict[str, Any], given: dict[str, str], other: str, name: str, report: Report) -> None:
    own = Map()
    for key, value in (service.get("environment") or {}).items():
        own.put(key, value)
    for key, value in given.items():
        if own.get(key) not in (None, value):
            report.warn(f"provider {name!r} overrides the variable {key} of service {other!r}")
        own.put(key, value)
    if given:
        service["environment"] = own
