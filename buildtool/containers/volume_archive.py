"""A volume's content as a tar archive, out and in: backups."""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import BinaryIO

from buildtool.aio import offload
from buildtool.cache.compression import compress, decompress
from buildtool.cache.tar_in import Unpacker
from buildtool.containers import jail
from buildtool.containers.bridge import Drain, emit_blocks
from buildtool.containers.tarwalk import tar_path
from buildtool.containers.volumes import HALF, Volumes
from buildtool.errors import Conflict, InvalidInput
from buildtool.runtime import syscalls as sc

COMPRESSIONS = ("", "gzip", "zstd")


class VolumeArchives:
    """Exports and imports, for one service. `running` tells which running containers use a volume."""

    def __init__(self, volumes: Volumes, running: Callable[[str], list[str]]) -> None:
        self._volumes, self._running = volumes, running

    async def export(self, name: str, compression: str = "") -> Drain:
        """The archive, compressed with "", `gzip` or `zstd`. What is written meanwhile may or may not be in it.

        Raises NotFound, InvalidInput.
        """
        if compression not in COMPRESSIONS:
            raise InvalidInput(f"unknown compression {compression!r}: it is gzip or zstd")
        await offload(self._volumes.inspect, name)
        held = self._held(name)
        await held.__aenter__()
        root = jail.Root(directory=self._volumes.path(name))

        def work(emit: Callable[[bytes], None]) -> None:
            emit_blocks(lambda: compress(tar_path("/", "."), compression), emit)

        return Drain(lambda emit: jail.run_in(root, lambda: work(emit)), held)

    async def restore(self, name: str, source: BinaryIO, *, replace: bool = False) -> None:
        """Unpack an archive, plain or compressed, into an empty volume, which is made when there is none.

        With `replace` the content of one that no running container uses gives way. When it fails nothing has changed.
        Raises InvalidInput (the archive), Conflict (not empty, in use).
        """
        existed = await offload(self._volumes.exists, name)
        volume = await offload(self._volumes.create, name)
        try:
            async with self._held(name):
                if volume["Options"]:
                    await self._fill(name, source)
                else:
                    await self._exchange(name, source, replace=replace)
        except BaseException:
            if not existed:
                await offload(self._volumes.remove, name, force=True)
            raise

    async def _fill(self, name: str, source: BinaryIO) -> None:
        """A volume that lies elsewhere cannot be exchanged for another directory."""
        target = self._volumes.path(name)
        if await offload(os.listdir, target):
            raise Conflict(f"import {name}: the volume is not empty", hint="it lies elsewhere: empty it there")
        try:
            await _unpack(source, target)
        except BaseException:
            await offload(_empty, target)
            raise

    async def _exchange(self, name: str, source: BinaryIO, *, replace: bool) -> None:
        target = self._volumes.path(name)
        self._check_free(name, target, replace=replace)
        place = target.with_name(f"{HALF}{secrets.token_hex(4)}")
        place.mkdir(mode=0o755)
        try:
            await _unpack(source, place)
            self._check_free(name, target, replace=replace)
            sc.exchange(str(place), str(target))
        finally:
            await offload(shutil.rmtree, place, ignore_errors=True)

    def _check_free(self, name: str, target: Path, *, replace: bool) -> None:
        users = self._running(name)
        if users:
            raise Conflict(f"import {name}: volume is in use by running containers - [{', '.join(users)}]")
        if not replace and os.listdir(target):
            raise Conflict(f"import {name}: the volume is not empty", hint="--replace replaces what is in it")

    @contextlib.asynccontextmanager
    async def _held(self, name: str) -> AsyncIterator[None]:
        user = f"archive {secrets.token_hex(4)}"
        await offload(self._volumes.hold, name, user)
        try:
            yield
        finally:
            await offload(self._volumes.release, user)


async def _unpack(source: BinaryIO, target: Path) -> None:
    def work() -> None:
        Unpacker(Path("/"), layer=False).unpack(decompress(source, "auto"))

    await asyncio.wrap_future(jail.run_in(jail.Root(directory=target), work))


def _empty(target: Path) -> None:
    for entry in os.scandir(target):
        if entry.is_dir(follow_symlinks=False):
            shutil.rmtree(entry.path, ignore_errors=True)
        else:
            Path(entry.path).unlink()
