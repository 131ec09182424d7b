"""Daemons that are somewhere else: TCP with mutual TLS, ssh, docker contexts — with three clients."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import docker as docker_py
import pytest
from docker.tls import TLSConfig

from tests.certificates import make_certificates
from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox


class Far:
    """A daemon that listens on TCP with TLS, and where its certificates are."""

    def __init__(self, folder: Path) -> None:
        make_certificates(folder)
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        self.folder, self.url = folder, f"tcp://127.0.0.1:{port}"
        self.daemon = Daemon()
        certificates = ("--tlscacert", f"{folder}/ca.pem", "--tlscert", f"{folder}/server.pem")
        self.daemon.flags = (
            *("-H", self.daemon.host, "-H", self.url, "--tlsverify", *certificates),
            *("--tlskey", f"{folder}/server-key.pem"),
        )
        client = folder / "client"
        client.mkdir()
        for source, target in (("ca", "ca"), ("client", "cert"), ("client-key", "key")):
            shutil.copy(folder / f"{source}.pem", client / f"{target}.pem")
        plain = {name: value for name, value in os.environ.items() if not name.startswith(("DOCKER_", "BUILDTOOL_"))}
        self.environment = {**plain, "DOCKER_CONFIG": str(folder / "config"), "DOCKER_BUILDKIT": "0"}
        self.tls = {"DOCKER_HOST": self.url, "DOCKER_TLS_VERIFY": "1", "DOCKER_CERT_PATH": str(client)}


@pytest.fixture(scope="module")
def far(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Far]:
    far = Far(tmp_path_factory.mktemp("far"))
    try:
        far.daemon.start()
        load_busybox(far.daemon)
        yield far
    finally:
        far.daemon.close()


def clients(far: Far) -> list[Program]:
    found = [Program(BUILDTOOL, far.environment)]
    stock = shutil.which("docker")
    return [*found, Program(stock, far.environment)] if stock else found


def test_streams_over_tls_with_half_close(far: Far) -> None:
    for client in clients(far):
        done = client("run", "--rm", "-i", "--network", "none", "busybox", "sh", "-c", "wc -c; echo e >&2; exit 3",
                      input="x" * 300_000, env=far.tls, check=False)  # fmt: skip
        assert (done.stdout, done.stderr, done.returncode) == ("300000\n", "e\n", 3), client.program
    assert "(client)" in far.daemon.log


def test_a_build_over_tls_sends_its_context(far: Far, tmp_path: Path) -> None:
    (tmp_path / "Dockerfile").write_text("FROM busybox\nCOPY f /f\nRUN cat /f\n")
    (tmp_path / "f").write_text("far away\n")
    for client in clients(far):
        done = client("build", "--no-cache", "-t", "far", str(tmp_path), env=far.tls)
        assert "far away" in done.stdout + done.stderr


def test_docker_py_over_tls(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"):  # requests lets them win over what docker-py says
        monkeypatch.delenv(name, raising=False)
    folder = far.tls["DOCKER_CERT_PATH"]
    tls = TLSConfig(client_cert=(f"{folder}/cert.pem", f"{folder}/key.pem"), ca_cert=f"{folder}/ca.pem", verify=True)
    client = docker_py.DockerClient(base_url=far.url.replace("tcp", "https"), tls=tls)
    assert client.containers.run("busybox", ["echo", "hi"], remove=True) == b"hi\n"
    container = client.containers.run("busybox", ["sleep", "60"], detach=True)
    assert container.exec_run(["echo", "in"]).output == b"in\n"
    container.remove(force=True)
    client.close()


def test_who_shows_no_certificate_gets_nothing(far: Far) -> None:
    for client in clients(far):
        done = client("ps", env={**far.tls, "DOCKER_CERT_PATH": "/nonexistent"}, check=False)
        assert done.returncode != 0
        done = client("ps", env={"DOCKER_HOST": far.url}, check=False)
        assert done.returncode != 0
    assert "refused a connection from 127.0.0.1" in far.daemon.log


def test_flags_name_the_certificates(far: Far) -> None:
    folder = far.tls["DOCKER_CERT_PATH"]
    flags = ("--tlsverify", "--tlscacert", f"{folder}/ca.pem", "--tlscert", f"{folder}/cert.pem",
             "--tlskey", f"{folder}/key.pem")  # fmt: skip
    for client in clients(far):
        assert "busybox" in client("-H", far.url, *flags, "images").stdout
    done = clients(far)[0]("-H", far.url, "--tlsverify", "ps", check=False)
    assert "the certificate cannot be verified" in done.stderr


def test_a_context_made_by_either_client_is_understood_by_the_other(far: Far) -> None:
    folder = far.tls["DOCKER_CERT_PATH"]
    endpoint = f"host={far.url},ca={folder}/ca.pem,cert={folder}/cert.pem,key={folder}/key.pem"
    programs = clients(far)
    for maker in programs:
        name = f"by-{Path(maker.program).name}"
        maker("context", "create", name, "--docker", endpoint, "--description", "far away")
        for user in programs:
            assert "busybox" in user("--context", name, "images").stdout
            assert name in user("context", "ls", "-q").stdout.split()
            assert json.loads(user("context", "inspect", name).stdout)[0]["Endpoints"]["docker"]["Host"] == far.url
    ours = programs[0]
    ours("context", "use", "by-buildtool")
    for user in programs:
        assert user("context", "inspect", "--format", "{{.Name}}").stdout == "by-buildtool\n"
        assert user("run", "--rm", "-i", "busybox", "cat", input="through a context").stdout == "through a context"
    assert "is in use" in ours("context", "rm", "by-buildtool", check=False).stderr
    ours("context", "use", "default")
    ours("context", "rm", *(f"by-{Path(maker.program).name}" for maker in programs))
    assert ours("context", "ls", "-q").stdout == "default\n"
    assert "context not found" in ours("--context", "by-buildtool", "ps", check=False).stderr


def test_contexts_travel_as_files_of_both_clients(far: Far, tmp_path: Path) -> None:
    folder = far.tls["DOCKER_CERT_PATH"]
    endpoint = f"host={far.url},ca={folder}/ca.pem,cert={folder}/cert.pem,key={folder}/key.pem"
    programs = clients(far)
    programs[0]("context", "create", "origin", "--docker", endpoint, "--description", "far")
    names = ["origin"]
    for number, maker in enumerate(programs):
        file = tmp_path / f"{number}.dockercontext"
        maker("context", "export", "origin", file)
        assert "exist" in maker("context", "export", "origin", file, check=False).stderr
        for user in programs:
            names.append(f"copy{len(names)}")
            user("context", "import", names[-1], file)
            assert "busybox" in programs[0]("--context", names[-1], "images").stdout
    names.append("twin")
    programs[0]("context", "create", "twin", "--from", "origin")
    assert "busybox" in programs[-1]("--context", "twin", "images").stdout
    for data, why in ((b"no archive", "neither a tar nor a zip"), (b"", "neither")):
        done = programs[0]("context", "import", "new", "-", input=data, check=False, text=False)
        assert done.returncode == 1 and why in done.stderr.decode()
    packed = programs[0]("context", "export", "origin", "-", text=False).stdout
    programs[0]("context", "import", "piped", "-", input=packed, text=False)
    programs[0]("context", "rm", "piped", *names)


@pytest.fixture
def ssh(far: Far, tmp_path: Path) -> dict[str, str]:
    """An `ssh` that runs its command here, as the machine `far`, where only buildtool is installed."""
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    script = (
        "#!/bin/sh\n"
        'while [ "$1" != -- ]; do shift; done\n'
        'shift; [ "$1" = far ] || { echo "ssh: could not resolve $1" >&2; exit 255; }\n'
        f"shift; unset DOCKER_HOST; export BUILDTOOL_HOST={far.daemon.host}\n"
        f'PATH={Path(BUILDTOOL).parent}:/usr/bin:/bin exec sh -c "$*"\n'
    )
    (bin_folder / "ssh").write_text(script)
    (bin_folder / "ssh").chmod(0o755)
    return {"PATH": f"{bin_folder}:{os.environ['PATH']}", "DOCKER_HOST": "ssh://me@far:22"}


def test_streams_through_ssh_with_half_close(far: Far, ssh: dict[str, str], tmp_path: Path) -> None:
    ours = clients(far)[0]
    done = ours(
        "run", "--rm", "-i", "busybox", "sh", "-c", "wc -c; exit 4", input="x" * 300_000, env=ssh, check=False
    )
    assert (done.stdout, done.returncode) == ("300000\n", 4), done.stderr
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text("FROM busybox\nCOPY f /f\n")
    (context / "f").write_text("x")
    ours("build", "-t", "by-ssh", str(context), env=ssh)
    assert ours("run", "--rm", "by-ssh", "cat", "/f", env=ssh).stdout == "x"


def test_ssh_that_leads_nowhere_says_so(far: Far, ssh: dict[str, str]) -> None:
    done = clients(far)[0]("ps", env={**ssh, "DOCKER_HOST": "ssh://elsewhere"}, check=False)
    assert done.returncode == 1
    assert "could not resolve elsewhere" in done.stderr
    assert "ssh://elsewhere" in done.stderr


def test_dial_stdio_is_what_dockers_own_ssh_runs(far: Far) -> None:
    """`docker -H ssh://…` runs `docker system dial-stdio` over there; ours answers to the same words."""
    request = b"GET /_ping HTTP/1.1\r\nHost: d\r\nConnection: close\r\n\r\n"
    environment = {**far.environment, "BUILDTOOL_HOST": far.daemon.host}
    process = subprocess.Popen(
        [BUILDTOOL, "system", "dial-stdio"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert process.stdin is not None and process.stdout is not None
    process.stdin.write(request)
    process.stdin.flush()
    assert process.stdout.read().endswith(b"OK")
    process.communicate()
    assert process.returncode == 0
