"""Doing the same with several named things: go on after a failure, tell each one, fail at the end."""

from __future__ import annotations

import sys

from buildtool.client import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def for_each(
    names: list[str], work: Callable[[str], object], *, tolerate: Callable[[EngineError], bool] | None = None
) -> int:
    """Call `work` for each name and print the name when it went well; the exit code is 1 when one failed.

    A failure that `tolerate` accepts is told but does not count.
    """
    return 1 if failures(names, work, tolerate=tolerate) else 0


def failures(
    names: list[str], work: Callable[[str], object], *, tolerate: Callable[[EngineError], bool] | None = None
) -> list[str]:
    """As `for_each`; the names that failed."""
    failed = []
    for name in names:
        try:
            work(name)
        except EngineError as error:
            sys.stdout.flush()
            print(f"Error response from daemon: {error}", file=sys.stderr)
            if tolerate is None or not tolerate(error):
                failed.append(name)
        else:
            print(name)
    return failed
