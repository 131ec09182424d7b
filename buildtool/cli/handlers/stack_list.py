"""`compose ps`, `ls`, `images`, `top`, `port`, `volumes`, `stats`: looks at what runs."""

from __future__ import annotations

import json
import sys

from buildtool.cli.listing import print_rows, print_table
from buildtool.cli.stack_run import call_other, one_container, open_engine, project_name, service_containers

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.stacks.engine import Container

_HEADERS = {
    "ID": "CONTAINER ID",
    "Name": "NAME",
    "Names": "NAMES",
    "Image": "IMAGE",
    "Command": "COMMAND",
    "Service": "SERVICE",
    "RunningFor": "CREATED",
    "CreatedAt": "CREATED AT",
    "Status": "STATUS",
    "State": "STATE",
    "Health": "HEALTH",
    "ExitCode": "EXIT CODE",
    "Ports": "PORTS",
    "Project": "PROJECT",
    "Labels": "LABELS",
    "Mounts": "MOUNTS",
    "Networks": "NETWORKS",
    "Size": "SIZE",
}
_COLUMNS = ("Name", "Image", "Command", "Service", "RunningFor", "Status", "Ports")


def ps(call: Call) -> int:
    """List the stack's containers."""
    project, found = service_containers(call, open_engine(call), oneoff=call.switch("all"))
    statuses = call.texts("status") + [
        item.partition("=")[2] for item in call.texts("filter") if item.partition("=")[0] == "status"
    ]
    if statuses:
        found = [item for item in found if item.state in statuses]
    elif not call.switch("all"):
        found = [item for item in found if item.running]
    if project is not None and not call.switch("orphans"):
        found = [item for item in found if item.service in project.services]
    if call.switch("services"):
        for name in sorted({item.service for item in found}):
            print(name)
        return 0
    if call.switch("quiet"):
        for item in found:
            print(item.id)
        return 0
    rows = [_row(item, not call.switch("no-trunc")) for item in found]
    print_rows(rows, call.text("format"), _COLUMNS, _HEADERS)
    return 0


def _row(item: Container, truncate: bool) -> dict[str, Any]:
    from buildtool.cli.human import ago, ellipsis, local_time, quoted, short_id
    from buildtool.cli.listing import labels_text
    from buildtool.cli.ports import displayable_ports

    data = item.data
    status = data.get("Status", "")
    command = data.get("Command") or ""
    created = float(data.get("Created") or 0)
    return {
        "ID": short_id(item.id) if truncate else item.id,
        "Name": item.name,
        "Names": item.name,
        "Image": data.get("Image") or "",
        "Command": quoted(ellipsis(command, 20) if truncate else command),
        "Service": item.service,
        "Project": item.labels.get("com.docker.compose.project", ""),
        "RunningFor": ago(created),
        "CreatedAt": local_time(created),
        "Status": status,
        "State": item.state,
        "Health": next((word for word in ("unhealthy", "healthy", "starting") if word in status), ""),
        "ExitCode": _exit_code(status),
        "Ports": displayable_ports(data.get("Ports") or []),
        "Publishers": [
            {
                "URL": port.get("IP") or "",
                "TargetPort": port.get("PrivatePort", 0),
                "PublishedPort": port.get("PublicPort") or 0,
                "Protocol": port.get("Type", ""),
            }
            for port in data.get("Ports") or []
        ],
        "Labels": labels_text(item.labels),
        "Networks": ",".join(sorted(item.networks)),
        "Mounts": ",".join(mount.get("Name") or mount.get("Source") or "" for mount in data.get("Mounts") or ()),
        "LocalVolumes": str(sum(mount.get("Type") == "volume" for mount in data.get("Mounts") or ())),
        "Size": "0B",
    }


def _exit_code(status: str) -> int:
    _, found, rest = status.partition("Exited (")
    code = rest.partition(")")[0]
    return int(code) if found and code.lstrip("-").isdecimal() else 0


def ls(call: Call) -> int:
    """List the stacks that have containers."""
    from buildtool.stacks import labels
    from buildtool.stacks.engine import Container

    engine = open_engine(call)
    found = engine.get("/containers/json", {"all": True, "filters": {"label": [labels.PROJECT]}})
    stacks: dict[str, list[Container]] = {}
    for data in found:
        container = Container(data)
        stacks.setdefault(container.labels[labels.PROJECT], []).append(container)
    wanted = [item.partition("=")[2] for item in call.texts("filter") if item.partition("=")[0] == "name"]
    rows = []
    for name, containers in sorted(stacks.items()):
        if wanted and name not in wanted:
            continue
        states: dict[str, int] = {}
        for container in containers:
            states[container.state] = states.get(container.state, 0) + 1
        if not call.switch("all") and not any(container.running for container in containers):
            continue
        status = ", ".join(f"{state}({count})" for state, count in sorted(states.items()))
        files = next((c.labels[labels.CONFIG_FILES] for c in containers if labels.CONFIG_FILES in c.labels), "N/A")
        rows.append({"Name": name, "Status": status, "ConfigFiles": files})
    if call.switch("quiet"):
        for row in rows:
            print(row["Name"])
    elif call.text("format") == "json":
        print(json.dumps(rows))
    else:
        print_table([("NAME", "STATUS", "CONFIG FILES"), *(tuple(row.values()) for row in rows)], minimum=20)
    return 0


