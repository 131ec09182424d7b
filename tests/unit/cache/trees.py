"""Random file trees, written for real, and what can be seen of one."""

from __future__ import annotations

import os
import stat
from pathlib import Path

from hypothesis import strategies as st

NAMES = st.sampled_from(["a", "b", "a", "b", "c", "ünï", "x" * 120, "with space", "-dash", "a.b", ".hidden"])
PATHS = st.lists(NAMES, min_size=1, max_size=3).map("/".join)
TARGETS = st.one_of(PATHS, st.sampled_from(["/", "..", "../../../a", "/a/b", ".", "loop", "/nowhere"]))
CONTENTS = st.one_of(st.binary(max_size=40), st.sampled_from([b"", b"x" * 511, b"y" * 512, b"z" * 513, b"w" * 5000]))
MODES = st.sampled_from([0o644, 0o600, 0o755, 0o4755, 0o2711, 0o1777, 0o000, 0o444])
OWNERS = st.sampled_from([(0, 0), (1000, 1000), (65534, 7), (3_000_000, 3_000_001)])
TIMES = st.integers(min_value=-1_000_000_000, max_value=4_000_000_000_000_000_000)

OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("file"), PATHS, CONTENTS, MODES, OWNERS, TIMES),
        st.tuples(st.just("dir"), PATHS, MODES, OWNERS, TIMES),
        st.tuples(st.just("symlink"), PATHS, TARGETS),
        st.tuples(st.just("link"), PATHS, PATHS),
        st.tuples(st.just("fifo"), PATHS),
        st.tuples(st.just("device"), PATHS),
        st.tuples(st.just("remove"), PATHS),
        st.tuples(st.just("replace"), PATHS, NAMES),
        st.tuples(st.just("xattr"), PATHS, st.binary(max_size=30)),
        st.tuples(st.just("rename"), PATHS, PATHS),
    ),
    max_size=15,
)


def perform(root: Path, operations: list[tuple[object, ...]]) -> None:
    """Do the operations below `root` without following symlinks out of it; what is impossible is skipped."""
    for name, path, *rest in operations:
        target = root / str(path)
        try:
            if target.parent.resolve().is_relative_to(root.resolve()):
                _perform(root, str(name), target, rest)
        except (OSError, RuntimeError):
            continue


def _perform(root: Path, name: str, target: Path, rest: list[object]) -> None:
    if name in ("file", "dir", "symlink", "fifo", "device") and os.path.lexists(target):
        if name == "dir" and target.is_dir() and not target.is_symlink():
            pass
        else:
            _remove(target)
    if name == "file":
        target.parent.mkdir(parents=True, exist_ok=True)
        content, mode, owner, time = rest
        target.write_bytes(content)  # type: ignore[arg-type]
        _dress(target, mode, owner, time)  # type: ignore[arg-type]
    elif name == "dir":
        target.mkdir(parents=True, exist_ok=True)
        mode, owner, time = rest
        _dress(target, mode, owner, time)  # type: ignore[arg-type]
    elif name == "symlink":
        target.symlink_to(str(rest[0]))
    elif name == "link":
        source = root / str(rest[0])
        if source.parent.resolve().is_relative_to(root.resolve()):
            os.link(source, target, follow_symlinks=False)
    elif name == "fifo":
        os.mkfifo(target)
    elif name == "device":
        os.mknod(target, 0o660 | stat.S_IFCHR, os.makedev(1, 3))
    elif name == "remove":
        _remove(target)
    elif name == "replace":
        _remove(target)
        target.mkdir()
        (target / str(rest[0])).mkdir()
    elif name == "xattr":
        os.setxattr(target, "user.test", rest[0], follow_symlinks=False)  # type: ignore[arg-type]
    elif name == "rename":
        source = root / str(rest[0])
        if source.parent.resolve().is_relative_to(root.resolve()):
            source.rename(target)


def _dress(target: Path, mode: int, owner: tuple[int, int], time: int) -> None:
    os.chown(target, *owner)
    target.chmod(mode)
    os.utime(target, ns=(time, time))


def _remove(target: Path) -> None:
    if target.is_dir() and not target.is_symlink():
        for child in target.iterdir():
            _remove(child)
        target.rmdir()
    else:
        target.unlink()


def describe(path: str | os.PathLike[str], status: os.stat_result, *, times: bool = True) -> tuple[object, ...]:
    """Everything about one entry that a layer keeps."""
    kind = stat.S_IFMT(status.st_mode)
    content: object = None
    if kind == stat.S_IFREG:
        content = Path(path).read_bytes()
    elif kind == stat.S_IFLNK:
        content = os.readlink(path)
    elif kind == stat.S_IFCHR:
        content = status.st_rdev
    names = [name for name in os.listxattr(path, follow_symlinks=False) if not name.startswith("trusted.overlay.")]
    xattrs = sorted((name, os.getxattr(path, name, follow_symlinks=False)) for name in names)
    mtime = status.st_mtime_ns // 1_000_000_000 if times else None
    links = status.st_nlink if kind != stat.S_IFDIR else None
    return (status.st_mode, status.st_uid, status.st_gid, mtime, links, content, xattrs)


def contents(root: Path, *, times: bool = True) -> dict[str, tuple[object, ...]]:
    """The description of every entry below `root`, by its path in it."""
    found = {}
    for top, directories, files in os.walk(root):
        for name in directories + files:
            path = os.path.join(top, name)
            found["/" + os.path.relpath(path, root)] = describe(path, os.lstat(path), times=times)
    return found
