"""The same Buildfile, context and base give the same image, bit for bit, from empty stores."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox
from tests.e2e.test_rootless_networks import PlainDaemon

BUILDFILE = """\
FROM busybox AS tools
RUN mkdir -p /out/b /out/a && echo tool > /out/a/tool && ln -s a/tool /out/link && chmod 4755 /out/a/tool
FROM busybox
LABEL one=1 two=2
WORKDIR /srv
COPY . .
COPY --from=tools --chown=nobody /out /out
RUN echo someone:x:5:5::/:/bin/sh >> /etc/passwd && rm /srv/sub/file && touch /srv/made
ENV A=b
EXPOSE 80
CMD ["ls"]
"""


def test_two_empty_stores_build_the_same_image(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "Buildfile").write_text(BUILDFILE)
    (context / "sub" / "file").write_text("content")

    images, archives = [], []
    for turn in range(2):
        for path in context.rglob("*"):
            os.utime(path, (time.time() + turn * 1000, time.time() + turn * 1000))
        daemon = make_daemon()
        load_busybox(daemon)
        cli = Program(BUILDTOOL, daemon.environment)
        images.append(cli("build", "-q", "-t", "twice", str(context)).stdout.strip())
        archive = tmp_path / f"{turn}.tar"
        cli("save", "-o", str(archive), "twice")
        archives.append(archive.read_bytes())
        daemon.close()
        time.sleep(1.1)

    assert images[0] == images[1]
    assert archives[0] == archives[1]


def test_what_differs_between_two_images_is_told_to_the_byte(
    cli: Program, busybox_image: str, tmp_path: Path, unique: str
) -> None:
    for number in (1, 2):
        (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nENV A={number}\nRUN echo same{number}same > /f\n")
        cli("build", "-q", "--network=none", "-t", f"{unique}:{number}", tmp_path)
    told = cli("image", "diff", f"{unique}:1", f"{unique}:2", check=False)
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    assert "config config.Env[1]: A=1 -> A=2" in lines
    assert any(line.startswith("layer 2: RUN ") for line in lines)
    assert lines[-1] == "    bytes 4-4: 31 -> 32"
    assert cli("image", "diff", f"{unique}:1", f"{unique}:1").stdout.startswith("both are sha256:")
    missing = cli("image", "diff", f"{unique}:1", f"{unique}:9", check=False)
    assert "No such image" in missing.stderr
    cli("rmi", f"{unique}:1", f"{unique}:2")


def test_a_build_that_is_not_reproducible_is_told_with_the_reason(
    cli: Program, busybox_image: str, tmp_path: Path, unique: str
) -> None:
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo 1 > /f\n")
    done = cli("build", "--network=none", "--verify-reproducible", "-t", f"{unique}:1", tmp_path)
    assert "reproducible: both builds made sha256:" in done.stderr
    before = cli("images", "-aq").stdout
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN cat /proc/sys/kernel/random/uuid > /f\n")
    done = cli("build", "--network=none", "--verify-reproducible", "-t", f"{unique}:1", tmp_path, check=False)
    assert done.returncode == 1
    assert "  f content: " in done.stderr and "not reproducible: the second build made" in done.stderr
    assert len(cli("images", "-aq").stdout.split()) <= len(before.split()) + 1
    refused = cli("build", "--verify-reproducible", "-", input="FROM scratch\n", check=False)
    assert "reads everything twice" in refused.stderr
    cli("rmi", f"{unique}:1")


class Elsewhere(PlainDaemon):
    """The daemon of a plain user without subordinate ids, on a machine with another name and umask."""

    def __init__(self) -> None:
        super().__init__("none")

    def command(self) -> list[str]:
        words = 'hostname elsewhere && umask 077 && exec "$@"'
        return ["unshare", "--uts", "--", "sh", "-c", words, "sh", *super().command()]


def _git(directory: Path, *words: str) -> None:
    quiet = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    times = {"GIT_AUTHOR_DATE": "@1750000000 +0000", "GIT_COMMITTER_DATE": "@1750000000 +0000"}
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    subprocess.run(command, cwd=directory, check=True, capture_output=True, env={**os.environ, **quiet, **times})


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.skipif(not Path("/dev/net/tun").exists(), reason="the kernel has no tun device")
def test_two_machines_build_the_same_image(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Two clones of a repository: other paths, umasks, host names, times and users; one of them is sent as a tar."""
    first, second = tmp_path / "work", tmp_path / "another" / "place" / "far" / "away"
    (first / "src").mkdir(parents=True)
    run = "RUN --network=none hostname > /name; umask > /umask; id -u > /id; touch /made; mkdir /d"
    (first / "Buildfile").write_text(f"FROM busybox\nWORKDIR /srv\nCOPY . .\n{run}\nLABEL a=b\n")
    (first / "src" / "tool").write_text("#!/bin/sh\n")
    (first / "src" / "tool").chmod(0o755)
    (first / ".dockerignore").write_text(".git\n")
    _git(first, "init", "-q")
    _git(first, "add", ".")
    _git(first, "commit", "-qm", "x")
    second.parent.mkdir(parents=True)
    _git(tmp_path, "-c", "core.sharedRepository=0600", "clone", "-q", str(first), str(second))
    for path in (second, *second.rglob("*")):
        if ".git" not in path.parts:
            path.chmod(0o700 if path.is_dir() or (os.access(path, os.X_OK) and path.name == "tool") else 0o600)
            os.utime(path, (1_600_000_000, 1_600_000_000))

    found = []
    here, elsewhere = make_daemon(), Elsewhere()
    try:
        elsewhere.start()
        for daemon, context in ((here, first), (elsewhere, second)):
            cli = Program(BUILDTOOL, daemon.environment)
            if daemon is here:
                load_busybox(daemon)
                cli("save", "-o", str(tmp_path / "base.tar"), "busybox")
            else:
                cli("load", "-i", str(tmp_path / "base.tar"))
            cli("build", "-q", "--context-mode", "git", "--sbom=true", "-t", "twice", str(context))
            (image,) = json.loads(cli("image", "inspect", "twice").stdout)
            archive = tmp_path / f"{len(found)}.tar"
            cli("save", "-o", str(archive), "twice")
            found.append((image["Id"], image["Created"], archive.read_bytes()))
            time.sleep(1.1)
        cli = Program(BUILDTOOL, here.environment)
        cli("load", "-i", str(tmp_path / "1.tar"))
        difference = cli("image", "diff", found[0][0], found[1][0], check=False).stdout
    finally:
        elsewhere.close()
        here.close()

    assert found[0][:2] == found[1][:2], difference
    assert found[0][1] == "2025-06-15T15:06:40Z"
    assert found[0][2] == found[1][2]
    shutil.rmtree(second)


