"""RUN by chroot alone gives the layers that a container gives, and what it cannot give it refuses."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from buildtool.errors import StepFailed
from buildtool.solve.run_chroot import only_chroot_is_possible
from tests.unit.solve.conftest import Workshop, processes

TEXT = """\
FROM busybox
COPY tree /tree
WORKDIR /made/by/workdir
USER 1000
RUN echo 1 > /tmp/mine && id -u > /tmp/uid && pwd > /tmp/pwd && echo "$HOME" > /tmp/home
USER root
RUN echo 2 >> /tree/changed && rm /tree/gone && chmod 700 /tree/mode && ln /tree/kept /tree/hard && ln -s a /tree/link
RUN rm -r /tree/sub && mkdir -p /new/dir && echo 3 > /new/dir/file && mknod /new/pipe p && touch -d @1000 /new/old
RUN mv /new/dir /moved && rm /etc/group && mkdir /etc/group && touch /etc/group/x
"""


def fill(shop: Workshop) -> None:
    for name in ("changed", "gone", "mode", "kept", "sub/a", "sub/b"):
        shop.put(f"tree/{name}", name)


def test_the_layers_are_those_of_a_container(shop: Workshop) -> None:
    fill(shop)
    expected = shop.build(TEXT).image
    built = shop.build(TEXT, isolation="chroot", no_cache=True)

    assert shop.tree(built.image) == shop.tree(expected)
    assert built.image.diff_ids == expected.diff_ids
    assert any("isolated by chroot only" in warning for warning in built.warnings)
    shop.assert_clean()


def test_what_is_mounted_is_there_and_leaves_nothing(shop: Workshop) -> None:
    shop.put("tree/file", "context")
    text = """\
FROM busybox AS tools
RUN mkdir /t && echo tool > /t/tool
FROM busybox
RUN mkdir -p /data && echo original > /data/file
RUN --mount=type=cache,target=/cache/here --mount=type=secret,id=s,uid=7 --mount=type=secret,id=e,env=E \\
    --mount=type=bind,from=tools,source=/t,target=/data --mount=type=tmpfs,target=/scratch \\
    --mount=type=bind,source=tree/file,target=/one \\
    echo x >> /cache/here/n && cat /cache/here/n /data/tool /one && cat /run/secrets/s && \\
    stat -c %u:%a /run/secrets/s && echo "$E" && touch /scratch/a /data/lost /cache/kept && \\
    test -c /dev/null && cat /etc/hosts > /hosts
"""
    secrets = {"s": b"first-secret", "e": b"other-secret"}
    first = shop.build(text, isolation="chroot", secrets=secrets)
    assert first.output == "x\ntool\ncontext***7:400\n***\n"
    second = shop.build(text, isolation="chroot", secrets=secrets, no_cache=True)
    assert second.output.startswith("x\nx\ntool\n")
    assert shop.layer(second.image).keys() == {"cache", "cache/kept", "hosts"}
    tree = shop.tree(second.image)
    assert tree["/data/file"].content == "original\n" and "/run/secrets" not in tree
    assert "/cache/here" not in tree and "/scratch" not in tree
    shop.assert_clean()


def test_a_command_that_fails_is_told_and_leaves_nothing(shop: Workshop) -> None:
    with pytest.raises(StepFailed, match="exit code: 3") as failed:
        shop.build("FROM busybox\nRUN echo why >&2; exit 3\n", isolation="chroot")
    assert failed.value.exit_code_of_step == 3 and "why" in failed.value.hint
    with pytest.raises(StepFailed, match="SIGKILL"):
        shop.build("FROM busybox\nRUN kill -9 $$\n", isolation="chroot")
    with pytest.raises(StepFailed, match="no such file or directory"):
        shop.build('FROM busybox\nRUN ["/nothing"]\n', isolation="chroot")
    with pytest.raises(StepFailed, match="unable to find user"):
        shop.build("FROM busybox\nUSER stranger\nRUN true\n", isolation="chroot")
    shop.assert_clean()


@pytest.mark.parametrize("flag", ["--network=none", "--device=/dev/null"])
def test_what_chroot_cannot_do_is_refused(shop: Workshop, flag: str) -> None:
    with pytest.raises(StepFailed, match="is not possible with chroot isolation"):
        shop.build(f"FROM busybox\nRUN {flag} true\n", isolation="chroot", entitlements=frozenset({"device"}))


def test_processes_end_with_their_step_and_with_the_build(shop: Workshop) -> None:
    mark = f"{os.getpid()}71"
    shop.build(f"FROM busybox\nRUN sleep {mark} & (setsid sleep {mark} &) ; true\n", isolation="chroot")
    assert processes(f"sleep\0{mark}\0".encode()) == []

    async def cancelled() -> None:
        task = asyncio.create_task(shop.abuild(f"FROM busybox\nRUN sleep {mark}\n", isolation="chroot"))
        while not processes(f"sleep\0{mark}\0".encode()):
            await asyncio.sleep(0.02)
        task.cancel()
        await asyncio.wait([task])

    shop.run(asyncio.wait_for(cancelled(), 30))
    assert processes(f"sleep\0{mark}\0".encode()) == []
    shop.assert_clean()


def test_a_full_root_has_better_isolation() -> None:
    assert only_chroot_is_possible(Path("/tmp")) is False
    assert Path("/proc/self/status").exists()


def test_links_that_a_command_makes_lead_the_builder_nowhere(shop: Workshop, tmp_path: Path) -> None:
    """What is put into the tree is taken out of the tree again, not of the machine's directory of that name."""
    outside = tmp_path / "outside"
    for name in ("resolv.conf", "hosts", "hostname", "here/precious"):
        (outside / name).parent.mkdir(parents=True, exist_ok=True)
        (outside / name).write_text("precious")
    before = {path: path.lstat().st_mtime_ns for path in outside.rglob("*")}
    built = shop.build(
        f"FROM busybox\nRUN --mount=type=cache,target=/cache/here mv /etc /was && ln -s {outside} /etc && "
        f"mv /cache /kept && ln -s {outside} /cache\n",
        isolation="chroot",
    )
    assert {path: path.lstat().st_mtime_ns for path in outside.rglob("*")} == before
    assert shop.tree(built.image)["/etc"].content == f"-> {outside}"
    shop.assert_clean()


def test_a_mount_below_a_link_of_another_mount_is_refused(shop: Workshop, tmp_path: Path) -> None:
    text = f"""\
FROM busybox AS sly
RUN mkdir /t && ln -s {tmp_path} /t/out
FROM busybox
RUN --mount=type=bind,from=sly,source=/t,target=/m --mount=type=secret,id=s,target=/m/out/secret true
"""
    with pytest.raises(StepFailed, match="/m/out/secret"):
        shop.build(text, isolation="chroot", secrets={"s": b"first-secret"})
    assert "secret" not in os.listdir(tmp_path)
    shop.assert_clean()


@pytest.mark.parametrize(
    "command", ["mv /run/secrets /x", "ln /run/secrets/s /x", "mv /run/secrets/s /x", "mv /run /x"]
)
def test_a_secret_gets_into_no_layer(shop: Workshop, command: str) -> None:
    text = f"FROM busybox\nRUN mkdir -p /run\nRUN --mount=type=secret,id=s {command}\n"
    with pytest.raises(StepFailed, match="secret"):
        shop.build(text, isolation="chroot", secrets={"s": b"first-secret"})
    for path in shop.root.rglob("*"):
        assert not path.is_file() or b"first-secret" not in path.read_bytes()
    shop.assert_clean()
