"""What a RUN step writes: taken apart by stream, cleaned of secrets, its end kept for the error message."""

from __future__ import annotations

import signal
from collections import deque
from collections.abc import Iterable
from typing import Any

from buildtool.buildfile.durations import shown_duration
from buildtool.errors import StepFailed
from buildtool.graph import Exec, Node
from buildtool.runtime import Attachment, ExitStatus
from buildtool.solve.flights import Listener

_FRAME = 8
_LAST_BYTES = 1 << 14
_LAST_LINES = 20
_SHORTEST_SECRET = 4
_SHORTEST_LINE = 8
_MASK = b"***"


class Tail:
    """The last output of a command, for the error message."""

    def __init__(self) -> None:
        self._chunks: deque[bytes] = deque()
        self._size = 0

    def add(self, data: bytes) -> None:
        """Keep what was written last."""
        self._chunks.append(data)
        self._size += len(data)
        while self._size - len(self._chunks[0]) > _LAST_BYTES:
            self._size -= len(self._chunks.popleft())

    def text(self) -> str:
        """The last lines."""
        lines = b"".join(self._chunks).decode(errors="replace").splitlines()
        return "\n".join(f"  {line}" for line in lines[-_LAST_LINES:])


class Mask:
    """Puts `***` in the place of secrets, wherever they are cut into chunks. One for each stream.

    A secret of several lines is hidden line by line as well; one shorter than 4 bytes is not hidden: it
    would be found everywhere. What may be a secret's beginning is held back until more has come, or `end`.
    """

    def __init__(self, values: Iterable[bytes]) -> None:
        hidden = {value.strip() for value in values}
        hidden |= {line for value in hidden for line in value.splitlines() if len(line) >= _SHORTEST_LINE}
        self._hidden = sorted((value for value in hidden if len(value) >= _SHORTEST_SECRET), key=len, reverse=True)
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """What can be shown now."""
        if not self._hidden:
            return data
        data = self._replace(self._held + data)
        keep = max((_overlap(data, value) for value in self._hidden), default=0)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def end(self) -> bytes:
        """The rest."""
        rest, self._held = self._held, b""
        return rest

    def _replace(self, data: bytes) -> bytes:
        for value in self._hidden:
            data = data.replace(value, _MASK)
        return data


def _overlap(data: bytes, value: bytes) -> int:
    """How many bytes at the end of `data` are the beginning of `value`, which is not wholly there."""
    for size in range(min(len(data), len(value) - 1), 0, -1):
        if data.endswith(value[:size]):
            return size
    return 0


async def follow(attachment: Attachment, tail: Tail, listener: Listener, hidden: Iterable[bytes] = ()) -> None:
    """Take the frames apart: a byte for the stream, three of padding, four of length, then the data.

    `hidden` are secrets, which are not told.
    """
    values = tuple(hidden)
    masks = {"stdout": Mask(values), "stderr": Mask(values)}

    def tell(stream: str, chunk: bytes) -> None:
        if chunk:
            tail.add(chunk)
            listener(stream, chunk)

    buffer = bytearray()
    while data := await attachment.read():
        buffer += data
        while len(buffer) >= _FRAME:
            end = _FRAME + int.from_bytes(buffer[4:_FRAME])
            if len(buffer) < end:
                break
            stream = "stderr" if buffer[0] == 2 else "stdout"
            chunk = bytes(buffer[_FRAME:end])
            del buffer[:end]
            tell(stream, masks[stream].feed(chunk))
    for stream, mask in masks.items():
        tell(stream, mask.end())


def failure(node: Node, status: ExitStatus, tail: Tail, memory: int) -> StepFailed:
    """What to tell of a command that failed. Source: BuildKit's wording of the first line."""
    if status.oom_killed:
        limit = f" (limit {memory} bytes)" if memory else ""
        how = f"killed by the kernel: out of memory{limit}"
    elif status.signal is not None:
        try:
            how = f"killed by signal {status.signal} ({signal.Signals(status.signal).name})"
        except ValueError:
            how = f"killed by signal {status.signal}"
    else:
        how = f"exit code: {status.code}"
    return _not_completed(node, how, tail, exit_code_of_step=status.code, oom_killed=status.oom_killed)


def timed_out(node: Node, tail: Tail) -> StepFailed:
    step = node.step
    assert isinstance(step, Exec)
    how = f"killed after {shown_duration(step.execution.timeout)} (--timeout)"
    return _not_completed(node, how, tail, exit_code_of_step=128 + signal.SIGKILL)


def _not_completed(node: Node, how: str, tail: Tail, **facts: Any) -> StepFailed:
    step = node.step
    assert isinstance(step, Exec)
    command, output = " ".join(step.args), tail.text()
    return StepFailed(
        f'process "{command}" did not complete successfully: {how}',
        where=node.span,
        hint=f"last output:\n{output}" if output else "it wrote nothing",
        **facts,
    )
