"""A base image of busybox's own, made from the machine's static binary."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path
from typing import BinaryIO

_APPLETS = """
sh ls cat echo true false sleep mkdir rmdir touch rm cp mv ln id stat find head tail wc date env hostname kill mount
grep sort chmod chown dd sha256sum seq test printf readlink od tr cut yes
"""
PASSWD = "root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
GROUP = "root:x:0:\napp:x:1001:\nstaff:x:50:app\n"


def busybox_rootfs(extra: dict[str, str] | None = None) -> BinaryIO:
    """The root file system as a tar: /bin with symlinks, /etc with passwd and group, /tmp with mode 1777."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777), ("usr", 0o755)):
            _add(tar, name, tarfile.DIRTYPE, mode)
        _add(tar, "bin/busybox", tarfile.REGTYPE, 0o755, content=Path("/bin/busybox").read_bytes())
        for applet in _APPLETS.split():
            _add(tar, f"bin/{applet}", tarfile.SYMTYPE, 0o777, link="busybox")
        for name, text in {"etc/passwd": PASSWD, "etc/group": GROUP, **(extra or {})}.items():
            _add(tar, name, tarfile.REGTYPE, 0o644, content=text.encode())
    stream.seek(0)
    return stream


def _add(tar: tarfile.TarFile, name: str, kind: bytes, mode: int, *, content: bytes = b"", link: str = "") -> None:
    info = tarfile.TarInfo(name)
    info.type, info.mode, info.linkname, info.size = kind, mode, link, len(content)
    info.mtime = 1_700_000_000
    tar.addfile(info, io.BytesIO(content))
