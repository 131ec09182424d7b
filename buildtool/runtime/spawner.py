# ruff: noqa: PTH123
"""The spawner: a small single-threaded fork server; each request becomes a shim, or goes to one that waits.

Run as `python -m buildtool.runtime.spawner FD`. A request on that SOCK_SEQPACKET socket carries descriptors: a memory
file with the request as JSON, the control connection of the shim to be, and perhaps one for the container's output.
Its text is `create`, `warm` when a shim that waits can take it, or `warm elsewhere` when it has no network namespace
of its own either: those that wait are made for what the last one wanted.
It ends when the daemon closes the socket; its shims live on.
"""

from __future__ import annotations

import array
import encodings.ascii  # noqa: F401 - what shims would load each for itself
import gc
import os
import select
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial

from buildtool.runtime import devices_bpf as _devices_bpf  # noqa: F401 - loaded before the fork, once for all
from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Hierarchies
from buildtool.runtime.process import Identity
from buildtool.runtime.shim import Shim
from buildtool.runtime.warm import Warm, descriptors, sweep

_NAME, _WAITING_NAME = b"buildtool-shim", b"buildtool-warm"
_READY = 3  # shims that wait
_FDS = socket.CMSG_SPACE(3 * 4)
_PAUSE_MS = 4  # the one just asked for needs the processors more


def main() -> int:
    """Serve until the daemon closes its end."""
    server = socket.socket(fileno=int(sys.argv[1]))
    server.set_inheritable(False)
    os.chdir("/")
    sc.close_all_but(server.fileno())
    os.umask(0o022)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP, signal.SIGPIPE, signal.SIGXFSZ}:
        signal.signal(number, signal.SIG_DFL)  # whoever started the daemon may have ignored some
    sc.default_reserved_signals()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # the kernel reaps shims that end before us
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C at the daemon's terminal is the daemon's to handle
    _protect()
    hierarchies, identity = Hierarchies.find(), Identity()
    sweep(hierarchies)
    gc.collect()
    gc.disable()
    gc.freeze()
    server.send(b"ready")
    Spawner(server, hierarchies, identity).serve()
    return 0


class Spawner:
    """Takes requests from `server`, and keeps shims ready for them."""

    def __init__(self, server: socket.socket, hierarchies: Hierarchies, identity: Identity) -> None:
        self._server = server
        self._hierarchies = hierarchies
        self._identity = identity
        self._ready: list[socket.socket] = []
        self._own_network = True

    def serve(self) -> None:
        """Until the daemon closes its end."""
        waiting = select.poll()
        waiting.register(self._server, select.POLLIN)
        while True:
            if not waiting.poll(_PAUSE_MS if len(self._ready) < _READY else None):
                self._add()
                continue
            data, ancillary, _flags, _address = self._server.recvmsg(64, _FDS)
            if not data:
                break
            fds = descriptors(ancillary)
            usual = data.startswith(b"warm")
            if usual:
                self._own_network = data == b"warm"
            if not usual or not self._give(fds):
                self._fork(partial(self._shim, fds, None))
            for fd in fds:
                os.close(fd)
        for one in self._ready:
            one.shutdown(socket.SHUT_WR)
            one.recv(1)  # it has cleaned up and ended

    def _give(self, fds: list[int]) -> bool:
        """Pass a request on to a shim that waits; False when there is none."""
        rights = [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))]
        while self._ready:
            with self._ready.pop(0) as one:
                try:
                    one.sendmsg([b"warm"], rights)
                    return True
                except OSError:  # it was killed
                    continue
        return False

    def _add(self) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self._fork(partial(self._wait, ours, theirs))
        self._ready.append(ours)

    def _fork(self, live: Callable[[], None]) -> None:
        """Run `live` in a new process that has none of the spawner's sockets."""
        if os.fork():
            return
        try:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            os.setsid()
            self._server.close()
            for one in self._ready:
                one.close()
            live()
        except BaseException:  # noqa: BLE001 - a shim must never go on as a second spawner
            import traceback

            traceback.print_exc()
        finally:
            os._exit(1)

    def _wait(self, spawner: socket.socket, requests: socket.socket) -> None:
        """The life of a shim that is made in advance."""
        spawner.close()
        sc.set_name(_WAITING_NAME)
        try:
            warm = Warm(self._hierarchies, self._identity, own_network=self._own_network)
        except OSError:  # whatever it is, a start without preparation tells it to who asks for a container
            os._exit(0)
        data, ancillary, _flags, _address = requests.recvmsg(64, _FDS)
        if not data:
            warm.discard()
            os._exit(0)
        requests.close()
        self._shim(descriptors(ancillary), warm)

    def _shim(self, fds: list[int], warm: Warm | None) -> None:
        sc.set_name(_NAME)
        request_fd, *connections = fds
        control, *streams = [socket.socket(fileno=fd) for fd in connections]
        Shim(request_fd, control, self._hierarchies, self._identity, warm, *streams).run()


def _protect() -> None:
    """Shims go last when memory runs out, as the daemon's own processes should."""
    try:
        with open("/proc/self/oom_score_adj", "wb", 0) as score:
            score.write(b"-900")
    except OSError:  # a plain user may not
        return


if __name__ == "__main__":
    sys.exit(main())
