"""`build --debug` and `--debug-at`: a shell where the build has stopped."""

from __future__ import annotations

import os
import sys
from contextlib import ExitStack

from buildtool.cli.session import Session, SignalPasser, Signals
from buildtool.cli.terminal import RawMode, is_terminal, size
from buildtool.client import EngineError
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from buildtool.client import Client


def visit(client: Client, session: str, event: Mapping[str, Any]) -> None:
    """Run a shell where a `debug_shell` event says, then let the build go on, or end it, as the user says."""
    path = f"/buildtool/v1/sessions/{session}/shells/{event['number']}"
    failed = event["reason"] == "failed"
    span = event.get("span")
    place = f" ({span['file']}:{span['line']})" if span else ""
    what = "This step failed" if failed else "The build stops before this step"
    print(f"\n{what}{place}: {event['name']}", file=sys.stderr)
    print("A shell in its tree, with its mounts and environment; leave it with: exit", file=sys.stderr)
    answer = "s"
    while answer == "s":
        _shell(client, path)
        answer = "c" if failed else _ask()
    client.call("POST", f"{path}/leave", {"abort": answer == "a"}).read()


def _shell(client: Client, path: str) -> None:
    tty = is_terminal(0)
    rows, columns = size() if tty else (0, 0)
    query = {"tty": tty, "h": rows, "w": columns, "term": os.environ.get("TERM", "") if tty else None}
    try:
        stream = client.hijack(path, query)
    except EngineError as error:
        print(f"no shell can be run there: {error}", file=sys.stderr)
        return

    def resize() -> None:
        rows, columns = size()
        try:
            client.call("POST", f"{path}/resize", {"h": rows, "w": columns}, dedicated=True).connection.close()
        except BuildtoolError:
            pass  # the shell has just ended

    sys.stdout.flush()
    with ExitStack() as stack:
        stack.callback(stream.close)
        signals = stack.enter_context(Signals(passing=False, resizing=True)) if tty else None
        if tty:
            stack.enter_context(RawMode(0))
        passer = SignalPasser(lambda name: None, resize)
        Session(stream, tty=tty, stdin=0, on_signal=passer, signals=signals).run()


def _ask() -> str:
    """What is to be done next: c(ontinue), s(hell) or a(bort); to continue when nobody can be asked."""
    while True:
        if not is_terminal(0):
            return "c"
        print("[c]ontinue the build, a [s]hell again, or [a]bort? ", end="", file=sys.stderr, flush=True)
        line = sys.stdin.readline()
        answer = line.strip().lower()[:1] or "c"
        if not line or answer in "csa":
            return answer
