"""Programs for another processor: base images of its packages, and RUN through an emulator that the kernel knows."""

from __future__ import annotations

import fcntl
import os
import shutil
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildtool.oci import host_platform, parse_platform
from buildtool.runtime.emulation import BINFMT, runs_here
from tests.conftest import Program

pytestmark = pytest.mark.xdist_group("binfmt")

MAGIC = r"\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"


def tell_machine() -> bytes:
    """An arm64 program (ELF) that writes the machine's name, as uname tells it, to /machine."""
    code = [
        0xD10803FF,  # sub sp, sp, #512
        0x910003E0,  # mov x0, sp
        0xD2801408,  # mov x8, #160 (uname)
        0xD4000001,  # svc #0
        0x92800C60,  # mov x0, #-100 (AT_FDCWD)
        0x10000181,  # adr x1, path (12 instructions on)
        0xD2804822,  # mov x2, #577 (O_WRONLY|O_CREAT|O_TRUNC)
        0xD2803483,  # mov x3, #0644
        0xD2800708,  # mov x8, #56 (openat)
        0xD4000001,  # svc #0
        0x910413E1,  # add x1, sp, #260 (machine)
        0xD28000E2,  # mov x2, #7
        0xD2800808,  # mov x8, #64 (write)
        0xD4000001,  # svc #0
        0xD2800000,  # mov x0, #0
        0xD2800BA8,  # mov x8, #93 (exit)
        0xD4000001,  # svc #0
    ]
    text = struct.pack(f"<{len(code)}I", *code) + b"/machine\0"
    base, start = 0x400000, 64 + 56
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    header += struct.pack("<HHIQQQIHHHHHH", 2, 183, 1, base + start, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = start + len(text)
    return header + struct.pack("<IIQQQQQQ", 1, 5, 0, base, base, size, size, 0x1000) + text


@pytest.fixture(scope="module")
def emulator() -> Iterator[None]:
    """The kernel executes arm64 programs while this lasts."""
    if host_platform().architecture == "arm64":
        pytest.skip("this machine's own programs are for arm64")
    if os.geteuid() != 0:
        pytest.skip("only root can register an emulator")
    program = shutil.which("qemu-aarch64-static")
    if program is None:
        pytest.skip("qemu-user-static is not installed")
    with open(program, "rb") as lock:  # one worker at a time
        fcntl.flock(lock, fcntl.LOCK_EX)
        mounted = not (BINFMT / "status").exists()
        if mounted and subprocess.run(["mount", "-t", "binfmt_misc", "binfmt_misc", BINFMT], check=False).returncode:
            pytest.skip("binfmt_misc cannot be mounted here")
        entry = BINFMT / f"buildtool-test-{os.getpid()}"
        try:
            # F: the emulator is opened now, so that it need not be in the images.
            (BINFMT / "register").write_text(f":{entry.name}:M::{MAGIC}:{MASK}:{program}:F")
            yield
        finally:
            if entry.exists():
                entry.write_text("-1")
            if mounted:
                subprocess.run(["umount", BINFMT], check=True)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "src"
    path.mkdir()
    (path / "tell").write_bytes(tell_machine())
    (path / "Buildfile").write_text(
        f'FROM --platform=linux/arm64 scratch\nLABEL of={tmp_path}\nCOPY --chmod=755 tell /\nRUN ["/tell"]\n'
    )
    return path


def test_a_run_is_executed_by_the_emulator(emulator: None, cli: Program, source: Path, tmp_path: Path) -> None:
    cli("build", "--network=none", "--platform=linux/arm64", "-o", tmp_path / "out", source)
    assert (tmp_path / "out/machine").read_text() == "aarch64"


def test_debian_for_a_platform_that_cannot_run_is_refused_before_anything_is_fetched(cli: Program) -> None:
    if runs_here(parse_platform("linux/s390x")):
        pytest.skip("this machine executes s390x programs")
    refused = cli("image", "bootstrap", "--platform=linux/s390x", "debian:bookworm", check=False)
    assert refused.returncode == 1
    assert "packages for linux/s390x are set up by their own programs, which nothing runs on" in refused.stderr
    assert "apt-get install qemu-user-static binfmt-support" in refused.stderr


@pytest.mark.network
def test_busybox_for_two_platforms_is_the_base_of_a_build_for_both(
    emulator: None, cli: Program, source: Path, tmp_path: Path, unique: str
) -> None:
    name = f"{unique}-busybox:1"
    cli("image", "bootstrap", "-t", name, "busybox")
    made = cli("image", "bootstrap", "-t", name, "--platform=linux/arm64", "busybox")
    assert made.stdout.startswith("sha256:")
    (source / "Buildfile").write_text(
        f"FROM {name}\nARG TARGETARCH\nRUN echo $TARGETARCH $(uname -m) > /machine && test -x /bin/vi\n"
    )
    cli("build", "--network=none", "--platform=linux/amd64,linux/arm64", "-o", tmp_path / "out", source)
    assert (tmp_path / "out/linux_arm64/machine").read_text() == "arm64 aarch64\n"
    assert (tmp_path / "out/linux_amd64/machine").read_text() == "amd64 x86_64\n"
    ran = cli("run", "--rm", "--network=none", "--platform=linux/arm64", name, "uname", "-m")
    assert ran.stdout == "aarch64\n"
    cli("rmi", name)


@pytest.mark.parametrize("base", ["busybox", "debian:bookworm"])
def test_a_platform_that_debian_has_not_is_refused(cli: Program, base: str) -> None:
    refused = cli("image", "bootstrap", "--platform=linux/wasm", base, check=False)
    assert refused.returncode == 1 and "Debian has no packages for linux/wasm" in refused.stderr
