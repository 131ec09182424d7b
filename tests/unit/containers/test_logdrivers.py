"""Log drivers of containers: options, tags, and that `logs` answers whatever the driver is."""

from __future__ import annotations

import socket
from typing import Any

import pytest

from buildtool.containers import logdrivers
from buildtool.containers.model import LogConfig
from buildtool.errors import BuildtoolError, InvalidInput

from .conftest import World


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        ("telepathy", {}, "no log driver named 'telepathy' is registered"),
        ("json-file", {"syslog-address": "udp://h"}, "unknown log opt 'syslog-address' for json-file log driver"),
        ("journald", {"max-size": "1m"}, "unknown log opt 'max-size' for journald log driver"),
        ("json-file", {"mode": "lazy"}, "logging mode not supported: lazy"),
        ("json-file", {"tag": "{{.Nope}}"}, "invalid log tag: it has no field 'Nope'"),
        ("json-file", {"env-regex": "("}, "invalid env-regex"),
        ("syslog", {"syslog-facility": "post"}, "invalid syslog facility: post"),
        ("syslog", {"syslog-format": "morse"}, "Invalid syslog format"),
        ("syslog", {"syslog-address": "host:514"}, "syslog-address should be in form proto://address"),
        ("syslog", {"syslog-address": "udp://h:x"}, "syslog-address udp://h:x"),
        ("syslog", {"syslog-address": "unix://relative"}, "absolute path"),
    ],
)
def test_wrong_options_are_refused(kind: str, options: dict[str, str], text: str) -> None:
    with pytest.raises(InvalidInput, match=text):
        logdrivers.check(LogConfig(kind, options))


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"compress": "perhaps"}, "invalid compress: perhaps"),
        ({"compress": "true"}, "compress cannot be true when max-file is less than 2 or max-size is not set"),
        ({"compress": "true", "max-size": "1m"}, "compress cannot be true"),
        ({"compress": "true", "max-file": "2"}, "compress cannot be true"),
    ],
)
async def test_what_cannot_be_compressed_is_refused(world: World, options: dict[str, str], text: str) -> None:
    identity = await world.create("true", host={"LogConfig": {"Type": "json-file", "Config": options}})
    with pytest.raises(InvalidInput, match=text):
        await world.containers.start(identity)


async def test_syslog_gets_the_lines_and_logs_still_answers(world: World) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(10)
        options = {
            "syslog-address": f"udp://127.0.0.1:{server.getsockname()[1]}",
            "syslog-facility": "local0",
            "tag": "{{.Name}}/{{.ImageName}}",
        }
        host: dict[str, Any] = {"LogConfig": {"Type": "syslog", "Config": options}}
        identity = await world.create("sh", "-c", "echo one; echo two >&2", name="logged", host=host)
        await world.containers.start(identity)
        await world.containers.wait(identity)
        received = sorted(server.recv(4096) for _ in range(2))
    assert [message[:5] for message in received] == [b"<131>", b"<134>"]
    assert all(b" logged/busybox:latest[" in message for message in received)
    assert sorted((await world.output(identity)).split()) == [b"one", b"two"]
    document = await world.containers.inspect(identity)
    assert (document["HostConfig"]["LogConfig"]["Type"], document["LogPath"]) == ("syslog", "")


async def test_a_syslog_that_is_not_there_keeps_the_container_from_starting(world: World) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
        host: dict[str, Any] = {"LogConfig": {"Type": "syslog", "Config": {"syslog-address": address}}}
        identity = await world.create("true", host=host)
        with pytest.raises(BuildtoolError, match="failed to initialize logging driver: Connection refused"):
            await world.containers.start(identity)
    assert world.containers.get(identity).state.status == "created"
