"""The Debian base image: mmdebstrap's minbase with this machine's apt sources, made deterministic and clean."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import tarfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from buildtool.errors import Unavailable
from buildtool.images.apt_sources import (
    clock_options,
    debian_name,
    for_architecture,
    host_options,
    host_sources,
    release_time,
)
from buildtool.images.bootstrap import Cancel, Rootfs, Say
from buildtool.images.host_packages import CA_DIRECTORY, changelog_time, own_certificates, require
from buildtool.images.host_tools import run_tool
from buildtool.images.rootfs_tar import RootfsTar
from buildtool.oci import Platform, host_platform
from buildtool.runtime.emulation import how_to_run, runs_here

_SOURCES = "debian.sources"
_DROPPED = (
    "dev/*",
    "etc/*-",
    "etc/apt/apt.conf.d/99mmdebstrap",
    "etc/hostname",
    "etc/resolv.conf",
    "run/*",
    "tmp/*",
    "var/cache/apt/*.bin",
    "var/cache/apt/archives/*.deb",
    "var/cache/debconf/*-old",
    "var/cache/ldconfig/aux-cache",
    "var/lib/apt/lists/*_*",
    "var/lib/apt/lists/lock",
    "var/lib/dbus/machine-id",
    "var/lib/dpkg/*-old",
    "var/lib/dpkg/lock*",
    "var/lib/systemd/random-seed",
    "var/tmp/*",
)
_CERTIFICATES = "usr/local/share/ca-certificates"
_EMPTIED = ("etc/machine-id", "var/log/*")
_CLEAN = "rm -f /var/cache/apt/archives/*.deb /var/cache/apt/archives/partial/*.deb /var/cache/apt/*.bin || true"
_CONFIGURATION = {
    "etc/apt/apt.conf.d/docker-clean": f"""\
