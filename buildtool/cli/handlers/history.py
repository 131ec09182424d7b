"""`history`: the steps an image was made of."""

from __future__ import annotations

from buildtool.cli.human import ago, decimal_size, ellipsis, rfc3339_local, short_id
from buildtool.cli.listing import print_rows
from buildtool.client import quote_path

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}


def history(call: Call) -> int:
    """Print an image's history, newest step first."""
    truncate, human = not call.switch("no-trunc"), call.switch("human")
    steps = call.client.get(
        f"/images/{quote_path(call.arguments[0])}/history", {"platform": call.text("platform") or None}
    )
    columns = ("ID", "CreatedSince" if human else "CreatedAt", "CreatedBy", "Size", "Comment")
    rows = (_row(step, truncate, human) for step in steps)
    print_rows(
        rows,
        call.text("format"),
        columns,
        _HEADERS,
        quiet="ID" if call.switch("quiet") else "",
        kind="image.historyContext",
    )
    return 0


def _row(step: dict[str, Any], truncate: bool, human: bool) -> dict[str, Any]:
    created = float(step.get("Created") or 0)
    stamp = rfc3339_local(created)
    identifier = step.get("Id") or "<missing>"
    made_by = (step.get("CreatedBy") or "").replace("\t", " ")
    return {
        "ID": short_id(identifier) if truncate and identifier != "<missing>" else identifier,
        "CreatedSince": ago(created) if human else stamp,
        "CreatedAt": stamp,
        "CreatedBy": ellipsis(made_by, 45) if truncate else made_by,
        "Size": decimal_size(step.get("Size") or 0, 3) if human else str(step.get("Size") or 0),
        "Comment": step.get("Comment") or "",
    }
