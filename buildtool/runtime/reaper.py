# ruff: noqa: PTH123
"""The init of `--init`: the container's first process passes signals on to the program and reaps what is left to it.

It is the container's own init process that stays instead of executing the program: nothing is mounted, the image
needs nothing, and it has the program's user, capabilities and system call filter. What it does is what tini does:
signals go to the program only, a terminal's foreground is the program's, and it ends as the program ended.
"""

from __future__ import annotations

import ctypes
import os
import signal
from collections.abc import Sequence
from typing import NoReturn

from buildtool.runtime import syscalls as sc

NAME = b"docker-init"
_SHOWN = b"/sbin/docker-init"
# Faults of this very process, and those that nobody can catch.
_OWN = frozenset(
    {
        *(signal.SIGKILL, signal.SIGSTOP, signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL),
        *(signal.SIGTRAP, signal.SIGABRT, signal.SIGSYS),
    }
)


def fork_program(channel: int, arguments: Sequence[bytes]) -> None:
    """Return in a child, which is to execute the program; this process becomes its init and ends with its exit code.

    `channel` is the descriptor that tells the shim of the execution: it is the child's alone.
    """
    caught = signal.valid_signals() - _OWN
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)  # in another's pid namespace orphans would pass by
    signal.pthread_sigmask(signal.SIG_BLOCK, caught)
    sc.set_name(NAME)  # before there is a program that looks
    program = os.fork()
    if program == 0:
        os.setpgid(0, 0)
        try:
            os.tcsetpgrp(0, os.getpgrp())
        except OSError:  # no terminal
            pass
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        return
    try:
        for fd in (channel, 0, 1, 2):
            os.close(fd)
        _show(arguments)
        _serve(program, caught)
    finally:
        os._exit(255)


def _serve(program: int, caught: set[signal.Signals]) -> NoReturn:
    while True:
        number = signal.sigwait(caught)
        if number != signal.SIGCHLD:
            try:
                os.kill(program, number)
            except OSError:  # it has just ended, or runs as somebody else now
                pass
            continue
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid == program:
                code = os.waitstatus_to_exitcode(status)
                os._exit(code if code >= 0 else 128 - code)


def _show(arguments: Sequence[bytes]) -> None:
    """Be seen under the name that users know, not as an interpreter (the memory of the command line is ours)."""
    try:
        with open("/proc/self/stat", "rb") as file:
            fields = file.read().rpartition(b")")[2].split()
        begin, end = int(fields[45]), int(fields[46])
    except (OSError, ValueError, IndexError):  # no /proc in this container
        return
    if 0 < begin < end:
        text = b"\0".join((_SHOWN, b"--", *arguments))[: end - begin - 1]
        ctypes.memmove(begin, text.ljust(end - begin, b"\0"), end - begin)
