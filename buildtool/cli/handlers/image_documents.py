"""`image sbom`, `image provenance`: documents about an image, as JSON."""

from __future__ import annotations

import sys

from buildtool.cli.credentials import auth_headers
from buildtool.client import EngineError, quote_path
from buildtool.errors import InvalidInput, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call


def sbom(call: Call) -> int:
    """Print the packages of an image."""
    form = call.text("format")
    if form not in ("spdx", "cyclonedx"):
        raise InvalidInput(f"invalid --format {form!r}", hint="There are spdx and cyclonedx.")
    return _write(call, _ask(call, "sbom", {"format": form, "remote": call.switch("remote")}))


def provenance(call: Call) -> int:
    """Print how an image was built."""
    return _write(
        call, _ask(call, "provenance", {"statement": call.switch("statement"), "remote": call.switch("remote")})
    )


def _ask(call: Call, what: str, query: dict[str, Any]) -> Any:
    path = f"/buildtool/v1/images/{quote_path(call.arguments[0])}/{what}"
    try:
        return call.client.call("GET", path, query, headers=auth_headers(call.arguments[0])).json()
    except EngineError as error:
        if error.status == 404 and "page not found" in error.message.lower():
            raise Unavailable(f"the engine at {call.client.address} is not buildtool's: it has no {what}") from error
        raise


def _write(call: Call, document: Any) -> int:
    import json

    text = json.dumps(document, indent=2, ensure_ascii=False) + "\n"
    if call.text("output"):
        with open(call.text("output"), "w", encoding="utf-8") as file:
            file.write(text)
    else:
        sys.stdout.write(text)
    return 0
