"""Named and anonymous volumes of the local driver: `<root>/volumes/<name>/_data`, recorded as documents."""

from __future__ import annotations

import os
import shutil
import threading
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from buildtool.cache import Store
from buildtool.containers import mountspec, times, volume_driver
from buildtool.containers.events import Events
from buildtool.containers.filters import Filters
from buildtool.containers.names import new_id
from buildtool.errors import Conflict, InvalidInput, NotFound

Json = dict[str, Any]
Jsons = list[Json]
HALF = "import-"
"""How a directory beside a volume's content begins that is not whole yet."""
_ANONYMOUS = "com.docker.volume.anonymous"


class Volumes:
    """Synchronous and thread-safe. `users` tells which containers use a volume (set by the container service)."""

    def __init__(self, store: Store, events: Events) -> None:
        self._documents = store.state.documents("volumes")
        self._directory = store.root / "volumes"
        self._events = events
        self._lock = threading.Lock()
        self.users: Callable[[str], list[str]] = lambda name: []
        self._held: dict[str, set[str]] = {}
        self._mounting = threading.Lock()  # a server of files that does not answer holds up nothing else

    def create(
        self,
        name: str = "",
        *,
        driver: str = "",
        options: Mapping[str, str] | None = None,
        labels: Mapping[str, str] | None = None,
        anonymous: bool = False,
    ) -> Json:
        """The volume of this name, made when it does not exist. Raises InvalidInput, Unavailable."""
        if driver not in ("", "local"):
            raise NotFound(
                f'create {name}: error looking up volume plugin {driver}: plugin "{driver}" not found',
                hint="Only the local volume driver exists.",
            )
        try:
            volume_driver.check_options(options or {})
        except InvalidInput as error:
            error.message = f"create {name}: {error.message}"
            raise
        if name:
            mountspec.check_volume_name(name)
        kept = dict(labels or {})
        if not name or anonymous:
            kept[_ANONYMOUS] = ""
        name = name or new_id()
        with self._lock:
            found = self._documents.get(name)
            if found is None:
                self.path(name).mkdir(parents=True, exist_ok=True, mode=0o755)
                found = {"CreatedAt": times.now(), "Labels": kept, "Options": dict(options or {})}
                self._documents.put(name, found)
                self._events.publish("volume", "create", name, {"driver": "local"})
        return self._document(name, found)

    def path(self, name: str) -> Path:
        """The directory with the volume's content."""
        return self._directory / name / "_data"

    def inspect(self, name: str) -> Json:
        """The Engine API's Volume. Raises NotFound."""
        found = self._documents.get(name)
        if found is None:
            raise NotFound(f"get {name}: no such volume")
        return self._document(name, found)

    def exists(self, name: str) -> bool:
        """Whether there is such a volume."""
        return self._documents.get(name) is not None

    def list(self, filters: Any = None) -> Jsons:
        """All volumes that pass the filters (dangling, driver, label, name)."""
        wanted = Filters.parse(filters, {"dangling", "driver", "label", "name"})
        dangling = wanted.boolean("dangling")
        return [
            self._document(name, found)
            for name, found in self._documents.items()
            if wanted.match("name", name)
            and wanted.exact("driver", "local")
            and wanted.labels(found["Labels"])
            and (dangling is None or dangling is not bool(self.users(name)))
        ]

    def remove(self, name: str, *, force: bool = False) -> None:
        """Remove the volume and its content. Raises NotFound (not with `force`), Conflict when it is in use."""
        with self._lock:
            if self._documents.get(name) is None:
                if force:
                    return
                raise NotFound(f"get {name}: no such volume")
            used_by = self.users(name)
            if used_by:
                raise Conflict(f"remove {name}: volume is in use - [{', '.join(used_by)}]")
            volume_driver.unmount(self.path(name))  # what is mounted there is not ours to delete
            self._documents.delete(name)
            shutil.rmtree(self._directory / name, ignore_errors=True)
        self._events.publish("volume", "destroy", name, {"driver": "local"})

    def prune(self, filters: Any = None) -> Json:
        """Remove the unused anonymous volumes, with filter `all` also the named ones."""
        wanted = Filters.parse(filters, {"all", "label", "label!"})
        every = bool(wanted.boolean("all"))
        deleted, freed = [], 0
        for name, found in list(self._documents.items()):
            labels = found["Labels"]
            if not (every or _ANONYMOUS in labels) or not wanted.labels(labels):
                continue
            if "label!" in wanted and wanted.labels(labels, "label!"):
                continue
            if self.users(name):
                continue
            size = 0 if found.get("Options") else disk_usage(self.path(name))
            try:
                self.remove(name)
            except (Conflict, NotFound):
                continue
            deleted.append(name)
            freed += size
        self._events.publish("volume", "prune", "", {"reclaimed": str(freed)})
        return {"VolumesDeleted": deleted or None, "SpaceReclaimed": freed}

    def usage(self) -> Jsons:
        """All volumes with `UsageData`, for /system/df; the size of those that lie elsewhere is -1, as in Docker."""
        found = []
        for volume in self.list():
            name = volume["Name"]
            size = -1 if volume["Options"] else disk_usage(self.path(name))
            found.append({**volume, "UsageData": {"Size": size, "RefCount": len(self.users(name))}})
        return found

    # Volumes that are mounted from elsewhere

    def hold(self, name: str, user: str) -> None:
        """A container begins to use the volume: one with options is mounted (blocking).

        Raises Unavailable, BuildtoolError; nothing is held then.
        """
        options = (self._documents.get(name) or {}).get("Options")
        if not options:
            return
        with self._mounting:
            if not volume_driver.is_mounted(self.path(name)):  # also when a daemon before saw it mounted elsewhere
                volume_driver.mount(options, self.path(name))
            self._held.setdefault(name, set()).add(user)

    def holds(self, user: str) -> bool:
        """Whether `release` has something to do for a container."""
        return any(user in held for held in list(self._held.values()))  # other threads change it

    def release(self, user: str) -> None:
        """The container has ended: what nobody uses any more is unmounted (blocking)."""
        with self._mounting:
            for name, held in list(self._held.items()):
                held.discard(user)
                if not held:
                    del self._held[name]
                    volume_driver.unmount(self.path(name))

    def adopt(self, name: str, user: str) -> None:
        """A container that has gone on without a daemon uses the volume."""
        if (self._documents.get(name) or {}).get("Options"):
            self._held.setdefault(name, set()).add(user)

    def settle(self) -> None:
        """Clear what a daemon that died has left: mounts that nobody uses, imports half done (blocking)."""
        for half in self._directory.glob(f"*/{HALF}*"):
            shutil.rmtree(half, ignore_errors=True)
        for name, found in self._documents.items():
            if found.get("Options") and name not in self._held:
                volume_driver.unmount(self.path(name))

    def _document(self, name: str, found: Mapping[str, Any]) -> Json:
        return {
            "CreatedAt": times.rfc3339nano(found["CreatedAt"] // times.SECOND * times.SECOND),
            "Driver": "local",
            "Labels": found["Labels"] or None,
            "Mountpoint": str(self.path(name)),
            "Name": name,
            "Options": found.get("Options") or None,
            "Scope": "local",
        }


def disk_usage(path: Path) -> int:
    """Bytes that the files below a directory take, each inode counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for directory, _, files in os.walk(path):
        for name in files:
            try:
                status = os.lstat(f"{directory}/{name}")
            except OSError:
                continue
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_size
    return total


def check_request(body: Any) -> Json:
    """A volume create request with the types it must have. Raises InvalidInput."""
    if not isinstance(body, dict):
        raise InvalidInput("invalid volume create request: not a JSON object")
    for key, kind in (("Name", str), ("Driver", str), ("DriverOpts", dict), ("Labels", dict)):
        if body.get(key) is not None and not isinstance(body[key], kind):
            raise InvalidInput(f"invalid volume create request: {key} has the wrong type")
        if kind is dict and not all(isinstance(value, str) for value in (body.get(key) or {}).values()):
            raise InvalidInput(f"invalid volume create request: {key} is an object of strings")
    return body
