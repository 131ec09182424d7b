"""`volume ls`, `create`, `rm`, `update`, `export`, `import`."""

from __future__ import annotations

from buildtool.cli.archives import check_output, open_input, read_parts, refuse_terminal, write_stream
from buildtool.cli.handlers.many import for_each
from buildtool.cli.human import decimal_size
from buildtool.cli.listing import labels_text, print_rows
from buildtool.cli.values import filters_document, key_value_map
from buildtool.client import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "Availability": "AVAILABILITY",
    "Driver": "DRIVER",
    "Group": "GROUP",
    "Status": "STATUS",
    "Name": "VOLUME NAME",
    "Labels": "LABELS",
    "Links": "LINKS",
    "Mountpoint": "MOUNTPOINT",
    "Scope": "SCOPE",
    "Size": "SIZE",
}


def list_(call: Call) -> int:
    """List volumes."""
    answer = call.client.get("/volumes", {"filters": filters_document(call.texts("filter")) or None})
    found = sorted(answer.get("Volumes") or (), key=lambda volume: str(volume["Name"]))
    quiet = "Name" if call.switch("quiet") else ""
    print_rows(
        map(_row, found),
        call.text("format"),
        ("Driver", "Name"),
        _HEADERS,
        quiet=quiet,
        kind="formatter.volumeContext",
        raw=(("name", "Name"), ("driver", "Driver")),
    )
    return 0


def _row(volume: dict[str, Any]) -> dict[str, Any]:
    labels = volume.get("Labels") or {}
    usage = volume.get("UsageData")
    return {
        "Availability": "N/A",
        "Driver": volume.get("Driver", ""),
        "Name": volume["Name"],
        "Labels": labels_text(labels),
        "Label": lambda name: labels.get(name, ""),
        "Group": "N/A",
        "Status": "N/A",
        "Links": str(usage["RefCount"]) if usage else "N/A",
        "Mountpoint": volume.get("Mountpoint", ""),
        "Scope": volume.get("Scope", ""),
        "Size": decimal_size(usage["Size"]) if usage else "N/A",
    }


def create(call: Call) -> int:
    """Create a volume and print its name."""
    body = {
        "Name": call.arguments[0] if call.arguments else "",
        "Driver": call.text("driver"),
        "DriverOpts": key_value_map(call.texts("opt")),
        "Labels": key_value_map(call.texts("label")),
    }
    print(call.client.post("/volumes/create", None, body)["Name"])
    return 0


def rm(call: Call) -> int:
    """Remove volumes."""
    query = {"force": call.switch("force")}

    def remove(name: str) -> None:
        call.client.call("DELETE", f"/volumes/{quote_path(name)}", query).read()

    return for_each(call.arguments, remove)


def update(call: Call) -> int:
    """Update a volume of a cluster: the daemon says that there is none."""
    document = {"Spec": {"Availability": call.text("availability")}}
    call.client.call("PUT", f"/volumes/{quote_path(call.arguments[0])}", {"version": 0}, document=document).read()
    return 0


_SUFFIXES = {".gz": "gzip", ".tgz": "gzip", ".zst": "zstd", ".tzst": "zstd"}


def export(call: Call) -> int:
    """Write a volume's content to an archive; the file's name tells the compression."""
    path = call.text("output")
    if path:
        check_output(path)
    else:
        refuse_terminal("a volume")
    compression = next((kind for suffix, kind in _SUFFIXES.items() if path.endswith(suffix)), None)
    source = f"/buildtool/v1/volumes/{quote_path(call.arguments[0])}/export"
    return write_stream(call.client.call("GET", source, {"compression": compression}), path, "a volume")


def import_(call: Call) -> int:
    """Fill a volume from an archive and print its name."""
    name, path = call.arguments[0], call.arguments[1] if len(call.arguments) > 1 else "-"
    target = f"/buildtool/v1/volumes/{quote_path(name)}/import"
    with open_input(path) as file:
        query = {"replace": call.switch("replace")}
        headers = {"Content-Type": "application/x-tar"}
        call.client.call("POST", target, query, body=read_parts(file), headers=headers).read()
    print(name)
    return 0
