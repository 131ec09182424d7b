"""Base images from packages: busybox for real; Debian's pure parts here, the whole in a slow network test."""

from __future__ import annotations

import gzip
import io
import os
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest

from buildtool.errors import BuildtoolError, InvalidInput, Unavailable
from buildtool.images import Images, bootstrap_busybox, bootstrap_debian, host_packages
from buildtool.images.apt_sources import clock_options, debian_name, for_architecture, host_sources
from buildtool.images.bootstrap import Cancel, bootstrap, bootstrap_rootfs
from buildtool.images.host_packages import changelog_time
from buildtool.images.host_tools import run_tool
from buildtool.images.rootfs_tar import RootfsTar
from buildtool.oci import host_platform, parse_platform, parse_reference


def entries(tar: Path) -> dict[str, tarfile.TarInfo]:
    with tarfile.open(tar) as archive:
        return {info.name: info for info in archive}


def needs_busybox() -> None:
    if bootstrap_busybox._installed(host_platform()) is None:
        pytest.skip("busybox-static is not installed")


def test_busybox_is_a_small_system() -> None:
    needs_busybox()
    with bootstrap_rootfs("busybox") as rootfs:
        found = entries(rootfs.tar)
        assert rootfs.tag == "busybox:latest"
        assert rootfs.changes[0] == 'CMD ["sh"]'
    assert found["bin/sh"].linkname == "busybox"
    assert found["bin/busybox"].mode == 0o755
    assert found["tmp"].mode == 0o1777
    assert found["root"].mode == 0o700
    assert {"etc/passwd", "etc/group", "etc/ssl/certs", "home", "var/tmp", "usr/bin/env", "bin/ls"} <= set(found)
    assert {info.uid for info in found.values()} == {0}
    assert not rootfs.tar.exists()


def test_the_same_busybox_is_the_same_bytes() -> None:
    needs_busybox()
    data = []
    for _ in range(2):
        with bootstrap_rootfs("busybox") as rootfs:
            data.append(rootfs.tar.read_bytes())
    assert data[0] == data[1]


def test_busybox_becomes_an_image_whose_time_is_the_packages(images: Images) -> None:
    needs_busybox()
    progress = list(bootstrap(images, "busybox", tag="mine/busybox:1"))
    image = images.get("mine/busybox:1")
    assert progress[-1] == {"aux": {"ID": image.id}}
    assert {"stream": "Made mine/busybox:1\n"} in progress
    assert image.container_config.cmd == ["sh"]
    assert image.config.created is not None and image.config.created < "2100"
    root = images.store.snapshots.fs(images.snapshots(image)[0])
    assert "root:x:0:0" in (root / "etc/passwd").read_text()
    assert stat.S_IMODE((root / "tmp").stat().st_mode) == 0o1777


