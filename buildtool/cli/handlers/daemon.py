"""`daemon`: the daemon in the foreground, in place of this process."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def daemon(call: Call) -> int:
    """Become `python -m buildtool.daemon.main` with the same arguments; global -H and --root go along."""
    command = [sys.executable, "-m", "buildtool.daemon.main"]
    if call.host:
        command += ["-H", call.host]
    if call.root:
        command += ["--root", call.root]
    sys.stdout.flush()
    os.execv(sys.executable, [*command, *call.arguments])
