# ruff: noqa: PTH123
"""A command in a changed root, for where the kernel refuses namespaces and mounts.

Run as `python -m buildtool.runtime.chroot_child SPEC STATUS`, two descriptors: the command as JSON, and where its end
is told as JSON. What the command leaves running is killed when it ends, and when this process is told to end by
SIGTERM.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import signal
import sys
from types import FrameType
from typing import Any, NoReturn

from buildtool.runtime.capabilities import DEFAULT, NUMBERS

_PR_SET_PDEATHSIG, _PR_CAPBSET_DROP, _PR_SET_CHILD_SUBREAPER = 1, 24, 36
_NOT_FOUND, _NOT_EXECUTABLE = 127, 126


def main() -> int:
    """Run the command; 0 when its end could be told."""
    spec_fd, status_fd = (int(text) for text in sys.argv[1:3])
    with open(spec_fd, "rb") as file:
        spec: dict[str, Any] = json.load(file)
    libc = ctypes.CDLL(None)
    libc.prctl(_PR_SET_CHILD_SUBREAPER, 1)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
    signal.signal(signal.SIGTERM, _end)
    failed, told = os.pipe()
    pid = os.fork()
    if not pid:
        os.close(failed)
        os.close(status_fd)
        _become(spec, told, libc)
    os.close(told)
    with open(failed, "rb") as file:
        error = file.read().decode()
    _, status = os.waitpid(pid, 0)
    _kill_the_rest()
    code = os.waitstatus_to_exitcode(status)
    answer = {"code": 128 - code if code < 0 else code, "signal": -code if code < 0 else None, "error": error}
    os.write(status_fd, json.dumps(answer).encode())
    return 0


def _become(spec: dict[str, Any], told: int, libc: ctypes.CDLL) -> NoReturn:
    """Become the command; what prevents it is written to `told`, which closes when it is executed."""
    os.set_inheritable(told, False)
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.setsid()
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        os.umask(0o022)
        os.chroot(spec["root"])
        os.chdir(spec["cwd"])
        for name, soft, hard in spec["limits"]:
            resource.setrlimit(getattr(resource, name), (soft, hard))
        kept = {NUMBERS[name] for name in DEFAULT}
        for number in range(max(NUMBERS.values()) + 1):
            if number not in kept:
                libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)
        with contextlib.suppress(PermissionError):  # denied in a user namespace of one id, where there are no others
            os.setgroups(spec["groups"])
        os.setresgid(*[spec["gid"]] * 3)
        os.setresuid(*[spec["uid"]] * 3)
        environment = dict(pair.split("=", 1) for pair in spec["env"])
        os.execvpe(spec["args"][0], spec["args"], environment)
    except FileNotFoundError:
        _fail(told, f'exec: "{spec["args"][0]}": no such file or directory', _NOT_FOUND)
    except OSError as error:
        _fail(told, f'exec: "{spec["args"][0]}": {(error.strerror or str(error)).lower()}', _NOT_EXECUTABLE)
    except ValueError as error:
        _fail(told, str(error), _NOT_EXECUTABLE)


def _fail(told: int, text: str, code: int) -> NoReturn:
    os.write(told, text.encode())
    os._exit(code)


def _end(number: int, frame: FrameType | None) -> None:
    _kill_the_rest()
    os._exit(1)


def _kill_the_rest() -> None:
    """Kill all descendants: this process is the parent of those that lost theirs."""
    while children := _children():
        for pid in children:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(-1, 0)


def _children() -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            with open(f"/proc/{name}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
        except OSError:
            continue
        if int(fields[1]) == os.getpid():
            found.append(int(name))
    return found


if __name__ == "__main__":
    sys.exit(main())