def images(call: Call) -> int:
    """List the images that the containers run."""
    from buildtool.cli.human import decimal_size, short_id

    engine = open_engine(call)
    _, found = service_containers(call, engine)
    rows: list[dict[str, Any]] = []
    for item in found:
        details = engine.image(item.data["ImageID"]) or engine.image(item.data["Image"]) or {}
        name = item.data["Image"] if ":" in item.data["Image"].rpartition("/")[2] else f"{item.data['Image']}:latest"
        repository, _, tag = name.rpartition(":")
        architecture = "/".join(part for part in (details.get("Os"), details.get("Architecture")) if part)
        rows.append(
            {
                "ID": details.get("Id") or item.data["ImageID"],
                "ContainerName": item.name,
                "Repository": repository if not item.data["Image"].startswith("sha256:") else "<none>",
                "Tag": tag if not item.data["Image"].startswith("sha256:") else "<none>",
                "Platform": architecture,
                "Size": details.get("Size") or 0,
            }
        )
    if call.switch("quiet"):
        for identifier in dict.fromkeys(short_id(row["ID"]) for row in rows):
            print(identifier)
    elif call.text("format") == "json":
        print(json.dumps(rows))
    else:
        lines = [
            (
                row["ContainerName"],
                row["Repository"],
                row["Tag"],
                row["Platform"],
                short_id(row["ID"]),
                decimal_size(row["Size"], 3),
            )
            for row in rows
        ]
        print_table([("CONTAINER", "REPOSITORY", "TAG", "PLATFORM", "IMAGE ID", "SIZE"), *lines], minimum=20)
    return 0


def top(call: Call) -> int:
    """The processes of the running containers."""
    engine = open_engine(call)
    _, found = service_containers(call, engine)
    lines: list[list[str]] = []
    for item in found:
        if item.running:
            answer = engine.get(f"/containers/{item.id}/top")
            if not lines:
                lines.append(["SERVICE", "#", *answer["Titles"]])
            lines += [[item.service, str(item.number), *process] for process in answer["Processes"]]
    if lines:
        print_table(lines, minimum=4)
    return 0


def port(call: Call) -> int:
    """Where a service's port is published."""
    engine = open_engine(call)
    container = one_container(call, engine, call.arguments[0])
    wanted, _, protocol = call.arguments[1].partition("/")
    protocol = protocol or call.text("protocol")
    for item in container.data.get("Ports") or ():
        if str(item.get("PrivatePort")) == wanted and item.get("Type") == protocol and item.get("PublicPort"):
            ip = item.get("IP") or "0.0.0.0"
            print(f"[{ip}]:{item['PublicPort']}" if ":" in ip else f"{ip}:{item['PublicPort']}")
            return 0
    print(f"no port {wanted}/{protocol} for container {container.name}", file=sys.stderr)
    return 1


def volumes(call: Call) -> int:
    """List the stack's volumes."""
    from buildtool.cli.listing import labels_text
    from buildtool.stacks import labels

    engine = open_engine(call)
    _, name = project_name(call)
    found = engine.get("/volumes", labels.project_filter(name)).get("Volumes") or []
    if call.arguments:
        _, containers = service_containers(call, engine)
        used = {mount.get("Name") for item in containers for mount in item.data.get("Mounts") or ()}
        found = [item for item in found if item["Name"] in used]
    rows = [
        {
            "Driver": item["Driver"],
            "Name": item["Name"],
            "Labels": labels_text(item.get("Labels")),
            "Mountpoint": item.get("Mountpoint", ""),
            "Scope": item.get("Scope", ""),
        }
        for item in sorted(found, key=lambda item: str(item["Name"]))
    ]
    headers = {"Driver": "DRIVER", "Name": "VOLUME NAME", "Labels": "LABELS", "Mountpoint": "MOUNTPOINT"}
    print_rows(rows, call.text("format"), ("Driver", "Name"), headers, quiet="Name" if call.switch("quiet") else "")
    return 0


def stats(call: Call) -> int:
    """What the stack's containers use."""
    _, found = service_containers(call, open_engine(call))
    chosen = [item.name for item in found if item.running or call.switch("all")]
    if not chosen:
        return 0
    words = ["--no-stream"] if call.switch("no-stream") else []
    words += ["--no-trunc"] if call.switch("no-trunc") else []
    words += ["--format", call.text("format")] if call.text("format") else []
    return call_other(call, "stats", [*words, *chosen])
