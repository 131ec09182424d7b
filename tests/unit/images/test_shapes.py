"""What the Engine API shows of images."""

from __future__ import annotations

import pytest

from buildtool.errors import InvalidInput, NotFound
from buildtool.images import Images
from buildtool.images.filters import reference_matches
from buildtool.images.times import parse_time, parse_until
from buildtool.oci import ContainerConfig, HealthConfig, parse_reference
from tests.unit.images.conftest import Maker, reference

A = {"a": b"a"}
B = {"b": b"b"}


def test_inspect_has_dockers_fields(images: Images, make: Maker) -> None:
    image = make(
        A, B, tags=["app"], cmd=["sh"], env=["A=1"], labels={"k": "v"},
        healthcheck=HealthConfig(test=["CMD", "true"], interval=5), exposed_ports={"80/tcp": {}},
    )  # fmt: skip
    shape = images.inspect(images.get("app"))
    assert shape["Id"] == image.id
    assert shape["RepoTags"] == ["app:latest"]
    assert shape["RepoDigests"] == []
    assert shape["Created"] == "2024-01-02T03:04:05Z"
    assert shape["Config"] == {
        "User": "",
        "Env": ["A=1"],
        "Cmd": ["sh"],
        "Volumes": None,
        "WorkingDir": "",
        "Entrypoint": None,
        "OnBuild": None,
        "Labels": {"k": "v"},
        "ExposedPorts": {"80/tcp": {}},
        "Healthcheck": {"Test": ["CMD", "true"], "Interval": 5},
    }
    assert shape["RootFS"] == {"Type": "layers", "Layers": image.diff_ids}
    assert shape["Architecture"] == "amd64"
    assert shape["Os"] == "linux"
    assert shape["Size"] == image.size
    snapshots = [str(images.store.snapshots.fs(snapshot)) for snapshot in images.snapshots(image)]
    assert shape["GraphDriver"] == {
        "Data": {"UpperDir": snapshots[1], "LowerDir": snapshots[0]},
        "Name": "overlay2",
    }
    assert shape["Metadata"]["LastTagTime"].startswith("20")
    assert shape["Parent"] == ""


def test_history_is_newest_first_with_the_layers_sizes(images: Images, make: Maker) -> None:
    image = make(A, B, tags=["app"])
    lines = images.history(images.get("app"))
    assert [line["CreatedBy"] for line in lines] == ['CMD ["sh"]', "COPY 1", "COPY 0"]
    assert [line["Size"] for line in lines] == [0, image.layers[1].size, image.layers[0].size]
    assert [line["Id"] for line in lines] == [image.id, "<missing>", "<missing>"]
    assert lines[0]["Tags"] == ["app:latest"]
    assert lines[1]["Tags"] is None
    assert lines[0]["Created"] == 1704164645


def test_summaries_are_newest_first(images: Images, make: Maker) -> None:
    old = make(A, tags=["old"], created="2020-01-01T00:00:00Z", labels={"k": "v"})
    new = make(B, tags=["new"], created="2021-01-01T00:00:00Z")
    shapes = images.summaries()
    assert [shape["Id"] for shape in shapes] == [new.id, old.id]
    assert shapes[1] == {
        "Containers": -1,
        "Created": 1577836800,
        "Id": old.id,
        "Labels": {"k": "v"},
        "ParentId": "",
        "RepoDigests": [],
        "RepoTags": ["old:latest"],
        "SharedSize": -1,
        "Size": old.size,
    }


def test_shared_size_and_containers_are_counted_on_demand(images: Images, make: Maker) -> None:
    base = make(A, tags=["base"])
    make(A, B, tags=["app"])
    shapes = {
        shape["RepoTags"][0]: shape
        for shape in images.summaries(shared_size=True, containers=lambda image: int(image == base.id))
    }
    assert shapes["base:latest"]["SharedSize"] == base.size
    assert shapes["app:latest"]["SharedSize"] == base.size
    assert shapes["base:latest"]["Containers"] == 1
    assert shapes["app:latest"]["Containers"] == 0


