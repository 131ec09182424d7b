"""The same Buildfile, context and base give the same image, bit for bit, from empty stores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

BUILDFILE = """\
FROM busybox AS tools
RUN mkdir -p /out/b /out/a && echo tool > /out/a/tool && ln -s a/tool /out/link && chmod 4755 /out/a/tool
FROM busybox
LABEL one=1 two=2
WORKDIR /srv
COPY . .
COPY --from=tools --chown=nobody /out /out
RUN echo someone:x:5:5::/:/bin/sh >> /etc/passwd && rm /srv/sub/file && touch /srv/made
ENV A=b
EXPOSE 80
CMD ["ls"]
"""


def test_two_empty_stores_build_the_same_image(make_daemon: Callable[..., Daemon], tmp_path: Path) -> None:
    context = tmp_path / "context"
    (context / "sub").mkdir(parents=True)
    (context / "Buildfile").write_text(BUILDFILE)
    (context / "sub" / "file").write_text("content")

    images, archives = [], []
    for turn in range(2):
        for path in context.rglob("*"):
            os.utime(path, (time.time() + turn * 1000, time.time() + turn * 1000))
        daemon = make_daemon()
        load_busybox(daemon)
        cli = Program(BUILDTOOL, daemon.environment)
        images.append(cli("build", "-q", "-t", "twice", str(context)).stdout.strip())
        archive = tmp_path / f"{turn}.tar"
        cli("save", "-o", str(archive), "twice")
        archives.append(archive.read_bytes())
        daemon.close()
        time.sleep(1.1)

    assert images[0] == images[1]
    assert archives[0] == archives[1]
