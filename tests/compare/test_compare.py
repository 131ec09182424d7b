"""What a client gets from us is what it gets from dockerd, but for reviewed differences."""

from __future__ import annotations

import os
import shutil
import threading
from typing import Any

import pytest

from tests.compare.accepted import reason
from tests.compare.differences import differences
from tests.compare.run import Dockerd, play
from tests.compare.script import STEPS
from tests.conftest import Daemon


@pytest.mark.slow
@pytest.mark.skipif(
    os.geteuid() != 0 or not shutil.which("dockerd"), reason="needs root and a dockerd to compare with"
)
def test_answers_differ_from_dockerds_only_where_that_was_reviewed() -> None:
    theirs: dict[str, Any] = {}
    dockerd = Dockerd()
    other = threading.Thread(target=lambda: theirs.update(play(dockerd.socket)))
    other.start()
    daemon = Daemon()
    try:
        daemon.start()
        ours = play(daemon.socket)
    finally:
        other.join()
        dockerd.close()
        daemon.close()

    found = [one for step in STEPS for one in differences(step.name, ours[step.name], theirs[step.name])]

    assert [str(one) for one in found if not reason(one)] == []
