"""docker-py, the library behind much automation, against our daemon."""

from __future__ import annotations

import io
import os
import socket
import tarfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import docker as docker_py
import pytest
from docker.errors import APIError, BuildError, ContainerError, ImageNotFound, NotFound
from docker.models.containers import Container

from tests.conftest import Http


@pytest.fixture(scope="module")
def client(daemon: Any, busybox_image: str) -> Iterator[docker_py.DockerClient]:
    client = docker_py.DockerClient(base_url=daemon.host, timeout=30)
    yield client
    client.close()


@pytest.fixture
def sleeper(client: docker_py.DockerClient) -> Iterator[Container]:
    container = client.containers.run("busybox", ["sleep", "60"], detach=True)
    yield container
    container.remove(force=True)


def test_ping_version_and_info(client: docker_py.DockerClient) -> None:
    assert client.ping()
    assert client.version()["ApiVersion"] == "1.50"
    assert client.info()["OSType"] == "linux"
    assert set(client.df()) >= {"LayersSize", "Images", "Containers", "Volumes", "BuildCache"}


def test_run_returns_the_output(client: docker_py.DockerClient) -> None:
    output = client.containers.run(
        "busybox",
        ["sh", "-c", "echo $A; pwd; id -u"],
        environment={"A": "b"},
        working_dir="/tmp",
        user="1000",
        remove=True,
    )
    assert output == b"b\n/tmp\n1000\n"


def test_run_that_fails_raises_with_stderr(client: docker_py.DockerClient) -> None:
    with pytest.raises(ContainerError) as error:
        client.containers.run("busybox", ["sh", "-c", "echo no >&2; exit 3"], remove=True)
    assert (error.value.exit_status, error.value.stderr) == (3, b"no\n")
    with pytest.raises(ImageNotFound):
        client.containers.create("no-such-image")
    with pytest.raises(APIError, match="executable file not found"):
        client.containers.run("busybox", ["no-such-command"], remove=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="pausing takes a freezer control group")
def test_life_and_attributes(client: docker_py.DockerClient, unique: str) -> None:
    container = client.containers.create("busybox", ["sleep", "60"], name=unique, labels={"l": unique})
    assert container.status == "created"
    container.start()
    container.reload()
    assert (container.status, container.name, container.labels["l"]) == ("running", unique, unique)
    assert [found.id for found in client.containers.list(filters={"label": f"l={unique}"})] == [container.id]
    container.pause()
    container.unpause()
    assert container.top()["Processes"]
    assert container.stats(stream=False)["pids_stats"]["current"] == 1
    container.stop(timeout=0)
    assert container.wait() == {"StatusCode": 137}
    container.rename(f"{unique}-b")
    container.remove()
    with pytest.raises(NotFound):
        client.containers.get(unique)


def test_logs_stream(client: docker_py.DockerClient) -> None:
    container = client.containers.run(
        "busybox", ["sh", "-c", "for i in 1 2 3; do echo $i; sleep 0.05; done"], detach=True
    )
    assert b"".join(container.logs(stream=True, follow=True)) == b"1\n2\n3\n"
    assert container.logs(tail=1) == b"3\n"
    container.remove()


def test_exec_run_in_its_forms(sleeper: Container) -> None:
    assert sleeper.exec_run(["sh", "-c", "echo o; echo e >&2; exit 2"], demux=True) == (2, (b"o\n", b"e\n"))
    assert sleeper.exec_run("tty", tty=True).output == b"/dev/pts/0\r\n"
    _, stream = sleeper.exec_run(["sh", "-c", "echo a; sleep 0.1; echo b"], stream=True)
    assert b"".join(stream) == b"a\nb\n"
    assert sleeper.exec_run("true", detach=True).output is not None


def test_exec_socket_half_close(client: docker_py.DockerClient, sleeper: Container) -> None:
    identity = client.api.exec_create(sleeper.id, ["sh", "-c", "cat; echo end"], stdin=True)["Id"]
    connection = client.api.exec_start(identity, socket=True)
    connection._sock.sendall(b"in\n")
    connection._sock.shutdown(1)
    received = b""
    while data := connection._sock.recv(4096):
        received += data
    payload = b""
    while received:  # writes that come close together may share a frame
        assert received[:4] == b"\x01\0\0\0"
        end = 8 + int.from_bytes(received[4:8])
        payload, received = payload + received[8:end], received[end:]
    assert payload == b"in\nend\n"
    assert client.api.exec_inspect(identity)["ExitCode"] == 0


def test_attach_socket(client: docker_py.DockerClient) -> None:
    container = client.containers.create("busybox", ["cat"], stdin_open=True)
    attached = container.attach_socket(params={"stdin": 1, "stdout": 1, "stream": 1})
    container.start()
    attached._sock.sendall(b"echo\n")
    assert attached._sock.recv(13) == b"\x01\0\0\0\0\0\0\x05echo\n"
    attached.close()
    container.remove(force=True)


