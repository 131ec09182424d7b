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
    from buildtool.cli.gotemplate import Template

_PATHS = {
    "container": "/containers/{}/json",
    "image": "/images/{}/json",
    "network": "/networks/{}",
    "volume": "/volumes/{}",
}
_TYPES = {
    "container": "container.InspectResponse",
    "image": "image.InspectResponse",
    "network": "network.Inspect",
    "volume": "volume.Volume",
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
    return _inspect(call, ("volume",), "volume", raw=False)


def inspect_network(call: Call) -> int:
    """Networks only."""
    return _inspect(call, ("network",), "network")


def _inspect(
    call: Call, kinds: tuple[str, ...], what: str, *, size: bool = False, platform: str = "", raw: bool = True
) -> int:
    show = printer(call.text("format"), raw=raw)
    found: list[tuple[str, Any]] = []
    problems: list[str] = []
    for name in call.arguments:
        try:
            found.append(_find(call, kinds, what, name, {"size": size or None, "platform": platform or None}))
        except EngineError as error:
            problems.append(f"Error response from daemon: {error}" if len(kinds) == 1 else f"Error: {error}")
    problems += show(found)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


def printer(form: str, *, raw: bool = True) -> Callable[[list[tuple[str, Any]]], list[str]]:
    """What prints documents (each with its kind) by `--format`, and returns what is wrong with them.

    A template that fails by the documents' types is tried once more by what the daemon sent, unless not `raw`.
    Raises TemplateError at once for a template that is malformed.
    """
    template = None
    if form and form != "json":
        from buildtool.cli.gotemplate import Template, TemplateError

        try:
            template = Template(form)
        except TemplateError as error:
            raise error.told("template parsing error", 64) from None

    def show(found: list[tuple[str, Any]]) -> list[str]:
        if template is not None:
            return _show_by(template, found, raw=raw)
        if form == "json":
            print(json.dumps([document for _, document in found], ensure_ascii=False, separators=(",", ":")))
        else:
            print(json.dumps([document for _, document in found], ensure_ascii=False, indent=4))
        sys.stdout.flush()
        return []

    return show


def _show_by(template: Template, found: list[tuple[str, Any]], *, raw: bool) -> list[str]:
    from buildtool.cli.gotemplate import TemplateError

    texts, problems = [], []
    for kind, document in found:
        try:
            render = template.render_document if raw else template.render
            texts.append(render(document, _TYPES[kind]))
        except TemplateError as error:
            problems.append(error.told("template parsing error").message)
    print("\n".join(texts), flush=True)
    return problems


def _find(call: Call, kinds: tuple[str, ...], what: str, name: str, wanted: dict[str, Any]) -> tuple[str, Any]:
    for kind in kinds:
        query = {_ASKED[kind]: wanted[_ASKED[kind]]} if kind in _ASKED else None
        try:
            return kind, call.client.get(_PATHS[kind].format(quote_path(name)), query)
        except EngineError as error:
            if error.status != 404 and not (len(kinds) > 1 and error.status in (400, 501)):
                raise
            if len(kinds) == 1:
                raise
    raise EngineError(404, f"No such {what}: {name}")
