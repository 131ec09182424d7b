"""Pull and push of a Debian image: our client, docker and podman, with our server and Debian's docker-registry.

`python -m tests.bench.bench_registry_clients`. Needs root, dockerd, podman, docker-registry and Debian's packages.
Interleaved rounds, medians. Pushes are first pushes: the image is imported anew each round with a file of its own, so
that everybody has to compress it.
"""

from __future__ import annotations

import argparse
import io
import os
import shutil
import statistics
import subprocess
import tarfile
import tempfile
from pathlib import Path

from tests.bench.bench_registry import RegistryProcess, registries
from tests.bench.sides import Docker, Ours, Side


class Podman(Side):
    """podman on a storage of its own; no daemon."""

    name = "podman"

    def __init__(self, root: Path) -> None:
        super().__init__(root)
        self.cli = [
            "podman",
            "--root",
            str(root / "data"),
            "--runroot",
            str(root / "run"),
            "--storage-driver",
            "overlay",
        ]


def _archive(ours: Ours, folder: Path) -> Path:
    """A Debian file system as a tar."""
    ours.run("image", "bootstrap", "debian:bookworm", "-t", "bench-debian")
    path = folder / "debian.tar"
    ours.run("create", "--name", "bench", "bench-debian", "true")
    ours.run("export", "-o", str(path), "bench")
    ours.run("rm", "bench")
    return path


def _unique(archive: Path, number: int) -> None:
    """The archive with another content of one file in it."""
    with tarfile.open(archive, "a") as tar:
        info = tarfile.TarInfo(f"unique{number}")
        data = os.urandom(1 << 16)
        info.size = len(data)
        tar.addfile(info, io.BytesIO(data))


def _flags(side: Side, verb: str) -> list[str]:
    return ["--tls-verify=false"] if side.name == "podman" and verb in ("push", "pull") else []


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="bt-bench-clients-", dir="/tmp"))
    sides: list[Side] = []
    try:
        for name in ("ours", "docker", "podman"):
            (folder / name).mkdir()
        ours = Ours(folder / "ours")
        sides.append(ours)
        sides.append(Docker(folder / "docker", ours))
        sides.append(Podman(folder / "podman"))
        archive = _archive(ours, folder)
        with registries(folder) as servers:
            _measure(sides, servers, archive, given.rounds)
    finally:
        for side in sides:
            side.close()
        subprocess.run(["umount", "-l", str(folder / "podman/data/overlay")], check=False, capture_output=True)
        shutil.rmtree(folder, ignore_errors=True)


def _measure(sides: list[Side], servers: list[RegistryProcess], archive: Path, rounds: int) -> None:
    seconds: dict[tuple[str, str, str], list[float]] = {}
    for number in range(rounds):
        for place, server in enumerate(servers):
            _unique(archive, len(servers) * number + place)
            for side in sides if number % 2 else sides[::-1]:
                name = f"{server.host}/bench/{side.name}{number}:1"
                side.run("import", str(archive), name)
                took = side.run("push", *_flags(side, "push"), name)
                seconds.setdefault((server.name, "push", side.name), []).append(took)
                side.run("rmi", name)
            for side in sides if number % 2 else sides[::-1]:
                name = f"{server.host}/bench/docker{number}:1"
                took = side.run("pull", *_flags(side, "pull"), name)
                seconds.setdefault((server.name, "pull", side.name), []).append(took)
                side.run("rmi", name)
    size = archive.stat().st_size / (1 << 20)
    print(f"a Debian image of {size:.0f} MiB, medians of {rounds}:")
    for server in servers:
        for what in ("push", "pull"):
            found = {side.name: seconds.get((server.name, what, side.name)) for side in sides}
            if all(found.values()):
                medians = {name: statistics.median(times) for name, times in found.items() if times}
                mine = medians["buildtool"]
                print(
                    f"{what} {'to' if what == 'push' else 'from'} {server.name:16} "
                    + ", ".join(f"{name} {took:.2f} s" for name, took in medians.items())
                    + f": {mine / medians['docker']:.2f} × docker, {mine / medians['podman']:.2f} × podman"
                )


if __name__ == "__main__":
    main()