# Nothing that apt fetched stays in a layer.
DPkg::Post-Invoke {{ "{_CLEAN}"; }};
APT::Update::Post-Invoke {{ "{_CLEAN}"; }};
Dir::Cache::pkgcache "";
Dir::Cache::srcpkgcache "";
""",
    "etc/apt/apt.conf.d/docker-gzip-indexes": 'Acquire::GzipIndexes "true";\n',
    "etc/apt/apt.conf.d/docker-no-languages": 'Acquire::Languages "none";\n',
    "etc/apt/apt.conf.d/docker-autoremove-suggests": 'APT::AutoRemove::SuggestsImportant "false";\n',
    "etc/dpkg/dpkg.cfg.d/docker-apt-speedup": "# An image build that is cut off is thrown away.\nforce-unsafe-io\n",
}
_POLICY = "#!/bin/sh\n# No service starts while an image is built.\nexit 101\n"
_CHANGELOG = re.compile(r"usr/share/doc/[^/]+/changelog(\.Debian)?(\.[a-z0-9]+)?\.gz")
_CA_HOOK = 'if [ -x "$1/usr/sbin/update-ca-certificates" ]; then chroot "$1" update-ca-certificates; fi'


_HINT = "check the suite's and the packages' names, and that apt-get update works on this machine"


def require_tools(platform: Platform) -> None:
    """Raises Unavailable when a host package is missing, or nothing runs the platform's programs; InvalidInput when
    Debian is not made for it.
    """
    debian_name(platform)
    require("mmdebstrap", "mmdebstrap")
    if os.geteuid() != 0:
        require("newuidmap", "uidmap")
    if not runs_here(platform):
        raise Unavailable(
            f"packages for {platform} are set up by their own programs, which nothing runs on {host_platform()}",
            hint=how_to_run(platform),
        )


def make_debian(
    directory: Path,
    suite: str,
    *,
    include: Sequence[str],
    host_ca: bool,
    say: Say,
    cancel: Cancel,
    platform: Platform,
) -> Rootfs:
    """See bootstrap_rootfs."""
    raw = directory / "mmdebstrap.tar"
    options = host_options()
    command = _command(directory, suite, include, options, host_ca, platform)
    epoch = release_time(suite) or int(time.time()) // 86400 * 86400
    run_tool(command, raw, say, cancel, hint=_HINT, environment={"SOURCE_DATE_EPOCH": str(epoch)})
    say("Making the bytes independent of time and machine")
    target = directory / "rootfs.tar"
    with tarfile.open(raw) as source:
        epoch, version = _facts(source)
        with RootfsTar(target, epoch) as tar:
            _rewrite(source, tar, epoch)
            _configure(tar, clock_options(options))
    raw.unlink()
    changes = ['CMD ["bash"]', f'LABEL org.opencontainers.image.version="{version}"']
    return Rootfs(target, f"debian:{suite}", changes, f"debian {suite} by mmdebstrap")


def _command(
    directory: Path, suite: str, include: Sequence[str], options: Sequence[str], host_ca: bool, platform: Platform
) -> list[str]:
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = ["mmdebstrap", "--variant=minbase", f"--mode={mode}", "--format=tar"]
    foreign = platform.architecture != host_platform().architecture
    if foreign:
        # What mmdebstrap would try out itself, with a tool that may not be there, is known.
        command += [f"--architectures={debian_name(platform)}", "--skip=check/qemu"]
    command += [f"--aptopt={option}" for option in options]
    command += [f"--include={package}" for package in include]
    if host_ca and own_certificates():
        copy = f"copy-in {CA_DIRECTORY} {CA_DIRECTORY.parent}"
        command += [f"--customize-hook={copy}", f"--customize-hook={_CA_HOOK}"]
    command += [suite, "-"]
    sources = host_sources(suite)
    if foreign:
        sources = for_architecture(sources, "")
    if sources:
        path = directory / _SOURCES
        path.write_text(sources)
        command.append(str(path))
    return command


def _facts(source: tarfile.TarFile) -> tuple[int, str]:
    """The newest package's changelog time (else the newest time of a program), and Debian's version."""
    newest = 0
    version = ""
    for info in source:
        name = _name(info)
        if info.isreg() and _CHANGELOG.fullmatch(name):
            newest = max(newest, changelog_time(_read(source, info)) or 0)
        elif name == "etc/debian_version":
            version = _read(source, info).decode().strip()
    if not newest:
        programs = (info.mtime for info in source if info.isreg() and _name(info).startswith("usr/lib/"))
        newest = int(max(programs, default=0))
    return newest, version


def _rewrite(source: tarfile.TarFile, tar: RootfsTar, epoch: int) -> None:
    written = {*_CONFIGURATION, "usr/sbin/policy-rc.d"}
    for info in source:
        name = _name(info)
        if name == "." or name in written or any(fnmatch.fnmatchcase(name, pattern) for pattern in _DROPPED):
            continue
        info.name = name
        if info.islnk():
            info.linkname = info.linkname.removeprefix("./")
        if name.startswith("etc/apt/sources.list.d/") and name.endswith(_SOURCES):
            info.name = f"etc/apt/sources.list.d/{_SOURCES}"
        if name.startswith(_CERTIFICATES):  # copied from the machine, with its owners and times
            info.uid, info.gid, info.mtime = 0, 0, epoch
        content: IO[bytes] | None = source.extractfile(info) if info.isreg() else None
        if info.isreg() and any(fnmatch.fnmatchcase(name, pattern) for pattern in _EMPTIED):
            info.size, content = 0, None
        elif name in ("etc/shadow", "etc/shadow-"):
            data = _dated(_read(source, info), epoch)
            info.size, content = len(data), io.BytesIO(data)
        tar.entry(info, content)


def _dated(shadow: bytes, epoch: int) -> bytes:
    """The shadow file with the day of the epoch as that of every password's last change."""
    day = str(epoch // 86400).encode()
    return re.sub(rb"(?m)^([^:\n]*:[^:\n]*:)\d+:", rb"\g<1>" + day + b":", shadow)


def _configure(tar: RootfsTar, options: Sequence[str]) -> None:
    for name, text in sorted(_CONFIGURATION.items()):
        tar.file(name, text)
    if options:
        tar.file("etc/apt/apt.conf.d/90clock", "".join(f"{option};\n" for option in options))
    tar.file("usr/sbin/policy-rc.d", _POLICY, 0o755)


def _read(source: tarfile.TarFile, info: tarfile.TarInfo) -> bytes:
    file = source.extractfile(info)
    return b"" if file is None else file.read()


def _name(info: tarfile.TarInfo) -> str:
    return info.name.removeprefix("./") or "."
