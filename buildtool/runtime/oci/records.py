"""What the program remembers of a container between its calls: one directory each, below the root."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import asdict, dataclass, field
from typing import Any

from buildtool.runtime.cgroups import Cgroup, Hierarchies
from buildtool.runtime.process import OTHER, StartError

VERSION = "1.2.0"
SOCKET = "start.sock"
_ID = re.compile(r"[\w+.-]+")


@dataclass
class Record:
    """A container; `ticks` is when its first process began, so that another one of its pid is not taken for it."""

    id: str
    bundle: str
    pid: int
    ticks: int
    created: str
    cgroup: str
    directories: dict[str, str]
    annotations: dict[str, str] = field(default_factory=dict)


class Records:
    """All containers of one root."""

    def __init__(self, root: str) -> None:
        self.root = root

    def directory(self, identity: str) -> str:
        """Where a container's record is. Raises StartError for what is no id."""
        if not _ID.fullmatch(identity) or identity in (".", ".."):
            raise StartError(OTHER, f"invalid container id {identity!r}")
        return f"{self.root}/{identity}"

    def claim(self, identity: str) -> str:
        """A new container's directory. Raises StartError when the id is taken."""
        directory = self.directory(identity)
        os.makedirs(self.root, 0o700, exist_ok=True)
        try:
            os.mkdir(directory, 0o700)
        except FileExistsError:
            raise StartError(OTHER, f"container with given ID already exists: {identity}") from None
        return directory

    def save(self, record: Record) -> None:
        """Write a record, all at once."""
        path = f"{self.directory(record.id)}/state.json"
        with open(path + ".new", "w", encoding="utf-8") as file:
            json.dump(asdict(record), file)
        os.rename(path + ".new", path)

    def load(self, identity: str) -> Record:
        """Raises StartError when there is no such container."""
        try:
            with open(f"{self.directory(identity)}/state.json", encoding="utf-8") as file:
                return Record(**json.load(file))
        except FileNotFoundError:
            raise StartError(OTHER, f"container does not exist: {identity}") from None

    def all(self) -> list[Record]:
        """Every container, by id."""
        names = sorted(os.listdir(self.root)) if os.path.isdir(self.root) else []
        found = []
        for name in names:
            try:
                found.append(self.load(name))
            except StartError:  # just being made, or removed
                continue
        return found

    def remove(self, identity: str) -> None:
        """Forget a container."""
        shutil.rmtree(self.directory(identity), ignore_errors=True)

    def status(self, record: Record) -> str:
        """`created`, `running`, `paused` or `stopped`."""
        if not alive(record):
            return "stopped"
        if os.path.exists(f"{self.directory(record.id)}/{SOCKET}"):
            return "created"
        return "paused" if group_of(record).frozen() else "running"


def alive(record: Record) -> bool:
    """Whether its first process lives (one that waits to be reaped does not)."""
    state, ticks = process_state(record.pid)
    return ticks == record.ticks and state not in ("Z", "X")


def process_state(pid: int) -> tuple[str, int]:
    """State letter and start time of a process; ("", 0) when there is none."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8", errors="replace") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return "", 0
    return fields[0], int(fields[19])


def group_of(record: Record) -> Cgroup:
    """Its control groups."""
    return Cgroup(Hierarchies.find(), record.cgroup, dict(record.directories))


def state_document(record: Record, status: str) -> dict[str, Any]:
    """The state as the specification has it. Source: OCI runtime-spec v1.2, runtime.md, "State"."""
    document: dict[str, Any] = {
        "ociVersion": VERSION,
        "id": record.id,
        "status": status,
        "bundle": record.bundle,
        "annotations": record.annotations,
        "created": record.created,
    }
    if status != "stopped":
        document["pid"] = record.pid
    return document
