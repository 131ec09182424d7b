"""`inspect`, for one kind of object or for whatever bears the name."""

from __future__ import annotations

import json
import sys

from buildtool.client import EngineError, quote_path
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from buildtool.cli.call import Call

_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_ASKED = {"container": "size", "image": "platform"}
# In Docker's order: a name that is both a container's and an image's is the container's.
_ORDER = ("container", "image", "network", "volume")


def inspect(call: Call) -> int:
    """Look through all kinds of objects, or those of --type."""
    kind = call.text("type")
    if kind and kind not in _PATHS:
        raise InvalidInput(f'"{kind}" is not a valid value for --type', hint=f"Choose from {', '.join(_ORDER)}.")
    return _inspect(call, (kind,) if kind else _ORDER, kind or "object", size=call.switch("size"))


def inspect_container(call: Call) -> int:
    """Containers only."""
    return _inspect(call, ("container",), "container", size=call.switch("size"))


def inspect_image(call: Call) -> int:
    """Images only."""
    if call.switch("remote"):
        from buildtool.cli.handlers.remote import inspect

        return inspect(call)
    return _inspect(call, ("image",), "image", platform=call.text("platform"))


def inspect_volume(call: Call) -> int:
    """Volumes only."""
    return _inspect(call, ("volume",), "volume")


def inspect_network(call: Call) -> int:
    """Networks only."""
    return _inspect(call, ("network",), "network")


def _inspect(call: Call, kinds: tuple[str, ...], what: str, *, size: bool = False, platform: str = "") -> int:
    show = printer(call.text("format"))
    found: list[Any] = []
    problems: list[str] = []
    for name in call.arguments:
        try:
            found.append(_find(call, kinds, what, name, {"size": size or None, "platform": platform or None}))
        except EngineError as error:
            problems.append(f"Error response from daemon: {error}" if len(kinds) == 1 else f"Error: {error}")
    show(found)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def printer(form: str) -> Callable[[list[Any]], None]:
    """What prints documents by `--format`. Raises TemplateError at once for a template that is malformed."""
    template = None
    if form and form != "json":
        from buildtool.cli.gotemplate import Template

        template = Template(form)

    def show(found: list[Any]) -> None:
        if template is not None:
            for document in found:
                print(template.render(document))
        elif form == "json":
            for document in found:
                print(json.dumps(document, ensure_ascii=False, separators=(",", ":")))
        else:
            print(json.dumps(found, ensure_ascii=False, indent=4))
        sys.stdout.flush()

    return show


def _find(call: Call, kinds: tuple[str, ...], what: str, name: str, wanted: dict[str, Any]) -> Any:
    for kind in kinds:
        query = {_ASKED[kind]: wanted[_ASKED[kind]]} if kind in _ASKED else None
        try:
            return call.client.get(_PATHS[kind].format(quote_path(name)), query)
        except EngineError as error:
            if error.status != 404 and not (len(kinds) > 1 and error.status in (400, 501)):
                raise
            if len(kinds) == 1:
                raise
    raise EngineError(404, f"No such {what}: {name}")
