from __future__ import annotations

from typing import Any

import pytest

from buildtool.containers import present
from buildtool.containers.model import Health, State
from buildtool.containers.times import SECOND
from buildtool.errors import InvalidInput
from tests.unit.containers.conftest import World

NOW = 1_700_000_000 * SECOND


@pytest.mark.parametrize(
    ("state", "status", "text"),
    [
        (State(), "created", "Created"),
        (State(running=True, started_at=NOW - 300 * SECOND), "running", "Up 5 minutes"),
        (State(running=True, paused=True, started_at=NOW - 5 * SECOND), "paused", "Up 5 seconds (Paused)"),
        (
            State(running=True, restarting=True, exit_code=3, started_at=1, finished_at=NOW - 2 * SECOND),
            "restarting",
            "Restarting (3) 2 seconds ago",
        ),
        (State(exit_code=137, started_at=1, finished_at=NOW - 7200 * SECOND), "exited", "Exited (137) 2 hours ago"),
        (State(removing=True, started_at=1), "removing", "Removal In Progress"),
        (State(dead=True, started_at=1), "dead", "Dead"),
        (State(running=True, started_at=NOW, health=Health()), "running", "Up Less than a second (health: starting)"),
        (State(running=True, started_at=NOW, health=Health("healthy")), "running", "Up Less than a second (healthy)"),
    ],
)
def test_states_read_as_in_dockers_list(state: State, status: str, text: str) -> None:
    assert state.status == status
    assert present.status_text(state, NOW) == text


def test_arguments_with_spaces_are_quoted_in_the_list() -> None:
    assert present.command_line("sh", ["-c", "echo hi"]) == "sh -c 'echo hi'"
    assert present.command_line("true", []) == "true"


INSPECT = {
    *("Id", "Created", "Path", "Args", "State", "Image", "ResolvConfPath", "HostnamePath", "HostsPath", "LogPath"),
    *("Name", "RestartCount", "Driver", "Platform", "MountLabel", "ProcessLabel", "AppArmorProfile", "ExecIDs"),
    *("HostConfig", "GraphDriver", "Mounts", "Config", "NetworkSettings"),
}
LIST = {
    *("Id", "Names", "Image", "ImageID", "Command", "Created", "Ports", "Labels", "State", "Status", "HostConfig"),
    *("NetworkSettings", "Mounts"),
}


async def test_documents_have_dockers_members(world: World) -> None:
    identity = await world.create("sleep", "60", name="web", Labels={"a": "b"}, host={"Memory": 64 << 20})
    await world.containers.start(identity)
    document = await world.containers.inspect("web")
    assert set(document) == INSPECT
    assert (document["Name"], document["Path"], document["Args"]) == ("/web", "sleep", ["60"])
    assert document["State"]["Pid"] > 0
    assert document["HostConfig"]["MemorySwap"] == 128 << 20
    assert document["Config"]["Labels"] == {"a": "b"}
    assert set(document["NetworkSettings"]["Networks"]) == {"none"}
    assert document["ExecIDs"] is None
    (line,) = await world.containers.list()
    assert set(line) == LIST
    assert (line["Names"], line["Image"], line["Command"]) == (["/web"], "busybox:latest", "sleep 60")
    sized = (await world.containers.list(size=True))[0]
    assert sized["SizeRootFs"] > sized.get("SizeRw", 0) >= 0


async def test_the_default_network_is_the_bridge(world: World) -> None:
    identity = await world.create(
        "true", host={"NetworkMode": "default", "PortBindings": {"80/tcp": [{"HostPort": "8"}]}}
    )
    document = await world.containers.inspect(identity)
    assert document["HostConfig"]["NetworkMode"] == "bridge"
    assert list(document["NetworkSettings"]["Networks"]) == ["bridge"]
    assert document["Config"]["Hostname"] == identity[:12]
    assert document["NetworkSettings"]["Ports"] == {}


FILTERS: list[tuple[dict[str, Any], list[str]]] = [
    ({}, ["cc", "bb", "aa"]),
    ({"status": ["running"]}, ["bb"]),
    ({"status": ["created", "exited"]}, ["cc", "aa"]),
    ({"exited": ["0"]}, ["aa"]),
    ({"exited": ["1"]}, []),
    ({"name": ["^/?bb$"]}, ["bb"]),
    ({"label": ["tier=back"]}, ["aa"]),
    ({"label": ["tier"]}, ["bb", "aa"]),
    ({"ancestor": ["busybox"]}, ["cc", "bb", "aa"]),
    ({"ancestor": ["other"]}, []),
    ({"before": ["bb"]}, ["aa"]),
    ({"since": ["bb"]}, ["cc"]),
    ({"volume": ["/v"]}, ["cc"]),
    ({"network": ["none"]}, ["cc", "bb", "aa"]),
    ({"expose": ["80-82/tcp"]}, ["bb"]),
    ({"health": ["none"]}, ["cc", "bb", "aa"]),
    ({"is-task": ["true"]}, []),
]


async def test_list_filters(three: World) -> None:
    for filters, names in FILTERS:
        found = await three.containers.list(all=True, filters=filters)
        assert [line["Names"][0][1:] for line in found] == names, filters


@pytest.fixture
async def three(world: World) -> World:
    first = await world.create("true", name="aa", Labels={"tier": "back"})
    await world.containers.start(first)
    await world.containers.wait(first)
    second = await world.create("sleep", "60", name="bb", Labels={"tier": "front"}, ExposedPorts={"81/tcp": {}})
    await world.containers.start(second)
    await world.create("true", name="cc", Volumes={"/v": {}})
    return world


async def test_without_all_only_running_ones_are_listed_unless_a_filter_asks(three: World) -> None:
    async def names(**options: Any) -> list[str]:
        return [line["Names"][0][1:] for line in await three.containers.list(**options)]

    assert await names() == ["bb"]
    assert await names(limit=2) == ["cc", "bb"]
    assert await names(filters={"status": ["exited"]}) == ["aa"]
    for filters in ({"status": ["x"]}, {"nope": ["x"]}, {"exited": ["x"]}, {"before": ["nope"]}, {"health": ["x"]}):
        with pytest.raises(InvalidInput):
            await names(filters=filters)


async def test_pins_and_users_of_images(three: World) -> None:
    image = three.images.get("busybox")
    assert set(three.containers.images_in_use()) == {image.id}
    assert len(three.containers.images_in_use()[image.id]) == 3
    pins = three.containers.pins()
    assert pins.snapshots == set(three.images.snapshots(image))
    assert three.containers.running() == 1
