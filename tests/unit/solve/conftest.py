"""A workshop for each test: an empty store with busybox in it, a context to fill, and the worker's one runtime."""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pytest

from buildtool.cache import Store, Tree
from buildtool.images import Image, Images
from buildtool.oci import parse_reference
from buildtool.runtime import Runtime
from buildtool.solve import Builder, BuildRequest, BuildResult
from buildtool.solve.events import Event, StepOutput, Warning
from tests.unit.solve.fixtures import busybox_rootfs

T = TypeVar("T")


@dataclass
class Outcome:
    """A build that succeeded, and what it told."""

    result: BuildResult
    events: list[Event]

    @property
    def image(self) -> Image:
        return self.result.image

    @property
    def output(self) -> str:
        return b"".join(event.data for event in self.events if isinstance(event, StepOutput)).decode()

    @property
    def cached(self) -> list[bool]:
        return [step.cached for step in self.result.steps]

    @property
    def warnings(self) -> list[str]:
        return [event.message for event in self.events if isinstance(event, Warning)]

    def reason(self, index: int) -> str:
        return self.result.steps[index].miss_reason


@dataclass
class Entry:
    mode: int
    owner: tuple[int, int]
    content: str

    @property
    def permissions(self) -> int:
        return stat.S_IMODE(self.mode)


@dataclass
class Workshop:
    """A store, its images, a builder, and a context directory."""

    root: Path
    loop: asyncio.AbstractEventLoop
    runtime: Runtime
    store: Store = field(init=False)
    images: Images = field(init=False)
    builder: Builder = field(init=False)
    events: list[Event] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.mkdir(parents=True)
        self.open()
        self.images.import_tar(busybox_rootfs(), reference=parse_reference("busybox"))

    def open(self) -> None:
        self.store = Store.open(self.root / "data")
        self.images = Images(self.store)
        self.builder = Builder(self.store, self.images, self.runtime, self.root / "run")

    def close(self) -> None:
        self.run(self.builder.close())
        self.store.close()

    @property
    def context(self) -> Path:
        return self.root / "context"

    def write(self, **files: str) -> None:
        """Files of the context; `__` in a name is a slash, `_` a dot."""
        for name, content in files.items():
            self.put(name.replace("__", "/").replace("_", "."), content)

    def put(self, name: str, content: str, mode: int = 0o644) -> Path:
        path = self.context / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        path.chmod(mode)
        return path

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self.loop.run_until_complete(work)

    async def abuild(self, text: str, **options: Any) -> Outcome:
        events: list[Event] = []
        self.events = events
        request = BuildRequest(**{"dockerfile": text, "context": self.context, **options})
        return Outcome(await self.builder.build(request, events.append), events)

    def build(self, text: str, **options: Any) -> Outcome:
        return self.run(self.abuild(text, **options))

    def tree(self, image: Image) -> dict[str, Entry]:
        """Everything in the image, by path."""
        tree = Tree([self.store.snapshots.fs(snapshot) for snapshot in self.images.snapshots(image)])
        found = {}
        for path, status in tree.walk("/"):
            content = ""
            if stat.S_ISREG(status.st_mode) and path != "/bin/busybox":
                content = tree.open(path).read().decode(errors="replace")
            elif stat.S_ISLNK(status.st_mode):
                content = "-> " + tree.readlink(path)
            found[path] = Entry(status.st_mode, (status.st_uid, status.st_gid), content)
        return found

    def layer(self, image: Image, index: int = -1) -> dict[str, str]:
        """What one layer has: path below the root → content."""
        snapshot = image.layers[index].snapshot
        assert snapshot is not None
        fs = self.store.snapshots.fs(snapshot)
        found = {}
        for path in sorted(fs.rglob("*")):
            found[str(path.relative_to(fs))] = path.read_text() if path.is_file() and not path.is_symlink() else ""
        return found

    def assert_clean(self) -> None:
        """Nothing half-made: no drafts, no leases, no bundles, nothing the store's check finds."""
        assert self.store.snapshots.drafts() == set()
        assert self.store.snapshots.leftovers() == []
        assert self.store.state.query("SELECT * FROM leases") == []
        builds = self.root / "run" / "builds"
        assert not builds.exists() or set(os.listdir(builds)) <= {"shared"}
        assert self.store.check() == []


def processes(command: bytes) -> list[int]:
    """The pids of processes whose command line contains this (arguments end with a NUL)."""
    found = []
    for name in os.listdir("/proc"):
        if name.isdigit():
            try:
                if command in Path("/proc", name, "cmdline").read_bytes():
                    found.append(int(name))
            except OSError:
                continue
    return found


@pytest.fixture(scope="session")
def loop() -> Iterator[asyncio.AbstractEventLoop]:
    loop = asyncio.new_event_loop()
    yield loop
    loop.close()


@pytest.fixture(scope="session")
def runtime(loop: asyncio.AbstractEventLoop) -> Iterator[Runtime]:
    directory = Path(tempfile.mkdtemp(prefix="solve-rt-", dir="/tmp"))
    runtime = loop.run_until_complete(Runtime.launch(directory, state_dir=directory / "state"))
    yield runtime
    loop.run_until_complete(runtime.close())
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture
def workshops(loop: asyncio.AbstractEventLoop, runtime: Runtime) -> Iterator[Callable[[], Workshop]]:
    """Makes further workshops."""
    root = Path(tempfile.mkdtemp(prefix="solve-", dir="/tmp"))
    made: list[Workshop] = []

    def make() -> Workshop:
        made.append(Workshop(root / str(len(made)), loop, runtime))
        return made[-1]

    yield make
    for shop in made:
        shop.run(shop.builder.close())
        shop.assert_clean()
        shop.store.close()
    shutil.rmtree(root, ignore_errors=True)


@pytest.fixture
def shop(workshops: Callable[[], Workshop]) -> Workshop:
    return workshops()
