"""`build --verify-reproducible`: build again without the cache, and compare."""

from __future__ import annotations

import sys
import time

from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from buildtool.cli.call import Call

_PAUSE = 1.1
"""Seconds before the second build: what writes the time of day in seconds is to be seen."""


def refuse_streams(call: Call) -> None:
    """Raise InvalidInput for what can be read once only."""
    if call.arguments[0] == "-" or call.text("file") == "-":
        raise InvalidInput("--verify-reproducible reads everything twice", hint="write what comes by STDIN to a file")
    if call.switch("debug") or call.texts("debug-at"):
        raise InvalidInput("--verify-reproducible and --debug exclude each other")


def verify(call: Call, result: dict[str, Any], build: Callable[[Call], dict[str, Any]]) -> None:
    """Build without the cache and compare with the first result. Raises BuildtoolError when they differ."""
    from buildtool.cli.handlers.image_diff import differences, print_differences

    time.sleep(_PAUSE)
    print("\nbuilding again without the cache, to compare", file=sys.stderr)
    values = {"no-cache": True, "tag": [], "cache-to": [], "cache-from": [], "output": [], "push": False}
    second = build(call.changed(values | {"load": False, "graph": "", "annotation": [], "attest": []}))
    if second["image_id"] == result["image_id"]:
        print(f"reproducible: both builds made {result['image_id']}", file=sys.stderr)
        return
    try:
        found = differences(call.client, result["image_id"], second["image_id"])
    finally:
        if second.get("is_new"):
            call.client.call("DELETE", f"/buildtool/v1/images/{second['image_id']}/unnamed").read()
    print_differences(found, sys.stderr)
    raise BuildtoolError(f"not reproducible: the second build made {second['image_id']}")
