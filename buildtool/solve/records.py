"""What earlier builds left: action records by key, and what was last done for each instruction of a Buildfile."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache import Lease, SnapshotId, Store, remove_tree
from buildtool.cache.below import Reads
from buildtool.images import LayerSource
from buildtool.oci import Digest, sha256
from buildtool.solve.keys import Preimage, generation_pointer
from buildtool.solve.trees import Layers

_SITES = "build-sites"
MOUNTS = "cache-mounts"
_SEEN_AT_MOST = 8
_LISTS_AT_MOST = 4
_BETWEEN = "\0\0"
_FORGET_FILES_AFTER = 30 * 86400.0


@dataclass(frozen=True, slots=True)
class StepResult:
    """A committed snapshot that a step made, and how long that took when it was executed.

    `content` is the content key where there is one (COPY, ADD, WORKDIR): equal ones are equal layers. `cpu` is how
    many processors it kept busy on average; 0 when that is not known. `made` is when it was executed, in seconds
    since the epoch; 0 when nobody knows. `layer` is how it came out of a cache that travels; its snapshot is 0 as
    long as it is still there.
    """

    snapshot: SnapshotId
    seconds: float
    content: str = ""
    cpu: float = 0.0
    made: float = 0.0
    layer: LayerSource | None = None

    @property
    def is_here(self) -> bool:
        """Whether there is a snapshot."""
        return self.snapshot != 0


class Origin(msgspec.Struct, frozen=True):
    """Which instruction made a result: of which build file (as it was named, in which context), on which line."""

    file: str
    line: int
    name: str
    context: str = ""


class Records:
    """Action records of steps. They name committed snapshots only, so what a killed build left cannot lie."""

    def __init__(self, store: Store) -> None:
        self._store = store

    def find(self, key: str, lease: Lease) -> StepResult | None:
        """The result under this key, leased; None when there is none or its snapshot is gone."""
        return self.find_all([key], lease).get(key)

    def find_all(self, keys: Iterable[str], lease: Lease) -> dict[str, StepResult]:
        """The results under these keys, leased; without those that are not there or whose snapshot is gone."""
        found: dict[str, StepResult] = {}
        for key, record in self._store.actions.get_all([Digest(key) for key in keys]).items():
            if record.get("kind") == "step":
                snapshot = SnapshotId(int(record["snapshots"][0]))
                cpu, made = float(record.get("cpu", 0.0)), float(record.get("made", 0.0))
                found[key] = StepResult(snapshot, float(record["seconds"]), str(record["content"]), cpu, made)
        if not found:
            return {}
        snapshots = {result.snapshot for result in found.values()}
        with self._store.state.transaction():
            lease.keep(snapshots)  # first: then gc cannot come between
            there = self._store.snapshots.those(snapshots)
        return {key: result for key, result in found.items() if result.snapshot in there}

    def preimage(self, key: str) -> Preimage | None:
        """The ingredients of an earlier key."""
        record = self._store.actions.peek(Digest(key))
        preimage: Preimage | None = record.get("preimage") if record is not None else None
        return preimage

    def tree(self, key: str) -> Layers:
        """The tree that an earlier step resulted in; a base image's key (or one forgotten) stands for itself."""
        layers: list[int | str] = []
        while True:
            record = self._store.actions.peek(Digest(key))
            if record is None or "below" not in record:
                return Layers(key, tuple(reversed(layers)))
            layers.append(str(record["content"]) or int(record["snapshots"][0]))
            key = str(record["below"])

    def put(
        self, key: str, preimage: Preimage, result: StepResult, below: str | None = None, origin: Origin | None = None
    ) -> None:
        """Remember a result under a key. `below` is the key of the step whose tree its layer lies on."""
        record: dict[str, Any] = {
            "kind": "step",
            "snapshots": [result.snapshot],
            "seconds": result.seconds,
            "content": result.content,
            "cpu": result.cpu,
            "made": result.made,
            "preimage": preimage,
        }
        if origin is not None:
            record["origin"] = msgspec.to_builtins(origin)
        if below is not None:
            record["below"] = below
        self._store.actions.put(Digest(key), record)

    def made(self, key: str) -> float | None:
        """When the result under this key was made; None when there is none."""
        record = self._store.actions.get(Digest(key))
        return float(record.get("made", 0.0)) if record is not None and record.get("kind") == "step" else None

    def generation(self, key: str) -> str:
        """The generation that the results of a step with --cache-ttl are of ("" the first); `key` is the step's
        without any.
        """
        record = self._store.actions.get(generation_pointer(key))
        return str(record["generation"]) if record is not None and record.get("kind") == "generation" else ""

    def put_generation(self, key: str, generation: str) -> None:
        """Remember the generation that counts now."""
        self._store.actions.put(generation_pointer(key), {"kind": "generation", "generation": generation})

    def executions(self, seen: Digest) -> list[dict[str, Any]]:
        """Earlier executions of an equal step, newest first: their keys and those of their inputs."""
        record = self._store.actions.get(seen)
        found: list[dict[str, Any]] = record["runs"] if record is not None and record.get("kind") == "seen" else []
        return found

    def note_execution(self, seen: Digest, key: str, inputs: list[str]) -> None:
        """Remember that a step was executed; the last few are kept."""
        runs = [{"key": key, "inputs": inputs}, *(run for run in self.executions(seen) if run["key"] != key)]
        self._store.actions.put(seen, {"kind": "seen", "runs": runs[:_SEEN_AT_MOST]})

    def archive_reads(self, name: str) -> list[Reads]:
        """What archives took from the trees below them, newest first; see file_steps.PlannedCopy."""
        record = self._store.actions.get(Digest(name))
        found: list[Reads] = record["reads"] if record is not None and record.get("kind") == "archive" else []
        return found

    def note_archive_reads(self, name: str, reads: Reads) -> None:
        """Remember what archives took this time; the last few are kept."""
        known = [reads, *(each for each in self.archive_reads(name) if each != reads)]
        self._store.actions.put(Digest(name), {"kind": "archive", "reads": known[:_SEEN_AT_MOST]})

    def note_mounts(self, names: Iterable[str], origin: Origin) -> None:
        """Count a use of these directories of cache mounts, and remember which instruction had them first."""
        documents = self._store.state.documents(MOUNTS)
        with self._store.state.transaction():
            for name in names:
                noted = documents.get(name) or {"origin": msgspec.to_builtins(origin), "uses": 0}
                documents.put(name, {**noted, "uses": int(noted["uses"]) + 1})

    def image(self, key: Digest) -> str | None:
        """The id of the image that was made of these steps and this config."""
        record = self._store.actions.get(key)
        return str(record["image"]) if record is not None and record.get("kind") == "image" else None

    def put_image(self, key: Digest, image_id: Digest) -> None:
        """Remember which image these steps and this config made."""
        self._store.actions.put(key, {"kind": "image", "image": image_id})


