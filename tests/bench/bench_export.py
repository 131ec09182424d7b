"""What it costs a build to give its results away: the cache to a registry (mode=max), the image to a registry.

`python -m tests.bench.bench_export`. Interleaved rounds, medians; each round builds anew (a build arg changes
the first step) what a build of a service does on Debian: packages unpacked, sources copied, byte-compiled, tested.
Wanted: not more than 5 % of the build.
"""

from __future__ import annotations

import argparse
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.bench.sides import BUILDTOOL, Ours
from tests.e2e.conftest import free_port

BASE = "debian:bookworm"
TEXT = f"""\
FROM {BASE} AS build
ARG ROUND
RUN echo $ROUND > /round && mkdir /opt/vendor && cp -a /usr/lib/python3* /opt/vendor/ && cp -a /usr/share /opt
COPY src /src
RUN python3 -m compileall -q -f /opt/vendor /src
RUN find /opt /src /usr -type f -print0 | xargs -0 sha256sum > /src/sums
RUN python3 -c "import hashlib; d = b'x' * 4096; all(hashlib.sha256(d).digest() for i in range(900000))"
RUN tar -C /opt -cf /bundle.tar vendor && gzip -9 /bundle.tar
FROM {BASE}
COPY --from=build /opt/vendor /opt/vendor
RUN python3 -c "d = {{str(i): i for i in range(3000000)}}" && head -c 20000000 /dev/urandom > /var/model
COPY --from=build /src /srv
RUN python3 -c "sum(i * i for i in range(12000000))" && echo done > /srv/tested
COPY src/d0 /srv/d0
"""


def sources(folder: Path) -> None:
    """Two thousand files, as a project has them."""
    chosen = random.Random(1)
    words = [f"name{number}" for number in range(500)]
    for number in range(2000):
        path = folder / f"d{number % 40}" / f"m{number}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{chosen.choice(words)} = {chosen.random()}\n" for _ in range(150)))


def main() -> None:
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--rounds", type=int, default=5)
    rounds = options.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="bench-export-", dir="/tmp") as folder:
        root = Path(folder)
        for name in ("ours", "context", "registry"):
            (root / name).mkdir()
        host = f"127.0.0.1:{free_port()}"
        with (root / "registry.log").open("wb") as out:
            command = [BUILDTOOL, "registry", "serve", "--addr", host, "--root", str(root / "registry")]
            registry = subprocess.Popen(command, stdout=out, stderr=out)
        ours = Ours(root / "ours")
        try:
            ours.run("image", "bootstrap", BASE, "--include", "python3")
            measure(ours, root / "context", host, rounds)
        finally:
            ours.close()
            registry.terminate()
            registry.wait(30)


def measure(ours: Ours, context: Path, host: str, rounds: int) -> None:
    (context / "Dockerfile").write_text(TEXT)
    sources(context / "src")
    name = f"{host}/app:1"
    ways = {
        "without": ("-t", "app:1"),
        "cache to a registry, mode=max": ("-t", "app:1", f"--cache-to=type=registry,ref={host}/app:cache,mode=max"),
        "image to a registry": ("-t", name, "--push"),
        "both": ("-t", name, "--push", f"--cache-to=type=registry,ref={host}/app:cache,mode=max"),
    }
    times: dict[str, list[float]] = {way: [] for way in ways}
    names = list(ways)
    for number in range(rounds):
        for way in names[number % len(names) :] + names[: number % len(names)]:
            turn = f"--build-arg=ROUND={number}{random.random()}"
            times[way].append(ours.run("build", "--network=none", turn, *ways[way], str(context)))
            ours.run("builder", "prune", "-af")
            ours.run("image", "prune", "-f")
    plain = statistics.median(times["without"])
    print(f"{os.cpu_count()} processors, load {os.getloadavg()[0]:.1f}")
    for way, found in times.items():
        middle = statistics.median(found)
        print(
            f"{way:<34} {middle:8.2f} s {(middle / plain - 1) * 100:+6.1f} %   ({min(found):.2f} to {max(found):.2f})"
        )


if __name__ == "__main__":
    sys.exit(main())
