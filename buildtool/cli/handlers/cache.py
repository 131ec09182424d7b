"""`cache ls|du|inspect|prune|protect|export|import`: the build cache."""

from __future__ import annotations

import json
import os
import sys

from buildtool.cli.human import ago, decimal_size, ellipsis, local_time
from buildtool.cli.listing import print_rows, print_table
from buildtool.cli.values import filters_document
from buildtool.client import EngineError
from buildtool.client.engine import quote
from buildtool.errors import InvalidInput, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any, BinaryIO

    from buildtool.cli.call import Call

    Entry = dict[str, Any]

_PATH = "/buildtool/v1/cache"
_CHUNK = 1 << 18
_HEADERS = {
    "ID": "CACHE ID",
    "Type": "TYPE",
    "Size": "SIZE",
    "LastUsed": "LAST USED",
    "Created": "CREATED",
    "Hits": "HITS",
    "State": "STATE",
    "Where": "WHERE",
    "Description": "DESCRIPTION",
}


def ls(call: Call) -> int:
    """List the entries."""
    order = call.choice("sort")
    entries = _entries(call)
    if order != "used":
        entries.sort(key=lambda entry: entry[order], reverse=True)
    truncate = not call.switch("no-trunc")
    columns = ("ID", "Type", "Size", "LastUsed", "Hits", "State", "Where", "Description")
    rows = (_row(entry, truncate) for entry in entries)
    print_rows(rows, call.text("format"), columns, _HEADERS, quiet="ID" if call.switch("quiet") else "")
    return 0


def _row(entry: Entry, truncate: bool) -> dict[str, Any]:
    return {
        "ID": entry["id"],
        "Type": entry["type"],
        "Size": decimal_size(entry["size"], 3),
        "LastUsed": ago(entry["used"]),
        "Created": ago(entry["created"]),
        "Hits": str(entry["hits"]),
        "State": _state(entry),
        "Where": _where(entry),
        "Description": ellipsis(entry["description"], 60) if truncate else entry["description"],
    }


def _state(entry: Entry) -> str:
    words = [word for word in ("protected", "in_use", "shared") if entry[word]]
    return ",".join(words).replace("_", " ") or "-"


def _where(entry: Entry) -> str:
    """Which line of which Buildfile made it."""
    origin = entry.get("origin")
    return f"{origin['file']}:{origin['line']}" if origin else "-"


def du(call: Call) -> int:
    """Print the sums: what there is, what of it is shared with images, and what a prune would free."""
    form = call.choice("format")
    entries = _entries(call)
    sums = {
        "entries": len(entries),
        "total": sum(entry["size"] for entry in entries),
        "steps": sum(entry["size"] for entry in entries if entry["type"] == "step"),
        "mounts": sum(entry["size"] for entry in entries if entry["type"] == "mount"),
        "shared": sum(entry["size"] for entry in entries if entry["shared"]),
        "protected": sum(entry["size"] for entry in entries if entry["protected"]),
        "reclaimable": sum(
            entry["reclaimable"] for entry in entries if not entry["in_use"] and not entry["protected"]
        ),
    }
    if form == "json":
        print(json.dumps(sums))
        return 0
    print_table(
        [
            ["Entries:", str(sums["entries"])],
            ["Steps:", decimal_size(sums["steps"])],
            ["Mounts:", decimal_size(sums["mounts"])],
            ["Shared:", decimal_size(sums["shared"])],
            ["Protected:", decimal_size(sums["protected"])],
            ["Reclaimable:", decimal_size(sums["reclaimable"])],
            ["Total:", decimal_size(sums["total"])],
        ]
    )
    return 0


def inspect(call: Call) -> int:
    """Print everything about entries as JSON, or by a template."""
    found = [_ask(call, f"{_PATH}/{quote(name)}/json") for name in call.arguments]
    form = call.text("format")
    if form and form != "json":
        from buildtool.cli.gotemplate import Template

        for entry in found:
            print(Template(form).render(entry, strict=True))
        return 0
    for entry in found:
        entry["created_at"], entry["used_at"] = local_time(entry["created"]), local_time(entry["used"])
    print(json.dumps(found, indent=2, ensure_ascii=False))
    return 0


