"""Builds of a fresh machine with another's cache, side by side with BuildKit's (dockerd, inline cache).

`python -m tests.bench.bench_caches`. Interleaved rounds, medians. A round forgets all images and all of the build
cache of both sides first. Both caches are in our registry on this machine, whose requests of one build are counted.
With `--tree DIRECTORY` there is also a newer BuildKit with its cache in the registry (mode=max), from what
`mmdebstrap --variant=apt --include=docker.io,docker-buildx,docker-cli trixie DIRECTORY` makes.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.sides import BUILDTOOL, Docker, DockerTree, Ours, Side
from tests.e2e.conftest import free_port

STEPS = 8
SIZE = 8_000_000


def buildfile(base: str) -> str:
    """Steps that write files which do not compress, in two stages."""
    run = "".join(f"RUN head -c {SIZE} /dev/urandom > /r{number}\n" for number in range(STEPS))
    copies = "".join(f"COPY --from=made /r{number} /x{number}\n" for number in range(2))
    return f"FROM {base} AS made\nCOPY a /a\n{run}FROM {base}\nRUN echo 1 > /one\n{copies}"


def forget(side: Side, *images: str) -> None:
    """As on a machine that has built nothing."""
    side.run("builder", "prune", "-af")
    subprocess.run([*side.cli, "rmi", "-f", *images], env=side.environment, capture_output=True, check=False)
    side.run("image", "prune", "-af")


def requests(log: Path) -> int:
    return log.read_bytes().count(b"buildtool.registry: ")


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    options.add_argument("--tree", type=Path)
    given = options.parse_args()
    with tempfile.TemporaryDirectory(prefix="bench-caches-", dir="/tmp") as folder:
        root = Path(folder)
        for name in ("ours", "docker", "newer", "context", "registry"):
            (root / name).mkdir()
        port, log = free_port(), root / "registry.log"
        host = f"127.0.0.1:{port}"
        with log.open("wb") as out:
            command = [BUILDTOOL, "registry", "serve", "--addr", host, "--root", str(root / "registry")]
            registry = subprocess.Popen([*command, "--log-level", "info"], stdout=out, stderr=out)
        ours = Ours(root / "ours")
        docker = Docker(root / "docker", ours)
        docker.environment["DOCKER_BUILDKIT"] = "1"
        newer: DockerTree | None = None
        try:
            newer = DockerTree(root / "newer", given.tree) if given.tree else None
            measure(ours, docker, newer, root / "context", host, log, given.rounds)
        finally:
            for side in filter(None, (ours, docker, newer)):
                side.close()
            registry.terminate()
            registry.wait(30)


def measure(
    ours: Ours, docker: Docker, newer: DockerTree | None, context: Path, host: str, log: Path, rounds: int
) -> None:
    base = f"{host}/base:1"
    ours.run("tag", "busybox", base)
    ours.run("push", "-q", base)
    (context / "Dockerfile").write_text(buildfile(base))
    (context / "a").write_text("1")
    build = ("build", "-t", f"{host}/app:1", "--network=none")
    plain = ours.run(*build, str(context))
    forget(ours, f"{host}/app:1", base)
    cache = f"type=registry,ref={host}/app:cache"
    exported = ours.run(*build, f"--cache-to={cache},mode=max", str(context))
    inline = ("build", "-t", f"{host}/inline:1", "--network=none", "--build-arg", "BUILDKIT_INLINE_CACHE=1")
    docker.run(*inline, str(context))
    docker.run("push", f"{host}/inline:1")
    theirs_in_registry = f"type=registry,ref={host}/theirs:cache"
    kit = ("buildx", "build", "-t", "app:1", "--network=none", "--provenance=false", "--load")
    if newer is not None:
        newer.run(*kit, f"--cache-to={theirs_in_registry},mode=max", str(context))
    times: dict[str, list[float]] = {"ours": [], "docker": [], "newer": [], "push": []}
    asked = pushed = 0
    for _ in range(rounds):
        forget(ours, f"{host}/app:1", base)
        before = requests(log)
        times["ours"].append(ours.run(*build, f"--cache-from={cache}", str(context)))
        asked = requests(log) - before
        forget(docker, f"{host}/inline:1", base)
        times["docker"].append(docker.run(*inline, "--cache-from", f"{host}/inline:1", str(context)))
        if newer is not None:
            newer.run("buildx", "prune", "-af")
            forget(newer, "app:1", base)
            times["newer"].append(newer.run(*kit, f"--cache-from={theirs_in_registry}", str(context)))
        ours.run("push", "-q", f"{host}/app:1")
        forget(ours, f"{host}/app:1", base)
        before = requests(log)
        words = (f"--cache-from={cache}", f"--cache-to={cache},mode=max", "--push")
        times["push"].append(ours.run(*build, *words, str(context)))
        pushed = requests(log) - before
    mine, theirs = statistics.median(times["ours"]), statistics.median(times["docker"])
    load = os.getloadavg()[0]
    print(f"{STEPS + 6} steps, layers of {STEPS * SIZE / 1e6:.0f} MB; {os.cpu_count()} processors, load {load:.1f}")
    print(f"{'cold build':<44} {plain:8.2f} s, with the export of the cache {exported:.2f} s")
    print(f"{'build on a fresh machine, all in the cache':<44} {mine:8.2f} s in {asked} requests")
    print(f"{'BuildKit, inline cache':<44} {theirs:8.2f} s   ratio {mine / theirs:.2f}, wanted 0.5")
    if newer is not None:
        later = statistics.median(times["newer"])
        print(
            f"{'a newer BuildKit, cache in the registry':<44} {later:8.2f} s   ratio {mine / later:.2f}, wanted 0.5"
        )
    push = statistics.median(times["push"])
    print(f"{'the same, pushed':<44} {push:8.2f} s in {pushed} requests, wanted 3 s and 10")


if __name__ == "__main__":
    sys.exit(main())
