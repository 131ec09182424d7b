"""Paths inside a container's root, resolved by the kernel so that no symbolic link leads out of it.

Runs in the container's init process before the pivot: the root is a descriptor, the host's files are still reachable.
"""

from __future__ import annotations

import errno
import os

from buildtool.runtime.syscalls import RESOLVE_IN_ROOT, RESOLVE_NO_MAGICLINKS, openat2

_CONFINED = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS
_MAX_LINKS = 40


def open_in_root(root: int, path: str, flags: int = os.O_PATH) -> int:
    """A descriptor of `path` as the container would see it; FileNotFoundError when there is none."""
    return openat2(root, path.lstrip("/") or ".", flags, _CONFINED)


def ensure_in_root(root: int, path: str, *, directory: bool, created: list[str] | None = None) -> int:
    """Like `open_in_root`, creating what is missing: parent directories, and a directory or an empty file at the end.

    A dangling symbolic link's target is created, inside the root. What was made in the root's own
    file system is appended to `created`.
    """
    try:
        return open_in_root(root, path)
    except FileNotFoundError:
        return _create(root, path, directory=directory, created=created)


def _create(root: int, path: str, *, directory: bool, created: list[str] | None) -> int:
    pending = [part for part in reversed(path.split("/")) if part not in ("", ".")]
    done: list[str] = []  # resolved components: none of them is a symbolic link
    links = 0
    device = os.fstat(root).st_dev
    while pending:
        part = pending.pop()
        if part == "..":
            if done:
                done.pop()
            continue
        here = "/".join([*done, part])
        parent = open_in_root(root, "/".join(done))
        try:
            target = os.readlink(part, dir_fd=parent)
        except OSError as error:
            if error.errno == errno.ENOENT:
                _make(part, parent, directory=directory or bool(pending))
                if created is not None and os.fstat(parent).st_dev == device:
                    created.append("/" + here)
            elif error.errno != errno.EINVAL:  # EINVAL: it exists and is no link
                raise
            done.append(part)
        else:
            links += 1
            if links > _MAX_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if target.startswith("/"):
                done.clear()
            pending.extend(piece for piece in reversed(target.split("/")) if piece not in ("", "."))
        finally:
            os.close(parent)
    return open_in_root(root, "/".join(done))


def _make(name: str, parent: int, *, directory: bool) -> None:
    try:
        if directory:
            os.mkdir(name, 0o755, dir_fd=parent)
        else:
            os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY | os.O_NOFOLLOW, 0o644, dir_fd=parent))
    except FileExistsError:  # another container of the same volume made it at the same moment
        return
