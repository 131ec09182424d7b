"""What earlier builds left: action records by key, and what was last done for each instruction of a Buildfile."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache import Lease, SnapshotId, Store
from buildtool.oci import Digest, sha256
from buildtool.solve.keys import Preimage
from buildtool.solve.trees import Layers

_SITES = "build-sites"
_SEEN_AT_MOST = 8
_FORGET_FILES_AFTER = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """A committed snapshot that a step made, and how long that took when it was executed.

    `content` is the content key where there is one (COPY, ADD, WORKDIR): equal ones are equal layers.
    """

    snapshot: SnapshotId
    seconds: float
    content: str = ""


class Records:
    """Action records of steps. They name committed snapshots only, so what a killed build left cannot lie."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key: str, lease: Lease) -> StepResult | None:
        """The result under this key, leased; None when there is none or its snapshot is gone."""
        record = self._store.actions.get(Digest(key))
        if record is None or record.get("kind") != "step":
            return None
        snapshot = SnapshotId(int(record["snapshots"][0]))
        lease.snapshot(snapshot)
        if not self._store.snapshots.has(snapshot):
            return None
        return StepResult(snapshot, float(record["seconds"]), str(record["content"]))

    def preimage(self, key: str) -> Preimage | None:
        """The ingredients of an earlier key."""
        record = self._store.actions.get(Digest(key))
        preimage: Preimage | None = record.get("preimage") if record is not None else None
        return preimage

    def tree(self, key: str) -> Layers:
        """The tree that an earlier step resulted in; a base image's key (or one forgotten) stands for itself."""
        layers: list[int | str] = []
        while True:
            record = self._store.actions.get(Digest(key))
            if record is None or "below" not in record:
                return Layers(key, tuple(reversed(layers)))
            layers.append(str(record["content"]) or int(record["snapshots"][0]))
            key = str(record["below"])

    def put(self, key: str, preimage: Preimage, result: StepResult, below: str | None = None) -> None:
        """Remember a result under a key. `below` is the key of the step whose tree its layer lies on."""
        record = {
            "kind": "step",
            "snapshots": [result.snapshot],
            "seconds": result.seconds,
            "content": result.content,
            "preimage": preimage,
        }
        if below is not None:
            record["below"] = below
        self._store.actions.put(Digest(key), record)

    def executions(self, seen: Digest) -> list[dict[str, Any]]:
        """Earlier executions of an equal step, newest first: their keys and those of their inputs."""
        record = self._store.actions.get(seen)
        found: list[dict[str, Any]] = record["runs"] if record is not None and record.get("kind") == "seen" else []
        return found

    def note_execution(self, seen: Digest, key: str, inputs: list[str]) -> None:
        """Remember that a step was executed; the last few are kept."""
        runs = [{"key": key, "inputs": inputs}, *(run for run in self.executions(seen) if run["key"] != key)]
        self._store.actions.put(seen, {"kind": "seen", "runs": runs[:_SEEN_AT_MOST]})

    def image(self, key: Digest) -> str | None:
        """The id of the image that was made of these steps and this config."""
        record = self._store.actions.get(key)
        return str(record["image"]) if record is not None and record.get("kind") == "image" else None

    def put_image(self, key: Digest, image_id: Digest) -> None:
        """Remember which image these steps and this config made."""
        self._store.actions.put(key, {"kind": "image", "image": image_id})


@dataclass
class Site:
    """What was last done for one instruction: its key and how long it takes when executed."""

    key: str
    seconds: float


class Sites:
    """The instructions of one Buildfile in one context, by `Node.site`: what explain compares with."""

    def __init__(self, store: Store, identity: str) -> None:
        self._documents = store.state.documents(_SITES)
        self._name = sha256(identity.encode())[7:39]
        self._directory = store.root / "build-index"
        document = self._documents.get(self._name) or {}
        self._sites = {name: Site(*values) for name, values in document.get("sites", {}).items()}
        self._changed = False

    def get(self, site: str) -> Site | None:
        """The last build's entry."""
        return self._sites.get(site)

    def set(self, site: str, key: str, seconds: float) -> None:
        """Note what this build did."""
        known = self._sites.get(site)
        if known is None or known.key != key:
            self._sites[site] = Site(key, seconds)
            self._changed = True

    def save(self) -> None:
        """Write what changed."""
        if self._changed:
            sites = {name: [site.key, site.seconds] for name, site in self._sites.items()}
            self._documents.put(self._name, {"used": time.time(), "sites": sites})
            self._changed = False

    def copied(self, site: str) -> Copied | None:
        """What a COPY put where the last time."""
        try:
            return msgspec.msgpack.decode(self._file(site).read_bytes(), type=Copied)
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def set_copied(self, site: str, copied: Copied) -> None:
        """Note what a COPY put where."""
        path = self._file(site)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        temporary.write_bytes(msgspec.msgpack.encode(copied))
        temporary.rename(path)

    def _file(self, site: str) -> Path:
        return self._directory / f"{self._name}.{sha256(site.encode())[7:23]}"


class Copied(msgspec.Struct, array_like=True):
    """The files of an executed COPY: `lines` as Selection.lines gives them, below `base` in the snapshot.

    `definition` is the digest of all else that decides how they look there.
    """

    definition: str
    snapshot: int
    base: str
    lines: list[str]


def forget_old_files(root: Path) -> None:
    """Remove indexes of contexts that were not built for a month, and what a killed process left half-written."""
    directory = root / "build-index"
    if not directory.is_dir():
        return
    limit = time.time() - _FORGET_FILES_AFTER
    for path in directory.iterdir():
        if path.name.startswith(".") or path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
