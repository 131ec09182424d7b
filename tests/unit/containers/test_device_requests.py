"""Devices asked for by names: CDI specifications, GPUs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from buildtool.containers.device_requests import requested
from buildtool.containers.model import HostConfig
from buildtool.errors import InvalidInput, Unavailable
from buildtool.runtime import cdi


@pytest.fixture(autouse=True)
def specifications(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(cdi, "DIRECTORIES", (str(tmp_path),))

    def device(name: str, **edits: Any) -> dict[str, Any]:
        return {"name": name, "containerEdits": edits}

    node = {"path": "/dev/gpu0", "hostPath": "/dev/null", "permissions": "rw"}
    mount = {"hostPath": str(tmp_path), "containerPath": "/lib/gpu", "options": ["ro", "nosuid"]}
    (tmp_path / "gpu.json").write_text(
        json.dumps(
            {
                "cdiVersion": "0.6.0",
                "kind": "nvidia.com/gpu",
                "containerEdits": {"env": ["GPU=yes"], "additionalGids": [44]},
                "devices": [device("0", deviceNodes=[node]), device("all", deviceNodes=[node], mounts=[mount])],
            }
        )
    )
    hooks = {"cdiVersion": "0.6.0", "kind": "v.com/hook", "devices": [device("a", hooks=[{"hookName": "x"}])]}
    (tmp_path / "hooks.json").write_text(json.dumps(hooks))
    return tmp_path


def edits(**request: Any) -> Any:
    return requested(HostConfig(device_requests=[request]))


def test_a_name_stands_for_nodes_variables_groups_and_mounts(specifications: Path) -> None:
    found = edits(Driver="cdi", DeviceIDs=["nvidia.com/gpu=all"])
    assert found.nodes == [{"source": "/dev/null", "path": "/dev/gpu0", "access": "rw"}]
    assert (found.env, found.gids) == (["GPU=yes"], [44])
    [mount] = found.mounts
    assert mount["source"] == str(specifications) and mount["options"] == ["ro", "nosuid", "rbind"]


@pytest.mark.parametrize(
    ("request_", "mounts"), [({"Count": -1}, 1), ({"Count": 1}, 0), ({"DeviceIDs": ["0"], "Driver": "nvidia"}, 0)]
)
def test_gpus_are_found_where_a_specification_has_them(request_: dict[str, Any], mounts: int) -> None:
    found = edits(Capabilities=[["gpu"]], **request_)
    assert len(found.nodes) == 1 and len(found.mounts) == mounts


@pytest.mark.parametrize(
    ("request_", "text"),
    [
        ({"Driver": "cdi", "DeviceIDs": ["v.com/none=x"]}, "CDI device injection failed: unresolvable CDI device"),
        ({"Driver": "amd", "Capabilities": [["gpu"]]}, r'could not select device driver "amd" .*: \[\[gpu\]\]'),
        ({"Driver": "x", "Capabilities": [["tpu", "y"]]}, r'driver "x" with capabilities: \[\[tpu y\]\]'),
        ({"Driver": "cdi", "DeviceIDs": ["v.com/hook=a"]}, "needs hooks"),
        ({"Capabilities": [["gpu"]], "DeviceIDs": ["7"]}, "unresolvable CDI device nvidia.com/gpu=7"),
    ],
)
def test_what_is_not_there_is_told(request_: dict[str, Any], text: str) -> None:
    with pytest.raises((InvalidInput, Unavailable), match=text):
        edits(**request_)
