"""Starting buildtool's own daemon when nobody listens: once, however many commands ask at the same time."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
import subprocess
import sys
import time

from buildtool.client.address import Address
from buildtool.client.http import unreachable
from buildtool.errors import DaemonUnreachable
from buildtool.places import default_socket

_WAIT_SECONDS = 30.0
_FIRST_PAUSE = 0.01
_LONGEST_PAUSE = 0.1
_SHOWN_LINES = 15
IDLE_TIMEOUT = 900


def run_directory(address: Address) -> str:
    """Where the daemon of this address keeps its log and its start lock.

    The folder of the socket, but `<root>/run` when another data root was named together with another socket.
    """
    if address.root and address.path != default_socket():
        return f"{address.root}/run"
    return os.path.dirname(address.path)


def start_daemon(address: Address, directory: str = "") -> int:
    """Start a daemon in the background and return when it listens on `address`; its pid, 0 when it was there already.

    `directory` is for the log and the lock, when not the usual one.
    A lock in the run directory makes sure that of several callers one starts it and the others wait for it. Raises
    DaemonUnreachable with the daemon's own last words when it dies, or when it does not listen within 30 seconds.
    """
    directory = directory or run_directory(address)
    try:
        os.makedirs(directory, mode=0o711, exist_ok=True)
        os.makedirs(os.path.dirname(address.path), mode=0o711, exist_ok=True)
        lock = os.open(f"{directory}/daemon.start.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise DaemonUnreachable(
            f"no daemon listens on {address}, and none can be started there: {error.strerror}: {error.filename}",
            hint="Run the command as root, or set XDG_RUNTIME_DIR (or BUILDTOOL_HOST) to a place you may write to.",
        ) from error
    try:
        _lock(lock, address)
        if _listens(address):
            return 0
        return _start_and_wait(address, f"{directory}/daemon.log")
    finally:
        os.close(lock)


def _lock(lock: int, address: Address) -> None:
    """Take the lock; a holder that is starting the daemon makes us wait, and may make it needless."""
    deadline = time.monotonic() + _WAIT_SECONDS
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            return
        except BlockingIOError:
            if _listens(address):
                return
            if time.monotonic() > deadline:
                raise DaemonUnreachable(
                    f"another command has been starting the daemon at {address} for {_WAIT_SECONDS:.0f} seconds",
                    hint="Look for a hanging `buildtool daemon` process and its log beside the socket.",
                ) from None
            time.sleep(_LONGEST_PAUSE / 2)


def _listens(address: Address) -> bool:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        code = probe.connect_ex(address.path)
    if code == errno.EACCES:
        raise unreachable(address, PermissionError(code, os.strerror(code)))
    return code == 0


def daemon_command(address: Address) -> list[str]:
    """How a daemon for this address is started."""
    command = [sys.executable, "-m", "buildtool.daemon.main", "-H", str(address)]
    if address.root:
        command += ["--root", address.root]
    return [*command, "--idle-timeout", os.environ.get("BUILDTOOL_IDLE_TIMEOUT", str(IDLE_TIMEOUT))]


def _start_and_wait(address: Address, log_path: str) -> int:
    environment = dict(os.environ, BUILDTOOL_HOST=str(address))
    if address.root:
        environment["BUILDTOOL_ROOT"] = address.root
    with open(log_path, "ab") as log:
        begin = log.tell()
        process = subprocess.Popen(
            daemon_command(address),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            cwd="/",
            env=environment,
            start_new_session=True,
            close_fds=True,
        )
    deadline = time.monotonic() + _WAIT_SECONDS
    pause = _FIRST_PAUSE
    while not _listens(address):
        code = process.poll()
        if code is not None:
            how = f"was killed by signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise DaemonUnreachable(
                f"the daemon could not be started: it {how}\n{_last_words(log_path, begin)}".rstrip(),
                hint=f"Its log is {log_path}.",
            )
        if time.monotonic() > deadline:
            process.terminate()
            raise DaemonUnreachable(
                f"the daemon does not listen on {address} after {_WAIT_SECONDS:.0f} seconds",
                hint=f"Its log is {log_path}.",
            )
        time.sleep(pause)
        pause = min(pause * 1.5, _LONGEST_PAUSE)
    # It is to outlive this command; its exit status is nobody's business here.
    process.returncode = 0
    return process.pid


def _last_words(log_path: str, begin: int) -> str:
    """What the daemon wrote since it was started, the last lines of it."""
    with open(log_path, "rb") as log:
        log.seek(begin)
        text = log.read().decode("utf-8", "replace")
    return "\n".join(text.strip().splitlines()[-_SHOWN_LINES:])
