"""What the image of a build section was made from: files on this machine, and the section itself.

Files are told apart by size, times, mode and inode, as git does it: a look costs one `stat` a file and reads none.
Only `.dockerignore` is read. Contexts elsewhere (git, URLs, other images) have no files here.
"""

from __future__ import annotations

import os
import stat

from buildtool.client.quickjson import dumps
from buildtool.errors import InvalidInput
from buildtool.stacks.caching import digest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from buildtool.buildfile.ignore import IgnoreRules

    Listing = dict[str, str]
    Source = list[Any]

# They decide how a build is done, not what comes out of it.
_MANNERS = ("cache_from", "cache_to", "no_cache", "no_cache_filter", "pull")


def sources_of(build: Mapping[str, Any]) -> list[Source]:
    """The files and folders that a build reads: what messages call them, paths, and ignore files, first one first.

    They can be written as JSON, and be looked at without knowing the build section.
    """
    context = build.get("context") or "."
    found: list[Source] = []
    named = None
    if not build.get("dockerfile_inline"):
        name = build.get("dockerfile") or "Dockerfile"
        named = os.path.join(context, name)
        if os.path.isfile(named):
            found.append([name, named, []])
    if os.path.exists(context):
        ignores = [f"{named}.dockerignore"] if named else []
        found.append(["context", context, [*ignores, f"{context}/.dockerignore"]])
    for name, where in (build.get("additional_contexts") or {}).items():
        if "://" not in where and not where.startswith("service:") and os.path.exists(where):
            found.append([f"context {name}", where, [f"{where}/.dockerignore"]])
    return found


def look(sources: list[Source]) -> list[Listing]:
    """For each source its files and folders by their path below it ("" is itself), with what changes when they do."""
    return [_listing(path, ignores) for _, path, ignores in sources]


def fingerprint(listings: list[Listing]) -> str:
    """One digest over listings."""
    return digest("\0\0".join("\0".join([*item, *item.values()]) for item in listings).encode("utf-8", "replace"))


def what_changed(sources: list[Source], before: list[Listing], now: list[Listing]) -> str:
    """The first difference in words, "" when there is none."""
    for source, old, new in zip(sources, before, now, strict=True):
        if old == new:
            continue
        names = sorted(name for name in old.keys() | new.keys() if old.get(name) != new.get(name))
        # A folder alone is news only when no file below it is.
        files = [name for name in names if not (old.get(name) or new[name]).startswith("d")] or names
        more = f" and {len(files) - 1} more" if len(files) > 1 else ""
        return f"{source[0]} changed: {files[0]}{more}" if files[0] else f"{source[0]} changed"
    return ""


def definition(service: Mapping[str, Any]) -> dict[str, str]:
    """A digest for each attribute that decides what the image is."""
    wanted = {f"build.{key}": value for key, value in service["build"].items() if key not in _MANNERS}
    wanted["platform"] = service.get("platform")
    return {key: digest(dumps(value).encode()) for key, value in wanted.items() if value not in (None, [], {}, "")}


def what_differs(before: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first attribute that differs in words, "" when none does."""
    names = [key for key in sorted(before.keys() | now.keys()) if before.get(key) != now.get(key)]
    return f"{names[0]} changed" if names else ""


def _listing(path: str, ignores: list[str]) -> Listing:
    try:
        found = os.stat(path)
    except OSError:
        return {}
    if not stat.S_ISDIR(found.st_mode):
        return {"": _stamp(found)}
    listing: Listing = {}
    ignore = None
    for name in ignores:
        ignore = _rules(name)
        if ignore is not None:
            # Its own changes count: what it leaves out is another selection.
            listing[os.path.basename(name)] = _stamp(os.stat(name))
            break
    _walk(path, "", ignore, listing)
    return listing


def _walk(root: str, folder: str, ignore: IgnoreRules | None, found: Listing) -> None:
    try:
        with os.scandir(f"{root}/{folder}" if folder else root) as entries:
            ordered = sorted(entries, key=lambda entry: entry.name)
    except OSError:
        return
    for entry in ordered:
        relative = f"{folder}/{entry.name}" if folder else entry.name
        left_out = ignore is not None and ignore.excludes(relative)
        try:
            if entry.is_dir(follow_symlinks=False):
                if not left_out:
                    found[relative] = f"d{entry.stat(follow_symlinks=False).st_mode:o}"
                if not left_out or (ignore is not None and ignore.may_contain_included(relative)):
                    _walk(root, relative, ignore, found)
            elif not left_out:
                found[relative] = _stamp(entry.stat(follow_symlinks=False))
        except OSError:
            continue  # it is gone again


def _stamp(found: os.stat_result) -> str:
    return f"{found.st_mtime_ns:x} {found.st_ctime_ns:x} {found.st_size:x} {found.st_ino:x} {found.st_mode:o}"


def _rules(path: str) -> IgnoreRules | None:
    """The rules of an ignore file; None when there is none, or one that the build will complain about."""
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (OSError, UnicodeDecodeError):
        return None
    from buildtool.buildfile.ignore import IgnoreRules

    try:
        return IgnoreRules.parse(text)
    except InvalidInput:
        return None
