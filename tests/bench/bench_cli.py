"""CPU milliseconds (user + system) of whole CLI commands, verb by verb: `python -m tests.bench.bench_cli [RUNS]`.

Medians and minima against a daemon on a root of its own. The unit of measure is the interpreter's own start; the
bound for the hot verbs is 60 ms.
"""

from __future__ import annotations

import compileall
import os
import statistics
import sys
import tempfile
from pathlib import Path

from tests.bench.sides import Ours

_BOUND = 60.0
_PROJECT = Path(__file__).resolve().parents[2]


def cpu_of(command: list[str], environment: dict[str, str]) -> float:
    """The CPU milliseconds of one command, its output thrown away."""
    pid = os.fork()
    if pid == 0:
        devnull = os.open(os.devnull, os.O_RDWR)
        for fd in (0, 1, 2):
            os.dup2(devnull, fd)
        os.execve(command[0], command, environment)
    _, status, usage = os.wait4(pid, 0)
    if status:
        raise SystemExit(f"{' '.join(command)}: status {os.waitstatus_to_exitcode(status)}")
    return (usage.ru_utime + usage.ru_stime) * 1000


def main() -> None:
    runs = int(sys.argv[1]) if len(sys.argv) > 1 else 15
    for folder in ("buildtool", "cache", "grammar"):
        compileall.compile_dir(_PROJECT / folder, quiet=2)
    with tempfile.TemporaryDirectory(prefix="bench-cli-", ignore_cleanup_errors=True) as folder:
        ours = Ours(Path(folder))
        try:
            measure(ours, Path(folder), runs)
        finally:
            ours.run("rm", "-f", "bench")
            ours.close()


def measure(ours: Ours, folder: Path, runs: int) -> None:
    context = folder / "context"
    context.mkdir()
    (context / "Buildfile").write_text("FROM busybox\n" + "".join(f"RUN echo {n} > /{n}\n" for n in range(10)))
    ours.run("run", "-d", "--name", "bench", "--network", "none", "busybox", "sleep", "1000")
    ours.run("build", "--network", "none", str(context))
    hot = [
        ["ps"],
        ["version"],
        ["images"],
        ["run", "--rm", "--network", "none", "busybox", "true"],
        ["exec", "bench", "true"],
        ["build", "--network", "none", str(context)],
    ]
    other = [["ps", "--format", "{{.Names}}"], ["inspect", "bench"], ["logs", "bench"], ["info"], ["run", "--help"]]
    print(f"{'CPU ms of the whole command':50}{'median':>9}{'min':>9}")
    cli = ours.cli[0]
    show([sys.executable, "-c", "pass"], "(python -c pass, the unit)", ours, runs, None)
    for words in hot:
        show([cli, *words], " ".join(words[:6]), ours, runs, _BOUND)
    for words in other:
        show([cli, *words], " ".join(words), ours, runs, None)


def show(command: list[str], title: str, ours: Ours, runs: int, bound: float | None) -> None:
    figures = [cpu_of(command, ours.environment) for _ in range(runs)]
    median = statistics.median(figures)
    verdict = "" if bound is None else f"   ≤ {bound:g} ms  {'ok' if median <= bound else 'MISSED'}"
    print(f"{title:50}{median:9.1f}{min(figures):9.1f}{verdict}", flush=True)


if __name__ == "__main__":
    main()
