"""What `up` remembers of a stack holds while nothing that was read has changed, and plans as the stack does."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.stacks import labels
from buildtool.stacks.discover import find_request
from buildtool.stacks.engine import Container
from buildtool.stacks.graph import dependency_order
from buildtool.stacks.load import load
from buildtool.stacks.memory import Memory, Remembered
from buildtool.stacks.model import Project
from buildtool.stacks.plan import Options, State, make_plan
from buildtool.stacks.reading import FileSystem

TEXT = """
name: p
services:
  web:
    image: w
    depends_on: {db: {condition: service_started, restart: true}}
    environment: {V: "${REMEMBERED_V:-1}"}
    env_file: [{path: web.env, required: false}]
    deploy: {replicas: 2}
    secrets: [word]
  side: {image: s, network_mode: "service:web", volumes_from: [web]}
  db: {image: d, container_name: data, volumes: ["data:/d"], network_mode: none}
  off: {image: o, profiles: [never]}
volumes: {data: {}}
secrets: {word: {environment: REMEMBERED_WORD}}
"""


class Stack:
    """A stack's folder, and its memory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        (folder / "compose.yaml").write_text(TEXT)
        self.memory = Memory([str(folder)], str(folder / "memories"))

    def load(self) -> tuple[Project, FileSystem]:
        reader = FileSystem()
        request = find_request(files=[str(self.folder / "compose.yaml")], reader=reader)
        return load(request, reader), reader

    def remember(self) -> Project:
        project, reader = self.load()
        self.memory.remember(project, dependency_order(project, project.services), reader, {"web": f"{0:064x}"})
        return project

    def recall(self) -> Remembered | None:
        return self.memory.recall(FileSystem())


@pytest.fixture
def stack(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stack:
    monkeypatch.setenv("REMEMBERED_WORD", "a secret word")
    return Stack(tmp_path)


def test_what_was_remembered_is_recalled(stack: Stack) -> None:
    assert stack.recall() is None
    project = stack.remember()
    found = stack.recall()
    assert found is not None
    assert (found.name, found.order, list(found.disabled)) == ("p", ["db", "web", "side"], ["off"])
    for kind, key in (("services", "web"), ("files", "web"), ("networks", "default"), ("volumes", "data")):
        assert found.digest(kind, key) == project.digest(kind, key) != ""


def test_a_change_of_anything_that_was_read_is_forgetting(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    stack.remember()
    monkeypatch.setenv("UNRELATED_VARIABLE", "does not matter")
    assert stack.recall() is not None
    for name in ("REMEMBERED_V", "REMEMBERED_WORD"):
        with monkeypatch.context() as other:
            other.setenv(name, "2")
            assert stack.recall() is None
        assert stack.recall() is not None
    for name in ("web.env", ".env"):
        (stack.folder / name).write_text("W=1\n")
        assert stack.recall() is None
        (stack.folder / name).unlink()
        assert stack.recall() is not None
    (stack.folder / "compose.yaml").write_text(TEXT.replace("image: w", "image: x"))
    assert stack.recall() is None


def test_no_value_and_no_secret_is_written_down(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("REMEMBERED_V", "a password")
    stack.remember()
    [file] = (stack.folder / "memories").iterdir()
    assert "a password" not in file.read_text() and "a secret word" not in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("damage", ["", "{", "[]", '{"inputs": 1}', '{"inputs": "x", "read": [], "looked": 5}'])
def test_a_damaged_memory_is_none(stack: Stack, damage: str) -> None:
    stack.remember()
    [file] = (stack.folder / "memories").iterdir()
    file.write_text(damage)
    assert stack.recall() is None


@pytest.mark.parametrize("more", ["pull_policy: always", "provider: {type: x}", "pull_policy: build"])
def test_stacks_that_a_plan_does_not_tell_all_about_are_not_remembered(stack: Stack, more: str) -> None:
    (stack.folder / "compose.yaml").write_text(f"services: {{s: {{image: w, {more}}}}}")
    stack.remember()
    assert stack.recall() is None


def test_a_folder_that_cannot_be_made_is_no_error(stack: Stack) -> None:
    (stack.folder / "memories").write_text("a file")
    stack.remember()
    assert stack.recall() is None


def _digest(project: Project, service: str) -> str:
    if service == "gone":
        return "unknown"
    return project.digest("services", service, {"web": f"{0:064x}"} if service == "side" else None)


CONTAINERS = st.lists(
    st.tuples(
        st.sampled_from(["web", "db", "side", "gone"]),
        st.integers(1, 3),
        st.sampled_from(["running", "exited", "created"]),
        st.booleans(),
        st.booleans(),
        st.sampled_from([{}, {"p_default": {}}]),
    ),
    max_size=5,
)


@given(CONTAINERS, st.booleans(), st.booleans(), st.sampled_from([{}, {"w": "sha256:1"}, {"w": "sha256:2"}]))
def test_a_memory_plans_as_its_stack_does(
    tmp_path_factory: pytest.TempPathFactory,
    containers: list[tuple[str, int, str, bool, bool, dict[str, object]]],
    network: bool,
    volume: bool,
    images: dict[str, str],
) -> None:
    """Whatever there is: the plan made of the memory has the same actions for the same reasons."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("REMEMBERED_WORD", "x")
        stack = Stack(tmp_path_factory.mktemp("stack"))
        project = stack.remember()
        remembered = stack.recall()
        assert remembered is not None
        there = [
            Container(
                {
                    "Id": f"{index:064x}",
                    "Names": [f"/p-{service}-{number}"],
                    "State": state,
                    "ImageID": "sha256:1",
                    "Labels": {
                        labels.SERVICE: service,
                        labels.NUMBER: str(number),
                        labels.HASH: _digest(project, service) if same else "other",
                        **({labels.FILES_HASH: "other"} if files else {}),
                    },
                    "NetworkSettings": {"Networks": networks},
                }
            )
            for index, (service, number, state, same, files, networks) in enumerate(containers)
        ]
        state = State(
            there,
            {"p_default": {"Labels": {labels.HASH: project.digest("networks", "default")}}} if network else {},
            {"p_data": {"Labels": {labels.HASH: "other"}}} if volume else {},
            images,
        )
        plans = [make_plan(one, state, Options(), remembered.order) for one in (project, remembered)]
        told = [[(a.what, a.kind, a.key, a.number, a.why) for a in plan.changes] for plan in plans]
        assert told[0] == told[1]
        assert plans[0].orphans == plans[1].orphans
