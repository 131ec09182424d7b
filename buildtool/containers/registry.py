"""All containers by id and name, and their records in the store."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec

from buildtool.aio import offload
from buildtool.cache import Pins, Store
from buildtool.cache.snapshots import SnapshotId
from buildtool.containers import names
from buildtool.containers.container import Container
from buildtool.containers.model import Record
from buildtool.errors import Conflict
from buildtool.oci import Digest

log = logging.getLogger("buildtool.containers")


class Registry:
    """The memory is what counts; records follow it.

    Creating and removing a container wait for the store, other changes are written behind, many at a time: after a
    crash the shims' exit records tell what happened since.
    """

    def __init__(self, store: Store) -> None:
        self.directory = store.root / "containers"
        self._documents = store.state.documents("containers")
        self._by_id: dict[str, Container] = {}
        self._names: dict[str, str] = {}
        self._dirty: set[Container] = set()
        self._writer: asyncio.Task[None] | None = None
        self._lock = threading.Lock()
        self._deleted: set[str] = set()
        self._held: list[tuple[int, ...]] = []

    def __iter__(self) -> Iterator[Container]:
        return iter(list(self._by_id.values()))

    def __len__(self) -> int:
        return len(self._by_id)

    def load(self) -> tuple[list[Record], set[str]]:
        """All records of the store, and the ids of those that cannot be read: they are left alone (blocking)."""
        records, unreadable = [], set()
        for identity, document in self._documents.items():
            try:
                records.append(msgspec.convert(document, Record))
            except msgspec.ValidationError as error:
                log.error("the record of container %s cannot be read: %s", identity, error)
                unreadable.add(identity)
        return records, unreadable

    def get(self, reference: str) -> Container:
        """By id, name or unique prefix of an id. Raises NotFound, InvalidInput."""
        found = self._by_id.get(reference)
        if found is not None:
            return found
        return self._by_id[names.lookup(reference, self._by_id, self._names.get)]

    def reserve(self, name: str | None, identity: str) -> str:
        """Take the name (a random one for None) for a container to be. Raises InvalidInput, Conflict."""
        name = names.check_name(name) if name else names.random_name(self._names.__contains__)
        holder = self._names.get(name)
        if holder is not None and holder != identity:
            raise Conflict(
                f'Conflict. The container name "/{name}" is already in use by container "{holder}". '
                "You have to remove (or rename) that container to be able to reuse that name."
            )
        self._names[name] = identity
        return name

    def release(self, name: str, identity: str) -> None:
        """Give a reserved name back."""
        if self._names.get(name) == identity:
            del self._names[name]

    def add(self, container: Container) -> None:
        """Make the container known."""
        self._by_id[container.id] = container
        self._names[container.name] = container.id

    def discard(self, container: Container) -> None:
        """Make it unknown; its record is deleted with `delete`."""
        container.removed = True
        self._by_id.pop(container.id, None)
        self._dirty.discard(container)
        self.release(container.name, container.id)

    def store(self, record: Record) -> None:
        """Write a record now (blocking)."""
        self._put(record.id, msgspec.to_builtins(record))

    def delete(self, identity: str) -> None:
        """Delete a record for good: a write that is under way cannot bring it back (blocking)."""
        with self._lock:
            self._deleted.add(identity)
            self._documents.delete(identity)

    def changed(self, container: Container) -> None:
        """Have the record written soon."""
        if container.removed:
            return
        self._dirty.add(container)
        if self._writer is None or self._writer.done():
            self._writer = asyncio.get_running_loop().create_task(self._write())

    async def flush(self) -> None:
        """Wait until everything changed is written."""
        while self._writer is not None and not self._writer.done():
            await asyncio.shield(self._writer)

    async def _write(self) -> None:
        while self._dirty:
            documents = [(c.id, msgspec.to_builtins(c.record)) for c in self._dirty]
            self._dirty.clear()
            await offload(self._put_all, documents)
        with self._lock:  # no write of a container that is no longer known can be under way
            self._deleted.intersection_update(self._by_id)

    def _put_all(self, documents: list[tuple[str, dict[str, Any]]]) -> None:
        for identity, document in documents:
            self._put(identity, document)

    def _put(self, identity: str, document: dict[str, Any]) -> None:
        with self._lock:
            if identity not in self._deleted:
                self._documents.put(identity, document)

    @contextmanager
    def holding(self, snapshots: Sequence[int]) -> Iterator[None]:
        """Pin snapshots for a container that is being created."""
        held = tuple(snapshots)
        self._held.append(held)
        try:
            yield
        finally:
            self._held.remove(held)

    def pins(self) -> Pins:
        """What gc must keep for the containers' sake."""
        blobs = {Digest(container.record.image_id) for container in self}
        snapshots = {SnapshotId(number) for container in self for number in container.record.snapshots}
        snapshots |= {SnapshotId(n) for container in self for p in container.record.mounts for n in p.layers}
        snapshots |= {SnapshotId(number) for held in list(self._held) for number in held}
        return Pins(blobs=blobs, snapshots=snapshots)

    def directory_of(self, identity: str) -> Path:
        """The container's bundle directory."""
        return self.directory / identity
