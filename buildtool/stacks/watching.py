"""`develop.watch`: which changes of files mean what for which service.

The files are looked at again and again (names, sizes, times): it works on every file system, needs no library and
costs one `stat` a file.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from buildtool.buildfile.ignore import IgnoreRules
from buildtool.stacks.model import Project

Stamp = tuple[int, int, int]


class Rule:
    """One entry of `develop.watch` of a service."""

    def __init__(self, service: str, entry: dict[str, Any], ignored: str) -> None:
        self.service = service
        self.path: str = entry["path"]
        self.action: str = entry["action"]
        self.target: str = entry.get("target") or ""
        self.exec: dict[str, Any] | None = entry.get("exec")
        self.initial_sync = bool(entry.get("initial_sync"))
        lines = [*ignored.splitlines(), *(entry.get("ignore") or []), ".git", "**/.git"]
        self._ignore = IgnoreRules.parse("\n".join(lines), "develop.watch")
        wanted = entry.get("include") or []
        self._include = IgnoreRules.parse("\n".join(wanted), "develop.watch") if wanted else None

    def wanted(self, relative: str) -> bool:
        """Whether a change of this file (relative to `path`, "" for `path` itself) counts."""
        if not relative:
            return True
        if self._ignore.excludes(relative):
            return False
        return self._include is None or self._include.excludes(relative)

    def files(self) -> dict[str, Stamp]:
        """The files that are watched, relative to `path`, with what changes when they do."""
        found: dict[str, Stamp] = {}
        if not os.path.isdir(self.path):  # noqa: PTH112
            stamp = _stamp(self.path)
            return {"": stamp} if stamp is not None else {}
        for relative in _walk(self.path, "", self._ignore):
            if self.wanted(relative):
                stamp = _stamp(f"{self.path}/{relative}")
                if stamp is not None:
                    found[relative] = stamp
        return found


def _walk(root: str, folder: str, ignore: IgnoreRules) -> Iterator[str]:
    try:
        entries = sorted(os.scandir(f"{root}/{folder}" if folder else root), key=lambda entry: entry.name)
    except OSError:
        return
    for entry in entries:
        relative = f"{folder}/{entry.name}" if folder else entry.name
        if entry.is_dir(follow_symlinks=False):
            if not ignore.excludes(relative) or ignore.may_contain_included(relative):
                yield from _walk(root, relative, ignore)
        else:
            yield relative


def _stamp(path: str) -> Stamp | None:
    try:
        found = os.lstat(path)
    except OSError:
        return None
    return (found.st_mtime_ns, found.st_size, found.st_mode)


def rules_of(project: Project, services: list[str]) -> list[Rule]:
    """The rules of these services; the build context's .dockerignore counts for all of a service's."""
    rules = []
    for name in services:
        service = project.services[name]
        ignored = _dockerignore((service.get("build") or {}).get("context") or "")
        for entry in (service.get("develop") or {}).get("watch") or []:
            rules.append(
                Rule(name, entry, ignored if entry["path"] == (service.get("build") or {}).get("context") else "")
            )
    return rules


def _dockerignore(context: str) -> str:
    try:
        with open(f"{context}/.dockerignore", encoding="utf-8") as file:  # noqa: PTH123
            return file.read()
    except OSError:
        return ""


class Watcher:
    """Remembers how the files were and tells what has changed since."""

    def __init__(self, rules: list[Rule]) -> None:
        self.rules = rules
        self._known = [rule.files() for rule in rules]

    def changes(self) -> list[tuple[Rule, list[str], list[str]]]:
        """Rules with the files that were changed or added, and those that were removed."""
        found = []
        for index, rule in enumerate(self.rules):
            now, before = rule.files(), self._known[index]
            changed = [name for name, stamp in now.items() if before.get(name) != stamp]
            removed = [name for name in before if name not in now]
            if changed or removed:
                self._known[index] = now
                found.append((rule, changed, removed))
        return found
