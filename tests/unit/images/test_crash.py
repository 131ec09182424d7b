"""A process that is killed in the middle of a load: the next one finds a valid store, and gc finds the rest."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from buildtool.cache.store import Store
from buildtool.images import Images
from tests.unit.images.conftest import make_tar
from tests.unit.images.test_archives import docker_archive

_LOAD = """
import os, sys
from pathlib import Path
from buildtool.cache.store import Store
from buildtool.images import Images
images = Images(Store.open(Path(sys.argv[1])))
print("ready", flush=True)
for line in images.load(sys.stdin.buffer):
    print(line, flush=True)
    if "Loading" in str(line) and sys.argv[2] == "layer":
        os.kill(os.getpid(), 9)
"""


def _clean(root: Path) -> None:
    with Store.open(root) as store:
        images = Images(store)
        assert images.list() == []
        assert store.check() == []
        assert images.check() == []
        pins = images.pins()
        store.gc(type(pins)(pins.blobs, pins.snapshots, pins.taken + 60))
        assert list(store.blobs.list()) == []
        assert list(store.snapshots.all()) == []
        assert sorted(os.listdir(root / "ingest")) == []
        assert sorted(os.listdir(root / "snapshots")) == []


def _start(root: Path, mode: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-c", _LOAD, str(root), mode]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)


def test_killed_while_the_archive_comes_in(tmp_path: Path) -> None:
    big = make_tar({"big": os.urandom(3 << 20)})
    archive = docker_archive(big)
    process = _start(tmp_path / "root", "stream")
    assert process.stdin is not None and process.stdout is not None
    process.stdout.readline()
    process.stdin.write(archive[: 2 << 20])
    process.stdin.flush()
    ingest = tmp_path / "root/ingest"
    for _ in range(200):
        if any(path.stat().st_size for path in ingest.iterdir()):
            break
        time.sleep(0.02)
    process.kill()
    process.communicate()
    assert list(ingest.iterdir())
    _clean(tmp_path / "root")


def test_killed_between_two_layers(tmp_path: Path) -> None:
    process = _start(tmp_path / "root", "layer")
    process.communicate(docker_archive(make_tar({"a": b"a"}), make_tar({"b": b"b"})))
    assert process.returncode == -9
    _clean(tmp_path / "root")
