"""The busybox base image: one static binary from Debian's busybox-static and the files a small system expects."""

from __future__ import annotations

import re
import shutil
import struct
import subprocess
from pathlib import Path

from buildtool.errors import BuildtoolError, Unavailable
from buildtool.images.bootstrap import Rootfs, Say
from buildtool.images.host_packages import CA_BUNDLE, newest_changelog, own_certificates
from buildtool.images.rootfs_tar import RootfsTar

_INSTALLED = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
_DOCS = "usr/share/doc/busybox-static"
_PT_INTERP = 3
_PASSWD = """\
root:x:0:0:root:/root:/bin/sh
daemon:x:1:1:daemon:/usr/sbin:/bin/false
bin:x:2:2:bin:/bin:/bin/false
sys:x:3:3:sys:/dev:/bin/false
sync:x:4:100:sync:/bin:/bin/sync
mail:x:8:8:mail:/var/spool/mail:/bin/false
www-data:x:33:33:www-data:/var/www:/bin/false
operator:x:37:37:Operator:/var:/bin/false
nobody:x:65534:65534:nobody:/home:/bin/false
"""
_GROUP = """\
root:x:0:
daemon:x:1:
bin:x:2:
sys:x:3:
adm:x:4:
tty:x:5:
disk:x:6:
lp:x:7:
mail:x:8:
kmem:x:9:
wheel:x:10:root
www-data:x:33:
operator:x:37:
staff:x:50:
users:x:100:
nogroup:x:65534:
nobody:x:65534:
"""
_DIRECTORIES = (
    "bin",
    "dev",
    "etc",
    "etc/ssl",
    "etc/ssl/certs",
    "home",
    "mnt",
    "opt",
    "proc",
    "run",
    "sbin",
    "srv",
    "sys",
)
_USR_VAR = (
    "usr", "usr/bin", "usr/lib", "usr/local", "usr/local/bin", "usr/sbin", "usr/share", "var", "var/cache", "var/lib",
    "var/log", "var/spool", "var/spool/mail", "var/www",
)  # fmt: skip


def require_tools() -> None:
    """Raises Unavailable when there is neither an installed static busybox nor a way to fetch one."""
    if _installed() is None and (shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None):
        raise Unavailable("busybox-static is not installed on this machine", hint="apt-get install busybox-static")


def make_busybox(directory: Path, *, host_ca: bool, say: Say) -> Rootfs:
    """See bootstrap_rootfs."""
    root = Path("/")
    binary = _installed()
    if binary is None:
        say("Fetching busybox-static")
        root = _download(directory)
        binary = root / "bin/busybox"
    say(f"Taking {binary}")
    applets = _run([str(binary), "--list"]).split()
    version = re.match(r"BusyBox v([0-9.]+)", _run([str(binary)]))
    docs = root / _DOCS
    epoch = newest_changelog(sorted(docs.glob("changelog.Debian*"))) or int(binary.stat().st_mtime)
    target = directory / "rootfs.tar"
    with RootfsTar(target, epoch) as tar:
        _write(tar, binary.read_bytes(), applets)
        if host_ca:
            _write_certificates(tar)
    label = f'LABEL org.opencontainers.image.version="{version[1]}"' if version else ""
    changes = ['CMD ["sh"]', *([label] if label else [])]
    return Rootfs(target, "busybox:latest", changes, "busybox from Debian's busybox-static")


def _write(tar: RootfsTar, binary: bytes, applets: list[str]) -> None:
    tar.directories(_DIRECTORIES)
    tar.directory("root", 0o700)
    tar.directory("tmp", 0o1777)
    tar.directories(_USR_VAR)
    tar.directory("var/tmp", 0o1777)
    tar.file("bin/busybox", binary, 0o755)
    for applet in sorted(set(applets) - {"busybox"}):
        tar.link(f"bin/{applet}", "busybox")
    tar.link("usr/bin/env", "../../bin/busybox")
    tar.file("etc/passwd", _PASSWD)
    tar.file("etc/group", _GROUP)
    users = [line.partition(":")[0] for line in _PASSWD.splitlines()]
    tar.file("etc/shadow", "".join(f"{user}:*:::::::\n" for user in users), 0o640)
    tar.file("etc/shells", "/bin/sh\n/bin/ash\n")
    tar.file("etc/profile", "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n")


def _write_certificates(tar: RootfsTar) -> None:
    tar.directories(("usr/local/share", "usr/local/share/ca-certificates"))
    for name, content in own_certificates():
        tar.file(f"usr/local/share/ca-certificates/{name.replace('/', '_')}", content)
    if CA_BUNDLE.is_file():
        tar.file("etc/ssl/certs/ca-certificates.crt", CA_BUNDLE.read_bytes())


def _installed() -> Path | None:
    """The machine's own busybox, when it needs no other file."""
    for path in _INSTALLED:
        if path.is_file() and _is_static(path):
            return path
    return None


def _is_static(path: Path) -> bool:
    """Whether a 64- or 32-bit little-endian ELF file names no dynamic loader (as on every machine Docker runs on)."""
    with path.open("rb") as file:
        start = file.read(64)
        if len(start) < 52 or start[:4] != b"\x7fELF" or start[5] != 1:
            return False
        wide = start[4] == 2
        (offset,) = struct.unpack_from("<Q" if wide else "<I", start, 32 if wide else 28)
        size, count = struct.unpack_from("<HH", start, 54 if wide else 42)
        file.seek(offset)
        table = file.read(size * count)
    return all(struct.unpack_from("<I", table, size * n)[0] != _PT_INTERP for n in range(len(table) // size or 0))


def _download(directory: Path) -> Path:
    """Fetch and unpack the package without installing it."""
    _run(["apt-get", "download", "busybox-static"], cwd=directory)
    package = next(directory.glob("busybox-static_*.deb"))
    root = directory / "package"
    _run(["dpkg-deb", "-x", str(package), str(root)])
    return root


def _run(command: list[str], cwd: Path | None = None) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if result.returncode != 0:
        raise BuildtoolError(
            f"{' '.join(command)} failed: {result.stderr.strip()[-500:]}",
            hint="try apt-get update, or apt-get install busybox-static",
        )
    return result.stdout
