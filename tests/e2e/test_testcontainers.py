"""testcontainers-python, which test suites start their databases with, against our daemon."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from testcontainers.core.config import testcontainers_config
from testcontainers.core.container import DockerContainer
from testcontainers.core.image import DockerImage
from testcontainers.core.network import Network
from testcontainers.core.wait_strategies import (
    ExecWaitStrategy,
    HealthcheckWaitStrategy,
    HttpWaitStrategy,
    LogMessageWaitStrategy,
    PortWaitStrategy,
)

from tests.conftest import Daemon

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="published ports are asked for on the host's own network")
Make = Callable[..., DockerContainer]
_SERVE = "mkdir -p /www && echo hello > /www/index.html && echo ready && exec httpd -f -p 8000 -h /www"


@pytest.fixture
def make(daemon: Daemon, busybox_image: str, monkeypatch: pytest.MonkeyPatch) -> Make:
    """A container of busybox that knows only this daemon's address, as a user's environment has it."""
    for name in [name for name in os.environ if name.startswith("DOCKER_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DOCKER_HOST", daemon.host)
    monkeypatch.setattr(testcontainers_config, "ryuk_disabled", True)  # its image would come from Docker Hub

    def container(command: str = "", **options: object) -> DockerContainer:
        made = DockerContainer(busybox_image, **options)  # type: ignore[arg-type]
        return made.with_command(["sh", "-c", command]) if command else made

    return container


@pytest.fixture
def network(make: Make) -> Iterator[Network]:
    with Network() as network:
        yield network


def test_a_served_page_is_found_at_the_published_port(make: Make) -> None:
    wanted = HttpWaitStrategy(8000).for_status_code(200)
    with make(_SERVE).with_exposed_ports(8000).waiting_for(wanted) as served:
        identity = served.get_wrapped_container().id
        port = int(served.get_exposed_port(8000))
        with socket.create_connection((served.get_container_host_ip(), port), timeout=5) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            answer = b""
            while data := client.recv(4096):
                answer += data
    assert answer.endswith(b"hello\n")
    left = served.get_docker_client().client.containers.list(all=True)
    assert identity not in [container.id for container in left]


@pytest.mark.parametrize(
    "wanted",
    [LogMessageWaitStrategy("ready"), PortWaitStrategy(8000), ExecWaitStrategy(["test", "-e", "/www/index.html"])],
    ids=lambda wanted: type(wanted).__name__,
)
def test_ways_to_wait(make: Make, wanted: object) -> None:
    with make(f"sleep 0.3; {_SERVE}").with_exposed_ports(8000).waiting_for(wanted) as served:  # type: ignore[arg-type]
        assert b"ready\n" in served.get_logs()[0]


def test_waiting_for_health(make: Make) -> None:
    check = {"Test": ["CMD-SHELL", "test -e /up"], "Interval": 200_000_000, "Retries": 100}
    sleeper = make("sleep 0.3; touch /up; exec sleep 60", healthcheck=check).waiting_for(HealthcheckWaitStrategy())
    with sleeper as healthy:
        assert healthy.get_wrapped_container().health == "healthy"


def test_exec_environment_logs_and_files(make: Make, tmp_path: Path) -> None:
    (tmp_path / "given").write_text("from the host")
    sleeper = (
        make("echo out; echo err >&2; exec sleep 60")
        .with_env("A", "b c")
        .with_volume_mapping(str(tmp_path), "/mnt/host", "ro")
        .with_tmpfs_mount("/scratch")
        .with_copy_into_container(b"copied in", "/srv/file")
        .waiting_for(LogMessageWaitStrategy("out"))
    )
    with sleeper as running:
        code, output = running.exec(["sh", "-c", "echo $A; cat /mnt/host/given /srv/file; exit 3"])
        assert (code, output) == (3, b"b c\nfrom the hostcopied in")
        assert running.exec("touch /mnt/host/x").exit_code == 1
        assert running.get_logs() == (b"out\n", b"err\n")
        running.copy_into_container(tmp_path / "given", "/tmp/given")
        running.copy_from_container("/tmp/given", tmp_path / "back")
        assert (tmp_path / "back").read_text() == "from the host"


def test_containers_of_one_network_find_each_other(make: Make, network: Network) -> None:
    server = (
        make(_SERVE).with_network(network).with_network_aliases("web").waiting_for(LogMessageWaitStrategy("ready"))
    )
    with server, make("sleep 60").with_network(network) as client:
        assert client.exec(["wget", "-q", "-O", "-", "http://web:8000/"]).output == b"hello\n"


def test_a_built_image(make: Make, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text('FROM busybox\nARG A\nRUN echo built $A > /made\nCMD ["cat", "/made"]\n')
    image = DockerImage(path=tmp_path, tag="by-testcontainers", buildargs={"A": "b"})
    with image, DockerContainer("by-testcontainers") as once:
        assert once.get_wrapped_container().wait()["StatusCode"] == 0
        assert once.get_logs()[0] == b"built b\n"


def test_stats_events_restart_attach_and_prune_of_the_wrapped_container(make: Make, unique: str) -> None:
    began = int(time.time())
    with make("trap 'exit 0' TERM; echo up; while :; do sleep 0.1; done").with_name(unique) as running:
        container = running.get_wrapped_container()
        assert container.stats(stream=False)["memory_stats"]["usage"] > 0
        assert next(container.attach(stream=True, logs=True)) == b"up\n"
        container.restart(timeout=5)
        container.reload()
        assert container.status == "running"
        client = running.get_docker_client().client
        past = client.events(since=began, until=int(time.time()) + 1, filters={"container": unique}, decode=True)
        seen = [event["Action"] for event in past]
        assert [name for name in seen if name in ("create", "start", "die", "restart")] == [
            "create", "start", "die", "start", "restart",
        ]  # fmt: skip
        container.stop(timeout=5)
        ended = client.containers.run("busybox", ["true"], detach=True, labels=[unique])
        ended.wait()
        assert ended.id in client.containers.prune(filters={"label": unique})["ContainersDeleted"]
        container.start()
