"""Run the comparisons and print a table: medians of interleaved runs, the ratio, and the ratio we want."""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import statistics
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench import bench_api, bench_lazy, bench_stacks
from tests.bench.rows import Row
from tests.bench.sides import Docker, Ours, Side, compile_ours

CLASSIC = {"DOCKER_BUILDKIT": "0"}
BUILDKIT = {"DOCKER_BUILDKIT": "1"}
Case = Callable[["Bench"], Iterator[Row]]


class Bench:
    """Both sides, and how often a case runs."""

    def __init__(self, ours: Ours, docker: Docker, folder: Path, runs: int) -> None:
        self.ours, self.docker, self.folder, self.runs = ours, docker, folder, runs

    def compare(self, ours: Callable[[], float], docker: Callable[[], float], runs: int = 0) -> tuple[float, float]:
        """Medians of both, interleaved so that the machine's mood hits both alike."""
        a, b = [], []
        for _ in range(runs or self.runs):
            a.append(ours())
            b.append(docker())
        return statistics.median(a), statistics.median(b)

    def share(self, image: str) -> None:
        """Make a base image here and load it there."""
        archive = self.folder / "shared.tar"
        self.ours.run("image", "bootstrap", image)
        self.ours.run("save", "-o", str(archive), image)
        self.docker.run("load", "-i", str(archive))
        archive.unlink()

    def context(self, name: str, buildfile: str) -> Path:
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        (folder / "Dockerfile").write_text(buildfile)
        return folder

    def build(self, side: Side, context: Path, *flags: str, kit: dict[str, str] | None = None) -> float:
        side.environment |= kit or {}
        return side.run("build", "-q", *flags, str(context))


def run_true(bench: Bench) -> Iterator[Row]:
    command = ("run", "--rm", "--network", "none", "busybox", "true")
    yield Row(
        "run --rm busybox true",
        *bench.compare(lambda: bench.ours.run(*command), lambda: bench.docker.run(*command)),
        0.35,
    )
    stock = bench.docker.stock
    pair = bench.compare(lambda: bench.ours.run(*command, cli=stock), lambda: bench.docker.run(*command, cli=stock))
    yield Row("run --rm busybox true, stock docker CLI on both", *pair, 0.25)


def cached_build(bench: Bench) -> Iterator[Row]:
    steps = "".join(f"RUN echo {i} > /f{i}\n" for i in range(9))
    context = bench.context("cached", f"FROM busybox\nCOPY Dockerfile /\n{steps}")
    for label, kit in (("BuildKit", BUILDKIT), ("classic", CLASSIC)):
        bench.build(bench.ours, context)
        bench.build(bench.docker, context, "--network", "none", kit=kit)
        pair = bench.compare(
            lambda: bench.build(bench.ours, context),
            lambda kit=kit: bench.build(bench.docker, context, "--network", "none", kit=kit),
        )
        yield Row(f"fully cached 10-step build, against {label}", *pair, 0.25 if kit is BUILDKIT else 0.4)


