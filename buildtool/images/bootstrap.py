"""Base images from Debian packages: `busybox`, and `debian:SUITE`, made with the apt tools of this machine."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from queue import Empty, SimpleQueue
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.oci import Platform, Reference, host_platform, parse_reference

if TYPE_CHECKING:
    from buildtool.images.model import Image
    from buildtool.images.service import Images

_BASE = re.compile(r"(busybox)(?::latest)?|debian:([a-z][a-z0-9.-]*)")
_PACKAGE = re.compile(r"[a-z0-9][a-z0-9+.:~_=/-]*")
_INTERVAL = 0.2

Say = Callable[[str], None]


@dataclass(frozen=True)
class Rootfs:
    """A base image's root file system as a tar in a file, and what the image made of it is to say.

    The same packages give the same bytes. The file goes when the `with` block of bootstrap_rootfs ends.
    """

    tar: Path
    tag: str
    changes: list[str]
    message: str


@dataclass
class Cancel:
    """Tells a bootstrap in another thread to stop: its tools are ended and it raises BuildtoolError."""

    event: threading.Event = field(default_factory=threading.Event)

    def __call__(self) -> None:
        self.event.set()

    @property
    def wanted(self) -> bool:
        return self.event.is_set()


@contextmanager
def bootstrap_rootfs(
    base: str,
    *,
    include: Sequence[str] = (),
    host_ca: bool = False,
    say: Say = lambda line: None,
    cancel: Cancel | None = None,
    platform: Platform | None = None,
) -> Iterator[Rootfs]:
    """Make the root file system of `busybox` or `debian:SUITE`, for this machine's platform or another one.

    `include`: further packages (Debian only). `host_ca`: with this machine's own CA certificates. `say` gets lines of
    progress, without line feed. Raises InvalidInput for an unknown base, Unavailable naming a missing host package,
    BuildtoolError with the tool's last lines when it fails.
    """
    platform = platform or host_platform()
    check_request(base, include, [platform])
    cancel = cancel or Cancel()
    with TemporaryDirectory(prefix="buildtool-bootstrap-") as directory:
        if base.startswith("busybox"):
            from buildtool.images.bootstrap_busybox import make_busybox

            yield make_busybox(Path(directory), host_ca=host_ca, say=say, cancel=cancel, platform=platform)
        else:
            from buildtool.images.bootstrap_debian import make_debian

            suite = base.partition(":")[2]
            yield make_debian(
                Path(directory),
                suite,
                include=include,
                host_ca=host_ca,
                say=say,
                cancel=cancel,
                platform=platform,
            )


def check_request(base: str, include: Sequence[str], platforms: Sequence[Platform]) -> None:
    """Refuse what cannot be made, before anything is done. Raises InvalidInput, Unavailable."""
    match = _BASE.fullmatch(base)
    if match is None:
        raise InvalidInput(f"unknown base {base!r}", hint="bases are busybox and debian:SUITE, like debian:bookworm")
    for package in include:
        if not _PACKAGE.fullmatch(package):
            raise InvalidInput(f"invalid package name {package!r}", hint="give Debian package names, like python3")
    if match[1]:
        if include:
            raise InvalidInput("busybox has no packages to include", hint="take debian:SUITE as the base")
        from buildtool.images.bootstrap_busybox import require_tools
    else:
        from buildtool.images.bootstrap_debian import require_tools
    for platform in platforms:
        require_tools(platform)


def bootstrap(
    images: Images,
    base: str,
    *,
    include: Sequence[str] = (),
    host_ca: bool = False,
    tag: str = "",
    cancel: Cancel | None = None,
    platforms: Sequence[Platform] = (),
) -> Iterator[dict[str, Any]]:
    """Make a base image in the store; yields Docker's progress objects, last `{"aux": {"ID": …}}` for each platform.

    Without `platforms` it is this machine's. The name means all that were made, and what it meant before for others.

    What `check_request` and a malformed tag refuse is raised when the function is called; later errors while
    iterating.
    Close the iterator, or call `cancel` from another thread, to stop.
    """
    wanted = list(platforms) or [host_platform()]
    check_request(base, include, wanted)
    if tag:
        parse_reference(tag)
    return _progress(images, base, include, host_ca, tag, cancel or Cancel(), wanted)


def _progress(
    images: Images,
    base: str,
    include: Sequence[str],
    host_ca: bool,
    tag: str,
    cancel: Cancel,
    platforms: Sequence[Platform],
) -> Iterator[dict[str, Any]]:
    lines: SimpleQueue[str | None] = SimpleQueue()
    made: list[Image] = []
    names: list[Reference] = []
    errors: list[BaseException] = []

    def work() -> None:
        try:
            for platform in platforms:
                if len(platforms) > 1:
                    lines.put(f"For {platform}")
                with bootstrap_rootfs(
                    base, include=include, host_ca=host_ca, say=lines.put, cancel=cancel, platform=platform
                ) as rootfs:
                    lines.put("Importing the root file system")
                    made.append(_import(images, rootfs, platform))
                    names[:] = [parse_reference(tag or rootfs.tag).with_default_tag()]
            images.name_platforms(names[0], made)
        except BaseException as error:  # noqa: BLE001 - raised again by the generator
            errors.append(error)
        finally:
            lines.put(None)

    thread = threading.Thread(target=work, name="bootstrap", daemon=True)
    thread.start()
    try:
        while True:
            try:
                line = lines.get(timeout=_INTERVAL)
            except Empty:
                continue
            if line is None:
                break
            yield {"stream": line + "\n"}
    finally:
        if thread.is_alive():
            cancel()
        thread.join()
    if errors:
        raise errors[0]
    yield {"stream": f"Made {names[0].familiar}\n"}
    yield from ({"aux": {"ID": image.id}} for image in made)


def _import(images: Images, rootfs: Rootfs, platform: Platform) -> Image:
    with rootfs.tar.open("rb") as stream:
        return images.import_tar(stream, changes=rootfs.changes, message=rootfs.message, platform=platform)


def cancelled() -> BuildtoolError:
    """What a cancelled bootstrap raises."""
    return BuildtoolError("the bootstrap was cancelled")
