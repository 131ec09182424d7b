"""Print every difference between a local dockerd and our daemon."""

from __future__ import annotations

from tests.compare.accepted import reason
from tests.compare.differences import differences
from tests.compare.run import Dockerd, play
from tests.compare.script import STEPS
from tests.conftest import Daemon


def main() -> None:
    dockerd = Dockerd()
    try:
        theirs = play(dockerd.socket)
    finally:
        dockerd.close()
    daemon = Daemon()
    try:
        daemon.start()
        ours = play(daemon.socket)
    finally:
        daemon.close()
    for step in STEPS:
        for one in differences(step.name, ours[step.name], theirs[step.name]):
            why = reason(one)
            print(f"{'accepted' if why else 'NEW     '}  {one}{f'  [{why}]' if why else ''}")


if __name__ == "__main__":
    main()
