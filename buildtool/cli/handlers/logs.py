"""`logs`: what a container printed."""

from __future__ import annotations

import os

from buildtool.cli.times import engine_time
from buildtool.client import Demultiplexer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def logs(call: Call) -> int:
    """Print the log, and go on with it when --follow is given; stderr's lines go to stderr."""
    client = call.client
    details = client.get(f"/containers/{call.arguments[0]}/json")
    query = {
        "stdout": True,
        "stderr": True,
        "follow": call.switch("follow"),
        "timestamps": call.switch("timestamps"),
        "details": call.switch("details"),
        "tail": call.text("tail"),
        "since": engine_time(call.text("since")) or None,
        "until": engine_time(call.text("until")) or None,
    }
    response = client.call("GET", f"/containers/{details['Id']}/logs", query)
    if details["Config"].get("Tty"):
        for data in response:
            _write(1, data)
        return 0
    demultiplexer = Demultiplexer()
    for data in response:
        for stream, payload in demultiplexer.feed(data):
            _write(2 if stream >= 2 else 1, payload)
    return 0


def _write(fd: int, data: bytes) -> None:
    while data:
        data = data[os.write(fd, data) :]