WAYS: dict[str, tuple[list[str], dict[str, str]]] = {
    "own daemon": ([], {}),
    "one processor": (["taskset", "-c", "0"], {"PYTHONHASHSEED": "1"}),
    "another time zone, locale and umask": (
        ["sh", "-c", 'umask 027 && exec "$@"', "sh"],
        {"TZ": "Pacific/Kiritimati", "LC_ALL": "POSIX", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"},
    ),
    "another host name": (["unshare", "--uts", "--", "sh", "-c", 'hostname other && exec "$@"', "sh"], {}),
    "chroot only": (["setpriv", "--bounding-set", "-sys_admin", "--"], {}),
}
STEPS = """\
FROM scratch
COPY busybox /bin/
COPY busybox /bin/sh
WORKDIR /srv
COPY --chown=5:6 src src
COPY src/[bz]* /some/
ADD packed.tar /packed/
RUN ["/bin/busybox", "sh", "-c", "busybox find /srv /packed | busybox sort > /made; busybox rm -r /some/b"]
RUN ["/bin/busybox", "sh", "-c", "echo $TZ $LC_ALL $HOME $PATH > /env; busybox umask > /umask; busybox ln -s x /y"]
"""


def _context(folder: Path, names: list[str]) -> None:
    """The same files, made in this order: on a tmpfs they are listed so."""
    (folder / "src").mkdir(parents=True)
    shutil.copy("/bin/busybox", folder / "busybox")
    (folder / "Buildfile").write_text(STEPS)
    for name in names:
        (folder / "src" / name).write_text(name)
    with tarfile.open(folder / "packed.tar", "w") as tar:
        for name in sorted(names):
            tar.addfile(tarfile.TarInfo(f"d/{name}"))


@pytest.mark.skipif(os.geteuid() != 0 or not Path("/dev/shm").is_dir(), reason="needs root and a tmpfs")
@pytest.mark.skipif(not Path("/bin/busybox").exists(), reason="needs a static busybox")
def test_nothing_of_the_machine_gets_into_an_image(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    """Daemon or none, container or chroot, processors, time zone, locale, umask, host name, order of files."""
    names = [*"abcxyz", "Ärger", "i", "I", "ı"]
    forth = Path(tempfile.mkdtemp(prefix="bt-test-", dir="/dev/shm"))
    back = Path(tempfile.mkdtemp(prefix="bt-test-", dir="/dev/shm"))
    try:
        _context(forth / "context", names)
        _context(back / "here", names[::-1])
        digests: dict[str, str] = {}
        daemon = make_daemon()
        for way, (before, more) in {"daemon": ([], daemon.environment), **WAYS}.items():
            root = tmp_path / f"root {len(digests)}"
            environment = {**os.environ, "BUILDTOOL_ROOT": str(root), **more}
            alone = [] if way == "daemon" else ["--no-daemon"]
            for name in ("BUILDTOOL_HOST", "DOCKER_HOST", "DOCKER_CONTEXT") if alone else ():
                environment.pop(name, None)
            context = back / "here" if len(digests) % 2 else forth / "context"
            output = f"type=oci,dest={tmp_path / 'out.tar'}"
            command = [*before, BUILDTOOL, "build", *alone, "-o", output, str(context)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, f"{way}: {done.stderr}"
            assert ("isolated by chroot only" in done.stderr) == (way == "chroot only")
            digests[way] = hashlib.sha256((tmp_path / "out.tar").read_bytes()).hexdigest()
    finally:
        shutil.rmtree(forth)
        shutil.rmtree(back)
    assert set(digests.values()) == {digests["daemon"]}, digests
