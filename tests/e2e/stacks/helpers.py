"""A stack's directory with our CLI in it, and a stack that several tests bring up."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tests.conftest import Program

ON_DOCKERD = os.environ.get("BUILDTOOL_STACKS_ON") == "dockerd"
only_ours = pytest.mark.skipif(ON_DOCKERD, reason="Debian's dockerd and its classic builder cannot do this")

LOOP = "trap 'exit 0' TERM; while :; do sleep 0.1; done"


class Stack:
    """A stack's directory, and our CLI in it."""

    def __init__(self, cli: Program, folder: Path) -> None:
        self.cli = cli
        self.folder = folder
        self.name = folder.name

    def write(self, text: str, name: str = "compose.yaml") -> None:
        """Write a file of it."""
        (self.folder / name).write_text(dedent(text).replace("LOOP", json.dumps(["sh", "-c", LOOP])))

    def __call__(self, *words: str, **options: Any) -> subprocess.CompletedProcess[str]:
        """`buildtool compose …` in the directory."""
        return self.cli("compose", *words, cwd=self.folder, **options)

    def containers(self, *words: str) -> dict[str, dict[str, Any]]:
        """What `ps` tells, by name."""
        lines = self("ps", "--format", "json", "--no-trunc", *words).stdout.splitlines()
        return {item["Name"].removeprefix(f"{self.name}-"): item for item in map(json.loads, lines)}

    def ids(self) -> dict[str, str]:
        """Ids of all containers by name."""
        return {name: item["ID"] for name, item in self.containers("-a").items()}


THREE = """
    services:
      web:
        image: busybox
        command: LOOP
        environment: {GREETING: "${GREETING:-hello}"}
        depends_on:
          db: {condition: service_healthy}
          migrate: {condition: service_completed_successfully}
      db:
        image: busybox
        command: [sh, -c, "touch /data/ready; LOOP_"]
        volumes: [data:/data, /anonymous]
        healthcheck: {test: [CMD, test, -e, /data/ready], interval: 1s, start_period: 5s, start_interval: 100ms}
      migrate:
        image: busybox
        command: [sh, -c, "echo migrated >> /data/log"]
        volumes: [data:/data]
        depends_on: [db]
    volumes: {data: {}}
""".replace("LOOP_", LOOP)


def eventually(test: Callable[[], bool]) -> None:
    for _ in range(100):
        if test():
            return
        time.sleep(0.1)
    raise AssertionError("it did not come about")
