"""The commit that a directory is checked out at: its time is the image's, unless SOURCE_DATE_EPOCH says another.

The commit is read from the repository's own files where it lies there by itself, else git is asked: only for what it
answers without running anything that a repository's configuration names, so that nobody's repository is to be feared.
Source: gitrepository-layout(5), git-cat-file(1).
"""

from __future__ import annotations

import os

_LOCATION = ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY", "GIT_COMMON_DIR", "GIT_CONFIG")
_HEX = frozenset("0123456789abcdef")


def commit_time(directory: str) -> int | None:
    """Seconds of the commit that is checked out; None outside repositories, before the first commit, without git."""
    git = git_directory(directory)
    if not git:
        return None
    return _time_of(_loose_commit(git) or run_git(directory, "cat-file", "commit", "HEAD") or "")


def git_directory(directory: str) -> str:
    """The `.git` (a directory, or the file of a linked work tree) here or above; "" when there is none."""
    path = os.path.abspath(directory)
    while True:
        candidate = os.path.join(path, ".git")
        if os.path.lexists(candidate):
            return candidate
        above = os.path.dirname(path)
        if above == path:
            return ""
        path = above


def run_git(directory: str, *arguments: str) -> str | None:
    """What git says; None when it fails or is missing. `subprocess` would cost each build more than git does."""
    environment = {name: value for name, value in os.environ.items() if name not in _LOCATION}
    environment |= {"GIT_OPTIONAL_LOCKS": "0", "GIT_NO_LAZY_FETCH": "1", "LC_ALL": "C"}
    command = ["git", "-c", "safe.directory=*", "-c", "core.fsmonitor=false", "-C", directory, *arguments]
    out, into = os.pipe()
    try:
        actions = [
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_DUP2, into, 1),
            (os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0),
        ]
        try:
            pid = os.posix_spawnp("git", command, environment, file_actions=actions)
        except OSError:
            return None
        finally:
            os.close(into)
        with open(out, "rb", closefd=False) as file:
            text = file.read()
    finally:
        os.close(out)
    return text.decode(errors="replace").strip() if os.waitpid(pid, 0)[1] == 0 else None


def _loose_commit(git: str) -> str:
    """The checked out commit, when it is a file of its own; "" when it is packed, or the repository is linked."""
    try:
        name = _line(os.path.join(git, "HEAD"))
        if name.startswith("ref: "):
            name = _line(os.path.join(git, *name[5:].split("/")))
        if len(name) < 40 or not _HEX.issuperset(name):
            return ""
        with open(os.path.join(git, "objects", name[:2], name[2:]), "rb") as file:
            data = file.read()
    except (OSError, ValueError):
        return ""
    import zlib

    try:
        kind, _, body = zlib.decompress(data).partition(b"\0")
    except zlib.error:
        return ""
    return body.decode(errors="replace") if kind.startswith(b"commit ") else ""


def _line(path: str) -> str:
    with open(path, encoding="utf-8") as file:
        return file.readline().strip()


def _time_of(commit: str) -> int | None:
    for line in commit.split("\n\n", 1)[0].splitlines():
        if line.startswith("committer "):
            seconds = line.split()[-2]
            return int(seconds) if seconds.isdecimal() else None
    return None
