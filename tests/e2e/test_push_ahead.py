"""`build --push`: layers are on their way while other steps still run."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

HOST = ("--network=host", "--allow=network.host")


class Log:
    """The registry's audit log."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def put(self, kind: str) -> list[str]:
        """The digests of what was stored: `uploads` (of blobs) or `manifests`."""
        text = self.path.read_text()
        entries = map(json.loads, text[: text.rfind("\n") + 1].splitlines())
        return [
            each["digest"] for each in entries if (each["method"], each["kind"], each["status"]) == ("PUT", kind, 201)
        ]


@pytest.fixture
def log(tmp_path: Path) -> Log:
    return Log(tmp_path / "audit")


@pytest.fixture
def host(start_registry: Callable[..., str], log: Log) -> str:
    return start_registry("--audit-log", str(log.path))


@pytest.fixture
def uploaded(log: Log) -> Iterator[Callable[[int], str]]:
    """`uploaded(n)` is a URL that answers once the registry has n blobs; 500 when that does not come."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            deadline = time.monotonic() + 30
            wanted = int(self.path.strip("/"))
            while (here := len(log.put("uploads"))) < wanted and time.monotonic() < deadline:
                time.sleep(0.05)
            self.send_response(200 if here >= wanted else 500)
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    Thread(target=server.serve_forever, daemon=True).start()
    yield lambda count: f"http://127.0.0.1:{server.server_port}/{count}"
    server.shutdown()
    server.server_close()


def test_layers_are_uploaded_while_later_steps_run(
    cli: Any, busybox_image: str, host: str, log: Log, uploaded: Callable[[int], str], unique: str, tmp_path: Path
) -> None:
    """The second step ends only when the base's layer and that of the first are in the registry."""
    text = f"FROM {busybox_image}\nRUN echo {unique} > /first\nRUN wget -q -O /second {uploaded(2)}\n"
    (tmp_path / "Buildfile").write_text(text)
    name = f"{host}/{unique}:1"
    done = cli("build", *HOST, "--push", "-t", name, str(tmp_path))
    assert done.stderr.count("Layer already exists") >= 2
    assert len(set(log.put("uploads"))) == len(log.put("uploads")) == 4
    cli("rmi", name)
    cli("pull", name)
    assert cli("run", "--rm", name, "cat", "/first").stdout == f"{unique}\n"
    cli("rmi", name)


def test_a_build_that_fails_leaves_nothing_that_has_a_name(
    cli: Any, busybox_image: str, host: str, log: Log, uploaded: Callable[[int], str], unique: str, tmp_path: Path
) -> None:
    text = f"FROM {busybox_image}\nRUN echo {unique} > /first\nRUN wget -q -O /second {uploaded(1)} && false\n"
    (tmp_path / "Buildfile").write_text(text)
    failed = cli("build", *HOST, "--push", "-t", f"{host}/{unique}:1", str(tmp_path), check=False)
    assert failed.returncode == 1 and "exit code: 1" in failed.stderr
    assert log.put("uploads") and not log.put("manifests")


def test_a_registry_that_is_down_is_told_of_once_by_the_push(
    cli: Any, busybox_image: str, unique: str, tmp_path: Path
) -> None:
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo {unique} > /first\n")
    failed = cli("build", "--push", "-t", f"127.0.0.1:1/{unique}:1", str(tmp_path), check=False)
    assert failed.returncode == 1 and failed.stderr.count("cannot reach the registry") == 1, failed.stderr
    cli("rmi", f"127.0.0.1:1/{unique}:1")


def test_an_image_that_is_there_already_costs_no_question_a_layer(
    cli: Any, busybox_image: str, host: str, log: Log, unique: str, tmp_path: Path
) -> None:
    """Nothing is executed: the layers are not looked for one by one."""
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo {unique} > /first\n")
    name = f"{host}/{unique}:1"
    cli("build", "--push", "-t", name, str(tmp_path))
    before = len(log.path.read_text().splitlines())
    cli("build", "--push", "-t", name, str(tmp_path))
    assert len(log.path.read_text().splitlines()) - before <= 3
    cli("rmi", name)
