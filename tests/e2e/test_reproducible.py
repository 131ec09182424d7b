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


def test_what_differs_between_two_images_is_told_to_the_byte(
    cli: Program, busybox_image: str, tmp_path: Path, unique: str
) -> None:
    for number in (1, 2):
        (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nENV A={number}\nRUN echo same{number}same > /f\n")
        cli("build", "-q", "--network=none", "-t", f"{unique}:{number}", tmp_path)
    told = cli("image", "diff", f"{unique}:1", f"{unique}:2", check=False)
    assert told.returncode == 1
    lines = told.stdout.splitlines()
    assert "config config.Env[1]: A=1 -> A=2" in lines
    assert "layer 2:" in lines
    assert lines[-1] == "    bytes 4-4: 31 -> 32"
    assert cli("image", "diff", f"{unique}:1", f"{unique}:1").stdout.startswith("both are sha256:")
    missing = cli("image", "diff", f"{unique}:1", f"{unique}:9", check=False)
    assert "No such image" in missing.stderr
    cli("rmi", f"{unique}:1", f"{unique}:2")


def test_a_build_that_is_not_reproducible_is_told_with_the_reason(
    cli: Program, busybox_image: str, tmp_path: Path, unique: str
) -> None:
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN echo 1 > /f\n")
    done = cli("build", "--network=none", "--verify-reproducible", "-t", f"{unique}:1", tmp_path)
    assert "reproducible: both builds made sha256:" in done.stderr
    before = cli("images", "-aq").stdout
    (tmp_path / "Buildfile").write_text(f"FROM {busybox_image}\nRUN cat /proc/sys/kernel/random/uuid > /f\n")
    done = cli("build", "--network=none", "--verify-reproducible", "-t", f"{unique}:1", tmp_path, check=False)
    assert done.returncode == 1
    assert "  f content: " in done.stderr and "not reproducible: the second build made" in done.stderr
    assert len(cli("images", "-aq").stdout.split()) <= len(before.split()) + 1
    refused = cli("build", "--verify-reproducible", "-", input="FROM scratch\n", check=False)
    assert "reads everything twice" in refused.stderr
    cli("rmi", f"{unique}:1")
