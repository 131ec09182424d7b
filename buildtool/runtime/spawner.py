# ruff: noqa: PTH123
"""The spawner: a small single-threaded fork server; each request becomes a shim.

Run as `python -m buildtool.runtime.spawner FD`. A request on that SOCK_SEQPACKET socket carries two descriptors: the
control connection of the shim to be, and a memory file with the request as JSON. It ends when the daemon closes the
socket; its shims live on.
"""

from __future__ import annotations

import array
import gc
import json
import os
import signal
import socket
import sys
from typing import NoReturn

from buildtool.runtime import devices_bpf as _devices_bpf  # noqa: F401 - loaded before the fork, once for all
from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Hierarchies
from buildtool.runtime.process import Identity
from buildtool.runtime.shim import Shim

_NAME = b"buildtool-shim"


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
    gc.collect()
    gc.disable()
    gc.freeze()
    server.send(b"ready")
    while True:
        data, ancillary, _flags, _address = server.recvmsg(64, socket.CMSG_SPACE(8))
        if not data:
            return 0
        for _level, _kind, payload in ancillary:
            fds = array.array("i", payload)
            pid = os.fork()
            if pid == 0:
                server.close()
                _shim(fds[0], fds[1], hierarchies, identity)
            for fd in fds:
                os.close(fd)


def _shim(control_fd: int, request_fd: int, hierarchies: Hierarchies, identity: Identity) -> NoReturn:
    """The forked child's whole life."""
    try:
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        os.setsid()
        sc.set_name(_NAME)
        os.set_inheritable(control_fd, False)
        with open(request_fd, "rb") as file:
            request = json.loads(file.read())
        Shim(request, socket.socket(fileno=control_fd), hierarchies, identity).run()
    except BaseException:  # noqa: BLE001 - a shim must never go on as a second spawner
        import traceback

        traceback.print_exc()
    finally:
        os._exit(1)


def _protect() -> None:
    """Shims go last when memory runs out, as the daemon's own processes should."""
    try:
        with open("/proc/self/oom_score_adj", "wb", 0) as score:
            score.write(b"-900")
    except OSError:  # a plain user may not
        return


if __name__ == "__main__":
    sys.exit(main())
