"""A web server on this machine for tests: files with validators, redirects, and git repositories."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

MODIFIED = "Fri, 02 Jan 2015 03:04:05 GMT"
MODIFIED_EPOCH = 1420167845


@dataclass
class Web:
    """`files` by path; `headers` are sent with a path; `redirects` from path to URL; `asked` tells what was."""

    url: str
    repositories: Path
    files: dict[str, bytes] = field(default_factory=dict)
    headers: dict[str, dict[str, str]] = field(default_factory=dict)
    redirects: dict[str, str] = field(default_factory=dict)
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    statuses: list[int] = field(default_factory=list)
    authorization: str = ""
    dumb: bool = False
    """Serve repositories as plain files."""

    def repository(self, name: str, **files: str) -> Repository:
        """A repository with one commit of these files (`__` in a name is a slash), at `<url>/<name>.git`."""
        repository = Repository(self.repositories / f"{name}.git", f"{self.url}/{name}.git")
        repository.git("init", "--quiet", "--initial-branch=main", str(repository.path))
        repository.git("config", "http.uploadpack", "true")
        repository.commit(**files)
        return repository


@dataclass
class Repository:
    """A repository with a work tree, served over http."""

    path: Path
    url: str

    def git(self, *args: str) -> str:
        """Run git in it, at a fixed time."""
        self.path.mkdir(exist_ok=True, parents=True)
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_AUTHOR_DATE": "1500000000 +0000",
            "GIT_COMMITTER_DATE": "1500000000 +0000",
        }
        identity = ("-c", "user.name=T", "-c", "user.email=t@example.com", "-c", "protocol.file.allow=always")
        done = subprocess.run(
            ["git", *identity, *args], cwd=self.path, env=environment, check=True, capture_output=True, text=True
        )
        return done.stdout.strip()

    def commit(self, **files: str) -> str:
        """Write files, commit them, and return the commit."""
        for name, content in files.items():
            path = self.path / name.replace("__", "/")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "-m", "change")
        return self.git("rev-parse", "HEAD")


@contextlib.contextmanager
def web_server(directory: Path) -> Iterator[Web]:
    """Serve until the block ends."""

    class Handler(_Handler):
        web: Web

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    web = Handler.web = Web(f"http://127.0.0.1:{server.server_port}", directory)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield web
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    web: Web

    def do_GET(self) -> None:
        web = self.web
        path, _, query = self.path.partition("?")
        if path.startswith("http://"):  # asked as a proxy
            path = "/proxied/" + path.partition("://")[2].partition("/")[2]
        web.asked.append((path, {name.lower(): value for name, value in self.headers.items()}))
        if web.authorization and self.headers.get("Authorization") != web.authorization:
            self._answer(401, b"who are you", {"WWW-Authenticate": "Basic"})
        elif path in web.redirects:
            self._answer(302, b"", {"Location": web.redirects[path]})
        elif ".git/" in path:
            self._git(path, query)
        elif path in web.files:
            self._file(path)
        else:
            self._answer(404, b"nothing")

    do_POST = do_GET

    def _file(self, path: str) -> None:
        data = self.web.files[path]
        tag = f'"{hashlib.sha256(data).hexdigest()[:16]}"'
        headers = {"ETag": tag, "Last-Modified": MODIFIED} | self.web.headers.get(path, {})
        if self.headers.get("If-None-Match") == headers["ETag"]:
            self._answer(304, b"", headers)
        else:
            self._answer(200, data, headers)

    def _git(self, path: str, query: str) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        if self.headers.get("Transfer-Encoding") == "chunked":
            body = b""
            while size := int(self.rfile.readline().strip() or b"0", 16):
                body += self.rfile.read(size)
                self.rfile.readline()
        name, _, rest = path.partition(".git/")
        if self.web.dumb:
            file = self.web.repositories / f"{name.strip('/')}.git/.git" / rest
            self._answer(*((200, file.read_bytes()) if file.is_file() else (404, b"")))
            return
        environment = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "GIT_PROJECT_ROOT": str(self.web.repositories),
            "GIT_HTTP_EXPORT_ALL": "1",
            "PATH_INFO": f"{name}.git/.git/{rest}",
            "QUERY_STRING": query,
            "REQUEST_METHOD": self.command,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "CONTENT_LENGTH": str(len(body)),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
        }
        done = subprocess.run(["git", "http-backend"], input=body, env=environment, capture_output=True, check=False)
        head, _, data = done.stdout.partition(b"\r\n\r\n")
        headers = dict(line.split(": ", 1) for line in head.decode().split("\r\n") if ": " in line)
        status = int(headers.pop("Status", "200").split()[0])
        self._answer(status, data, headers)

    def _answer(self, status: int, data: bytes, headers: dict[str, str] | None = None) -> None:
        self.web.statuses.append(status)
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *args: object) -> None:
        """Quiet."""
