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
    pairs = list(zip(_images(result), _images(second), strict=True))
    differing = [(first["id"], made["id"], made["platform"]) for first, made in pairs if first["id"] != made["id"]]
    try:
        for before, now, platform in differing:
            if len(pairs) > 1:
                print(f"for {platform}:", file=sys.stderr)
            print_differences(differences(call.client, before, now), sys.stderr)
    finally:
        for made in _images(second):
            if second.get("is_new") and made["id"] not in {image["id"] for image in _images(result)}:
                call.client.call("DELETE", f"/buildtool/v1/images/{made['id']}/unnamed").read()
    if not differing:  # the index differs in nothing but what is said about the images
        print("reproducible: both builds made the same images", file=sys.stderr)
        return
    raise BuildtoolError(f"not reproducible: the second build made {second['image_id']}")


def _images(result: dict[str, Any]) -> list[dict[str, Any]]:
    """The image of each platform."""
    found: list[dict[str, Any]] = result.get("images") or [{"id": result["image_id"], "platform": result["platform"]}]
    return found
