"""A build's events in the classic builder's words."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from buildtool.daemon.build_text import ClassicText, TextDecoder
from buildtool.solve.events import Built, StepCached, StepDone, StepFailed, StepOutput, StepStarted, Warning


def say(*events: Any) -> str:
    text = ClassicText()
    said = "".join(line for event in events for line in text.feed(event))
    for hexadecimal in {step.container for step in text._steps.values() if step.container}:
        said = said.replace(hexadecimal, "CONTAINER")
    return said


def test_a_build_reads_as_dockers() -> None:
    said = say(
        StepStarted(1, 3, "[1/3] FROM busybox", None),
        StepDone(1, 0.0, "aaaaaaaaaaaa"),
        StepStarted(2, 3, "[2/3] RUN make", None),
        StepOutput(2, "stdout", b"made\n"),
        StepDone(2, 1.0, "bbbbbbbbbbbb"),
        StepStarted(3, 3, "[3/3] COPY a b", None),
        StepCached(3),
        Built("sha256:" + "c" * 64, ("x:latest",)),  # type: ignore[arg-type]
    )
    assert said == (
        "Step 1/3 : FROM busybox\n ---> aaaaaaaaaaaa\n"
        "Step 2/3 : RUN make\n ---> Running in CONTAINER\nmade\n"
        " ---> Removed intermediate container CONTAINER\n ---> bbbbbbbbbbbb\n"
        "Step 3/3 : COPY a b\n ---> Using cache\n"
    )
    result: Any = SimpleNamespace(image=SimpleNamespace(id="sha256:" + "c" * 64))
    assert ClassicText().end(result, ["x:latest"]) == [
        f"Successfully built {'c' * 12}\n",
        "Successfully tagged x:latest\n",
    ]


def test_a_silent_command_runs_in_a_container_too() -> None:
    said = say(StepStarted(1, 1, "RUN true", None), StepDone(1, 0.1, ""))
    assert said.splitlines()[1:] == [" ---> Running in CONTAINER", " ---> Removed intermediate container CONTAINER"]


def test_steps_side_by_side_are_told_one_after_the_other() -> None:
    said = say(
        StepStarted(1, 2, "[a 1/1] RUN one", None),
        StepStarted(2, 2, "[b 1/1] RUN two", None),
        StepOutput(2, "stdout", b"two speaks first\n"),
        StepOutput(1, "stdout", b"one is heard first\n"),
        StepDone(2, 1.0, ""),
        StepOutput(1, "stderr", b"one again\n"),
        StepDone(1, 2.0, ""),
    )
    assert [line for line in said.splitlines() if "--->" not in line] == [
        "Step 1/2 : RUN one",
        "one is heard first",
        "one again",
        "Step 2/2 : RUN two",
        "two speaks first",
    ]


def test_failures_and_warnings() -> None:
    said = say(
        Warning("JSON arguments are better", None),
        StepStarted(1, 1, "RUN false", None),
        StepFailed(1, "failed", None, 1, False),
    )
    assert said == " ---> [Warning] JSON arguments are better\nStep 1/1 : RUN false\n"


@pytest.mark.parametrize(
    ("chunks", "texts"),
    [([b"\xc3", b"\xa4"], ["", "ä"]), ([b"\xff!"], ["�!"]), ([b"ab"], ["ab"])],
)
def test_characters_across_chunks(chunks: list[bytes], texts: list[str]) -> None:
    decoder = TextDecoder()
    assert [decoder.decode("s", chunk) for chunk in chunks] == texts
