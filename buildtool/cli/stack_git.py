"""Stacks in git repositories: `-f https://HOST/PATH.git#REF:DIRECTORY`, with the user's own git and its logins."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from buildtool.buildfile.remotes import GitUrl, parse_git
from buildtool.errors import InvalidInput, NotFound
from buildtool.stacks.discover import DEFAULT_NAMES

_PROTOCOLS = "https:http:ssh:git"


def fetch_git(address: str) -> str:
    """The path of the compose file; the commit's files are kept by its hash.

    Raises InvalidInput for what is no git URL, NotFound for what git cannot fetch and for files that are not there.
    """
    url = parse_git(address)
    if url is None:
        raise InvalidInput(
            f"cannot load {address}: stacks are loaded from registries (oci://REFERENCE) and git repositories",
            hint="A git URL over http(s) ends with .git. Fetch anything else and name it with -f FILE.",
        )
    folder = _checked_out(url, address)
    path = os.path.realpath(os.path.join(folder, url.subdir or "."))
    if os.path.commonpath([path, os.path.realpath(folder)]) != os.path.realpath(folder):
        raise InvalidInput(f"{address}: {url.subdir} leads out of the repository")
    candidates = [f"{path}/{name}" for name in DEFAULT_NAMES] if os.path.isdir(path) else [path]
    found = next((each for each in candidates if os.path.isfile(each)), "")
    if not found:
        raise NotFound(f"{address}: there is no compose file in {url.subdir or 'the repository'}")
    return found


def _checked_out(url: GitUrl, address: str) -> str:
    """The folder of the commit, called like the repository: that is the project's name when nobody has another."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    cache = f"{base}/buildtool/published"
    os.makedirs(cache, mode=0o700, exist_ok=True)
    name = os.path.basename(url.remote.rstrip("/")).removesuffix(".git") or "stack"
    with tempfile.TemporaryDirectory(prefix=".new-", dir=cache) as new:
        work = f"{new}/{name}"
        _git(address, "init", "--quiet", work)
        _git(address, "-C", work, "fetch", "--quiet", "--depth=1", "--", url.remote, url.ref or "HEAD")
        commit = _git(address, "-C", work, "rev-parse", "FETCH_HEAD")
        if url.commit and not commit.startswith(url.commit.lower()):
            raise InvalidInput(f"{address}: the commit is {commit}, not {url.commit}")
        folder = f"{cache}/git-{commit}/{name}"
        if not os.path.isdir(folder):
            _git(address, "-C", work, "checkout", "--quiet", commit)
            shutil.rmtree(f"{work}/.git")
            os.makedirs(os.path.dirname(folder), mode=0o700, exist_ok=True)
            try:
                os.rename(work, folder)
            except OSError:
                if not os.path.isdir(folder):
                    raise
        return folder


def _git(address: str, *words: str) -> str:
    environment = {**os.environ, "GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C"}
    environment.setdefault("GIT_ALLOW_PROTOCOL", _PROTOCOLS)
    try:
        done = subprocess.run(
            ["git", *words], env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
        )
    except FileNotFoundError:
        raise NotFound(f"{address}: there is no git here", hint="Install git.") from None
    if done.returncode:
        raise NotFound(f"{address}: {done.stderr.strip() or f'git ended with {done.returncode}'}")
    return done.stdout.strip()
