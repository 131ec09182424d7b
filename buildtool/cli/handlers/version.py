"""`version`: the client's and the daemon's."""

from __future__ import annotations

import os
import sys

from buildtool import __version__
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.cli.gotemplate import Template

API_VERSION = "1.50"


def version(call: Call) -> int:
    """Print both versions; without a daemon the client's, and then the error."""
    form = call.text("format")
    template = None
    if form:
        from buildtool.cli.gotemplate import Template, TemplateError

        try:
            template = Template("{{json .}}" if form == "json" else form, "version")
        except TemplateError as error:
            raise error.told("template parsing error", 64) from None
    server: dict[str, Any] | None = None
    failure: BuildtoolError | None = None
    try:
        server = call.client.get("/version")
    except BuildtoolError as error:
        failure = error
    document = {"Client": client_document(), "Server": server}
    if template is not None:
        _print_by(template, document)
    else:
        print("\n".join(_lines(document)))
    if failure is not None:
        raise failure
    return 0


def _print_by(template: Template, document: dict[str, Any]) -> None:
    from buildtool.cli.gotemplate import TemplateError

    try:
        print(template.render(document, "system.versionInfo"))
    except TemplateError:
        print()
        raise


def client_document() -> dict[str, Any]:
    """What this client says of itself."""
    machine = os.uname()
    return {
        "Version": __version__,
        "ApiVersion": API_VERSION,
        "PythonVersion": ".".join(map(str, sys.version_info[:3])),
        "Os": machine.sysname.lower(),
        "Arch": {"x86_64": "amd64", "aarch64": "arm64"}.get(machine.machine, machine.machine),
        "Context": "default",
    }


def _lines(document: dict[str, Any]) -> list[str]:
    client, server = document["Client"], document["Server"]
    lines = [
        "Client: buildtool",
        f" Version:           {client['Version']}",
        f" API version:       {client['ApiVersion']}",
        f" Python version:    {client['PythonVersion']}",
        f" OS/Arch:           {client['Os']}/{client['Arch']}",
    ]
    if server is None:
        return lines
    title = (server.get("Platform") or {}).get("Name") or "Engine"
    lines += ["", f"Server: {title}"]
    components = server.get("Components") or [{"Name": "Engine", "Version": server.get("Version"), "Details": server}]
    for component in components:
        lines += _component(component)
    return lines


def _component(component: dict[str, Any]) -> list[str]:
    lines = [f" {component.get('Name', '')}:", f"  Version:          {component.get('Version', '')}"]
    details = component.get("Details") or {}
    if "ApiVersion" in details:
        minimum = details.get("MinAPIVersion", "")
        lines.append(f"  API version:      {details['ApiVersion']} (minimum version {minimum})")
    for title, key in (
        ("Python version", "PythonVersion"),
        ("Go version", "GoVersion"),
        ("Git commit", "GitCommit"),
        ("Built", "BuildTime"),
    ):
        if details.get(key):
            lines.append(f"  {title + ':':<17} {details[key]}")
    if "Os" in details:
        lines.append(f"  {'OS/Arch:':<17} {details['Os']}/{details.get('Arch', '')}")
    if "Experimental" in details:
        lines.append(
            f"  {'Experimental:':<17} {details['Experimental']}".lower().replace("experimental", "Experimental")
        )
    return lines
