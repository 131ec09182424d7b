"""Stacks side by side with docker compose on dockerd: `python -m tests.bench stacks`."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import TYPE_CHECKING

from tests.bench.rows import Row
from tests.conftest import docker_compose

if TYPE_CHECKING:
    from tests.bench.__main__ import Bench

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


def compare(bench: Bench) -> Iterator[Row]:
    """Rows for `up`, `up` with nothing to do, `down` and `config`."""
    small, large = bench.folder / "small.yaml", bench.folder / "large.yaml"
    small.write_text(small_stack(SERVICES))
    large.write_text(large_stack(200))
    config = [bench.ours.run("compose", "-f", str(large), "config") for _ in range(bench.runs)]
    yield Row("config of 200 services", statistics.median(config), None, 300)
    program = docker_compose()
    if program is None:
        print("no docker compose here (apt-get install docker-compose, 2.x): its side of the stacks is left out")
        return
    # As people call it: `docker compose`, which starts the plugin.
    plugins = bench.folder / "config/cli-plugins"
    plugins.mkdir(parents=True)
    (plugins / "docker-compose").symlink_to(program)
    bench.docker.environment["DOCKER_CONFIG"] = str(plugins.parent)
    bench.ours.environment["XDG_CACHE_HOME"] = str(bench.folder / "cache")
    compose = [*bench.docker.stock, "compose"]
    words = {"up": ("up", "-d"), "again": ("up", "-d"), "alone": ("up", "-d"), "down": ("down", "-t", "0")}
    took: dict[str, list[tuple[float, float]]] = {name: [] for name in words}
    for _ in range(max(3, bench.runs // 3)):
        for name in words:
            mine = bench.ours.run("compose", "-f", str(small), *words[name])
            cli = [program] if name == "alone" else compose
            took[name].append((mine, bench.docker.run("-f", str(small), *words[name], cli=cli)))
    for name, what, wanted in (
        ("up", f"up of {SERVICES} services, against docker compose", 0.3),
        ("again", "up with nothing to do, against docker compose", 0.3),
        ("alone", "the same, against its plugin without docker's CLI", 0.4),
        ("down", "down, against docker compose", 0.5),
    ):
        mine, other = (statistics.median(pair[side] for pair in took[name]) for side in (0, 1))
        yield Row(what, mine, other, wanted)
