"""`system check`: is the store whole?"""

from __future__ import annotations

import sys

from buildtool.client import EngineError
from buildtool.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def check(call: Call) -> int:
    """Print the problems found, and end with 1 when there are any left."""
    repair = call.switch("repair")
    try:
        answer = call.client.get("/buildtool/v1/check", {"repair": repair})
    except EngineError as error:
        if error.status != 404:
            raise
        raise Unavailable(
            f"the engine at {call.client.address} cannot check its store: it is not buildtool's"
        ) from error
    problems = answer.get("problems") or []
    for problem in problems:
        print(f"{problem['kind']}: {problem['subject']}: {problem['message']}")
    sys.stdout.flush()
    if answer.get("ok", not problems):
        print("The store is in order." if not problems else f"{len(problems)} problems mended.")
        return 0
    print(f"{len(problems)} problems found.", file=sys.stderr)
    if not repair:
        print("Mend what can be mended with: buildtool system check --repair", file=sys.stderr)
    return 1
