# ruff: noqa: PTH103, PTH108, PTH119, PTH123
"""Another OCI runtime program (runc, crun, youki, runsc …) below the shim.

The shim stays what it is: it holds streams, log and control groups, reaps and answers. What it would fork itself is
made by the program. A driver, forked for each process, calls it and tells the pid of what came of it; the shim is the
process's subreaper. Source: OCI runtime-spec v1.2, runtime.md; the command line is runc's, which all others share.
"""

from __future__ import annotations

import array
import json
import os
import socket
import subprocess
from typing import Any

from buildtool.runtime import process
from buildtool.runtime import syscalls as sc
from buildtool.runtime.init import mount_root, report
from buildtool.runtime.process import NOT_EXECUTABLE, NOT_FOUND, OTHER, Identity, StartError

Spec = dict[str, Any]
_SECONDS = 60


class Foreign:
    """One container of `program`, whose bundle is `directory`."""

    def __init__(self, program: str, directory: str, identity: str) -> None:
        self._program, self._directory, self._id = program, directory, identity
        self._state = f"{directory}/oci"

    def drive_init(
        self, rootfs: Spec, who: Identity, channel: socket.socket, stdio: tuple[int, int, int] | None
    ) -> None:
        """In the driver: mount the root where only the container will see it, create it, wait, start it."""
        process.reset_signals()
        sc.close_all_but(channel.fileno(), *(stdio or ()))
        sc.unshare(sc.CLONE_NEWNS)
        sc.mount(None, "/", None, sc.MS_REC | sc.MS_SLAVE)
        os.close(mount_root(rootfs, who))
        os.makedirs(self._state, 0o700, exist_ok=True)
        with _Console(f"{self._state}/console") as console:
            arguments = ["--bundle", self._directory]
            if stdio is None:
                arguments += ["--console-socket", console.path]
            pid = self._call("create", arguments, stdio)
            if stdio is None:
                report(channel, {}, console.master())
        report(channel, {"ready": True, "pid": pid})
        if channel.recv(16) == b"start":
            self._call("start", [], None, pid_file=False)
        os._exit(0)

    def drive_exec(
        self, name: str, document: Spec, channel: socket.socket, stdio: tuple[int, int, int] | None
    ) -> None:
        """In the driver: wait for the start, run the further process, tell its pid."""
        process.reset_signals()
        sc.close_all_but(channel.fileno(), *(stdio or ()))
        report(channel, {"ready": True})
        if channel.recv(16) != b"start":
            os._exit(0)
        path = f"{self._state}/{name}.json"
        with open(path, "w", encoding="utf-8") as file:
            json.dump(document, file)
        with _Console(f"{self._state}/{name}.console") as console:
            arguments = ["--detach", "--process", path]
            if stdio is None:
                arguments += ["--tty", "--console-socket", console.path]
            pid = self._call("exec", arguments, stdio, name=name)
            os.unlink(path)
            report(channel, {"pid": pid}, console.master() if stdio is None else -1)
        channel.recv(16)  # until the shim knows whom to reap
        os._exit(0)

    def delete(self) -> None:
        """Let the program forget the container."""
        command = [self._program, "--root", f"{self._state}/root", "delete", "--force", self._id]
        try:
            subprocess.run(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                timeout=_SECONDS, check=False,
            )  # fmt: skip
        except (OSError, subprocess.TimeoutExpired):
            return

    def _call(
        self,
        verb: str,
        arguments: list[str],
        stdio: tuple[int, int, int] | None,
        *,
        name: str = "init",
        pid_file: bool = True,
    ) -> int:
        """Run the program; the pid it wrote. Raises StartError with its own words."""
        log, pids = f"{self._state}/{name}.log", f"{self._state}/{name}.pid"
        command = [self._program, "--root", f"{self._state}/root", "--log", log, "--log-format", "json", verb]
        command += [*arguments, *(["--pid-file", pids] if pid_file else []), self._id]
        stdin, stdout, stderr = stdio or (subprocess.DEVNULL,) * 3
        try:
            done = subprocess.run(command, stdin=stdin, stdout=stdout, stderr=stderr, timeout=_SECONDS, check=False)
        except FileNotFoundError:
            raise StartError(OTHER, f"the runtime {self._program} is not there any more") from None
        except (OSError, subprocess.TimeoutExpired) as error:
            raise StartError(OTHER, f"the runtime {self._program} cannot be run: {error}") from error
        if done.returncode:
            raise _failure(self._program, verb, log)
        if not pid_file:
            return 0
        with open(pids, encoding="ascii") as file:
            return int(file.read())


class _Console:
    """The socket at which the program hands a terminal over."""

    def __init__(self, place: str) -> None:
        self._place = place
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)

    def __enter__(self) -> _Console:
        folder, _, name = self._place.rpartition("/")
        self._folder = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self.path = f"/proc/{os.getpid()}/fd/{self._folder}/{name}"  # its own may be longer than a socket's name
        self._listener.bind(self.path)
        self._listener.listen(1)
        return self

    def master(self) -> int:
        """The terminal that came."""
        connection, _ = self._listener.accept()
        with connection:
            _data, ancillary, _flags, _address = connection.recvmsg(256, socket.CMSG_SPACE(4))
        return array.array("i", ancillary[0][2])[0]

    def __exit__(self, *_exc: object) -> None:
        self._listener.close()
        os.unlink(self._place)
        os.close(self._folder)


def _failure(program: str, verb: str, log: str) -> StartError:
    text = f"{os.path.basename(program)} {verb} failed"
    try:
        with open(log, encoding="utf-8", errors="replace") as file:
            for line in file:
                document = json.loads(line)
                if document.get("level") in ("error", "fatal"):
                    text = str(document["msg"])
    except (OSError, ValueError, KeyError):  # it has its own way of telling
        pass
    kind = OTHER
    if "executable file not found" in text or "no such file or directory" in text:
        kind = NOT_FOUND
    elif "permission denied" in text or "is a directory" in text or "exec format error" in text:
        kind = NOT_EXECUTABLE
    return StartError(kind, text)
