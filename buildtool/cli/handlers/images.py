"""`images`: the list of images."""

from __future__ import annotations

from buildtool.cli.human import ago, decimal_size, local_time, short_id
from buildtool.cli.listing import print_rows
from buildtool.cli.parse import UsageError
from buildtool.cli.values import filters_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Any

    from buildtool.cli.call import Call

_NONE = "<none>"
_HEADERS = {
    "ID": "IMAGE ID",
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
    "Containers": "CONTAINERS",
    "VirtualSize": "SIZE",
    "SharedSize": "SHARED SIZE",
    "UniqueSize": "UNIQUE SIZE",
}
_RAW = (
    ("repository", "Repository"),
    ("tag", "Tag"),
    ("image_id", "ID"),
    ("created_at", "CreatedAt"),
    ("virtual_size", "Size"),
)


def images(call: Call) -> int:
    """List images, optionally those of one name."""
    filters = filters_document(call.texts("filter"))
    if call.arguments:
        filters.setdefault("reference", []).append(call.arguments[0])
    form = call.text("format")
    digests = call.switch("digests")
    tree = call.switch("tree")
    if tree:
        for flag in ("quiet", "no-trunc", "digests", "format"):
            if call.given(flag):
                raise UsageError(f"--{flag} is not yet supported with --tree")
    query = {"all": call.switch("all"), "filters": filters or None, "manifests": tree or None}
    found = call.client.get("/images/json", query)
    if tree:
        from buildtool.cli.handlers.image_tree import print_tree

        print_tree(found)
        return 0
    truncate = not call.switch("no-trunc")
    by_digest = digests or ".Digest" in form
    wanted = call.arguments[0] if call.arguments else ""
    rows = (row for item in found for row in _rows(item, truncate, by_digest, wanted))
    columns = ["Repository", "Tag", *(["Digest"] if digests else []), "ID", "CreatedSince", "Size"]
    print_rows(
        rows,
        form,
        columns,
        _HEADERS,
        quiet="ID" if call.switch("quiet") else "",
        kind="formatter.imageContext",
        raw=_RAW,
    )
    return 0


def _rows(item: dict[str, Any], truncate: bool, by_digest: bool, wanted: str) -> Iterator[dict[str, Any]]:
    created = float(item.get("Created") or 0)
    size = decimal_size(item.get("Size") or 0, 3)
    for repository, tag, digest in _names(item, by_digest):
        yield {
            "ID": short_id(item["Id"]) if truncate else item["Id"],
            "Repository": repository,
            "Tag": tag,
            "Digest": digest,
            "CreatedSince": ago(created),
            "CreatedAt": local_time(created),
            "Size": size,
            "VirtualSize": decimal_size(item.get("Size") or 0),
            "Containers": _count(item.get("Containers", -1)),
            "SharedSize": _known_size(item.get("SharedSize", -1)),
            "UniqueSize": _known_size(_unique(item)),
        }


def _names(item: dict[str, Any], by_digest: bool) -> list[tuple[str, str, str]]:
    """Repository, tag and digest of each line of an image: one a tag, or a line of `<none>`."""
    digests: dict[str, str] = {}
    for reference in item.get("RepoDigests") or ():
        repository, _, digest = reference.partition("@")
        if repository != _NONE:
            digests[repository] = digest
    lines = []
    for reference in item.get("RepoTags") or ():
        repository, _, tag = reference.rpartition(":")
        if repository != _NONE:
            lines.append((repository, tag, digests.get(repository, _NONE)))
    tagged = {repository for repository, _, _ in lines}
    if by_digest or not lines:
        lines += [(repository, _NONE, digest) for repository, digest in digests.items() if repository not in tagged]
    return lines or [(_NONE, _NONE, _NONE)]


def _count(number: int) -> str:
    return "N/A" if number < 0 else str(number)


def _known_size(size: int) -> str:
    return "N/A" if size < 0 else decimal_size(size, 3)


def _unique(item: dict[str, Any]) -> int:
    shared: int = item.get("SharedSize", -1)
    return -1 if shared < 0 else int(item.get("Size") or 0) - shared
