"""`info`: what the daemon says of itself."""

from __future__ import annotations

from buildtool.cli.human import binary_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call


def info(call: Call) -> int:
    """Print the daemon's state, or a template of it."""
    form = call.text("format")
    if form:
        return _by_template(call, form)
    document = call.client.get("/info")
    from buildtool import __version__

    lines = ["Client: buildtool", f" Version:    {__version__}", "", "Server:"]
    print("\n".join([*lines, *_server(document)]))
    for warning in document.get("Warnings") or ():
        print(warning)
    return 0


def _by_template(call: Call, form: str) -> int:
    from buildtool.cli.gotemplate import Template, TemplateError
    from buildtool.cli.handlers.version import client_document

    try:
        template = Template("{{json .}}" if form == "json" else form)
    except TemplateError as error:
        raise error.told("template parsing error", 64) from None
    client = {**client_document(), "Debug": False, "Plugins": [], "Warnings": None}
    print(template.render({**call.client.get("/info"), "ClientInfo": client}, "system.dockerInfo"))
    return 0


def _server(document: dict[str, Any]) -> list[str]:
    def line(title: str, value: object) -> str:
        return f" {title}: {value}"

    lines = [
        line("Containers", document.get("Containers", 0)),
        f"  Running: {document.get('ContainersRunning', 0)}",
        f"  Paused: {document.get('ContainersPaused', 0)}",
        f"  Stopped: {document.get('ContainersStopped', 0)}",
        line("Images", document.get("Images", 0)),
        line("Server Version", document.get("ServerVersion", "")),
        line("Storage Driver", document.get("Driver", "")),
        *(f"  {name}: {value}" for name, value in document.get("DriverStatus") or ()),
        line("Logging Driver", document.get("LoggingDriver", "")),
        line("Cgroup Driver", document.get("CgroupDriver", "")),
        line("Cgroup Version", document.get("CgroupVersion", "")),
    ]
    runtimes = " ".join(sorted(document.get("Runtimes") or {}))
    security = [str(item).removeprefix("name=") for item in document.get("SecurityOptions") or ()]
    lines += [
        line("Runtimes", runtimes),
        line("Default Runtime", document.get("DefaultRuntime", "")),
        line("Security Options", ""),
        *(f"  {item}" for item in security),
        line("Kernel Version", document.get("KernelVersion", "")),
        line("Operating System", document.get("OperatingSystem", "")),
        line("OSType", document.get("OSType", "")),
        line("Architecture", document.get("Architecture", "")),
        line("CPUs", document.get("NCPU", 0)),
        line("Total Memory", binary_size(document.get("MemTotal") or 0)),
        line("Name", document.get("Name", "")),
        line("ID", document.get("ID", "")),
        line("Docker Root Dir", document.get("DockerRootDir", "")),
        line("Debug Mode", str(document.get("Debug", False)).lower()),
        line("Experimental", str(document.get("ExperimentalBuild", False)).lower()),
        line("Live Restore Enabled", str(document.get("LiveRestoreEnabled", False)).lower()),
    ]
    return lines
