"""Automatic garbage collection of the build cache: within which limits, and when.

The limits come from `daemon.json` in the configuration folder, under Docker's keys: `builder.gc` with `enabled`,
`defaultReservedSpace` (or `defaultKeepStorage`), `defaultMaxUsedSpace`, `defaultMinFreeSpace`, and our `unusedFor`.
"""

from __future__ import annotations

import asyncio
import logging
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from buildtool.aio import offload
from buildtool.errors import BuildtoolError, InvalidInput

if TYPE_CHECKING:
    from buildtool.daemon.services import Services
    from buildtool.solve.cache_entries import Policy

log = logging.getLogger("buildtool.daemon")

_PAUSE = 5.0
_INTERVAL = 60.0
_NAMES = {
    "defaultReservedSpace": "reserved",
    "defaultKeepStorage": "reserved",
    "defaultMaxUsedSpace": "max_used",
    "defaultMinFreeSpace": "min_free",
}


@dataclass(frozen=True, slots=True)
class GcLimits:
    """Sizes in bytes, or as "15%" of the file system. `unused_for` in seconds.

    By default 10 % of the disk are the cache's own; it takes no more than 60 % and leaves 20 % free.
    """

    enabled: bool = True
    reserved: str = "10%"
    max_used: str = "60%"
    min_free: str = "20%"
    unused_for: str = "60d"

    def policy(self, total: int) -> Policy:
        """The policy on a file system of so many bytes. Raises InvalidInput for what is no size."""
        from buildtool.solve.cache_entries import Policy, parse_age

        try:
            unused_for = parse_age(self.unused_for)
        except ValueError:
            raise InvalidInput(f"builder.gc.unusedFor: {self.unused_for!r} is no duration (36h, 60d)") from None
        return Policy(
            reserved=_bytes("defaultReservedSpace", self.reserved, total),
            max_used=_bytes("defaultMaxUsedSpace", self.max_used, total),
            min_free=_bytes("defaultMinFreeSpace", self.min_free, total),
            unused_for=unused_for,
            mounts=True,
        )


def _bytes(name: str, text: str, total: int) -> int:
    from buildtool.containers.limits import parse_size

    if text.endswith("%") and text[:-1].replace(".", "", 1).isdecimal():
        return int(total * float(text[:-1]) / 100)
    return parse_size(text, f"builder.gc.{name}")


def load_limits(folder: Path) -> GcLimits:
    """What daemon.json in this folder says. Raises InvalidInput with the file and the key."""
    import msgspec

    path = folder / "daemon.json"
    try:
        document = msgspec.json.decode(path.read_bytes())
    except FileNotFoundError:
        return GcLimits()
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path}: not a JSON document: {error}") from None
    found: Any = document
    for key in ("builder", "gc"):
        found = found.get(key, {}) if isinstance(found, dict) else None
    if not isinstance(found, dict):
        raise InvalidInput(f"{path}: builder.gc is not an object")
    values: dict[str, Any] = {}
    for key, value in found.items():
        if key == "enabled" and isinstance(value, bool):
            values["enabled"] = value
        elif key in _NAMES and isinstance(value, str | int) and not isinstance(value, bool):
            values[_NAMES[key]] = str(value)
        elif key == "unusedFor" and isinstance(value, str):
            values["unused_for"] = value
        elif key != "policy":
            raise InvalidInput(
                f"{path}: builder.gc.{key} is unknown or has a wrong value",
                hint=f"There are enabled, unusedFor, {', '.join(_NAMES)}.",
            )
    limits = GcLimits(**values)
    try:
        limits.policy(1 << 40)
    except InvalidInput as error:
        raise InvalidInput(f"{path}: {error.message}") from None
    return limits


class Tidier:
    """Collects in the background some seconds after builds, no more than once a minute."""

    def __init__(self, services: Services) -> None:
        self._services = services
        self._task: asyncio.Task[None] | None = None
        self._last = 0.0

    def soon(self) -> None:
        """A build has ended."""
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._later())

    async def close(self) -> None:
        """End; what has begun is finished first."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _later(self) -> None:
        await asyncio.sleep(max(_PAUSE, self._last + _INTERVAL - time.monotonic()))
        self._last = time.monotonic()
        try:
            work = asyncio.create_task(self.tidy())
            await asyncio.shield(work)
        except asyncio.CancelledError:
            if not work.done():
                await asyncio.wait([work])
            raise
        except (BuildtoolError, OSError) as error:
            log.warning("the build cache's garbage collection failed: %s", error)

    async def tidy(self) -> None:
        """Collect now, within the configured limits."""
        from buildtool.registry.config import config_folder

        services = self._services
        limits = await offload(load_limits, config_folder())
        if not limits.enabled:
            return
        from buildtool.solve.leftovers import Leftovers

        keeper = (await services.builder()).cache
        leftovers = Leftovers(services.images, services.image_users(), services.containers.pins)

        def work() -> None:
            policy = limits.policy(shutil.disk_usage(services.root).total)
            gone, report = keeper.prune(policy, leftovers.pins(), sweep=False, leftovers=leftovers)
            if gone:
                log.info("removed %d entries of the build cache, %d bytes", len(gone), report.bytes)

        await offload(work)
