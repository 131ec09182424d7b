"""What the engine is asked for, and what need not be asked again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from buildtool.stacks import labels
from buildtool.stacks.engine import Engine
from buildtool.stacks.observed import Known, observe
from tests.unit.stacks.conftest import load_texts

PROJECT = load_texts(
    """
    name: p
    services:
      web: {image: w, networks: [n], volumes: ["v:/v"]}
    networks: {n: {}}
    volumes: {v: {}}
    """
)
KNOWN = Known(["1"], {"p_n": "net"})


def container() -> dict[str, Any]:
    return {
        "Id": "1",
        "State": "running",
        "Image": "w",
        "ImageID": "sha256:w",
        "Labels": {labels.PROJECT: "p", labels.SERVICE: "web", labels.NUMBER: "1"},
        "NetworkSettings": {"Networks": {"p_n": {"NetworkID": "net"}}},
        "Mounts": [{"Type": "volume", "Name": "p_v"}],
    }


class Asked(Engine):
    """An engine that answers from a dictionary, and knows what it was asked for."""

    def __init__(self, *containers: dict[str, Any]) -> None:
        self.paths: list[str] = []
        self.answers = {"/containers/json": list(containers), "/networks": [], "/volumes": {"Volumes": []}}

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        self.paths.append(path)
        return self.answers[path]


def test_networks_and_volumes_of_known_containers_are_not_asked_for_again() -> None:
    engine = Asked(container())
    state = observe(engine, PROJECT, ["web"], KNOWN)
    assert engine.paths == ["/containers/json"]
    assert state.networks["p_n"]["Labels"][labels.HASH] == PROJECT.digest("networks", "n")
    assert state.volumes["p_v"]["Labels"][labels.HASH] == PROJECT.digest("volumes", "v")
    assert state.images == {"w": "sha256:w"}


def no_longer(change: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
    found = container()
    change(found)
    return found


@pytest.mark.parametrize(
    "other",
    [
        no_longer(lambda found: found.update(Id="2")),
        no_longer(lambda found: found.update(State="exited")),
        no_longer(lambda found: found.update(Mounts=[])),
        no_longer(lambda found: found["NetworkSettings"].update(Networks={})),
        no_longer(lambda found: found["NetworkSettings"].update(Networks={"p_n": {"NetworkID": "another"}})),
    ],
)
def test_all_is_asked_for_when_the_containers_are_others(other: dict[str, Any]) -> None:
    engine = Asked(other)
    observe(engine, PROJECT, ["web"], KNOWN)
    assert engine.paths == ["/containers/json", "/networks", "/volumes"]


def test_nothing_is_known_at_first() -> None:
    engine = Asked(container())
    observe(engine, PROJECT, ["web"], Known())
    assert engine.paths == ["/containers/json", "/networks", "/volumes"]