def test_archives(sleeper: Container) -> None:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        member = tarfile.TarInfo("hello")
        member.size = 5
        archive.addfile(member, io.BytesIO(b"world"))
    assert sleeper.put_archive("/root", out.getvalue())
    chunks, stat = sleeper.get_archive("/root/hello")
    assert (stat["name"], stat["size"]) == ("hello", 5)
    with tarfile.open(fileobj=io.BytesIO(b"".join(chunks))) as archive:
        assert archive.getnames() == ["hello"]
    assert {"Path": "/root/hello", "Kind": 1} in sleeper.diff()


def test_build(client: docker_py.DockerClient, tmp_path: Path, unique: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM busybox\nRUN echo {unique}\nLABEL l={unique}\n")
    image, log = client.images.build(path=str(tmp_path), tag=unique, rm=True)
    lines = [line["stream"] for line in log if "stream" in line]
    assert f"{unique}\n" in lines
    assert f"Successfully tagged {unique}:latest\n" in lines
    assert image.tags == [f"{unique}:latest"]
    assert image.labels["l"] == unique
    assert image.history()
    (tmp_path / "Dockerfile").write_text("FROM busybox\nRUN exit 4\n")
    with pytest.raises(BuildError, match="returned a non-zero code: 4"):
        client.images.build(path=str(tmp_path))
    client.images.remove(unique)


def test_images_save_load_tag_prune(client: docker_py.DockerClient, unique: str) -> None:
    image = client.images.get("busybox")
    assert image.tag(unique, "v1")
    archive = b"".join(client.images.get(f"{unique}:v1").save(named=f"{unique}:v1"))
    client.images.remove(f"{unique}:v1")
    loaded = client.images.load(archive)
    assert [one.id for one in loaded] == [image.id]
    assert f"{unique}:v1" in loaded[0].tags
    client.images.remove(f"{unique}:v1")
    assert "SpaceReclaimed" in client.images.prune()
    with pytest.raises(APIError, match="localhost:1"):
        client.images.pull("localhost:1/no/such")


def test_events(client: docker_py.DockerClient, unique: str) -> None:
    seen: list[str] = []
    done = threading.Event()
    stream = client.events(decode=True, filters={"container": unique})

    def listen() -> None:
        for event in stream:
            seen.append(event["Action"])
            if event["Action"] == "destroy":
                break
        done.set()

    threading.Thread(target=listen, daemon=True).start()
    time.sleep(0.2)
    client.containers.run("busybox", ["true"], name=unique, remove=True)
    assert done.wait(10)
    stream.close()
    assert [action for action in seen if action != "attach"] == ["create", "start", "die", "destroy"]


def test_volumes_networks_and_what_is_absent(client: docker_py.DockerClient, unique: str) -> None:
    volume = client.volumes.create(unique, labels={"a": "b"})
    assert volume.attrs["Labels"] == {"a": "b"}
    assert client.containers.run("busybox", ["ls", "/v"], volumes={unique: {"bind": "/v"}}, remove=True) == b""
    volume.remove()
    assert {network.name for network in client.networks.list()} >= {"host", "none"}
    with pytest.raises(APIError, match="not a swarm manager"):
        client.services.list()


@pytest.mark.parametrize("version", ["1.24", "1.41", "1.50"])
def test_old_api_versions_work(daemon: Any, busybox_image: str, version: str) -> None:
    client = docker_py.DockerClient(base_url=daemon.host, version=version)
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    assert client.images.get("busybox").attrs["Size"] > 0
    sleeper = client.containers.run("busybox", ["sleep", "60"], detach=True)
    assert sleeper.exec_run(["sh", "-c", "echo o; echo e >&2"], demux=True).output == (b"o\n", b"e\n")
    sleeper.remove(force=True)
    client.close()


@pytest.mark.skipif(os.geteuid() != 0, reason="a network of one's own takes root, or /dev/net/tun")
def test_what_older_clients_are_told_otherwise(daemon: Any, busybox_image: str, unique: str) -> None:
    daemon.request("POST", "/networks/create", {"Name": unique})
    body = {"Image": "busybox", "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": unique}, "StopTimeout": 0}
    identity = daemon.request("POST", f"/containers/create?name={unique}", body)["Id"]
    aliases = {
        version: daemon.request("GET", f"/v{version}/containers/{unique}/json")["NetworkSettings"]["Networks"][unique]
        for version in ("1.44", "1.45")
    }
    assert identity[:12] in aliases["1.44"]["Aliases"]
    assert not aliases["1.45"]["Aliases"]
    daemon.request("DELETE", f"/containers/{unique}?force=1")
    daemon.request("DELETE", f"/networks/{unique}")
    image = {
        version: daemon.request("GET", f"/v{version}/images/busybox/json") for version in ("1.43", "1.49", "1.50")
    }
    assert image["1.43"]["VirtualSize"] == image["1.43"]["Size"]
    assert [("Hostname" in one["Config"], "ContainerConfig" in one) for one in image.values()] == [
        (True, True), (True, False), (False, False),
    ]  # fmt: skip
    assert "seccomp" in daemon.request("GET", "/v1.24/info")["SecurityOptions"]
    assert "name=seccomp,profile=builtin" in daemon.request("GET", "/v1.25/info")["SecurityOptions"]


