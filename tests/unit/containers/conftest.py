"""A real service over a real store, runtime and busybox image."""

from __future__ import annotations

import functools
import io
import subprocess
import tarfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from buildtool.cache.store import Store
from buildtool.containers import Containers, Events
from buildtool.containers.events import Event
from buildtool.images import Images
from buildtool.oci import parse_reference
from buildtool.runtime import Runtime

IMAGE = "busybox:latest"


@functools.cache
def busybox_tar() -> bytes:
    """A root file system: busybox with all its applets, a user database, a directory for a volume."""
    applets = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    binary = Path("/bin/busybox").read_bytes()
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:

        def add(name: str, content: bytes | None = None, mode: int = 0o755, link: str = "", uid: int = 0) -> None:
            info = tarfile.TarInfo(name)
            info.mode, info.mtime, info.uid, info.gid = mode, 1_700_000_000, uid, uid
            if link:
                info.type, info.linkname = tarfile.SYMTYPE, link
                tar.addfile(info)
            elif content is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))

        for name in ("bin", "etc", "root", "usr", "var"):
            add(name)
        add("tmp", mode=0o1777)
        add("bin/busybox", binary)
        for applet in applets:
            if applet != "busybox":
                add(f"bin/{applet}", link="busybox")
        add("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1000:app:/home/app:/bin/sh\n", 0o644)
        add("etc/group", b"root:x:0:\napp:x:1000:\nextra:x:2000:app\n", 0o644)
        add("data", uid=1000, mode=0o750)
        add("data/seed", b"from the image\n", 0o640, uid=1000)
        add("data/link", link="seed")
        add("locked", b"#!/bin/sh\n", 0o644)
    return buffer.getvalue()


@dataclass
class World:
    """One data root with everything open."""

    root: Path
    store: Store
    images: Images
    runtime: Runtime
    events: Events
    containers: Containers

    def seen(self, kind: str = "container") -> list[str]:
        """The actions of the events so far."""
        return [event["Action"] for event in self.past() if event["Type"] == kind]

    def past(self) -> list[Event]:
        return list(self.events._past)

    async def create(
        self, *cmd: str, name: str | None = None, host: dict[str, Any] | None = None, **config: Any
    ) -> str:
        """Create a container without network; its id."""
        body = {"Image": IMAGE, "Cmd": list(cmd), **config, "HostConfig": {"NetworkMode": "none", **(host or {})}}
        identity, _ = await self.containers.create(body, name=name)
        return identity

    async def run(self, *cmd: str, host: dict[str, Any] | None = None, **config: Any) -> tuple[int, bytes]:
        """Run to the end: exit code and log. The container stays."""
        identity = await self.create(*cmd, host=host, **config)
        waiter = await self.containers.waiter(identity, "next-exit")
        await self.containers.start(identity)
        return (await waiter).exit_code, await self.output(identity)

    async def output(self, identity: str) -> bytes:
        """The payload of the whole log."""
        return payload(b"".join([block async for block in self.containers.logs(identity)]))


def payload(frames: bytes, stream: int = 0) -> bytes:
    """The data of multiplexed frames (of one stream)."""
    out, position = b"", 0
    while position < len(frames):
        size = int.from_bytes(frames[position + 4 : position + 8], "big")
        if stream in (0, frames[position]):
            out += frames[position + 8 : position + 8 + size]
        position += 8 + size
    return out


@asynccontextmanager
async def opened(root: Path, *, remove: bool = True) -> AsyncIterator[World]:
    """Open a data root as a daemon does; at the end all containers are removed unless told otherwise."""
    store = Store.open(root)
    try:
        runtime = await Runtime.launch(root / "run", state_dir=root / "containers")
        try:
            events, images = Events(), Images(store)
            if images.find(IMAGE) is None:
                images.import_tar(io.BytesIO(busybox_tar()), reference=parse_reference(IMAGE), changes=['CMD ["sh"]'])
            containers = Containers(store, images, runtime, events, root / "run")
            await containers.open()
            try:
                yield World(root, store, images, runtime, events, containers)
            finally:
                if remove:
                    for document in await containers.list(all=True):
                        try:
                            await containers.remove(document["Id"], force=True, volumes=True)
                        except Exception:  # it is going away by itself
                            continue
                await containers.close()
        finally:
            await runtime.close()
    finally:
        store.close()


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with opened(tmp_path / "root") as found:
        yield found
