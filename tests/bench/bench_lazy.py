"""One small file out of a large image that only a registry has: what is fetched for it."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from tests.bench.rows import Row
from tests.bench.sides import BUILDTOOL, Side

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench

KIT = {"DOCKER_BUILDKIT": "1"}


def compare(bench: Bench) -> Iterator[Row]:
    """The image is Debian with one more layer, in which the file is; neither side has any of it or of the cache."""
    with _registry(bench.folder / "registry") as host:
        bench.ours.run("image", "bootstrap", "debian:bookworm")
        made = bench.context("tools", "FROM debian:bookworm\nRUN echo tool > /tool\n")
        name = f"{host}/bench/tools:1"
        bench.ours.run("build", "-q", "--network", "none", "-t", name, str(made))
        bench.ours.run("push", "-q", name)
        bench.ours.run("rmi", "debian:bookworm")
        copies = bench.context("one-file", f"FROM scratch\nCOPY --from={name} /tool /\n")
        rest = bench.context("config", f"FROM {name}\nENV A=1\n")

        def build(side: Side, context: Path) -> float:
            for left in filter(lambda each: _has(side, each), ("bench-lazy", name)):
                side.run("rmi", "-f", left)
            side.run("builder", "prune", "-af")
            side.run("image", "prune", "-f")
            return bench.build(side, context, "-t", "bench-lazy", kit=KIT)

        for what, context, wanted in (("COPY --from of one file", copies, 0.3), ("FROM and ENV only", rest, 0.3)):
            pair = bench.compare(
                lambda context=context: build(bench.ours, context),
                lambda context=context: build(bench.docker, context),
                max(3, bench.runs // 5),
            )
            yield Row(f"{what}, image in a registry only", *pair, wanted)


def _has(side: Side, name: str) -> bool:
    found = subprocess.run([*side.cli, "images", "-q", name], env=side.environment, capture_output=True, check=True)
    return bool(found.stdout.strip())


@contextmanager
def _registry(root: Path) -> Iterator[str]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [BUILDTOOL, "registry", "serve", "--addr", f"127.0.0.1:{port}", "--root", str(root)]
    process = subprocess.Popen([*command, "--log-level", "error"], stdout=subprocess.DEVNULL)
    try:
        deadline = time.monotonic() + 15
        while time.monotonic() < deadline:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        yield f"127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(15)
        shutil.rmtree(root, ignore_errors=True)
