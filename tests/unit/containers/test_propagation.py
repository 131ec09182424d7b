"""Which mounts hand on what is mounted below them."""

from __future__ import annotations

from pathlib import Path

import pytest

from buildtool.containers.propagation import check
from buildtool.errors import BuildtoolError

TABLE = """20 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
21 20 8:2 / /private rw,relatime - ext4 /dev/sda2 rw
22 20 8:3 / /with\\040space rw master:1 - ext4 /dev/sda3 rw
23 21 8:4 / /private/shared rw shared:7 master:1 - ext4 /dev/sda4 rw
24 20 8:5 / /twice rw shared:8 - ext4 /dev/sda5 rw
25 24 8:6 / /twice rw - tmpfs tmpfs rw
"""


@pytest.mark.parametrize(
    ("source", "propagation", "refused"),
    [
        ("/anything/below", "rshared", ""),
        ("/private/x", "rprivate", ""),
        ("/private/x", "shared", "path /private/x is mounted on /private but it is not a shared mount"),
        ("/private/x", "rslave", "path /private/x is mounted on /private but it is not a shared or slave mount"),
        ("/private/shared", "rshared", ""),
        ("/privateer", "rshared", ""),
        ("/with space/x", "slave", ""),
        ("/with space/x", "rshared", "is mounted on /with space but it is not a shared mount"),
        ("/twice/x", "rslave", "is mounted on /twice but"),
    ],
)
def test_a_bind_needs_a_source_that_propagates(source: str, propagation: str, refused: str) -> None:
    if not refused:
        check(Path(source), propagation, TABLE)
        return
    with pytest.raises(BuildtoolError) as error:
        check(Path(source), propagation, TABLE)
    assert refused in str(error.value)
