"""`cp`: archives out of and into a container, running or not. Paths are followed inside the container's root only."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import stat
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any, BinaryIO

from buildtool.aio import offload
from buildtool.cache.compression import decompress
from buildtool.cache.tar_entries import clean
from buildtool.cache.tar_fields import TarEntry
from buildtool.cache.tar_in import Unpacker
from buildtool.cache.tar_source import ByteSource
from buildtool.containers import jail
from buildtool.containers.base import Bases
from buildtool.containers.bridge import Drain, emit_blocks
from buildtool.containers.container import Container
from buildtool.containers.paths import ArchivePath, path_stat
from buildtool.containers.preparation import Preparer
from buildtool.containers.tarwalk import tar_path
from buildtool.containers.volumes import Volumes
from buildtool.errors import Forbidden, InvalidInput, NotFound

Json = dict[str, Any]


class Archives:
    """Copying, for one service."""

    def __init__(self, bases: Bases, preparer: Preparer, volumes: Volumes) -> None:
        self._bases, self._preparer, self._volumes = bases, preparer, volumes

    async def head(self, container: Container, path: str) -> Json:
        """What is at the path. Raises NotFound, InvalidInput (not a directory)."""
        wanted = ArchivePath.parse(path)
        async with self._quiet(container):
            with _errors(container, path):
                return await asyncio.wrap_future(jail.run_in(self.root(container), lambda: _stat(wanted)))

    async def get(self, container: Container, path: str) -> tuple[Json, Drain]:
        """What is at the path, and its archive. Close the archive when it is not read to its end."""
        wanted = ArchivePath.parse(path)
        described: asyncio.Future[Json] = asyncio.get_running_loop().create_future()
        loop = asyncio.get_running_loop()

        def work(emit: Callable[[bytes], None]) -> None:
            document = _stat(wanted)
            loop.call_soon_threadsafe(described.set_result, document)
            emit_blocks(lambda: tar_path(_entry_path(wanted), wanted.name), emit)

        quiet = self._quiet(container)
        await quiet.__aenter__()
        root = self.root(container)
        archive = Drain(lambda emit: jail.run_in(root, lambda: work(emit)), quiet)
        ended = asyncio.ensure_future(archive.failed())
        with _errors(container, path):
            await asyncio.wait((described, ended), return_when=asyncio.FIRST_COMPLETED)
            if not described.done():
                ended.result()
        ended.cancel()
        return described.result(), archive

    async def put(
        self,
        container: Container,
        path: str,
        source: BinaryIO,
        *,
        no_overwrite_dir_non_dir: bool = False,
        copy_uid_gid: bool = False,
        before_first_start: bool = False,
    ) -> None:
        """Unpack an archive (plain or compressed) into a directory of the container.

        With `before_first_start` a read-only root filesystem is no obstacle as long as the container has never run:
        what is put there is part of what it is made of.

        Raises NotFound, InvalidInput (no directory; a malformed archive; a file in a directory's place), Forbidden
        (read-only). What was unpacked before a fault stays.
        """
        wanted = ArchivePath.parse(path)
        owner = None
        if copy_uid_gid and container.config.user:
            user = await offload(self._preparer.user, container, container.config.user)
            owner = (user.uid, user.gid)

        def work() -> None:
            target = _resolve(wanted.text)
            if not stat.S_ISDIR(os.lstat(target).st_mode):
                raise InvalidInput("extraction point is not a directory")
            _check_writable(container, target, root=before_first_start and not container.state.started_at)
            unpacker = CopyIn(Path(target), owner, keep_kinds=no_overwrite_dir_non_dir)
            unpacker.unpack(decompress(source, "auto"))

        async with self._quiet(container):
            with _errors(container, path):
                await asyncio.wrap_future(jail.run_in(self.root(container), work))

    @contextlib.asynccontextmanager
    async def _quiet(self, container: Container) -> AsyncIterator[None]:
        """A container that does not run must not start while its layers and volumes are mounted here."""
        if container.alive:
            yield
            return
        async with container.lock:
            user = f"cp {container.id}"
            try:
                for point in container.record.mounts:
                    if point.type == "volume":
                        await offload(self._volumes.hold, point.name, user)
                yield
            finally:
                if self._volumes.holds(user):
                    await offload(self._volumes.release, user)

    def root(self, container: Container) -> jail.Root:
        """Where its files are."""
        if container.alive and container.state.pid:
            return jail.Root(pid=container.state.pid)
        directory = container.directory
        base = self._bases.get(container.record.snapshots)
        binds = [
            (Path(point.source), point.destination)
            for point in container.record.mounts
            if point.type in ("bind", "volume") and point.source
        ]
        return jail.Root(
            lower=base.lower,
            upper=directory / "upper",
            work=directory / "work",
            binds=binds,
            merged=directory / "merged",
        )


class CopyIn(Unpacker):
    """Unpacks as `cp` wants it: owners replaced when asked, directories and other things not exchanged when asked."""

    def __init__(self, target: Path, owner: tuple[int, int] | None, *, keep_kinds: bool) -> None:
        super().__init__(target, layer=False)
        self._owner = owner
        self._keep_kinds = keep_kinds
        self._target = os.fsencode(target)

    def _apply(self, entry: TarEntry, source: ByteSource) -> None:
        if self._owner is not None:
            entry.uid, entry.gid = self._owner
        if self._keep_kinds:
            self._check_kind(entry)
        super()._apply(entry, source)

    def _check_kind(self, entry: TarEntry) -> None:
        try:
            status = os.lstat(self._target + b"/" + clean(entry.name))
        except OSError:
            return
        name = os.fsdecode(entry.name)
        if stat.S_ISDIR(status.st_mode) and entry.kind != b"5":
            raise InvalidInput(f'cannot overwrite directory "{name}" with non-directory "{name}"')
        if entry.kind == b"5" and not stat.S_ISDIR(status.st_mode):
            raise InvalidInput(f'cannot overwrite non-directory "{name}" with directory "{name}"')


class _errors:
    """Context manager: what the kernel says about a path of the request becomes Docker's answers."""

    def __init__(self, container: Container, path: str) -> None:
        self._container, self._path = container, path

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        if not isinstance(error, OSError):
            return
        if error.errno == errno.ENOENT:
            raise NotFound(f"Could not find the file {self._path} in container {self._container.id}") from error
        if error.errno == errno.ENOTDIR:
            raise InvalidInput(f"{self._path}: not a directory") from error
        if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise Forbidden(f"{self._path}: {error.strerror}") from error
        if error.errno in (errno.ELOOP, errno.ENAMETOOLONG):
            raise InvalidInput(f"{self._path}: {error.strerror}") from error


def _stat(path: ArchivePath) -> Json:
    inside = _entry_path(path)
    status = os.lstat(inside)
    target = ""
    if stat.S_ISLNK(status.st_mode):
        link = str(Path(inside).readlink())
        target = _resolve(link if link.startswith("/") else f"{path.parent}/{link}", strict=False)
    return path_stat(path.name, status, target)


def _entry_path(path: ArchivePath) -> str:
    """The entry with its directory's symlinks followed, its own only where the path says so."""
    parent = _resolve(path.parent)
    if path.follows and not stat.S_ISDIR(os.lstat(parent).st_mode):
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path.text)
    return f"{parent.rstrip('/')}/{path.last}" if path.last else parent


def _resolve(path: str, *, strict: bool = True) -> str:
    return os.path.realpath(path, strict=strict)


def _check_writable(container: Container, target: str, *, root: bool) -> None:
    """Raise Forbidden for a read-only place; with `root` its root filesystem is none."""
    covering = [p for p in container.record.mounts if (target + "/").startswith(p.destination.rstrip("/") + "/")]
    point = max(covering, key=lambda p: len(p.destination), default=None)
    if point is not None and not point.rw:
        raise Forbidden("mounted volume is marked read-only")
    if point is None and container.host.readonly_rootfs and not root:
        raise Forbidden("container rootfs is marked read-only")
