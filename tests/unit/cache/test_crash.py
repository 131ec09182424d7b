"""kill -9 at random moments: the next open finds a valid store, and gc leaves nothing behind."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from buildtool.cache import Pins, Store

WORKER = """
import io, os, sys, threading
from pathlib import Path
sys.path.insert(0, {project!r})
from buildtool.cache import Pins, Store, compress
from buildtool.oci import Descriptor, sha256
from tests.unit.cache.conftest import Tar

store = Store.open(Path({root!r}))
print("ready", flush=True)

def work(number):
    i = 0
    while True:
        i += 1
        name = f"{{os.getpid()}}-{{number}}-{{i}}"
        with store.leases.hold(name) as lease:
            tar = Tar()
            for n in range(30):
                tar.directory(f"d{{n}}").file(f"d{{n}}/f", name.encode() * 100)
            data = tar.bytes()
            blob = store.blobs.put(b"".join(compress(iter([data]), "gzip")))
            lease.blob(blob)
            snapshot = store.layers.unpack(blob, expected_diff_id=sha256(data))
            store.layers.remember_blob(sha256(data), Descriptor("x", blob, 1))
            with store.snapshots.prepare([snapshot]) as draft:
                (draft.fs / "x").write_text(name)
                os.symlink("x", draft.fs / "y")
                upper = draft.commit()
            store.layers.diff_id(upper, 0)
            store.actions.put(sha256(name.encode()), {{"snapshots": [snapshot, upper], "blobs": [blob]}})
            store.state.documents("k").put(name, {{"snapshot": upper}}, durable=i % 3 == 0)
            if i % 4 == 0:
                store.snapshots.sync()
        if i % 5 == 0:
            store.gc(Pins(), actions="all")

threads = [threading.Thread(target=work, args=(n,)) for n in range(2)]
for thread in threads:
    thread.start()
"""


@pytest.mark.parametrize("seed", range(5))
def test_a_killed_process_leaves_a_valid_store(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    project = str(Path(__file__).parents[3])
    code = WORKER.format(project=project, root=str(tmp_path / "root"))
    seen = 0
    for _ in range(3):
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as worker:
            assert worker.stdout is not None
            assert worker.stdout.readline() == b"ready\n"
            time.sleep(rng.uniform(0.0, 0.4))
            worker.send_signal(signal.SIGKILL)
        assert worker.returncode == -signal.SIGKILL
        with Store.open(tmp_path / "root") as store:
            assert store.check() == []
            assert store.leftovers() == []
            assert store.state.query("SELECT * FROM leases") == []
            for entry in store.actions.entries():
                seen += 1
                for number in entry.snapshots():
                    assert os.listdir(store.root / "snapshots" / str(number) / "fs")

    with Store.open(tmp_path / "root") as store:
        store.gc(Pins(taken=time.time() + 10), actions="all")
        assert os.listdir(store.root / "snapshots") == []
        assert os.listdir(store.root / "blobs/sha256") == []
        assert os.listdir(store.root / "ingest") == []
        assert list(store.actions) == []
        assert store.state.query("SELECT * FROM tars") == store.state.query("SELECT * FROM layer_blobs") == []
        assert store.check() == []


def test_threads_build_and_collect_at_the_same_time(store: Store) -> None:
    """What a lease protects is never taken by a gc that runs meanwhile."""
    import io
    import threading

    from tests.unit.cache.conftest import Tar

    faults: list[BaseException] = []
    done = threading.Event()

    def build(number: int) -> None:
        try:
            for i in range(15):
                with store.leases.hold("build"):
                    same = Tar().file("same").bytes()
                    common = store.layers.unpack(io.BytesIO(same))
                    own = store.layers.unpack(Tar().file(f"{number}-{i}").stream())
                    blob = store.blobs.put(b"common")
                    time.sleep(0.002)
                    assert (store.snapshots.fs(common) / "same").exists()
                    assert (store.snapshots.fs(own) / f"{number}-{i}").exists()
                    assert store.blobs.read(blob) == b"common"
                time.sleep(0.06)  # long enough for gc to take what nobody holds
        except BaseException as error:
            faults.append(error)

    def collect() -> None:
        try:
            while not done.is_set():
                store.gc(Pins(), actions="all")
        except BaseException as error:
            faults.append(error)

    builders = [threading.Thread(target=build, args=(n,)) for n in range(3)]
    collector = threading.Thread(target=collect)
    for thread in [*builders, collector]:
        thread.start()
    for thread in builders:
        thread.join()
    done.set()
    collector.join()

    assert faults == []
    assert store.check() == []
