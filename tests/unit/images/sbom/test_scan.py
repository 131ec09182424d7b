"""Packages are found in every database that images have."""

from __future__ import annotations

import gzip
import json
import shutil
import sqlite3
import subprocess
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildtool.cache.trees import Tree
from buildtool.images.sbom import Bill, scan
from tests.unit.images.sbom.binaries import elf, go_build_info, ndb, rpm_header

ALPHA = rpm_header({1000: "alpha", 1001: "1.2", 1002: "3", 1003: 2, 1014: "MIT", 1022: "noarch", 1044: "a.src.rpm"})
KEY = rpm_header({1000: "gpg-pubkey", 1001: "1", 1002: "1"})
ALPHA_URL = "pkg:rpm/fedora/alpha@1.2-3?arch=noarch&distro=fedora-41&epoch=2"


def scanned(root: Path, files: dict[str, str | bytes], executable: bool = False) -> Bill:
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        path.chmod(0o755 if executable else 0o644)
    return scan(Tree([root]))


def urls(bill: Bill) -> list[str]:
    return [package.purl for package in bill.packages]


def test_dpkg_lists_what_has_files(tmp_path: Path) -> None:
    status = """\
Package: base-files
Status: install ok installed
Maintainer: Someone <someone@debian.org>
Architecture: amd64
Source: base (1.0)
Version: 1:12.4+deb12u5
Description: files
 that everybody needs

Package: gone
Status: deinstall ok config-files
Version: 1

Package: half
Status: install ok unpacked
Architecture: all
Version: 2~rc1
"""
    bill = scanned(
        tmp_path,
        {
            "var/lib/dpkg/status": status,
            "var/lib/dpkg/status.d/tzdata": "Package: tzdata\nVersion: 2024a\nArchitecture: all\n",
            "var/lib/dpkg/status.d/tzdata.md5sums": "0 a\n",
            "etc/os-release": 'ID=debian\nVERSION_ID="12"\nPRETTY_NAME="Debian 12"\n',
            "usr/share/doc/base-files/copyright": (
                "Format: https://www.debian.org/doc/packaging-manuals/copyright-format/1.0/\n\n"
                "Files: *\nLicense: GPL-2+ and Expat\n text\n"
            ),
        },
    )

    assert urls(bill) == [
        "pkg:deb/debian/base-files@1:12.4%2Bdeb12u5?arch=amd64&distro=debian-12",
        "pkg:deb/debian/half@2~rc1?arch=all&distro=debian-12",
        "pkg:deb/debian/tzdata@2024a?arch=all&distro=debian-12",
    ]
    first = bill.packages[0]
    assert (first.licenses, first.source) == (("Expat", "GPL-2+"), "base 1.0")
    assert bill.distribution.name == "Debian 12" and not bill.faults


