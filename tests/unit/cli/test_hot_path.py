"""What a start of the CLI costs: the modules it must not import, verb by verb."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

HEAVY = {
    "typer",
    "click",
    "rich",
    "asyncio",
    "aiohttp",
    "email",
    "http",
    "http.client",
    "ssl",
    "inspect",
    "dataclasses",
    "typing",
    "subprocess",
    "logging",
    "tempfile",
    "shutil",
    "hashlib",
    "random",
    "urllib.request",
    "importlib.metadata",
    "jinja2",
    "msgspec",
    "networkx",
    "yaml",
    "lark",
    "tarfile",
    "datetime",
    "concurrent.futures",
    "threading",
    "argparse",
    "pathlib",
}
# What the interpreter itself has loaded before our code runs (an editable install's finder brings pathlib along).
PROBE = """
import json, os, sys
before = set(sys.modules)
from buildtool.cli import main
code = main.run(sys.argv[1:])
print(json.dumps([code, sorted(set(sys.modules) - before)]), file=sys.stderr)
"""
CONTAINER = "0" * 64

SERVER = """
import json, os, socket, sys
listener = socket.socket(socket.AF_UNIX)
listener.bind(sys.argv[1])
listener.listen(8)
print("listening", flush=True)
DETAILS = {"Id": "0" * 64, "ExitCode": 0, "StatusCode": 0, "Warnings": [], "Config": {}}
ANSWERS = {"/containers/json": [], "/images/json": [], "/version": {"Version": "1"}}
while True:
    connection, _ = listener.accept()
    if os.fork():
        connection.close()
        continue
    data = b""
    while True:
        part = connection.recv(65536)
        if not part:
            os._exit(0)
        data += part
        if b"\\r\\n\\r\\n" not in data:
            continue
        head, _, rest = data.partition(b"\\r\\n\\r\\n")
        length = next((int(l[15:]) for l in head.split(b"\\r\\n") if l.lower().startswith(b"content-length:")), 0)
        if len(rest) < length:
            continue
        data = rest[length:]
        path = head.split()[1].decode().partition("?")[0]
        if path.endswith("/attach") or b"Upgrade: tcp" in head:
            connection.sendall(b"HTTP/1.1 101 UPGRADED\\r\\nUpgrade: tcp\\r\\n\\r\\n")
            os._exit(0)
        if path == "/buildtool/v1/build":
            body = b'{"event":"step_started","index":1,"total":1,"name":"RUN x","span":null}\\n'
            body += b'{"event":"step_cached","index":1}\\n'
            body += b'{"event":"result","image_id":"sha256:1","tags":[],"steps":[],"warnings":[]}\\n'
        elif path.endswith("/logs"):
            body = b""
        else:
            body = json.dumps(ANSWERS.get(path, DETAILS)).encode()
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % len(body) + body)
"""


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory):  # type: ignore[no-untyped-def]
    path = tmp_path_factory.mktemp("hot") / "s"
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(path)], stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    process.stdout.readline()
    yield f"unix://{path}"
    process.kill()
    process.wait()
    process.stdout.close()


@pytest.mark.parametrize(
    "words",
    [
        ["ps", "-a"],
        ["images"],
        ["version"],
        ["run", "--rm", "-e", "A=1", "busybox", "true"],
        ["run", "-d", "-v", "/a:/b", "-p", "80:80", "busybox"],
        ["exec", CONTAINER, "true"],
        ["build", "--progress", "plain", "CONTEXT"],
        ["rm", "-f", "x"],
        ["logs", "x"],
        ["ps", "--bogus"],
    ],
)
def test_nothing_heavy_is_imported(server: str, tmp_path: Path, words: list[str]) -> None:
    (tmp_path / "Buildfile").write_text("FROM scratch\n")
    words = [str(tmp_path) if word == "CONTEXT" else word for word in words]
    done = subprocess.run(
        [sys.executable, "-I", "-c", PROBE, "-H", server, *words],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    code, modules = json.loads(done.stderr.splitlines()[-1])
    assert code == (125 if "--bogus" in words else 0), done.stderr
    assert sorted(set(modules) & HEAVY) == []
    assert not [name for name in modules if name.startswith(("buildtool.cache", "buildtool.daemon", "buildtool.oci"))]
