"""What a Buildfile offers to whoever builds it: its targets, and the arguments and secrets of one target. Pure.

The documents are those of BuildKit's subrequests frontend.targets and frontend.outline.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from buildtool.buildfile.analysis import first_error
from buildtool.buildfile.evaluation import ArgFact, Given, StageFacts, evaluate, find_stage, reachable
from buildtool.buildfile.instructions import Buildfile
from buildtool.buildfile.mounts import Mount
from buildtool.buildfile.places import Places
from buildtool.buildfile.sourcemap import raw_line


def targets(buildfile: Buildfile, text: str) -> dict[str, Any]:
    """All stages, in order; the last one is what is built by default."""
    places = Places(text, buildfile.file)
    last = len(buildfile.stages) - 1
    return {
        "targets": [
            _document(
                name=stage.name,
                default=stage.index == last,
                description=stage.from_.description,
                base=stage.from_.image.text,
                platform=stage.from_.platform.text if stage.from_.platform is not None else "",
                location=places.location(stage.from_.span),
            )
            for stage in buildfile.stages
        ],
        "sources": [_encoded(text)],
    }


def outline(buildfile: Buildfile, text: str, given: Given | None = None) -> dict[str, Any]:
    """The arguments, secrets and SSH agents that the target (the last stage by default) can be given.

    Raises InvalidInput or NotFound for what would stop the build before its first step.
    """
    given = given or Given()
    error = first_error(buildfile, given)
    if error is not None:
        raise error
    stages = evaluate(buildfile, given)
    target = find_stage(stages, given.target) if given.target else None
    target = target or stages[-1]
    needed = reachable(target)
    places = Places(text, buildfile.file)
    return _document(
        name=target.stage.name,
        description=target.stage.from_.description,
        args=[
            _document(name=arg.name, description=arg.description, value=arg.value, location=places.location(arg.span))
            for arg in _args(needed)
        ],
        secrets=_mounts(needed, "secret", places),
        ssh=_mounts(needed, "ssh", places),
        sources=[_encoded(text)],
    )


def print_targets(document: dict[str, Any]) -> str:
    """The table of `--call=targets`."""
    rows = [("TARGET", "DESCRIPTION")]
    for target in document["targets"]:
        name, default = target.get("name", ""), target.get("default", False)
        shown = f"{name} (default)" if name and default else name or ("(default)" if default else "")
        rows.append((shown, target.get("description", "")))
    return _table(rows, 1)


def print_outline(document: dict[str, Any]) -> str:
    """The tables of `--call=outline`."""
    parts: list[str] = []
    if document.get("name") or document.get("description"):
        rows = [("TARGET:", document.get("name") or "(default)")]
        if document.get("description"):
            rows.append(("DESCRIPTION:", document["description"]))
        parts.append(_table(rows, 1))
    if document.get("args"):
        cells = [(arg["name"], arg.get("value", ""), arg.get("description", "")) for arg in document["args"]]
        parts.append(_table([("BUILD ARG", "VALUE", "DESCRIPTION"), *cells], 3))
    for title, key in (("SECRET", "secrets"), ("SSH", "ssh")):
        if document.get(key):
            pairs = [(item["name"], "true" if item.get("required") else "") for item in document[key]]
            parts.append(_table([(title, "REQUIRED"), *pairs], 3))
    return "".join(f"{part}\n" for part in parts)


def to_json(document: dict[str, Any]) -> str:
    """A document as BuildKit prints it."""
    return json.dumps(document, indent=2, ensure_ascii=False)


def _args(needed: Sequence[StageFacts]) -> list[ArgFact]:
    """The ARGs that the stages use, each once (the nearest stage's), in the order of the file."""
    found: dict[str, ArgFact] = {}
    for facts in needed:
        pending = sorted(facts.used)
        for name in pending:
            arg = facts.args.get(name)
            if arg is not None:
                found.setdefault(name, arg)
                pending += sorted(arg.needs - set(pending))
    return sorted(found.values(), key=lambda arg: (raw_line(arg.span), arg.span.column))


def _mounts(needed: Sequence[StageFacts], kind: str, places: Places) -> list[dict[str, Any]]:
    found: dict[str, Mount] = {}
    for facts in needed:
        for mount in facts.mounts:
            if mount.type == kind:
                found.setdefault(mount.id, mount)
    ordered = sorted(found.values(), key=lambda mount: raw_line(mount.span) if mount.span is not None else 0)
    return [
        _document(name=m.id, required=m.required, location=places.location(m.span) if m.span else None)
        for m in ordered
    ]


def _document(**fields: Any) -> dict[str, Any]:
    """Without what is empty, as Go's omitempty; a name always stays."""
    return {key: value for key, value in fields.items() if value or (key == "name" and value is not None)}


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode("utf-8", "surrogateescape")).decode("ascii")


def _table(rows: Sequence[tuple[str, ...]], padding: int) -> str:
    """Left-aligned columns; the last one is not padded."""
    widths = [max(len(row[index]) for row in rows) + padding for index in range(len(rows[0]) - 1)]
    return "".join(
        "".join(cell.ljust(width) for cell, width in zip(row, widths, strict=False)) + row[-1] + "\n" for row in rows
    )
