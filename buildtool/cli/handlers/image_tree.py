"""`images --tree`: images with the platforms that their names mean."""

from __future__ import annotations

import sys

from buildtool.cli.human import decimal_size, short_id

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import Any

_WARNING = "WARNING: This is an experimental feature. The output may change and shouldn't be depended on."
_TITLES = ("IMAGE", "ID", "DISK USAGE", "CONTENT SIZE", "EXTRA")
_WIDTHS = (10, 12, 10, 12, 5)


def print_tree(images: Sequence[dict[str, Any]]) -> None:
    """A line an image, below it a line a platform; `U` marks what containers use."""
    lines: list[Sequence[str]] = []
    for image in images:
        names = image.get("RepoTags") or ["<untagged>"]
        parts = [part for part in image.get("Manifests") or () if part.get("Kind") == "image"]
        used = any((part.get("ImageData") or {}).get("Containers") for part in parts)
        content = sum((part.get("Size") or {}).get("Content", 0) for part in parts)
        sizes = decimal_size(image["Size"], 3), decimal_size(content, 3)
        lines.append((names[0], short_id(image["Id"]), *sizes, _use(used)))
        lines += [(f"├─ {name}", "", "", "", "") for name in names[1:]]
        lines += [_platform_line(part, last=part is parts[-1]) for part in parts]
        lines.append(("", "", "", "", ""))
    titles = [_TITLES, *lines]
    widths = [max(least, *(len(line[column]) for line in titles)) for column, least in enumerate(_WIDTHS)]
    print(_WARNING, file=sys.stderr)
    print(f"{'Info ->  U In Use':>{sum(widths) + 12}}\n")
    for line in titles:
        print("   ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _platform_line(part: dict[str, Any], *, last: bool) -> Sequence[str]:
    data, size = part.get("ImageData") or {}, part.get("Size") or {}
    platform = data.get("Platform") or {}
    name = "/".join(filter(None, (platform.get("os"), platform.get("architecture"), platform.get("variant"))))
    return (
        f"{'└─' if last else '├─'} {name}",
        short_id(part["ID"]),
        decimal_size(size.get("Total", 0), 3),
        decimal_size(size.get("Content", 0), 3),
        _use(bool(data.get("Containers"))),
    )


def _use(used: bool) -> str:
    return "U" if used else ""