def names(images: Images, all: bool = False, **filters: list[str]) -> list[str]:
    return sorted((shape["RepoTags"] or ["<none>"])[0] for shape in images.summaries(filters, all))


def test_filters(images: Images, make: Maker) -> None:
    make(A, tags=["one:1"], created="2020-01-01T00:00:00Z", labels={"k": "v"})
    make(B, tags=["team/two:2"], created="2021-01-01T00:00:00Z", labels={"k": "w"})
    make(A, B, created="2022-01-01T00:00:00Z")
    assert names(images) == ["<none>", "one:1", "team/two:2"]
    assert names(images, dangling=["true"]) == ["<none>"]
    assert names(images, dangling=["false"]) == ["one:1", "team/two:2"]
    assert names(images, label=["k"]) == ["one:1", "team/two:2"]
    assert names(images, label=["k=v"]) == ["one:1"]
    assert names(images, label=["k=v", "k=w"]) == []
    assert names(images, reference=["one"]) == ["one:1"]
    assert names(images, reference=["*:2", "*/*:2"]) == ["team/two:2"]
    assert names(images, reference=["*"]) == ["one:1"]
    assert names(images, before=["team/two:2"]) == ["one:1"]
    assert names(images, since=["one:1"]) == ["<none>", "team/two:2"]
    assert names(images, until=["2020-06-01"]) == ["one:1"]


def test_filters_that_make_no_sense_are_refused(images: Images) -> None:
    for filters in ({"colour": ["red"]}, {"dangling": ["maybe"]}, {"dangling": ["true", "false"]}):
        with pytest.raises(InvalidInput, match="invalid filter"):
            images.summaries(filters)
    with pytest.raises(InvalidInput, match="invalid filter 'until=soon'"):
        images.summaries({"until": ["soon"]})
    with pytest.raises(NotFound):
        images.summaries({"before": ["nothing"]})


def test_an_unnamed_parent_is_shown_only_with_all(images: Images, make: Maker) -> None:
    parent = make(A)
    make(A, B, tags=["app"], parent=parent)
    assert names(images) == ["app:latest"]
    assert names(images, all=True) == ["<none>", "app:latest"]


@pytest.mark.parametrize(
    ("pattern", "name", "matches"),
    [
        ("busybox", "busybox:1", True),
        ("busy*", "busybox:1", True),
        ("busybox:[0-9]", "busybox:1", True),
        ("busybox:[^0-9]", "busybox:1", False),
        ("b?sybox", "busybox:1", True),
        ("*", "a/b:1", False),
        ("*/*", "a/b:1", True),
        ("a\\*", "a:1", False),
        ("BUSYBOX", "busybox:1", False),
    ],
)
def test_reference_patterns_are_gos(pattern: str, name: str, matches: bool) -> None:
    assert reference_matches(pattern, reference(name)) is matches


@pytest.mark.parametrize("pattern", ["[", "[]", "[a", "a\\", "[-]", "[a-]"])
def test_broken_patterns_are_refused(pattern: str) -> None:
    with pytest.raises(InvalidInput, match="syntax error in pattern"):
        reference_matches(pattern, parse_reference("a"))


def test_times_are_read_as_docker_reads_them() -> None:
    assert parse_until("1700000000") == 1700000000
    assert parse_until("24h", now=100_000) == 13_600
    assert parse_until("1h30m", now=5400) == 0
    assert parse_until("2024-01-02T03:04:05Z") == 1704164645
    assert parse_until("2024-01-02T03:04:05.5+01:00") == 1704161045.5
    assert parse_time("0001-01-01T00:00:00Z") is None
    assert parse_time("yesterday") is None
    assert parse_time("2024-13-40T00:00:00Z") is None


def test_an_empty_config_is_an_empty_config(make: Maker) -> None:
    assert make(A).container_config == ContainerConfig()
