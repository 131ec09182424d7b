"""Compiled templates of this user, kept from one start of the CLI to the next: parsing takes longer than all else.

A file holds code, so only what this user alone can write is read, and only what this program, Jinja2 and Python made
as they are now.
"""

from __future__ import annotations

import marshal
import os
import sys
import zlib
from typing import Any

import jinja2.compiler

from buildtool.stacks.caching import cache_folder

_MOST = 200
_LONGEST = 4096

Compilation = tuple[dict[str, Any], list[tuple[int, int, str]]]


class Store:
    """The folder `templates` of the user's cache. Nothing goes wrong without it."""

    def __init__(self) -> None:
        self._folder = cache_folder("templates")

    def find(self, text: str, name: str) -> Compilation | None:
        """What was kept for a text."""
        try:
            with open(self._path(text, name), "rb") as file:
                status = os.fstat(file.fileno())
                if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                    return None
                stamp, kept_text, kept_name, codes, sites = marshal.loads(file.read())
        except (OSError, ValueError, EOFError, TypeError):
            return None
        if (stamp, kept_text, kept_name) != (_stamp(), text, name):
            return None
        return codes, sites

    def keep(self, text: str, name: str, made: Compilation) -> None:
        """Keep it, unless it is long or there is nowhere to."""
        if not self._folder or len(text) > _LONGEST:
            return
        path = self._path(text, name)
        temporary = f"{path}.{os.getpid()}"
        try:
            data = marshal.dumps((_stamp(), text, name, *made))
            os.makedirs(self._folder, mode=0o700, exist_ok=True)
            status = os.stat(self._folder)
            if status.st_uid != os.geteuid() or status.st_mode & 0o022:
                return
            descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with open(descriptor, "wb") as file:
                file.write(data)
            os.replace(temporary, path)
            names = os.listdir(self._folder)
            for old in names if len(names) > _MOST else ():
                os.unlink(f"{self._folder}/{old}")
        except (OSError, ValueError):
            return

    def _path(self, text: str, name: str) -> str:
        data = f"{name}\0{text}".encode("utf-8", "surrogatepass")
        return f"{self._folder}/{zlib.crc32(data):08x}{zlib.adler32(data):08x}"


def _stamp() -> tuple[str, ...]:
    """What the code was made by."""
    files = (__file__, jinja2.compiler.__file__)
    return (sys.version, *(f"{path}:{os.stat(path).st_mtime_ns}" for path in files))
