"""What lies elsewhere, brought into the store: a file from http(s), a checkout of a git repository.

What was fetched is a snapshot. It is named by its content (the file's digest, the commit), so steps that take files
from it hit as long as that is the same, whatever else changed at the other end.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from urllib import request as environment
from urllib.parse import urlsplit

from buildtool.cache import Lease, SnapshotId, Store
from buildtool.errors import BuildtoolError
from buildtool.graph import Remote
from buildtool.oci import Digest
from buildtool.solve.run_agent import Dial

Tell = Callable[[str], None]


class FetchFailed(BuildtoolError):
    """Something that a build needs cannot be fetched."""

    http_status = 400


@dataclass(frozen=True, slots=True)
class Fetched:
    """`key` names the content, `snapshot` holds it. `epoch` is its own time in seconds: of the commit, or what
    Last-Modified said. `archive` tells that a context was a tar.
    """

    key: str
    snapshot: SnapshotId
    epoch: int | None = None
    archive: bool = False


@dataclass(frozen=True, slots=True)
class Access:
    """How to reach other hosts: the build's secrets (by name), its proxy variables, its ssh agents (by id)."""

    secrets: Mapping[str, bytes] = field(default_factory=dict, repr=False)
    variables: Mapping[str, str | None] = field(default_factory=dict)
    agents: Mapping[str, Dial] = field(default_factory=dict, repr=False)

    def secret(self, *names: str) -> str:
        """The first of these secrets that there is, "" for none."""
        for name in names:
            if name in self.secrets:
                return self.secrets[name].decode(errors="replace").strip()
        return ""

    def proxy(self, url: str) -> str:
        """The proxy for a URL, "" for none: from the build args, else from the daemon's environment."""
        proxies = dict(environment.getproxies_environment())
        given = {name.lower(): value for name, value in self.variables.items() if value is not None}
        for name, value in given.items():
            kind, underscore, proxy = name.rpartition("_")
            if underscore and proxy == "proxy":
                proxies[kind] = value
        parts = urlsplit(url)
        if not parts.hostname or environment.proxy_bypass_environment(  # type: ignore[attr-defined]
            parts.netloc.rpartition("@")[2], proxies
        ):
            return ""
        found: str = proxies.get(parts.scheme) or proxies.get("all") or ""
        return found

    def environment(self) -> dict[str, str]:
        """The proxy variables of a process."""
        names = ("http_proxy", "https_proxy", "no_proxy", "all_proxy")
        found = {name: value for name, value in os.environ.items() if name.lower() in names}
        found |= {n: v for n, v in self.variables.items() if n.lower() in names and v is not None}
        return found


class Remotes:
    """Fetches for all builds of a daemon; who asks for the same at the same time waits for the other."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._locks: dict[str, asyncio.Lock] = {}
        self._users: dict[str, int] = {}

    async def fetch(self, step: Remote, access: Access, lease: Lease, tell: Tell) -> Fetched:
        """Fetch, unless what is here is still what is there. The snapshot is leased. Raises FetchFailed."""
        lock = self._locks.setdefault(step.url, asyncio.Lock())
        self._users[step.url] = self._users.get(step.url, 0) + 1
        try:
            async with lock:
                if step.kind == "git":
                    from buildtool.solve.remote_git import fetch_git

                    return await fetch_git(self._store, step, access, lease, tell)
                from buildtool.solve.remote_http import fetch_http

                return await fetch_http(self._store, step, access, lease, tell)
        finally:
            self._users[step.url] -= 1
            if not self._users[step.url]:
                del self._users[step.url], self._locks[step.url]


def known(store: Store, key: Digest, lease: Lease) -> tuple[Fetched, dict[str, str]] | None:
    """What was fetched before under a key, leased, with what was noted of it; None when it is gone."""
    record = store.actions.get(key)
    if record is None or record.get("kind") != "remote":
        return None
    snapshot = SnapshotId(int(record["snapshots"][0]))
    lease.snapshot(snapshot)
    if not store.snapshots.has(snapshot):
        return None
    epoch = record.get("epoch")
    fetched = Fetched(str(record["key"]), snapshot, None if epoch is None else int(epoch), bool(record["archive"]))
    return fetched, dict(record["notes"])


def remember(store: Store, key: Digest, fetched: Fetched, notes: Mapping[str, str]) -> None:
    """Note what was fetched under a key."""
    record = {
        "kind": "remote",
        "snapshots": [fetched.snapshot],
        "key": fetched.key,
        "epoch": fetched.epoch,
        "archive": fetched.archive,
        "notes": dict(notes),
    }
    store.actions.put(key, record)