def test_the_machines_certificates_come_along(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs_busybox()
    (tmp_path / "mine.crt").write_text("certificate")
    (tmp_path / "bundle.crt").write_text("bundle")
    monkeypatch.setattr(host_packages, "CA_DIRECTORY", tmp_path)
    monkeypatch.setattr(bootstrap_busybox, "CA_BUNDLE", tmp_path / "bundle.crt")
    with bootstrap_rootfs("busybox", host_ca=True) as rootfs, tarfile.open(rootfs.tar) as tar:
        names = tar.getnames()
        bundle = tar.extractfile("etc/ssl/certs/ca-certificates.crt")
        assert bundle is not None and bundle.read() == b"bundle"
    assert "usr/local/share/ca-certificates/mine.crt" in names


def test_applets_are_those_the_program_tells() -> None:
    needs_busybox()
    told = subprocess.run(["/bin/busybox", "--list"], capture_output=True, text=True, check=True).stdout.split()
    assert bootstrap_busybox._applets(Path("/bin/busybox").read_bytes()) == told
    with pytest.raises(BuildtoolError, match="no table of applets"):
        bootstrap_busybox._applets(b"\x7fELF")


def test_a_name_means_what_was_made_for_each_platform(images: Images) -> None:
    needs_busybox()
    name = parse_reference("mine/base:1")
    list(bootstrap(images, "busybox", tag=str(name)))
    here = images.get("mine/base:1")
    other = images.import_tar(io.BytesIO(b"\0" * 10240), platform=parse_platform("linux/riscv64"))
    images.name_platforms(name, [other])
    assert {image.id for image in images.members("mine/base:1")} == {here.id, other.id}
    assert images.get("mine/base:1").id == here.id
    renewed = images.import_tar(
        io.BytesIO(b"\0" * 10240), platform=parse_platform("linux/riscv64"), changes=["ENV A=b"]
    )
    images.name_platforms(name, [renewed])
    assert {image.id for image in images.members("mine/base:1")} == {here.id, renewed.id}


@pytest.mark.parametrize(
    ("platform", "name"),
    [("linux/arm64", "arm64"), ("linux/arm", "armhf"), ("linux/arm/v6", "armel"), ("linux/ppc64le", "ppc64el")],
)
def test_debian_has_names_of_its_own_for_architectures(platform: str, name: str) -> None:
    assert debian_name(parse_platform(platform)) == name


def test_sources_for_another_architecture() -> None:
    sources = "Types: deb\nArchitectures: amd64\nSuites: trixie\n\nTypes: deb\nSuites: trixie-security\n"
    assert for_architecture(sources, "arm64") == (
        "Types: deb\nSuites: trixie\nArchitectures: arm64\n\n"
        "Types: deb\nSuites: trixie-security\nArchitectures: arm64\n"
    )
    assert for_architecture(sources, "") == sources.replace("Architectures: amd64\n", "")
    assert for_architecture("", "arm64") == ""


@pytest.mark.parametrize(
    ("base", "include", "message"),
    [
        ("alpine", [], "unknown base 'alpine'"),
        ("debian", [], "unknown base 'debian'"),
        ("debian:../x", [], "unknown base"),
        ("debian:--help", [], "unknown base"),
        ("debian:bookworm", ["--hook=x"], "invalid package name"),
        ("debian:bookworm", ["a,b c"], "invalid package name"),
        ("busybox", ["curl"], "busybox has no packages"),
    ],
)
def test_what_cannot_be_made_is_refused_at_once(images: Images, base: str, include: list[str], message: str) -> None:
    with pytest.raises(InvalidInput, match=message):
        bootstrap(images, base, include=include)


def test_a_missing_tool_is_named_with_its_package(images: Images, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_packages.shutil, "which", lambda *args, **more: None)
    monkeypatch.setattr(bootstrap_busybox, "_INSTALLED", ())
    with pytest.raises(Unavailable) as caught:
        bootstrap(images, "debian:bookworm")
    assert str(caught.value) == "mmdebstrap is not installed on this machine\napt-get install mmdebstrap"
    with pytest.raises(Unavailable, match="apt-get install busybox-static"):
        bootstrap(images, "busybox")


def test_a_tool_that_fails_speaks_through_the_error(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text("#!/bin/sh\necho 'I: trying' >&2\necho 'E: no such suite' >&2\nexit 25\n")
    script.chmod(0o755)
    said: list[str] = []
    with pytest.raises(BuildtoolError, match="tool failed: E: no such suite"):
        run_tool([str(script)], tmp_path / "out", said.append, Cancel(), hint="")
    assert said == ["I: trying", "E: no such suite"]


def test_a_cancelled_bootstrap_ends_its_tool(tmp_path: Path) -> None:
    script = tmp_path / "tool"
    script.write_text(f"#!/bin/sh\necho $$ > {tmp_path}/pid\necho 'I: working' >&2\nexec sleep 60\n")
    script.chmod(0o755)
    cancel = Cancel()
    with pytest.raises(BuildtoolError, match="cancelled"):
        run_tool([str(script)], tmp_path / "out", lambda line: cancel(), cancel, hint="")
    with pytest.raises(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), 0)


def test_changelogs_tell_the_time() -> None:
    text = (
        b"pkg (2) unstable; urgency=low\n\n  * Change.\n\n -- A Person <a@b.org>  Thu, 07 May 2026 20:33:45 +0000\n"
        b"pkg (1) unstable; urgency=low\n\n  * First.\n\n -- A Person <a@b.org>  Mon, 01 Jan 2001 00:00:00 +0000\n"
    )
    assert changelog_time(text) == 1778186025
    assert changelog_time(gzip.compress(text)) == 1778186025
    assert changelog_time(b"no changelog") is None
    assert changelog_time(b"\x1f\x8bbroken") is None
    assert changelog_time(b" -- x <y>  not a date\n") is None


def test_only_the_distributions_own_sources_are_taken(tmp_path: Path) -> None:
    (tmp_path / "sources.list.d").mkdir()
    (tmp_path / "sources.list").write_text(
        "# comment\ndeb [arch=amd64 signed-by=/k.gpg] http://mirror/debian trixie main contrib # tail\n"
        "deb-src http://mirror/debian trixie main\ndeb http://docker/debian trixie stable\n"
    )
    (tmp_path / "sources.list.d/debian.sources").write_text(
        "Types: deb deb-src\nURIs: http://mirror/security\nSuites: trixie-security bookworm-security\n"
        "Components: main\n"
        "Signed-By:\n -----BEGIN KEY-----\n .\n xyz\n\n"
        "Types: deb\nURIs: http://off\nSuites: trixie\nComponents: main\nEnabled: no\n"
    )
    (tmp_path / "sources.list.d/other.list.disabled").write_text("deb http://never trixie main\n")
    assert host_sources("trixie", tmp_path) == (
        "Types: deb\nURIs: http://mirror/debian\nComponents: main contrib\nArchitectures: amd64\nSigned-By: /k.gpg\n"
        "Suites: trixie\n\n"
        "Types: deb\nURIs: http://mirror/security\nComponents: main\n"
        "Signed-By: \n -----BEGIN KEY-----\n .\n xyz\nSuites: trixie-security\n"
    )
    assert host_sources("sid", tmp_path) == ""


def test_only_the_clocks_options_go_into_the_image() -> None:
    options = ['Acquire::http::Proxy "http://secret:3142"', 'Acquire::Check-Valid-Until "false"']
    assert clock_options(options) == options[1:]


def test_what_belongs_to_the_machine_is_left_out(tmp_path: Path) -> None:
    raw = tmp_path / "raw.tar"
    with tarfile.open(raw, "w", format=tarfile.PAX_FORMAT) as tar:
        for name, content in {
            "./etc/resolv.conf": b"nameserver 10.0.0.1\n",
            "./etc/hostname": b"secret\n",
            "./etc/machine-id": b"1234\n",
            "./etc/passwd-": b"old",
            "./etc/shadow": b"root:*:20000:0:99999:7:::\nlocked:!:::::::\n",
            "./var/log/dpkg.log": b"log",
            "./var/lib/apt/lists/mirror_InRelease": b"list",
            "./etc/apt/sources.list.d/0000debian.sources": b"Types: deb\n",
            "./etc/debian_version": b"12.11\n",
            "./usr/share/doc/a/changelog.Debian.gz": gzip.compress(b" -- A <a@b>  Mon, 01 Jan 2001 00:00:00 +0000\n"),
            "./bin/tool": b"x",
        }.items():
            info = tarfile.TarInfo(name)
            info.size, info.mtime, info.uname = len(content), 2_000_000_000, "me"
            info.pax_headers = {"SCHILY.xattr.security.capability": "cap", "atime": "123.5"}
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("./bin/link")
        link.type, link.linkname = tarfile.LNKTYPE, "./bin/tool"
        tar.addfile(link)
        device = tarfile.TarInfo("./dev/null")
        device.type = tarfile.CHRTYPE
        tar.addfile(device)
    target = tmp_path / "out.tar"
    with tarfile.open(raw) as source:
        epoch, version = bootstrap_debian._facts(source)
        with RootfsTar(target, epoch) as tar_out:
            bootstrap_debian._rewrite(source, tar_out, epoch)
    found = entries(target)
    assert (epoch, version) == (978307200, "12.11")
    assert set(found) == {
        "bin/link", "bin/tool", "etc/apt/sources.list.d/debian.sources", "etc/debian_version", "etc/machine-id",
        "etc/shadow", "usr/share/doc/a/changelog.Debian.gz", "var/log/dpkg.log",
    }  # fmt: skip
    assert found["etc/machine-id"].size == found["var/log/dpkg.log"].size == 0
    assert found["bin/link"].linkname == "bin/tool"
    assert {info.uname for info in found.values()} == {""}
    assert max(info.mtime for info in found.values()) == epoch
    assert found["bin/tool"].pax_headers["SCHILY.xattr.security.capability"] == "cap"
    with tarfile.open(target) as tar:
        shadow = tar.extractfile("etc/shadow")
        assert shadow is not None and shadow.read() == b"root:*:11323:0:99999:7:::\nlocked:!:::::::\n"


@pytest.mark.network
@pytest.mark.slow
def test_debian_is_a_clean_system_with_apt(images: Images) -> None:
    if host_packages.shutil.which("mmdebstrap") is None:
        pytest.skip("mmdebstrap is not installed")
    first = list(bootstrap(images, "debian:bookworm", tag="debian:one"))[-1]
    image = images.get("debian:one")
    assert first == {"aux": {"ID": image.id}}
    assert image.container_config.cmd == ["bash"]
    assert image.labels["org.opencontainers.image.version"].startswith("12")
    root = images.store.snapshots.fs(images.snapshots(image)[0])
    assert (root / "usr/bin/apt-get").exists()
    assert not (root / "etc/resolv.conf").exists()
    assert (root / "etc/apt/apt.conf.d/docker-clean").exists()
    assert sorted(os.listdir(root / "dev")) == []
