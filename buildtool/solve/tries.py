"""RUN --retry: a command that fails is run again, each time on a layer of its own."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import replace

from buildtool.cache import SnapshotId
from buildtool.errors import StepFailed
from buildtool.graph import Exec, Node
from buildtool.solve.flights import Listener
from buildtool.solve.request import BuildRequest
from buildtool.solve.run import Usage, execute_run
from buildtool.solve.run_room import RunContext

_FIRST_PAUSE = 0.5
_LONGEST_PAUSE = 8.0


async def execute_tries(
    context: RunContext,
    request: BuildRequest,
    node: Node,
    chains: Sequence[Sequence[SnapshotId]],
    listener: Listener,
    usage: Usage | None = None,
) -> SnapshotId:
    """Run a step until it succeeds, at most once more than its --retry says. Raises the StepFailed of the last try.

    Nothing of a failed try is left but what it wrote to cache mounts. Between two tries is a pause, which doubles.
    What failed before the command ran (an unknown user, a missing secret) is not tried again.
    """
    step = node.step
    assert isinstance(step, Exec)
    tries = 1 + step.execution.retry
    pause = _FIRST_PAUSE
    number = 1
    while True:
        try:
            looked_into = request if number == tries else replace(request, debug=None)  # a shell at the last try only
            return await execute_run(context, looked_into, node, chains, listener, usage)
        except StepFailed as error:
            if number == tries or error.exit_code_of_step is None:
                if number > 1:
                    error.message += f" (the last of {number} tries)"
                raise
            how = error.message.rpartition("successfully: ")[2]
            listener("stderr", f"try {number} of {tries} failed: {how}; trying again in {pause:g}s\n".encode())
        await asyncio.sleep(pause)
        number, pause = number + 1, min(2 * pause, _LONGEST_PAUSE)
