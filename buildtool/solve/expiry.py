"""Results that do not last: RUN --cache-ttl and RUN --no-cache.

Such a step has generations: each execution that replaces an older result gets a new one, which is part of its
definition key. So the steps behind it do not find what stood on the old result by their definition keys; they do when
the new result is the same tree (content keys, equal trees).
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import replace

from buildtool.buildfile.durations import shown_duration
from buildtool.buildfile.instructions import Buildfile, Execution, Run, Stage
from buildtool.graph import digest_of
from buildtool.solve.explain import Difference
from buildtool.solve.records import Records


def executed_anew(buildfile: Buildfile, stages: Collection[str]) -> Buildfile:
    """The Buildfile with every RUN of these stages as if it had `--no-cache`."""
    names = {name.strip().lower() for name in stages}

    def anew(stage: Stage) -> Stage:
        if stage.name not in names:
            return stage
        return replace(
            stage,
            instructions=tuple(
                replace(each, execution=replace(each.execution, no_cache=True)) if isinstance(each, Run) else each
                for each in stage.instructions
            ),
        )

    return replace(buildfile, stages=tuple(map(anew, buildfile.stages)))


def expired(made: float, execution: Execution) -> bool:
    """Whether a result made at this time is too old for a step, or may not be used at all."""
    if execution.no_cache:
        return True
    return execution.cache_ttl > 0 and time.time() - made > execution.cache_ttl / 1e9


def renew(
    key_of: Callable[[str], str], execution: Execution, records: Records, *, anew: bool = False
) -> tuple[str, Difference | None]:
    """The generation of a step in this build, and why the result of the last one does not do (where that is so).

    `key_of` gives the step's definition key in a generation; "" is the first. With `anew` no earlier result is used.
    """
    if anew or execution.no_cache:
        return secrets.token_hex(8), Difference("never-cached") if execution.no_cache else None
    plain = key_of("")
    current = records.generation(plain)
    newest: float | None = None
    for generation in dict.fromkeys((current, "")):
        made = records.made(key_of(generation))
        if made is not None and not expired(made, execution):
            return generation, None
        newest = made if newest is None else max(newest, made or 0.0)
    if newest is None and not current:
        return "", None
    # the same for all builds that find the same too old result: they execute the step together
    generation, made = current, newest
    while True:
        generation = next_generation(plain, generation, made)
        made = records.made(key_of(generation))
        if made is None or not expired(made, execution):
            return generation, _reason(newest, execution) if made is None else None


def next_generation(plain: str, generation: str, made: float | None) -> str:
    """The generation after one whose result, made at this time, is too old."""
    return digest_of({"of": plain, "after": generation, "made": made})[7:23]


def _reason(made: float | None, execution: Execution) -> Difference | None:
    """What explain says of a result that is too old."""
    if made is None:
        return None
    age = shown_duration(int(max(0.0, time.time() - made)) * 1_000_000_000) if made else None
    return Difference("expired", before=age, now=shown_duration(execution.cache_ttl))