def cold_run(bench: Bench) -> Iterator[Row]:
    def fresh() -> Path:
        steps = "".join(f"RUN echo {random.random()} > /f{i}\n" for i in range(8))
        return bench.context("cold", f"FROM busybox\n{steps}")

    runs = max(3, bench.runs // 3)
    folder = bench.folder / "bridged"
    folder.mkdir()
    bridged = Docker(folder, bench.ours, bridge=True)
    try:
        pair = bench.compare(
            lambda: bench.build(bench.ours, fresh()), lambda: bench.build(bridged, fresh(), kit=BUILDKIT), runs
        )
    finally:
        bridged.close()
    yield Row("8 tiny RUN steps, cold, against BuildKit", *pair, 0.15)
    for label, kit in (("BuildKit", BUILDKIT), ("classic", CLASSIC)):
        pair = bench.compare(
            lambda: bench.build(bench.ours, fresh(), "--network", "none"),
            lambda kit=kit: bench.build(bench.docker, fresh(), "--network", "none", kit=kit),
            runs,
        )
        yield Row(f"8 tiny RUN steps, no network, against {label}", *pair, 0.15 if kit is BUILDKIT else 0.25)


def big_context(bench: Bench) -> Iterator[Row]:
    context = bench.context("big", "FROM busybox\nCOPY src /src\n")
    for folder in range(100):
        (context / f"src/d{folder}").mkdir(parents=True, exist_ok=True)
        for file in range(100):
            (context / f"src/d{folder}/f{file}.txt").write_text(f"{folder} {file}\n" * 40)

    def touched() -> Path:
        (context / "src/d5/f5.txt").write_text(f"{random.random()}\n")
        return context

    for label, kit in (("classic", CLASSIC), ("BuildKit", BUILDKIT)):
        bench.build(bench.ours, context)
        bench.build(bench.docker, context, kit=kit)
        runs = max(3, bench.runs // 3)
        pair = bench.compare(
            lambda: bench.build(bench.ours, context),
            lambda kit=kit: bench.build(bench.docker, context, kit=kit),
            runs,
        )
        yield Row(f"COPY of 10 000 files, unchanged, against {label}", *pair, 0.15)
        pair = bench.compare(
            lambda: bench.build(bench.ours, touched()),
            lambda kit=kit: bench.build(bench.docker, touched(), kit=kit),
            runs,
        )
        yield Row(f"COPY of 10 000 files, one touched, against {label}", *pair, 0.35)


def parallel_stages(bench: Bench) -> Iterator[Row]:
    """Six stages of `sleep 1`: the wall time, which would be 1 s without any cost."""

    def fresh() -> Path:
        names = [f"s{number}" for number in range(6)]
        stages = "".join(f"FROM busybox AS {name}\nRUN sleep 1; echo {random.random()} > /{name}\n" for name in names)
        copies = "".join(f"COPY --from={name} /{name} /\n" for name in names)
        return bench.context("parallel", f"{stages}FROM busybox\n{copies}")

    network = ("--network", "none")
    ours, docker = bench.compare(
        lambda: bench.build(bench.ours, fresh(), *network),
        lambda: bench.build(bench.docker, fresh(), *network, kit=BUILDKIT),
        runs=max(3, bench.runs // 3),
    )
    yield Row("6 stages of `sleep 1` in parallel, wall time", ours, None, 1300)
    yield Row("6 stages of `sleep 1` in parallel, against BuildKit", ours, docker, 1.0)


def big_steps(bench: Bench) -> Iterator[Row]:
    """Steps that write much: a copy of /usr on Debian, 256 MiB of random bytes by RUN and by COPY."""
    debian = "debian:bookworm"
    bench.share(debian)
    runs = max(3, bench.runs // 5)
    network = ("--network", "none")

    def compare(fresh: Callable[[], Path]) -> tuple[float, float]:
        return bench.compare(
            lambda: bench.build(bench.ours, fresh(), *network),
            lambda: bench.build(bench.docker, fresh(), *network, kit=BUILDKIT),
            runs,
        )

    def usr() -> Path:
        return bench.context("usr", f"FROM {debian}\nRUN cp -a /usr /usr2; echo {random.random()} > /n\n")

    def made() -> Path:
        command = f"head -c 268435456 /dev/urandom > /random; echo {random.random()} > /n"
        return bench.context("random", f"FROM busybox\nRUN {command}\n")

    def copied() -> Path:
        context = bench.context("copied", "FROM busybox\nCOPY random /random\n")
        (context / "random").write_bytes(random.randbytes(1 << 20) * 256)
        return context

    yield Row(f"RUN cp -a /usr /usr2 on {debian}", *compare(usr), 0.6)
    yield Row("256 MiB of random bytes made by RUN", *compare(made), 0.6)
    yield Row("256 MiB by COPY", *compare(copied), 0.6)


def client_cpu(bench: Bench) -> Iterator[Row]:
    for verb in (["version"], ["ps"], ["images"], ["run", "--rm", "--network", "none", "busybox", "true"]):
        seconds = statistics.median(bench.ours.cpu(*verb) for _ in range(bench.runs))
        yield Row(f"CPU of `{' '.join(verb[:2])}`", seconds, None, 60)


def memory(bench: Bench) -> Iterator[Row]:
    """Idle means: started, nothing done yet. Measured on a daemon of its own."""
    with tempfile.TemporaryDirectory(prefix="bench-idle-") as folder:
        idle = Ours.__new__(Ours)
        Ours.__init__(idle, Path(folder))
        process = idle.process
        assert process is not None
        try:
            yield Row("idle daemon with its spawner (PSS)", sum(map(pss, family(process.pid))), None, 80, "MiB")
            idle.run("run", "-d", "--name", "sleeper", "--network", "none", "busybox", "sleep", "600")
            pid = int(
                subprocess.check_output(
                    [*idle.cli, "inspect", "-f", "{{.State.Pid}}", "sleeper"], env=idle.environment
                )
            )
            shim = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
            yield Row("a running container besides its process (private)", private(shim), None, 5, "MiB")
            idle.run("rm", "-f", "sleeper")
        finally:
            idle.close()


def family(pid: int) -> list[int]:
    """A process and its descendants."""
    children = [
        int(child)
        for task in Path(f"/proc/{pid}/task").iterdir()
        for child in (task / "children").read_text().split()
    ]
    return [pid, *(grandchild for child in children for grandchild in family(child))]


def _rollup(pid: int, *fields: str) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(fields))


def pss(pid: int) -> int:
    return _rollup(pid, "Pss:")


def private(pid: int) -> int:
    return _rollup(pid, "Private_Clean:", "Private_Dirty:")


CASES: dict[str, Case] = {
    "run": run_true,
    "cached": cached_build,
    "cold": cold_run,
    "context": big_context,
    "parallel": parallel_stages,
    "big": big_steps,
    "cpu": client_cpu,
    "memory": memory,
    "stacks": bench_stacks.compare,
    "api": bench_api.compare,
    "lazy": bench_lazy.compare,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench")
    parser.add_argument("cases", nargs="*", choices=[*CASES, []], help="all when none is named")
    parser.add_argument("--runs", type=int, default=15)
    options = parser.parse_args()
    if os.geteuid():
        raise SystemExit("dockerd, the peer, needs root")
    compile_ours()
    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="bench-", ignore_cleanup_errors=True)))
        for name in ("ours", "docker"):
            (folder / name).mkdir()
        ours = Ours(folder / "ours")
        stack.callback(ours.close)
        docker = Docker(folder / "docker", ours)
        stack.callback(docker.close)
        bench = Bench(ours, docker, folder, options.runs)
        print(f"{'median of interleaved runs':52}{'buildtool':>12}{'docker':>14}{'ratio':>8}   wanted")
        for name in options.cases or CASES:
            for row in CASES[name](bench):
                print(row, flush=True)


if __name__ == "__main__":
    main()
