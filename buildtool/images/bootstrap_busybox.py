"""The busybox base image: one static binary from Debian's busybox-static and the files a small system expects."""

from __future__ import annotations

import re
import shutil
import struct
from pathlib import Path

from buildtool.errors import BuildtoolError, InvalidInput, Unavailable
from buildtool.images.apt_sources import debian_name, for_architecture, host_sources, host_suite
from buildtool.images.bootstrap import Cancel, Rootfs, Say
from buildtool.images.host_packages import CA_BUNDLE, newest_changelog, own_certificates
from buildtool.images.host_tools import run_tool
from buildtool.images.rootfs_tar import RootfsTar
from buildtool.oci import Platform, host_platform

_INSTALLED = (Path("/bin/busybox"), Path("/usr/bin/busybox"))
_DOCS = "usr/share/doc/busybox-static"
_PT_INTERP = 3
_DEBIAN_KEYS = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_HINT = "check that apt-get update works on this machine"
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


def require_tools(platform: Platform) -> None:
    """Raises Unavailable when there is neither an installed static busybox nor a way to fetch one; InvalidInput for a
    platform that Debian is not made for.
    """
    debian_name(platform)
    if _installed(platform) is not None:
        return
    if shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        if _is_own(platform):
            raise Unavailable(
                "busybox-static is not installed on this machine", hint="apt-get install busybox-static"
            )
        raise Unavailable(
            f"apt-get and dpkg-deb, which fetch busybox for {platform}, are not on this machine",
            hint="make it on a Debian machine, and bring it over with save and load",
        )


def make_busybox(directory: Path, *, host_ca: bool, say: Say, cancel: Cancel, platform: Platform) -> Rootfs:
    """See bootstrap_rootfs. Nothing of the platform is executed."""
    root = Path("/")
    binary = _installed(platform)
    if binary is None:
        root = _download(directory, debian_name(platform), say, cancel)
        binary = next(path for path in (root / "bin/busybox", root / "usr/bin/busybox") if path.is_file())
    else:
        say(f"Taking {binary}")
    content = binary.read_bytes()
    applets = _applets(content)
    version = re.search(rb"BusyBox v([0-9.]+)", content)
    docs = root / _DOCS
    epoch = newest_changelog(sorted(docs.glob("changelog.Debian*"))) or int(binary.stat().st_mtime)
    target = directory / "rootfs.tar"
    with RootfsTar(target, epoch) as tar:
        _write(tar, content, applets)
        if host_ca:
            _write_certificates(tar)
    label = f'LABEL org.opencontainers.image.version="{version[1].decode()}"' if version else ""
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


def _is_own(platform: Platform) -> bool:
    return (platform.os, platform.architecture) == (host_platform().os, host_platform().architecture)


def _installed(platform: Platform) -> Path | None:
    """The machine's own busybox, when it is for the platform and needs no other file."""
    for path in _INSTALLED if _is_own(platform) else ():
        if path.is_file() and _is_static(path):
            return path
    return None


def _applets(binary: bytes) -> list[str]:
    """The names in the program's own table of applets: sorted, each ended by a zero byte, as `--list` tells them."""
    start = binary.find(b"\0[\0[[\0")
    if start < 0:
        raise BuildtoolError("this busybox has no table of applets that begins with [ and [[")
    return binary[start + 1 : binary.index(b"\0\0", start + 1)].decode().split("\0")


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


def _download(directory: Path, architecture: str, say: Say, cancel: Cancel) -> Path:
    """Fetch and unpack the package without installing it or touching what apt knows of this machine."""
    say(f"Fetching busybox-static for {architecture}")
    parts = directory / "parts"
    for place in (parts, directory / "lists/partial", directory / "cache/archives/partial", directory / "packages"):
        place.mkdir(parents=True)
    (parts / "debian.sources").write_text(_sources(architecture))
    options = {
        "Dir::Etc::SourceList": "/dev/null",
        "Dir::Etc::SourceParts": parts,
        "Dir::State::Lists": directory / "lists",
        "Dir::State::Status": "/dev/null",
        "Dir::Cache": directory / "cache",
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Sandbox::User": "",
        "Acquire::Languages": "none",
    }
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    output = directory / "output"
    run_tool([*apt, "update"], output, say, cancel, hint=_HINT)
    fetched = directory / "packages"
    run_tool(
        [*apt, "download", "busybox-static"],
        output,
        say,
        cancel,
        directory=fetched,
        hint=f"Debian {host_suite()} may not be made for {architecture}; {_HINT}",
    )
    root = directory / "package"
    package = next(fetched.glob("busybox-static_*.deb"))
    run_tool(["dpkg-deb", "-x", str(package), str(root)], output, say, cancel, hint=_HINT)
    return root


def _sources(architecture: str) -> str:
    """Where Debian's packages for the architecture are: this machine's own sources, else the archive itself."""
    suite = host_suite()
    found = host_sources(suite) if suite else ""
    if not found and not _DEBIAN_KEYS.is_file():
        raise InvalidInput(
            "this machine has no apt sources of Debian, and not the keys of its archive",
            hint="apt-get install debian-archive-keyring",
        )
    found = found or (
        f"Types: deb\nURIs: http://deb.debian.org/debian\nSuites: {suite or 'stable'}\nComponents: main\n"
        f"Signed-By: {_DEBIAN_KEYS}\n"
    )
    return for_architecture(found, architecture)