@pytest.mark.parametrize(("version", "kind"), [("1.41", "raw"), ("1.42", "multiplexed")])
def test_the_kind_of_stream_has_a_name_since_1_42(daemon: Any, busybox_image: str, version: str, kind: str) -> None:
    identity = daemon.request("POST", "/containers/create", {"Image": "busybox", "Cmd": ["echo", "hi"]})["Id"]
    daemon.request("POST", f"/containers/{identity}/start")
    daemon.request("POST", f"/containers/{identity}/wait")
    connection = Http(daemon.socket)
    connection.request("GET", f"/v{version}/containers/{identity}/logs?stdout=1")
    answer = connection.getresponse()
    assert answer.headers["Content-Type"] == f"application/vnd.docker.{kind}-stream"
    assert answer.read() == b"\x01\0\0\0\0\0\0\x03hi\n"
    connection.close()
    daemon.request("DELETE", f"/containers/{identity}")


def test_health_is_followed_to_healthy_and_beyond(client: docker_py.DockerClient, unique: str) -> None:
    container = client.containers.run(
        "busybox",
        ["sleep", "60"],
        name=unique,
        detach=True,
        healthcheck={"test": ["CMD", "test", "-e", "/up"], "interval": 100_000_000, "retries": 2},
    )
    statuses = (event["Action"] for event in client.events(decode=True, filters={"container": unique}))
    assert next(action for action in statuses if "health" in action) == "health_status: unhealthy"
    container.exec_run("touch /up")
    assert next(action for action in statuses if "health_status" in action) == "health_status: healthy"
    container.reload()
    assert container.health == "healthy"
    assert {result["ExitCode"] for result in container.attrs["State"]["Health"]["Log"]} <= {0, 1}
    container.remove(force=True)


def test_restart_policies_and_restart(client: docker_py.DockerClient) -> None:
    policy: Any = {"Name": "on-failure", "MaximumRetryCount": 2}
    failing = client.containers.run("busybox", ["false"], detach=True, restart_policy=policy)
    for _ in range(100):
        failing.reload()
        if failing.status == "exited":
            break
        time.sleep(0.05)
    assert (failing.attrs["RestartCount"], failing.attrs["State"]["ExitCode"]) == (2, 1)
    failing.remove()
    sleeping = client.containers.run("busybox", ["sleep", "60"], detach=True)
    before = sleeping.attrs["State"]["StartedAt"]
    sleeping.restart(timeout=0)
    sleeping.reload()
    assert (sleeping.status, sleeping.attrs["State"]["StartedAt"] > before) == ("running", True)
    sleeping.remove(force=True)


@pytest.mark.skipif(os.geteuid() != 0, reason="limits take control groups")
def test_limits_are_set_changed_and_streamed(client: docker_py.DockerClient) -> None:
    container = client.containers.run("busybox", ["sleep", "60"], detach=True, mem_limit="64m", pids_limit=20)
    samples = container.stats(decode=True)
    assert next(samples)["memory_stats"]["limit"] == 64 << 20
    container.update(mem_limit="128m", memswap_limit="256m", restart_policy={"Name": "always"})
    assert next(samples)["memory_stats"]["limit"] == 128 << 20
    container.reload()
    assert container.attrs["HostConfig"]["RestartPolicy"]["Name"] == "always"
    container.remove(force=True)


def test_commit_export_attach_and_wait_for_removal(client: docker_py.DockerClient, unique: str) -> None:
    container = client.containers.run("busybox", ["sh", "-c", "echo made > /made; echo said"], detach=True)
    assert container.wait(condition="not-running")["StatusCode"] == 0
    assert container.attach(logs=True, stream=False) == b"said\n"
    image = container.commit(unique, changes=["CMD cat /made"])
    assert client.containers.run(image, remove=True) == b"made\n"
    with tarfile.open(fileobj=io.BytesIO(b"".join(container.export()))) as archive:
        assert "made" in archive.getnames()
    gone = threading.Thread(target=lambda: container.wait(condition="removed"))
    gone.start()
    time.sleep(0.1)
    assert container.id in client.containers.prune()["ContainersDeleted"]
    gone.join(10)
    assert not gone.is_alive()
    client.images.remove(unique)


def test_the_head_of_an_attachs_answer_comes_alone(daemon: Any, busybox_image: str, unique: str) -> None:
    """docker-py reads it through a buffer and loses what comes in the same read."""
    body = {"Image": "busybox", "Cmd": ["echo", "hi"], "HostConfig": {"NetworkMode": "none"}}
    daemon.request("POST", f"/containers/create?name={unique}", body)
    daemon.request("POST", f"/containers/{unique}/start")
    daemon.request("POST", f"/containers/{unique}/wait")
    with socket.socket(socket.AF_UNIX) as client:
        client.connect(daemon.socket)
        client.sendall(b"POST /containers/%b/attach?logs=1&stdout=1 HTTP/1.1\r\nHost: d\r\n\r\n" % unique.encode())
        time.sleep(0.05)
        head = client.recv(65536)
        assert head.endswith(b"\r\n\r\n") and client.recv(65536).endswith(b"hi\n")
    daemon.request("DELETE", f"/containers/{unique}")
