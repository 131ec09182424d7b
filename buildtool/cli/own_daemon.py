"""`build --no-daemon`: a daemon for one build, which ends with it and leaves nothing running."""

from __future__ import annotations

import os
import signal

from buildtool.client import Client
from buildtool.client.address import Address, resolve_address
from buildtool.client.autostart import start_daemon
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import TracebackType

    from buildtool.cli.call import Call


class OwnDaemon:
    """While it is entered, the call's client talks to a daemon of its own, on the data root that the call names.

    Raises DaemonUnreachable when it cannot be started: also when another daemon has the data root.
    """

    def __init__(self, call: Call) -> None:
        named = resolve_address(call.host, call.root)
        if call.host or named.foreign:
            raise InvalidInput(
                f"--no-daemon starts a daemon of its own, and {named} names another",
                hint="leave -H and DOCKER_HOST out; --root and BUILDTOOL_ROOT name the data root",
            )
        self._call = call
        self._root = named.root
        self._directory = ""
        self._pid = 0

    def __enter__(self) -> OwnDaemon:
        from tempfile import mkdtemp

        self._directory = mkdtemp(prefix="buildtool-")
        address = Address(path=f"{self._directory}/daemon.sock", foreign=False, root=self._root)
        try:
            os.environ["BUILDTOOL_FOR_ONE_BUILD"] = "1"
            self._pid = start_daemon(address, directory=self._directory)
        except BaseException:
            self._remove()
            raise
        self._call.use(Client(address))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        os.kill(self._pid, signal.SIGTERM)
        os.waitpid(self._pid, 0)
        self._remove()

    def _remove(self) -> None:
        from shutil import rmtree

        rmtree(self._directory, ignore_errors=True)
