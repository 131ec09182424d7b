"""`prune`, of all kinds: what nothing uses any more is removed, after a question."""

from __future__ import annotations

import sys

from buildtool.cli.human import decimal_size
from buildtool.cli.values import filters_document
from buildtool.client import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call


def containers(call: Call) -> int:
    """Remove all stopped containers."""
    if not _agreed(call, "This will remove all stopped containers."):
        return 1
    return _report(_containers(call))


def images(call: Call) -> int:
    """Remove untagged images, with --all every image that no container uses."""
    everything = call.switch("all")
    what = "all images without at least one container associated to them" if everything else "all dangling images"
    if not _agreed(call, f"This will remove {what}."):
        return 1
    return _report(_images(call, everything))


def volumes(call: Call) -> int:
    """Remove unused anonymous volumes, with --all named ones too."""
    what = "all local volumes" if call.switch("all") else "anonymous local volumes"
    if not _agreed(call, f"This will remove {what} not used by at least one container."):
        return 1
    return _report(_volumes(call, everything=call.switch("all")))


def build_cache(call: Call) -> int:
    """Remove the build cache."""
    what = "all build cache" if call.switch("all") else "all dangling build cache"
    if not _agreed(call, f"This will remove {what}."):
        return 1
    return _report(_build_cache(call, call.switch("all")))


def system(call: Call) -> int:
    """Remove everything that nothing uses."""
    everything = call.switch("all")
    lines = ["all stopped containers", "all networks not used by at least one container"]
    if call.switch("volumes"):
        lines.append("all anonymous volumes not used by at least one container")
    lines.append(
        "all images without at least one container associated to them" if everything else "all dangling images"
    )
    lines.append("all build cache" if everything else "unused build cache")
    if not _agreed(call, "This will remove:\n" + "".join(f"  - {line}\n" for line in lines)):
        return 1
    freed = _containers(call)
    freed += _networks(call)
    if call.switch("volumes"):
        freed += _volumes(call, everything=False)
    freed += _images(call, everything)
    freed += _build_cache(call, everything)
    return _report(freed)


def networks(call: Call) -> int:
    """Remove networks that nothing is connected to."""
    if not _agreed(call, "This will remove all custom networks not used by at least one container."):
        return 1
    return _networks(call)


def _agreed(call: Call, warning: str) -> bool:
    if call.switch("force"):
        return True
    sys.stdout.write(f"WARNING! {warning}\nAre you sure you want to continue? [y/N] ")
    sys.stdout.flush()
    answer = sys.stdin.readline()
    if answer.strip().lower() in ("y", "yes"):
        return True
    print("" if answer else "\nnothing was removed: use --force where nobody can answer")
    return False


def _report(freed: int) -> int:
    print(f"Total reclaimed space: {decimal_size(freed)}")
    return 0


def _prune(
    call: Call, kind: str, filters: dict[str, list[str]], query: dict[str, Any] | None = None
) -> dict[str, Any]:
    answer: dict[str, Any] = call.client.post(f"/{kind}/prune", {"filters": filters or None, **(query or {})}) or {}
    return answer


def _print(title: str, items: list[str]) -> None:
    if items:
        print("\n".join([title, *items, ""]))


def _containers(call: Call) -> int:
    answer = _prune(call, "containers", filters_document(call.texts("filter")))
    _print("Deleted Containers:", answer.get("ContainersDeleted") or [])
    return int(answer.get("SpaceReclaimed") or 0)


def _images(call: Call, everything: bool) -> int:
    filters = filters_document(call.texts("filter")) | {"dangling": ["false" if everything else "true"]}
    answer = _prune(call, "images", filters)
    lines = []
    for entry in answer.get("ImagesDeleted") or ():
        lines += [f"{what.lower()}: {entry[what]}" for what in ("Untagged", "Deleted") if entry.get(what)]
    _print("Deleted Images:", lines)
    return int(answer.get("SpaceReclaimed") or 0)


def _volumes(call: Call, *, everything: bool) -> int:
    filters = filters_document(call.texts("filter"))
    if everything:
        filters["all"] = ["true"]
    filters.pop("until", None)
    answer = _prune(call, "volumes", filters)
    _print("Deleted Volumes:", answer.get("VolumesDeleted") or [])
    return int(answer.get("SpaceReclaimed") or 0)


def _networks(call: Call) -> int:
    try:
        answer = _prune(call, "networks", filters_document(call.texts("filter")))
    except EngineError as error:
        if error.status != 501:
            raise
        return 0
    _print("Deleted Networks:", answer.get("NetworksDeleted") or [])
    return 0


def _build_cache(call: Call, everything: bool) -> int:
    query: dict[str, Any] = {"all": everything}
    if call.given("keep-storage"):
        query["reserved-space"] = call.number("keep-storage")
    answer = _prune(call, "build", filters_document(call.texts("filter")), query)
    _print("Deleted build cache objects:", answer.get("CachesDeleted") or [])
    return int(answer.get("SpaceReclaimed") or 0)