@dataclass
class Site:
    """What was last done for one instruction: its key, how long it takes when executed and how many processors."""

    key: str
    seconds: float
    cpu: float = 0.0


class Sites:
    """The instructions of one Buildfile in one context, by `Node.site`: what explain compares with.

    `before` is what the last build left.
    """

    def __init__(self, store: Store, identity: str) -> None:
        self._documents = store.state.documents(_SITES)
        self._name = sha256(identity.encode())[7:39]
        self._directory = store.root / "build-index"
        document = self._documents.get(self._name) or {}
        self._sites = {name: Site(*values) for name, values in document.get("sites", {}).items()}
        self.before = dict(self._sites)
        self.changed = False

    def get(self, site: str) -> Site | None:
        """The last build's entry."""
        return self._sites.get(site)

    def set(self, site: str, key: str, result: StepResult) -> None:
        """Note what this build did."""
        known = self._sites.get(site)
        if known is None or known.key != key:
            self._sites[site] = Site(key, round(result.seconds, 4), round(result.cpu, 2))
            self.changed = True

    def save(self) -> None:
        """Write what changed."""
        if self.changed:
            sites = {name: [site.key, site.seconds, site.cpu] for name, site in self._sites.items()}
            self._documents.put(self._name, {"used": time.time(), "sites": sites})
            self.changed = False

    def copied(self, site: str, content: str = "") -> Copied | None:
        """What a COPY put where the last time; with `content` (the digest of the files) the last time with these."""
        try:
            path = self._file(site, content) if content else self._newest(site)
            return msgspec.msgpack.decode(path.read_bytes(), type=Copied) if path is not None else None
        except (FileNotFoundError, msgspec.DecodeError):
            return None

    def set_copied(self, site: str, content: str, copied: Copied) -> None:
        """Note what a COPY put where."""
        path = self._file(site, content)
        path.parent.mkdir(mode=0o700, exist_ok=True)
        temporary = path.with_name(f".{path.name}.{os.getpid()}.{time.monotonic_ns()}")
        temporary.write_bytes(msgspec.msgpack.encode(copied))
        temporary.rename(path)
        for old in self._lists(site)[:-_LISTS_AT_MOST]:
            old.unlink(missing_ok=True)

    def _newest(self, site: str) -> Path | None:
        return next(reversed(self._lists(site)), None)

    def _lists(self, site: str) -> list[Path]:
        """The lists of one COPY, the newest last."""
        pattern = f"{self._name}.{sha256(site.encode())[7:23]}.*"
        found = [(path.stat().st_mtime_ns, path) for path in self._directory.glob(pattern)]
        return [path for _, path in sorted(found)]

    def _file(self, site: str, content: str) -> Path:
        return self._directory / f"{self._name}.{sha256(site.encode())[7:23]}.{sha256(content.encode())[7:23]}"


class Copied(msgspec.Struct, array_like=True):
    """The files of an executed COPY: `lines` as Selection.lines gives them, below `base` in the snapshot.

    `definition` is the digest of all else that decides how they look there.
    """

    definition: str
    snapshot: int
    base: str
    lines: bytes

    @classmethod
    def of(cls, definition: str, snapshot: int, base: str, lines: list[str]) -> Copied:
        """With the lines joined: names need not be UTF-8, and none has two NULs in a row."""
        return cls(definition, snapshot, base, _BETWEEN.join(lines).encode(errors="surrogateescape"))

    def texts(self) -> list[str]:
        """The lines as Selection.lines gave them."""
        text = self.lines.decode(errors="surrogateescape")
        return text.split(_BETWEEN) if text else []


def forget_old_files(root: Path) -> None:
    """Remove indexes of contexts that were not built for a month, fetched repositories that were not used for one,
    and what a killed process left half-written.
    """
    limit = time.time() - _FORGET_FILES_AFTER
    for repository in (root / "git").glob("*/"):
        if repository.stat().st_mtime < limit:
            remove_tree(repository)
    directory = root / "build-index"
    if not directory.is_dir():
        return
    for path in directory.iterdir():
        if path.name.startswith(".") or path.stat().st_mtime < limit:
            path.unlink(missing_ok=True)