def prune(call: Call) -> int:
    """Remove what the flags say, and tell what it was."""
    policy: dict[str, Any] = {
        "filters": filters_document(call.texts("filter")),
        "all": call.switch("all"),
        "mounts": call.switch("mounts") or "mount" in filters_document(call.texts("filter")).get("type", ()),
    }
    for field, flag in (("max_used", "max-used-space"), ("min_free", "min-free-space"), ("keep", "keep")):
        if call.given(flag):
            policy[field] = call.number(flag)
    if call.given("reserved-space"):
        policy["reserved"] = call.number("reserved-space")
    if call.text("unused-for"):
        policy["unused_for"] = _age(call.text("unused-for"))
    if not call.switch("dry-run") and not _sure(call, policy):
        return 0
    answer = _call(call, "POST", f"{_PATH}/prune", {"dry_run": call.switch("dry-run")}, policy).json()
    for entry in answer["removed"]:
        size, what = decimal_size(entry["size"], 3), ellipsis(entry["description"], 60)
        print(f"{entry['id']}  {size:>8}  {_where(entry)}  {what}")
    words = "Would free" if call.switch("dry-run") else "Total reclaimed space"
    print(f"{words}: {decimal_size(answer['bytes'])}")
    return 0


def _sure(call: Call, policy: dict[str, Any]) -> bool:
    if call.switch("force") or not sys.stdin.isatty():
        return True
    limits = [name for name in ("unused_for", "max_used", "min_free", "keep", "filters") if policy.get(name)]
    what = "entries of the build cache beyond these limits" if limits else "the whole build cache that no image needs"
    print(f"WARNING! This will remove {what}.\nAre you sure you want to continue? [y/N] ", end="", flush=True)
    return sys.stdin.readline().strip().lower() in ("y", "yes")


def _age(text: str) -> float:
    from buildtool.cli.values import parse_duration

    units = {"d": 86400.0, "w": 604800.0}
    if text[-1:] in units and text[:-1].isdecimal():
        return int(text[:-1]) * units[text[-1]]
    try:
        return parse_duration(text) / 1e9
    except ValueError:
        raise InvalidInput(f"invalid duration {text!r}", hint="Write 90m, 36h, 7d or 2w.") from None


def protect(call: Call) -> int:
    """Protect entries, or end that; print their ids."""
    document = {"ids": call.arguments, "protect": not call.switch("remove")}
    for identifier in _call(call, "POST", f"{_PATH}/protect", None, document).json():
        print(identifier)
    return 0


def export(call: Call) -> int:
    """Write a cache mount as a tar archive."""
    path = call.text("output")
    if not path and sys.stdout.isatty():
        from buildtool.cli.parse import UsageError

        raise UsageError("cowardly refusing to write an archive to a terminal: use -o FILE or redirect")
    response = _call(call, "GET", f"{_PATH}/{quote(call.arguments[0])}/export")
    if not path or path == "-":
        for chunk in response:
            sys.stdout.buffer.write(chunk)
        sys.stdout.buffer.flush()
        return 0
    try:
        with open(path, "wb") as file:
            for chunk in response:
                file.write(chunk)
    except BaseException:
        os.unlink(path)
        raise
    return 0


def import_(call: Call) -> int:
    """Read a tar archive into a cache mount."""
    name = call.arguments[1] if len(call.arguments) > 1 else "-"
    if name == "-":
        _send(call, sys.stdin.buffer)
    else:
        with open(name, "rb") as file:
            _send(call, file)
    return 0


def _send(call: Call, file: BinaryIO) -> None:
    def chunks() -> Iterator[bytes]:
        while data := file.read(_CHUNK):
            yield data

    try:
        call.client.call("POST", f"{_PATH}/import", {"id": call.arguments[0]}, body=chunks()).json()
    except EngineError as error:
        _refuse(error)


def _entries(call: Call) -> list[Entry]:
    found: list[Entry] = _ask(call, _PATH, {"filters": filters_document(call.texts("filter")) or None})
    return found


def _ask(call: Call, path: str, query: dict[str, Any] | None = None) -> Any:
    return _call(call, "GET", path, query).json()


def _call(call: Call, method: str, path: str, query: Any = None, document: Any = None) -> Any:
    try:
        return call.client.call(method, path, query, document=document)
    except EngineError as error:
        _refuse(error)


def _refuse(error: EngineError) -> None:
    if error.status == 404 and error.message.lower().endswith("page not found"):
        raise Unavailable("this engine's build cache cannot be looked at: it is not buildtool's") from error
    raise error
