"""What a build tells while it goes: a stream of frozen values.

Indexes count the build's visible steps from 1 to `total`, in the order of the Buildfile. A step gives StepStarted
once, then StepCached, or any number of StepOutput and one of StepDone or StepFailed. Independent steps interleave.
Steps that nothing needs because a later step was found in the cache are reported as cached.
"""

from __future__ import annotations

import base64
import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

from buildtool.errors import Span
from buildtool.oci import Digest


@dataclass(frozen=True, slots=True)
class BasePull:
    """Something is being fetched: a base image, its layers, a cache's. `message` is one line of what a pull says.

    With a `total` it is how far that is in bytes, and the next one of the same message takes its place.
    """

    message: str
    current: int = 0
    total: int = 0


@dataclass(frozen=True, slots=True)
class StepStarted:
    """A step is looked at. `name` is like `[builder 2/4] RUN make`."""

    index: int
    total: int
    name: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class StepCached:
    """The step's result was there already; nothing else follows for it. `image_id_short` as in StepDone."""

    index: int
    image_id_short: str = ""


@dataclass(frozen=True, slots=True)
class StepOutput:
    """Bytes that the step's command wrote, as they came: they may begin or end inside a line or a character."""

    index: int
    stream: Literal["stdout", "stderr"]
    data: bytes


@dataclass(frozen=True, slots=True)
class StepDone:
    """The step was executed. `image_id_short` are 12 hex digits that name its result (its key, not an image)."""

    index: int
    seconds: float
    image_id_short: str


@dataclass(frozen=True, slots=True)
class DebugShell:
    """The build has stopped at a step, which failed or is about to begin: shell `number` can be had there."""

    number: int
    name: str
    span: Span | None
    reason: Literal["failed", "before"]


@dataclass(frozen=True, slots=True)
class StepFailed:
    """The step failed; the build ends with the error of the same message."""

    index: int
    message: str
    span: Span | None
    exit_code: int | None
    oom_killed: bool


@dataclass(frozen=True, slots=True)
class Warning:
    """Something the user should know; the build goes on."""

    message: str
    span: Span | None


@dataclass(frozen=True, slots=True)
class Built:
    """The image exists and is tagged. `tags` are familiar names."""

    image_id: Digest
    tags: tuple[str, ...]


Event: TypeAlias = (
    BasePull | DebugShell | StepStarted | StepCached | StepOutput | StepDone | StepFailed | Warning | Built
)


class Tell(Protocol):
    """Is told what is fetched: the fields of a BasePull."""

    def __call__(self, message: str, current: int = 0, total: int = 0, /) -> None: ...


def telling(emit: Callable[[Event], None]) -> Tell:
    """Emits what it is told as BasePull."""

    def tell(message: str, current: int = 0, total: int = 0, /) -> None:
        emit(BasePull(message, current, total))

    return tell


_CAPITAL = re.compile(r"(?<=[a-z])(?=[A-Z])")


def to_document(event: Event) -> dict[str, Any]:
    """The event as a JSON object: `event` is its kind, then its fields.

    Bytes that are no UTF-8 on their own are `bytes` in base64 instead of `data`.
    """
    document: dict[str, Any] = {"event": _CAPITAL.sub("_", type(event).__name__).lower()}
    for each in dataclasses.fields(event):
        document[each.name] = _value(getattr(event, each.name))
    data = document.get("data")
    if isinstance(data, bytes):
        try:
            document["data"] = data.decode()
        except UnicodeDecodeError:
            del document["data"]
            document["bytes"] = base64.b64encode(data).decode()
    return document


def _value(value: Any) -> Any:
    if isinstance(value, Span):
        return {
            "file": value.file,
            "line": value.line,
            "column": value.column,
            "length": value.length,
            "line_text": value.line_text,
        }
    return list(value) if isinstance(value, tuple) else value
