"""Builds that leave no daemon behind, also where neither mounts nor namespaces are allowed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL
from tests.rootless import ALONE

pytestmark = pytest.mark.skipif(not Path("/bin/busybox").exists(), reason="needs a static busybox")
_LAUNCH = f"""{ALONE}
from buildtool.runtime import seccomp
from buildtool.runtime.capabilities import DEFAULT
sc.seccomp_filter(seccomp.assemble(seccomp.default_filter(DEFAULT)))
become(int(sys.argv[1]))
os.execvp(sys.argv[2], sys.argv[2:])
"""
"""A user in a container of Docker's: its filter lets nobody without CAP_SYS_ADMIN make namespaces."""
_UID = 12347
TEXT = """\
FROM scratch
COPY busybox /bin/
COPY busybox /bin/sh
RUN ["/bin/busybox", "sh", "-c", "echo made > /made && busybox rm /bin/sh"]
"""


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    shutil.copy("/bin/busybox", context / "busybox")
    (context / "Buildfile").write_text(TEXT)
    return context


@pytest.fixture
def root() -> Iterator[Path]:
    path = Path(tempfile.mkdtemp(prefix="bt-test-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def build(root: Path, context: Path, *flags: str, before: tuple[str, ...] = ()) -> subprocess.CompletedProcess[str]:
    unwanted = ("BUILDTOOL_HOST", "DOCKER_HOST", "DOCKER_CONTEXT")
    environment = {name: value for name, value in os.environ.items() if name not in unwanted}
    environment |= {"BUILDTOOL_ROOT": str(root), "TMPDIR": str(root)}
    command = [*before, BUILDTOOL, "build", "--no-daemon", *flags, str(context)]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def left(root: Path) -> list[str]:
    """Processes that were started for this data root."""
    found = []
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            line = Path("/proc", pid, "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(root) in line:
            found.append(line)
    return found


def test_a_daemon_of_its_own_ends_with_the_build(root: Path, context: Path, tmp_path: Path) -> None:
    done = build(root, context, "-q", "--network=none", "-o", f"type=tar,dest={tmp_path}/out.tar")
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert {"made", "bin/busybox"} <= {name.removeprefix("./") for name in archive.getnames()}
    assert left(root) == [] and not list(root.glob("buildtool-*"))

    (context / "Buildfile").write_text("FROM scratch\nCOPY nothing /\n")
    failed = build(root, context)
    assert failed.returncode == 1 and "no such file" in failed.stderr
    assert left(root) == [] and not list(root.glob("buildtool-*"))


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_a_container_without_the_power_to_mount(root: Path, context: Path, tmp_path: Path) -> None:
    plain = ("setpriv", "--bounding-set", "-sys_admin", "--")
    done = build(root, context, "-o", f"type=tar,dest={tmp_path}/out.tar", before=plain)
    assert done.returncode == 0, done.stderr
    assert "isolated by chroot only" in done.stderr
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert "made" in names and "bin/sh" not in names
    assert left(root) == []


@pytest.fixture
def overlay(root: Path) -> Iterator[Path]:
    """A directory on an overlay, as the root file system of a container is one."""
    for name in ("lower", "upper", "work", "merged"):
        (root / name).mkdir()
    options = f"lowerdir={root}/lower,upperdir={root}/upper,workdir={root}/work"
    subprocess.run(["mount", "-t", "overlay", "-o", options, "none", str(root / "merged")], check=True)
    yield root / "merged"
    subprocess.run(["umount", str(root / "merged")], check=True)


@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="needs root and setpriv")
def test_what_is_deleted_in_a_container_is_gone(overlay: Path, context: Path, tmp_path: Path) -> None:
    """An overlay takes no whiteouts: those of steps, and of a base image, have to be kept otherwise."""
    step = (
        'RUN ["/bin/busybox", "sh", "-c", "busybox rm /bin/sh; busybox rm -r /d; busybox mkdir /d; echo 1 > /d/new"]'
    )
    (context / "Buildfile").write_text(
        f"FROM scratch\nCOPY busybox /bin/\nCOPY busybox /bin/sh\nCOPY a /d/\n{step}\n"
    )
    (context / "a").write_text("a")
    plain = ("setpriv", "--bounding-set", "-sys_admin", "--")
    layout = tmp_path / "layout"
    done = build(overlay, context, "-o", f"type=oci,dest={layout},tar=false", "-t", "gone:1", before=plain)
    assert done.returncode == 0, done.stderr
    (context / "Buildfile").write_text('FROM base\nRUN ["/bin/busybox", "touch", "/more"]\nCOPY a /e\n')
    again = (f"--build-context=base=oci-layout://{layout}:1", "-o", f"type=tar,dest={tmp_path}/out.tar")
    done = build(overlay, context, *again, before=plain)
    assert done.returncode == 0, done.stderr
    with tarfile.open(tmp_path / "out.tar") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert {"d/new", "more", "e"} <= names and not {"bin/sh", "d/a"} & names


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
@pytest.mark.parametrize("user", ["root", "plain"])
def test_a_data_root_on_an_overlay_has_chroot(overlay: Path, context: Path, user: str) -> None:
    """A container that may make namespaces, with its data in its own file system: none is mounted on an overlay."""
    context = Path(shutil.copytree(context, overlay / "context"))
    if user == "plain":
        os.chown(overlay, _UID, _UID)
        overlay.parent.chmod(0o755)
    script = f"{ALONE}become(int(sys.argv[1]))\nos.execvp(sys.argv[2], sys.argv[2:])\n"
    before = () if user == "root" else (sys.executable, "-c", script, str(_UID))
    done = build(overlay, context, "-o", f"type=tar,dest={overlay}/out.tar", before=before)
    assert done.returncode == 0, done.stderr
    assert "isolated by chroot only" in done.stderr
    with tarfile.open(overlay / "out.tar") as archive:
        names = {name.removeprefix("./") for name in archive.getnames()}
    assert "made" in names and "bin/sh" not in names


def test_another_daemon_is_not_for_it(root: Path, context: Path) -> None:
    environment = {**os.environ, "BUILDTOOL_HOST": "tcp://127.0.0.1:1"}
    command = [BUILDTOOL, "build", "--no-daemon", str(context)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode != 0 and "--no-daemon starts a daemon of its own" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user needs root")
def test_a_plain_user_without_namespaces_copies_files(root: Path, context: Path, tmp_path: Path) -> None:
    """The user of a plain container. RUN is refused before anything is done; the image is the one that root makes."""
    context = Path(shutil.copytree(context, root / "context"))  # pytest's own folders are root's alone
    os.chown(root, _UID, _UID)
    plain = (sys.executable, "-c", _LAUNCH, str(_UID))
    refused = build(root, context, before=plain)
    assert refused.returncode == 1
    assert "Buildfile:4:1: RUN cannot be executed: a plain user can make no user namespaces here" in refused.stderr

    (context / "Buildfile").write_text(
        "FROM scratch\nCOPY busybox /bin/\nCOPY --chmod=4750 busybox /d/\nWORKDIR /srv\n"
    )
    done = build(root, context, "-t", "a:1", "-o", f"type=oci,dest={root}/out.tar", before=plain)
    assert done.returncode == 0, done.stderr
    assert "RUN steps cannot be executed, and every file of the image belongs to root" in done.stderr
    again = build(tmp_path / "root", context, "-t", "a:1", "-o", f"type=oci,dest={tmp_path}/out.tar")
    assert again.returncode == 0, again.stderr
    assert (root / "out.tar").read_bytes() == (tmp_path / "out.tar").read_bytes()
    (context / "Buildfile").write_text("FROM base\nCOPY Buildfile /d/\n")
    layout = root / "layout"
    layout.mkdir()
    with tarfile.open(root / "out.tar") as archive:
        archive.extractall(layout, filter="fully_trusted")
    more = (f"--build-context=base=oci-layout://{layout}:1", "-o", f"type=tar,dest={root}/more.tar")
    done = build(root, context, *more, before=plain)
    assert done.returncode == 0, done.stderr
    with tarfile.open(root / "more.tar") as archive:
        entries = {entry.name.removeprefix("./").rstrip("/"): entry for entry in archive}
    assert {(entry.uid, entry.gid) for entry in entries.values()} == {(0, 0)}
    assert entries["d/busybox"].mode == 0o4750 and "d/Buildfile" in entries
    assert left(root) == []
