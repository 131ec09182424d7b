"""The Debian base image: mmdebstrap's minbase with this machine's apt sources, made deterministic and clean."""

from __future__ import annotations

import fnmatch
import io
import os
import re
import select
import signal
import subprocess
import tarfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO

from buildtool.errors import BuildtoolError
from buildtool.images.apt_sources import clock_options, host_options, host_sources, release_time
from buildtool.images.bootstrap import Cancel, Rootfs, Say, cancelled
from buildtool.images.host_packages import CA_DIRECTORY, changelog_time, own_certificates, require
from buildtool.images.rootfs_tar import RootfsTar

_POLL = 0.2
_GRACE = 20.0
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


def require_tools() -> None:
    """Raises Unavailable when a host package is missing."""
    require("mmdebstrap", "mmdebstrap")
    if os.geteuid() != 0:
        require("newuidmap", "uidmap")


def make_debian(
    directory: Path, suite: str, *, include: Sequence[str], host_ca: bool, say: Say, cancel: Cancel
) -> Rootfs:
    """See bootstrap_rootfs."""
    raw = directory / "mmdebstrap.tar"
    options = host_options()
    command = _command(directory, suite, include, options, host_ca)
    _run(command, raw, say, cancel, release_time(suite) or int(time.time()) // 86400 * 86400)
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


def _command(directory: Path, suite: str, include: Sequence[str], options: Sequence[str], host_ca: bool) -> list[str]:
    mode = "root" if os.geteuid() == 0 else "unshare"
    command = ["mmdebstrap", "--variant=minbase", f"--mode={mode}", "--format=tar"]
    command += [f"--aptopt={option}" for option in options]
    command += [f"--include={package}" for package in include]
    if host_ca and own_certificates():
        copy = f"copy-in {CA_DIRECTORY} {CA_DIRECTORY.parent}"
        command += [f"--customize-hook={copy}", f"--customize-hook={_CA_HOOK}"]
    command += [suite, "-"]
    sources = host_sources(suite)
    if sources:
        path = directory / _SOURCES
        path.write_text(sources)
        command.append(str(path))
    return command


def _run(command: Sequence[str], target: Path, say: Say, cancel: Cancel, epoch: int) -> None:
    """Run mmdebstrap, its tar into the target; its words go to `say`. Ends it when cancelled."""
    environment = {
        **os.environ,
        "LC_ALL": "C.UTF-8",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "SOURCE_DATE_EPOCH": str(epoch),
    }
    with target.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdout=output,
            stderr=subprocess.PIPE,
            stdin=subprocess.DEVNULL,
            env=environment,
            start_new_session=True,
        )
    last: list[str] = []
    try:
        assert process.stderr is not None
        for line in _lines(process.stderr, cancel):
            say(line)
            last = [*last[-7:], line]
        if not cancel.wanted:
            process.wait()
    finally:
        _end(process)
    if cancel.wanted:
        raise cancelled()
    if process.returncode != 0:
        errors = [line for line in last if line.startswith("E:")] or last
        raise BuildtoolError(
            f"mmdebstrap failed: {' / '.join(errors)}",
            hint="check the suite's and the packages' names, and that apt-get update works on this machine",
        )


def _lines(pipe: IO[bytes], cancel: Cancel) -> Iterator[str]:
    """Lines of a pipe as they come, carriage returns ending lines too; ends early when cancelled."""
    rest = b""
    while not cancel.wanted:
        if not select.select([pipe], [], [], _POLL)[0]:
            continue
        data = os.read(pipe.fileno(), 65536)
        if not data:
            break
        *lines, rest = re.split(rb"[\r\n]+", rest + data)
        yield from (line.decode(errors="replace") for line in lines if line)
    if rest:
        yield rest.decode(errors="replace")


def _end(process: subprocess.Popen[bytes]) -> None:
    """Make sure that the tool and all it started are gone."""
    if process.poll() is None:
        _signal(process, signal.SIGTERM)
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            _signal(process, signal.SIGKILL)
            process.wait()
    if process.stderr is not None:
        process.stderr.close()


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    try:
        os.killpg(process.pid, number)
    except ProcessLookupError:
        pass


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
