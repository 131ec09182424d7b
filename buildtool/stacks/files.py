"""Secrets and configs without a swarm: files that are mounted, or written into the container before it starts.

A file on this machine is mounted read-only, as docker compose does it. What comes from the environment or stands in
the stack itself is written into the container; so is a file for which an owner or a mode is asked, since a mount has
those of the file.
"""

from __future__ import annotations

import hashlib
import posixpath
from typing import Any

from buildtool.errors import InvalidInput, Unavailable
from buildtool.stacks.model import Project


def bound_files(project: Project, service: dict[str, Any]) -> list[tuple[str, str]]:
    """Source on this machine and target of the files to mount."""
    return [(item["file"], target) for item, use, target in _uses(project, service) if _is_bound(item, use)]


def written_files(project: Project, service: dict[str, Any]) -> list[tuple[str, bytes, int, int, int]]:
    """Target, content, uid, gid and mode of the files to write. Raises InvalidInput for a value that is not there."""
    return [
        (
            target,
            _content(project, item),
            _number(use.get("uid"), "uid"),
            _number(use.get("gid"), "gid"),
            int(use.get("mode") or "0444", 8),
        )
        for item, use, target in _uses(project, service)
        if not _is_bound(item, use)
    ]


def archive(files: list[tuple[str, bytes, int, int, int]]) -> bytes:
    """The files as a tar for PUT /containers/ID/archive?path=/."""
    import io
    import tarfile  # and all that it imports: a second `up` does without

    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for target, content, uid, gid, mode in files:
            info = tarfile.TarInfo(target.lstrip("/"))
            info.size, info.uid, info.gid, info.mode = len(content), uid, gid, mode
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def files_hash(files: list[tuple[str, bytes, int, int, int]]) -> str:
    """A hash of what is written, "" for nothing."""
    if not files:
        return ""
    digest = hashlib.sha256()
    for target, content, uid, gid, mode in sorted(files):
        digest.update(f"{target}\0{uid}:{gid}:{mode:o}\0{len(content)}\0".encode() + content)
    return digest.hexdigest()


def _uses(project: Project, service: dict[str, Any]) -> list[tuple[dict[str, Any], dict[str, Any], str]]:
    """Each secret and config with how the service uses it and where."""
    found = []
    for kind, folder in (("secrets", "/run/secrets"), ("configs", "/")):
        for use in service.get(kind) or []:
            item = project.part(kind)[use["source"]]
            if item.get("external"):
                raise Unavailable(
                    f"{kind[:-1]} {use['source']!r} is external: only a swarm keeps {kind}",
                    hint="Give it with file or environment.",
                )
            if item.get("driver") or item.get("template_driver"):
                raise Unavailable(f"{kind[:-1]} {use['source']!r}: drivers of {kind} need a swarm")
            target = use.get("target") or use["source"]
            found.append((item, use, posixpath.join(folder, target)))
    return found


def _is_bound(item: dict[str, Any], use: dict[str, Any]) -> bool:
    return bool(item.get("file")) and not any(use.get(key) for key in ("uid", "gid", "mode"))


def _content(project: Project, item: dict[str, Any]) -> bytes:
    if item.get("content") is not None:
        return str(item["content"]).encode()
    variable = item.get("environment")
    if variable:
        value = project.environment.get(variable)
        if value is None:
            raise InvalidInput(f"environment variable {variable!r} required by file {item['name']!r} is not set")
        return value.encode()
    try:
        with open(item["file"], "rb") as file:  # noqa: PTH123 - pathlib costs every `up` 5 ms
            return file.read()
    except OSError as error:
        raise InvalidInput(f"cannot read {item['file']}: {(error.strerror or str(error)).lower()}") from error


def _number(text: str | None, what: str) -> int:
    if not text:
        return 0
    if not text.isdecimal():
        raise InvalidInput(f"{what} of a secret or config must be a number, not {text!r}")
    return int(text)
