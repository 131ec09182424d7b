"""Waiting for a file to grow or to be replaced, without polling: inotify through ctypes on the event loop."""

from __future__ import annotations

import asyncio
import ctypes
import os
from pathlib import Path

_libc = ctypes.CDLL(None, use_errno=True)

_IN_MODIFY = 0x2
_IN_MOVE_SELF = 0x800
_IN_DELETE_SELF = 0x400
_IN_CREATE = 0x100
_IN_MOVED_TO = 0x80
_IN_NONBLOCK = os.O_NONBLOCK
_IN_CLOEXEC = os.O_CLOEXEC


class Watch:
    """Tells when something happened to a file or in its directory. A context manager.

    Happenings are remembered from construction on: check the file after constructing, then `changed` misses none.
    """

    def __init__(self, path: Path) -> None:
        self._fd = _libc.inotify_init1(_IN_NONBLOCK | _IN_CLOEXEC)
        if self._fd < 0:
            raise OSError(ctypes.get_errno(), "inotify_init1")
        self._path, self._parent = os.fsencode(path), path.parent
        self._event = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._fd, self._drain)
        self.renew()

    def renew(self) -> None:
        """Watch the file that has the name now (after it was replaced); without one, its directory."""
        mask = _IN_MODIFY | _IN_MOVE_SELF | _IN_DELETE_SELF
        if _libc.inotify_add_watch(self._fd, self._path, mask) < 0:
            parent = os.fsencode(self._parent)
            _libc.inotify_add_watch(self._fd, parent, _IN_CREATE | _IN_MOVED_TO)

    async def changed(self) -> None:
        """Wait until something happened since the last call."""
        await self._event.wait()
        self._event.clear()

    def wake(self) -> None:
        """Let `changed` return."""
        self._event.set()

    def close(self) -> None:
        """Stop watching. Idempotent."""
        if self._fd >= 0:
            self._loop.remove_reader(self._fd)
            os.close(self._fd)
            self._fd = -1

    def __enter__(self) -> Watch:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def _drain(self) -> None:
        try:
            while os.read(self._fd, 65536):
                self._event.set()
        except BlockingIOError:
            pass
