"""A root file system's tar with deterministic bytes: numeric owners, clamped times, the order of its writing."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import IO


class RootfsTar:
    """Writes a tar file; a context manager. Times later than `epoch` become `epoch`; names begin without `./`."""

    def __init__(self, path: Path, epoch: int) -> None:
        self._epoch = epoch
        self._tar = tarfile.open(path, "w", format=tarfile.PAX_FORMAT)  # noqa: SIM115

    def __enter__(self) -> RootfsTar:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._tar.close()

    def directory(self, name: str, mode: int = 0o755, *, gid: int = 0) -> None:
        self._new(name, tarfile.DIRTYPE, mode, gid=gid)

    def file(self, name: str, content: bytes | str, mode: int = 0o644, *, gid: int = 0) -> None:
        data = content.encode() if isinstance(content, str) else content
        self._new(name, tarfile.REGTYPE, mode, gid=gid, data=data)

    def link(self, name: str, target: str) -> None:
        self._new(name, tarfile.SYMTYPE, 0o777, target=target)

    def entry(self, info: tarfile.TarInfo, content: IO[bytes] | None) -> None:
        """An entry of another tar, with its owner, mode and extended attributes."""
        info.uname = info.gname = ""
        info.mtime = int(min(info.mtime, self._epoch))
        info.pax_headers = {key: value for key, value in info.pax_headers.items() if key.startswith("SCHILY.xattr.")}
        self._tar.addfile(info, content)

    def directories(self, names: Iterable[str]) -> None:
        for name in names:
            self.directory(name)

    def _new(self, name: str, kind: bytes, mode: int, *, gid: int = 0, target: str = "", data: bytes = b"") -> None:
        info = tarfile.TarInfo(name)
        info.type, info.mode, info.gid, info.linkname, info.size = kind, mode, gid, target, len(data)
        info.mtime = self._epoch
        self._tar.addfile(info, io.BytesIO(data) if data else None)
