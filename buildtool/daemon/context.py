"""Unpacking a build context that came as a tar into a directory of the daemon's own, and removing it again.

Nothing in the archive can reach out of the directory: names are made relative, `..` is refused, a parent directory
is always a real directory
that was made here (never a symbolic link), hard links lead to files of the archive. Owners are not kept: COPY sets
them anyway. Devices are refused.
"""

# Paths are strings here: a context has ten thousands of entries.
# ruff: noqa: PTH101, PTH102, PTH108, PTH112, PTH114, PTH120, PTH123, PTH211

from __future__ import annotations

import bz2
import contextlib
import io
import lzma
import os
import shutil
import stat
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, cast

from buildtool.errors import InvalidInput, StoreFull

_MAGIC = {b"\x1f\x8b": "gzip", b"BZh": "bzip2", b"\xfd7zXZ\x00": "xz", b"\x28\xb5\x2f\xfd": "zstd"}
_BUFFER = 1024 * 1024
_DISK_FULL = frozenset({28, 122})


@contextlib.contextmanager
def build_directory(root: Path) -> Iterator[Path]:
    """An empty directory below `root`, removed with all it holds at the end."""
    parent = root / "contexts"
    parent.mkdir(mode=0o700, exist_ok=True)
    path = Path(tempfile.mkdtemp(prefix="context-", dir=parent))
    try:
        yield path
    finally:
        shutil.rmtree(path, onerror=_make_writable)


def remove_leftovers(root: Path) -> None:
    """Remove the contexts that a killed daemon left."""
    shutil.rmtree(root / "contexts", onerror=_make_writable, ignore_errors=not (root / "contexts").exists())


def unpack(source: BinaryIO, target: Path) -> None:
    """Unpack a tar (plain, gzip, bzip2, xz or zstd) into an empty directory.

    Raises InvalidInput for what is no tar, is damaged, or names things outside of the context; StoreFull.
    """
    try:
        stream = _Padded(decompress(source))
        with tarfile.open(fileobj=cast(IO[bytes], stream), mode="r|", bufsize=_BUFFER) as archive:
            _Unpacker(target, stream).run(archive)
        stream.drain()
    except (tarfile.TarError, EOFError, lzma.LZMAError, ValueError) as error:
        raise InvalidInput(f"the build context is not a readable tar archive: {error}") from error
    except OSError as error:
        if error.errno in _DISK_FULL:
            raise StoreFull(f"no space left for the build context below {target.parent}: {error.strerror}") from error
        if error.errno is None or isinstance(error, _zstd_errors()):
            raise InvalidInput(f"the build context is not a readable tar archive: {error}") from error
        raise


def decompress(source: BinaryIO) -> IO[bytes]:
    """The uncompressed bytes of a stream, whatever it is compressed with."""
    buffered = source if isinstance(source, io.BufferedReader) else io.BufferedReader(cast(io.RawIOBase, source))
    head = buffered.peek(6)
    kind = next((name for magic, name in _MAGIC.items() if head.startswith(magic)), "")
    if kind == "gzip":
        from isal import igzip

        return cast(IO[bytes], igzip.IGzipFile(fileobj=buffered, mode="rb"))  # type: ignore[no-untyped-call]
    if kind == "bzip2":
        return bz2.BZ2File(buffered)
    if kind == "xz":
        return lzma.LZMAFile(buffered)
    if kind == "zstd":
        from backports import zstd

        return cast(IO[bytes], zstd.ZstdFile(buffered))
    return buffered


def _zstd_errors() -> tuple[type[Exception], ...]:
    from isal import igzip

    return (igzip.BadGzipFile,)


class _Padded:
    """A tar whose end may be missing: docker build -f - sends the last file without its padding and the final blocks.

    Zeros are given only from `needed` on, the end of the current file's content: no file is completed with them.
    """

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._position = 0
        self._padding = -1
        self.needed = 0

    def read(self, size: int) -> bytes:
        data = self._source.read(size)
        if not data and self._position >= self.needed:
            if self._padding < 0:
                self._padding = -self._position % tarfile.BLOCKSIZE + 2 * tarfile.BLOCKSIZE
            data = bytes(min(size, self._padding))
            self._padding -= len(data)
        self._position += len(data)
        return data

    def drain(self) -> None:
        """Read the rest, so that the sender is not cut off and damage behind the end is noticed."""
        while self._source.read(_BUFFER):
            pass


