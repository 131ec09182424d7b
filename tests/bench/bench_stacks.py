"""Stacks side by side with docker compose on dockerd: `python -m tests.bench.bench_stacks [ROUNDS]`.

`up` of ten small services from cached images, `up` again with nothing to do, `down`, and `config` of 200 services.
Both sides run alternately; printed are medians in milliseconds and their ratio.
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.bench.sides import BUILDTOOL, Docker, Ours, Side
from tests.e2e.test_stacks import docker_compose

SERVICES = 10


def small_stack(count: int) -> str:
    """A stack of that many services, every second of which depends on the one before."""
    lines = ["name: bench", "services:"]
    for number in range(count):
        lines += [f"  s{number}:", "    image: busybox", "    command: [sleep, '1000']", "    stop_grace_period: 0s"]
        lines += ["    init: false", f"    environment: {{NUMBER: '{number}'}}"]
        if number % 2:
            lines.append(f"    depends_on: [s{number - 1}]")
    return "\n".join(lines) + "\n"


def large_stack(count: int) -> str:
    """A stack that takes some reading."""
    lines = ["services:"]
    for number in range(count):
        lines += [
            f"  service{number}:",
            f"    image: registry.example/service{number}:${{TAG:-latest}}",
            "    command: [serve, --port, '8000']",
            f"    environment: {{NEXT: 'http://service{(number + 1) % count}:8000/', LEVEL: '${{LEVEL:-info}}'}}",
            f"    ports: ['{10000 + number}:8000']",
            f"    volumes: ['./data{number}:/data:ro', 'volume{number}:/state']",
            "    healthcheck: {test: [CMD, check], interval: 10s}",
            "    networks: [front, back]",
            "    deploy: {resources: {limits: {cpus: '0.5', memory: 64M}}}",
        ]
    lines += ["networks: {front: {}, back: {}}", "volumes:", *(f"  volume{number}: {{}}" for number in range(count))]
    return "\n".join(lines) + "\n"


def alternate(rounds: int, sides: list[tuple[Side, list[str]]], work: Callable[[Side, list[str]], None]) -> None:
    """Let every side do the work in turn."""
    for _ in range(rounds):
        for side, compose in sides:
            work(side, compose)


def main(rounds: int) -> None:
    """Measure and print."""
    program = docker_compose()
    if program is None:
        raise SystemExit("no docker compose here: apt-get install docker-compose (2.x)")
    folder = Path(tempfile.mkdtemp(prefix="bench-stacks-"))
    (folder / "ours").mkdir()
    (folder / "docker").mkdir()
    ours = Ours(folder / "ours")
    try:
        docker = Docker(folder / "docker", ours)
        try:
            _compare(rounds, folder, [(ours, [BUILDTOOL, "compose"]), (docker, [program])])
        finally:
            docker.close()
    finally:
        ours.close()
        shutil.rmtree(folder, ignore_errors=True)


def _compare(rounds: int, folder: Path, sides: list[tuple[Side, list[str]]]) -> None:
    (folder / "small.yaml").write_text(small_stack(SERVICES))
    (folder / "large.yaml").write_text(large_stack(200))
    took: dict[str, dict[str, list[float]]] = {}

    def timed(name: str, side: Side, compose: list[str], *words: str, file: str = "small.yaml") -> None:
        seconds = side.run(*compose[1:], "-f", str(folder / file), *words, cli=compose[:1])
        took.setdefault(name, {}).setdefault(side.name, []).append(seconds)

    def work(side: Side, compose: list[str]) -> None:
        timed(f"up of {SERVICES} services", side, compose, "up", "-d")
        timed("up with nothing to do", side, compose, "up", "-d")
        timed("down", side, compose, "down", "-t", "0")
        timed("config of 200 services", side, compose, "config", file="large.yaml")

    alternate(1, sides, work)
    took.clear()
    alternate(rounds, sides, work)
    for name, figures in took.items():
        mine, theirs = (statistics.median(figures[key]) * 1000 for key in ("buildtool", "docker"))
        print(f"{name:24}  buildtool {mine:7.1f} ms   docker compose {theirs:7.1f} ms   ratio {mine / theirs:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
