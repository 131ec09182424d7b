"""Whether a bind's source can propagate mounts as its container asks: the kernel would say nothing and not do it."""

from __future__ import annotations

import re
from pathlib import Path

from buildtool.errors import BuildtoolError

_ESCAPE = re.compile(r"\\([0-7]{3})")


def check(source: Path, propagation: str, table: str | None = None) -> None:
    """Raises BuildtoolError unless the mount that `source` lies on is shared (for `slave`: or slave itself).

    `table` is the content of /proc/self/mountinfo, read when it is not given (blocking).
    """
    kind = propagation.removeprefix("r")
    if kind not in ("shared", "slave"):
        return
    if table is None:
        table = Path("/proc/self/mountinfo").read_text("utf-8", "surrogateescape")
    point, peers = _mount_of(source.resolve(), table)
    if "shared" in peers or (kind == "slave" and "master" in peers):
        return
    wanted = "shared" if kind == "shared" else "shared or slave"
    raise BuildtoolError(
        f"path {source} is mounted on {point} but it is not a {wanted} mount",
        hint=f"`mount --make-rshared {point}` on the host makes it one",
    )


def _mount_of(path: Path, table: str) -> tuple[str, set[str]]:
    """The mount that a path lies on, and what it is (`shared`, `master`): the deepest, of equal ones the last."""
    best, found = "", set[str]()
    for line in table.splitlines():
        fields = line.split(" ")
        point = _ESCAPE.sub(lambda match: chr(int(match[1], 8)), fields[4])
        if path.is_relative_to(point) and len(point) >= len(best):
            best, found = point, {field.partition(":")[0] for field in fields[6 : fields.index("-", 6)]}
    return best, found