class _Unpacker:
    def __init__(self, target: Path, stream: _Padded) -> None:
        self._stream = stream
        self._target = os.fspath(target)
        self._directories = {""}
        self._files: set[str] = set()
        self._times: list[tuple[str, tarfile.TarInfo]] = []

    def run(self, archive: tarfile.TarFile) -> None:
        for member in archive:
            if member.isreg():
                self._stream.needed = sys.maxsize if member.issparse() else member.offset_data + member.size
            name = _relative(member.name)
            if name:
                self._one(archive, member, name)
            elif not member.isdir():
                raise InvalidInput(f"the build context holds an entry without a name: {member.name!r}")
        for path, member in reversed(self._times):
            os.chmod(path, stat.S_IMODE(member.mode) | stat.S_IRWXU)
            os.utime(path, (member.mtime, member.mtime))

    def _one(self, archive: tarfile.TarFile, member: tarfile.TarInfo, name: str) -> None:
        self._make_parents(name)
        path = f"{self._target}/{name}"
        if member.isdir():
            if name not in self._directories:
                self._clear(path, name)
                os.mkdir(path, 0o755)
                self._directories.add(name)
            self._times.append((path, member))
            return
        self._clear(path, name)
        if member.isreg():
            self._file(archive, member, path)
            self._files.add(name)
        elif member.issym():
            os.symlink(member.linkname, path)
        elif member.islnk():
            linked = _relative(member.linkname)
            if linked not in self._files:
                raise InvalidInput(
                    f"the build context's {member.name!r} is a link to {member.linkname!r}, no file in it"
                )
            os.link(f"{self._target}/{linked}", path, follow_symlinks=False)
            self._files.add(name)
        elif member.isfifo():
            os.mkfifo(path, stat.S_IMODE(member.mode))
        else:
            raise InvalidInput(f"the build context's {member.name!r} is a device or of an unknown kind")

    def _file(self, archive: tarfile.TarFile, member: tarfile.TarInfo, path: str) -> None:
        source = archive.extractfile(member)
        assert source is not None
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600), "wb") as file:
            shutil.copyfileobj(source, file, _BUFFER)
            if file.tell() != member.size:
                raise InvalidInput(f"the build context ends in the middle of {member.name!r}")
            file.flush()
            os.fchmod(file.fileno(), stat.S_IMODE(member.mode))
            os.utime(file.fileno(), (member.mtime, member.mtime))

    def _make_parents(self, name: str) -> None:
        parent = name.rpartition("/")[0]
        if parent in self._directories:
            return
        made = ""
        for part in parent.split("/"):
            made = f"{made}/{part}" if made else part
            if made in self._directories:
                continue
            self._clear(f"{self._target}/{made}", made)
            os.mkdir(f"{self._target}/{made}", 0o755)
            self._directories.add(made)

    def _clear(self, path: str, name: str) -> None:
        """Make room for an entry that comes again, as tar does."""
        if name in self._directories:
            shutil.rmtree(path)
            self._directories = {one for one in self._directories if one != name and not one.startswith(f"{name}/")}
            self._files = {one for one in self._files if not one.startswith(f"{name}/")}
            self._times = [one for one in self._times if one[0] != path and not one[0].startswith(f"{path}/")]
            return
        self._files.discard(name)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)


def _relative(name: str) -> str:
    parts = [part for part in name.split("/") if part not in ("", ".")]
    if ".." in parts or "\0" in name:
        raise InvalidInput(f"the build context's {name!r} leads out of the context")
    return "/".join(parts)


def _make_writable(function: object, path: str, error: object) -> None:
    """A directory without permissions (we may not be root) is in the way: open it and try again."""
    if not os.path.lexists(path):
        return
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, 0o700)
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path, ignore_errors=True)
    else:
        os.unlink(path)
