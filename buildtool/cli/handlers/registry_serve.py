"""`registry serve`: a registry in the foreground, in place of this process."""

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def serve(call: Call) -> int:
    """Become `python -m buildtool.registry.server` with the same flags; the global --root is the daemon's."""
    if call.root:
        os.environ["BUILDTOOL_ROOT"] = os.path.abspath(call.root)
    words = [sys.executable, "-m", "buildtool.registry.server"]
    for flag in call.command.flags:
        if flag.kind == "bool" and call.switch(flag.name):
            words.append(f"--{flag.name}")
        elif flag.kind == "list":
            words += [f"--{flag.name}={value}" for value in call.texts(flag.name)]
        elif flag.kind != "bool" and call.given(flag.name):
            words.append(f"--{flag.name}={call.text(flag.name)}")
    sys.stdout.flush()
    os.execv(sys.executable, words)