@pytest.mark.skipif(shutil.which("dpkg-query") is None, reason="needs dpkg")
def test_dpkg_agrees_with_dpkg_query(tmp_path: Path) -> None:
    """This machine's own database, read by both."""
    asked = subprocess.run(
        ["dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version} ${Architecture}\n"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout.splitlines()
    wanted = {line.partition(" ")[2] for line in asked if not line.startswith(("not-installed", "config-files"))}

    bill = scanned(tmp_path, {"var/lib/dpkg/status": Path("/var/lib/dpkg/status").read_bytes()})

    assert {f"{each.name} {each.version} {dict(each.qualifiers)['arch']}" for each in bill.packages} == wanted


def test_apk(tmp_path: Path) -> None:
    installed = "C:Q1abc=\nP:musl\nV:1.2.5-r0\nA:x86_64\nL:MIT\no:musl\nF:lib\nR:libc.so\n"
    installed += "\nP:musl-utils\nV:1.2.5-r0\no:musl\n"
    bill = scanned(tmp_path, {"lib/apk/db/installed": installed, "etc/os-release": "ID=alpine\nVERSION_ID=3.20.1\n"})
    assert urls(bill) == [
        "pkg:apk/alpine/musl-utils@1.2.5-r0?distro=alpine-3.20.1",
        "pkg:apk/alpine/musl@1.2.5-r0?arch=x86_64&distro=alpine-3.20.1",
    ]
    assert bill.packages[0].source == "musl 1.2.5-r0"


FEDORA = "ID=fedora\nVERSION_ID=41\n"


def test_rpm_in_sqlite(tmp_path: Path) -> None:
    (tmp_path / "var/lib").mkdir(parents=True)
    (tmp_path / "usr/lib/sysimage/rpm").mkdir(parents=True)
    (tmp_path / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    with sqlite3.connect(tmp_path / "usr/lib/sysimage/rpm/rpmdb.sqlite") as database:
        database.execute("CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB NOT NULL)")
        database.executemany("INSERT INTO Packages (blob) VALUES (?)", [(ALPHA,), (KEY,)])
    database.close()
    assert urls(scanned(tmp_path, {"etc/os-release": FEDORA})) == [ALPHA_URL]


def test_rpm_in_ndb(tmp_path: Path) -> None:
    files = {"usr/lib/sysimage/rpm/Packages.db": ndb([KEY, ALPHA]), "etc/os-release": FEDORA}
    assert urls(scanned(tmp_path, files)) == [ALPHA_URL]


def test_rpm_in_a_berkeley_db_hash(tmp_path: Path) -> None:
    """A file that db_load(1) made of two headers of rpmbuild's."""
    hash = gzip.decompress((Path(__file__).parent / "Packages.bdb.gz").read_bytes())
    bill = scanned(tmp_path, {"var/lib/rpm/Packages": hash})
    assert [(each.name, each.version, each.licenses) for each in bill.packages] == [
        ("alpha", "1.2-3", ("GPLv2+ and MIT",)),
        ("beta", "1.2-3", ("Apache-2.0",)),
    ]


def test_python_and_npm(tmp_path: Path) -> None:
    metadata = "Metadata-Version: 2.4\nName: Zope.Interface\nVersion: 6.1\nLicense-Expression: ZPL-2.1\n\nLong text\n"
    bill = scanned(
        tmp_path,
        {
            "usr/lib/python3/dist-packages/zope.interface-6.1.dist-info/METADATA": metadata,
            "usr/lib/python3/dist-packages/old.egg-info": "Name: old\nVersion: 1\nLicense: UNKNOWN\n",
            "opt/one-2.0-py3.11.egg/EGG-INFO/PKG-INFO": "Metadata-Version: 1.2\nName: one\nVersion: 2.0\n",
            "app/node_modules/@types/node/package.json": json.dumps(
                {"name": "@types/node", "version": "20.1.0", "license": "MIT"}
            ),
            "app/node_modules/a/package.json": '{"name": "a", "version": "1.0.0", "licenses": [{"type": "ISC"}]}',
            "app/node_modules/a/lib/package.json": '{"type": "module"}',
            "app/package.json": '{"name": "app", "version": "0.0.1"}',
            "app/node_modules/broken/package.json": "{",
        },
    )
    assert urls(bill) == [
        "pkg:npm/%40types/node@20.1.0",
        "pkg:npm/a@1.0.0",
        "pkg:pypi/old@1",
        "pkg:pypi/one@2.0",
        "pkg:pypi/zope-interface@6.1",
    ]
    assert bill.packages[1].licenses == ("ISC",)
    assert len(bill.faults) == 1 and bill.faults[0].startswith("/app/node_modules/broken/package.json: ")


LOCK_3 = {
    "lockfileVersion": 3,
    "packages": {
        "": {"name": "app", "version": "0.0.1"},
        "node_modules/@a/b": {"version": "1.0.0", "license": "ISC"},
        "node_modules/@a/b/node_modules/c": {"version": "2.0.0", "devOptional": True},
        "node_modules/alias": {"name": "real", "version": "3.0.0"},
        "node_modules/tests": {"version": "4.0.0", "dev": True},
        "node_modules/own": {"resolved": "packages/own", "link": True},
        "packages/own": {"version": "5.0.0"},
    },
}
LOCK_1 = {
    "lockfileVersion": 1,
    "dependencies": {
        "@a/b": {"version": "1.0.0", "dependencies": {"c": {"version": "2.0.0"}}},
        "tests": {"version": "4.0.0", "dev": True},
        "alias": {"version": "npm:real@3.0.0"},
        "odd": [],
    },
}


@pytest.mark.parametrize("lock", [LOCK_3, LOCK_1])
def test_a_lock_file_of_npm_where_nothing_is_installed(tmp_path: Path, lock: dict[str, object]) -> None:
    """Bundled programs keep no node_modules; where there is one, it tells what is there."""
    text = json.dumps(lock)
    bill = scanned(tmp_path / "one", {"app/package-lock.json": text, "lib/node_modules/x/package-lock.json": text})
    assert urls(bill) == ["pkg:npm/%40a/b@1.0.0", "pkg:npm/c@2.0.0", "pkg:npm/real@3.0.0"]
    installed = {"app/package-lock.json": text, "app/node_modules/x/package.json": '{"name": "x", "version": "1"}'}
    assert urls(scanned(tmp_path / "two", installed)) == ["pkg:npm/x@1"]


TABLE = (
    "path\tcommand-line-arguments\nmod\texample.com/app\t(devel)\t\n"
    "dep\tgolang.org/x/sys\tv0.1.0\th1:abc=\ndep\tgithub.com/a/b\tv1.0.0\n=>\tgithub.com/c/b\tv1.0.1\th1:x=\nbuild\t-compiler=gc\n"
)
MODULES = ["pkg:golang/github.com/c/b@v1.0.1", "pkg:golang/golang.org/x/sys@v0.1.0", "pkg:golang/stdlib@1.22.1"]


def test_go_programs(tmp_path: Path) -> None:
    program = elf({".go.buildinfo": go_build_info("go1.22.1", TABLE), ".text": bytes(2000)})
    assert urls(scanned(tmp_path, {"usr/bin/app": program}, executable=True)) == MODULES


def test_go_programs_of_old_name_their_strings_by_address(tmp_path: Path) -> None:
    framed = bytes(16) + TABLE.encode() + bytes(16)
    version, address = b"go1.22.1", 0x400000
    data = (address + 32).to_bytes(8, "little") + len(version).to_bytes(8, "little")
    data += (address + 40).to_bytes(8, "little") + len(framed).to_bytes(8, "little") + version + framed
    info = b"\xff Go buildinf:\x08\x00" + address.to_bytes(8, "little") + (address + 16).to_bytes(8, "little")
    program = elf({".go.buildinfo": info, ".text": bytes(2000)}, segment=(address, data))
    assert urls(scanned(tmp_path, {"usr/bin/app": program}, executable=True)) == MODULES


def test_crates(tmp_path: Path) -> None:
    audit = {"packages": [{"name": "serde", "version": "1.0.1"}, {"name": "cc", "version": "1.0", "kind": "build"}]}
    program = elf({".dep-v0": zlib.compress(json.dumps(audit).encode()), ".text": bytes(2000)})
    assert urls(scanned(tmp_path, {"usr/bin/app": program}, executable=True)) == ["pkg:cargo/serde@1.0.1"]
    bill = scanned(
        tmp_path / "two",
        {
            "src/Cargo.lock": 'version = 3\n[[package]]\nname = "libc"\nversion = "0.2.1"\n',
            "root/.cargo/.crates2.json": '{"installs": {"ripgrep 14.1.0 (registry+https://x)": {}}}',
        },
    )
    assert urls(bill) == ["pkg:cargo/libc@0.2.1", "pkg:cargo/ripgrep@14.1.0"]


def test_nothing_outside_the_tree_is_read(tmp_path: Path) -> None:
    (tmp_path / "var/lib/dpkg").mkdir(parents=True)
    (tmp_path / "var/lib/dpkg/status").symlink_to("/../../../../var/lib/dpkg/status")
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/os-release").symlink_to("os-release")
    assert urls(scan(Tree([tmp_path]))) == []


@settings(max_examples=50)
@given(st.binary(max_size=400), st.sampled_from(["Packages", "Packages.db", "rpmdb.sqlite"]), st.booleans())
def test_a_damaged_database_is_told_of_and_ends_nothing(
    tmp_path_factory: pytest.TempPathFactory, noise: bytes, name: str, grown: bool
) -> None:
    root = tmp_path_factory.mktemp("damaged")
    whole = gzip.decompress((Path(__file__).parent / "Packages.bdb.gz").read_bytes())
    content = {"Packages": whole, "Packages.db": ndb([ALPHA]), "rpmdb.sqlite": b""}[name]
    place = len(noise) % max(len(content), 1)
    damaged = content[:place] + noise + (content[place + len(noise) :] if grown else b"")
    program = elf({".go.buildinfo": go_build_info("go1.22.1", TABLE) + noise, ".dep-v0": noise})
    bill = scanned(root, {f"var/lib/rpm/{name}": damaged, "etc/os-release": noise})
    assert isinstance(bill, Bill)
    scanned(root, {"bin/a": (program[: 64 + len(noise)] + noise).ljust(2000, b"\0")}, executable=True)
    shutil.rmtree(root)
