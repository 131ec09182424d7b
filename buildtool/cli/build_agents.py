"""`--ssh`: agents lent to RUN --mount=type=ssh, over a session with the daemon.

The daemon never opens an agent's socket: this process does, for each connection that a step makes, so that agents of
other users and daemons on other machines work alike. Keys given as files are served by an ssh-agent of their own.
"""

from __future__ import annotations

import os
import secrets
import select
import shutil
import socket
import stat
import struct
import subprocess
import tempfile
import threading

from buildtool.errors import InvalidInput, NotFound, Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from buildtool.client import Client, RawStream

_HEAD = struct.Struct(">cLL")


class Agents:
    """The agents of one build, lent while it is entered. `session` names the session, `names` are the agents' ids."""

    def __init__(self, client: Client, items: list[str]) -> None:
        self.session = secrets.token_hex(16)
        self._client = client
        self._directory = ""
        self._processes: list[subprocess.Popen[bytes]] = []
        self._sockets: dict[str, str] = {}
        self._stream: RawStream | None = None
        self._items = items

    @property
    def names(self) -> list[str]:
        """The ids."""
        return list(self._sockets)

    def __enter__(self) -> Agents:
        try:
            for item in self._items:
                name, _, paths = item.partition("=")
                if not name or name in self._sockets:
                    problem = "is given twice" if name else "has no name"
                    raise InvalidInput(f"invalid --ssh {item!r}: it {problem}", hint="write default or NAME=SOCKET")
                self._sockets[name] = self._socket(name, [path for path in paths.split(",") if path])
            self._stream = self._client.hijack(f"/buildtool/v1/sessions/{self.session}")
            threading.Thread(target=_Relay(self._stream, self._sockets).run, daemon=True).start()
        except BaseException:
            self._close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._close()

    def _close(self) -> None:
        if self._stream is not None:
            self._stream.end_input()
        for process in self._processes:
            process.terminate()
            process.wait()
        if self._directory:
            shutil.rmtree(self._directory, ignore_errors=True)

    def _socket(self, name: str, paths: list[str]) -> str:
        """The agent's socket: the user's own, the one that is named, or one of an agent with the keys that are."""
        if not paths:
            own = os.environ.get("SSH_AUTH_SOCK", "")
            if not own:
                hint = f"start one: eval $(ssh-agent) && ssh-add, or name a socket or key: --ssh {name}=PATH"
                raise NotFound(f"--ssh {name}: there is no ssh agent: SSH_AUTH_SOCK is not set", hint=hint)
            paths = [own]
        sockets = []
        for path in paths:
            try:
                if stat.S_ISSOCK(os.stat(path).st_mode):
                    sockets.append(path)
            except OSError as error:
                raise NotFound(f"--ssh {name}: {path}: {error.strerror}") from None
        if sockets and len(paths) > 1:
            raise InvalidInput(f"--ssh {name}: only one socket is allowed, and no keys beside it")
        return sockets[0] if sockets else self._agent(name, paths)

    def _agent(self, name: str, keys: list[str]) -> str:
        if shutil.which("ssh-agent") is None or shutil.which("ssh-add") is None:
            raise Unavailable(
                f"--ssh {name}: keys in files need ssh-agent and ssh-add, which are not installed here",
                hint="install OpenSSH's client, or name the socket of an agent",
            )
        if not self._directory:
            self._directory = tempfile.mkdtemp(prefix="buildtool-ssh-")
        path = os.path.join(self._directory, f"{len(self._processes)}")
        process = subprocess.Popen(
            ["ssh-agent", "-D", "-a", path], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, start_new_session=True
        )
        self._processes.append(process)
        assert process.stdout is not None
        process.stdout.readline()  # it listens
        for key in keys:
            added = subprocess.run(
                ["ssh-add", "-q", key], env=os.environ | {"SSH_AUTH_SOCK": path}, stderr=subprocess.PIPE, check=False
            )
            if added.returncode:
                reason = added.stderr.decode(errors="replace").strip()
                raise InvalidInput(f"--ssh {name}: the key {key} cannot be used: {reason}")
        return path


class _Relay:
    """Connects what the daemon opens with the agents, in a thread."""

    def __init__(self, stream: RawStream, sockets: dict[str, str]) -> None:
        self._stream = stream
        self._sockets = sockets
        self._connections: dict[int, socket.socket] = {}
        self._buffer = b""
        self._sending = threading.Lock()

    def run(self) -> None:
        """Relay until the daemon or this process closes the session."""
        try:
            while True:
                numbers = {connection.fileno(): number for number, connection in self._connections.items()}
                wait = 0 if self._stream.pending else None
                ready, _, _ = select.select([self._stream.fileno(), *numbers], [], [], wait)
                if self._stream.pending or self._stream.fileno() in ready:
                    data = self._stream.receive()
                    if not data:
                        return
                    self._take(data)
                for fd in ready:
                    if fd in numbers and numbers[fd] in self._connections:
                        self._pass_on(numbers[fd])
        except OSError:
            return  # the session is gone, and with it the build
        finally:
            for connection in self._connections.values():
                connection.close()

    def _pass_on(self, number: int) -> None:
        try:
            data = self._connections[number].recv(65536)
        except OSError:
            data = b""
        self._send(b"d" if data else b"e", number, data)
        if not data:
            self._connections.pop(number).close()

    def _take(self, data: bytes) -> None:
        self._buffer += data
        while len(self._buffer) >= _HEAD.size:
            kind, number, length = _HEAD.unpack_from(self._buffer)
            if len(self._buffer) < _HEAD.size + length:
                return
            payload = self._buffer[_HEAD.size : _HEAD.size + length]
            self._buffer = self._buffer[_HEAD.size + length :]
            self._frame(kind, number, payload)

    def _frame(self, kind: bytes, number: int, payload: bytes) -> None:
        if kind == b"o":
            connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
            try:
                connection.connect(self._sockets[payload.decode().removeprefix("ssh/")])
            except (OSError, KeyError):
                connection.close()
                self._send(b"x", number)
                return
            self._connections[number] = connection
            return
        known = self._connections.get(number)
        if known is None:
            return
        try:
            if kind == b"d":
                known.sendall(payload)
            elif kind == b"e":
                known.shutdown(socket.SHUT_WR)
            elif kind == b"x":
                self._connections.pop(number).close()
        except OSError:
            self._connections.pop(number).close()
            self._send(b"x", number)

    def _send(self, kind: bytes, number: int, payload: bytes = b"") -> None:
        left = _HEAD.pack(kind, number, len(payload)) + payload
        while left:
            sent = self._stream.send_some(left)
            if sent < 0:
                raise ConnectionResetError
            if sent == 0:
                select.select([], [self._stream.fileno()], [])
            left = left[sent:]
