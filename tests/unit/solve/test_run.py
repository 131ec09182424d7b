"""RUN: environment, mounts, traces, failures."""

from __future__ import annotations

import asyncio
import os
import signal
import threading
import time

import pytest

from buildtool.errors import Forbidden, InvalidInput, NotFound, StepFailed
from buildtool.solve import events
from tests.unit.solve.conftest import Workshop, processes


def test_a_run_that_changes_nothing_makes_an_empty_layer(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nRUN true\n")
    assert len(outcome.image.layers) == 2
    assert shop.layer(outcome.image) == {}


def test_mount_points_leave_no_trace(shop: Workshop) -> None:
    text = """FROM scratch
COPY --from=busybox /bin /bin
RUN --mount=type=tmpfs,target=/scratch/tmp --mount=type=cache,target=/var/cache/x echo > /var/cache/x/f
RUN ["/bin/rm", "-rf", "/bin/cut"]
"""
    outcome = shop.build(text)
    assert shop.layer(outcome.image, 1) == {}
    assert list(shop.layer(outcome.image, 2)) == ["bin", "bin/cut"]


def test_mount_points_that_a_layer_deleted_leave_no_trace(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nRUN mkdir -p /c/d\nRUN rm -r /c\nRUN --mount=type=tmpfs,target=/c/d true\n")
    assert not any(path.startswith("/c") for path in shop.tree(outcome.image))


def test_exec_form_user_environment_and_workdir(shop: Workshop) -> None:
    text = """FROM busybox
ENV A=1
WORKDIR /tmp
USER app
RUN ["/bin/sh", "-c", "echo $A $HOME; pwd; id -u; id -g; hostname"]
"""
    assert shop.build(text).output == "1 /home/app\n/tmp\n1000\n1001\nbuildkitsandbox\n"


def test_output_is_streamed_by_stream(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nRUN echo out; sleep 0.1; echo err >&2\n")
    parts = [(event.stream, event.data) for event in outcome.events if isinstance(event, events.StepOutput)]
    assert parts == [("stdout", b"out\n"), ("stderr", b"err\n")]


def test_heredocs(shop: Workshop) -> None:
    text = (
        "FROM busybox\nRUN <<EOF\nA=1\necho $A\nEOF\nRUN <<EOF\n#!/bin/cat\nI am a file\nEOF\nRUN cat <<X\nbody\nX\n"
    )
    outcome = shop.build(text)
    assert outcome.output == "1\n#!/bin/cat\nI am a file\nbody\n"
    assert shop.layer(outcome.image, 2) == {}


def test_networks(shop: Workshop) -> None:
    text = "FROM busybox\nRUN --network={} cat /proc/net/dev | grep -c :\n"
    assert int(shop.build(text.format("none")).output) == 1
    allowed = frozenset({"network.host"})
    assert int(shop.build(text.format("host"), entitlements=allowed).output) >= 1
    assert shop.build(text.format("host"), network_mode="host").result.steps
    with pytest.raises(Forbidden, match=r"network\.host is not allowed"):
        shop.build(text.format("host"))
    same = shop.build(text.format("default"), network_mode="none")
    assert same.cached == [True, True]
    with pytest.raises(InvalidInput, match="--network mode"):
        shop.build(text.format("bridge"))


def test_extra_hosts(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nRUN cat /etc/hosts\n", extra_hosts=("db:10.0.0.2",))
    assert "10.0.0.2\tdb\n" in outcome.output


def test_cache_mounts_keep_their_contents(shop: Workshop) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c,sharing={} echo {} >> /c/log; cat /c/log\n"
    assert shop.build(text.format("locked", 1)).output == "1\n"
    assert shop.build(text.format("private", 2)).output == "1\n2\n"
    assert shop.build(text.format("shared", 3), no_cache=True).output == "1\n2\n3\n"


def test_a_locked_cache_mount_has_one_user_at_a_time(shop: Workshop) -> None:
    stages = "".join(
        f"FROM busybox AS s{n}\n"
        "RUN --mount=type=cache,target=/c,sharing=locked test ! -e /c/l && touch /c/l && sleep 0.1 && rm /c/l && "
        f"touch /{n}\n"
        for n in range(3)
    )
    shop.build(stages + "FROM scratch\n" + "".join(f"COPY --from=s{n} /{n} /\n" for n in range(3)))


def test_bind_mounts_of_context_and_stage(shop: Workshop) -> None:
    shop.write(d__a="from context", d__b="2", ignored="x")
    text = """FROM busybox AS other
RUN mkdir -p /o/sub && echo 1 > /o/one
RUN echo 2 > /o/two
FROM busybox
RUN --mount=target=/ctx --mount=source=d/a,target=/one --mount=from=other,source=/o,target=/o,rw \
    ls /ctx /o; cat /one; echo > /o/three; touch /ctx/x
"""
    with pytest.raises(StepFailed) as failure:
        shop.build(text, ignore="ignored")
    assert "/ctx:\nd\n\n/o:\none\nsub\ntwo\nfrom context" in "".join(
        event.data.decode() for event in shop.events if isinstance(event, events.StepOutput)
    )
    assert "Read-only file system" in str(failure.value)
    good = text.replace("; touch /ctx/x", "")
    first = shop.build(good, ignore="ignored")
    assert shop.layer(first.image) == {}
    shop.write(ignored="y")
    assert all(shop.build(good, ignore="ignored").cached)
    shop.write(d__a="changed")
    assert shop.build(good, ignore="ignored").cached[-1] is False


def test_secrets_are_seen_and_nowhere_kept(shop: Workshop) -> None:
    text = """FROM busybox
RUN --mount=type=secret,id=token,env=T --mount=type=secret,id=key,required=true \
    echo -n "$T" | wc -c && cat /run/secrets/key | wc -c && stat -c %a /run/secrets/key
RUN --mount=type=secret,id=absent test ! -e /run/secrets/absent
"""
    outcome = shop.build(text, secrets={"token": b"wonderful", "key": b"mysterious"})
    assert outcome.output == "9\n10\n400\n"
    shop.run(shop.builder.close())
    for path in (shop.root / "data").rglob("*"):
        if path.is_file() and not path.is_symlink():
            assert b"mysterious" not in path.read_bytes()
            assert b"wonderful" not in path.read_bytes()
    with pytest.raises(NotFound, match="secret key: not found"):
        shop.build(text.replace("400", "0400"), no_cache=True)


def test_tmpfs_and_ssh(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nRUN --mount=type=tmpfs,target=/t,size=1m touch /t/x && mount | grep /t\n")
    assert "size=1024k" in outcome.output
    shop.build("FROM busybox\nRUN --mount=type=ssh true\n")
    with pytest.raises(NotFound, match="ssh agent default: not found"):
        shop.build("FROM busybox\nRUN --mount=type=ssh,required=true true\n")


def test_a_failed_run_tells_all(shop: Workshop) -> None:
    with pytest.raises(StepFailed) as failure:
        shop.build("FROM busybox\nRUN echo one; echo two >&2; exit 3\n")
    error = failure.value
    assert error.exit_code_of_step == 3
    assert str(error) == (
        'Buildfile:2:1: process "/bin/sh -c echo one; echo two >&2; exit 3" did not complete successfully: '
        "exit code: 3\n"
        "  2 | RUN echo one; echo two >&2; exit 3\n    | ^^^\n"
        "last output:\n  one\n  two"
    )
    failed = shop.events[-1]
    assert isinstance(failed, events.StepFailed)
    assert (failed.index, failed.exit_code, failed.oom_killed) == (2, 3, False)


def test_a_killed_command_is_told_by_the_signals_name(shop: Workshop) -> None:
    async def kill() -> StepFailed:
        build = asyncio.create_task(shop.abuild('FROM busybox\nRUN ["sleep", "77.31"]\nRUN true\n'))
        while not (found := processes(b"sleep\x0077.31")):
            await asyncio.sleep(0.02)
        os.kill(found[0], signal.SIGKILL)
        with pytest.raises(StepFailed) as failure:
            await build
        return failure.value

    error = shop.run(kill())
    assert "killed by signal 9 (SIGKILL)" in str(error)
    assert error.exit_code_of_step == 137
    assert not error.oom_killed


def test_out_of_memory_is_told_by_name(shop: Workshop) -> None:
    text = "FROM busybox\nRUN dd if=/dev/zero of=/dev/null bs=200M count=1\n"
    with pytest.raises(StepFailed, match="out of memory") as failure:
        shop.build(text, memory=20 << 20)
    assert failure.value.oom_killed


def test_commands_that_do_not_exist(shop: Workshop) -> None:
    with pytest.raises(StepFailed, match="executable file not found") as failure:
        shop.build('FROM busybox\nRUN ["nope"]\n')
    assert failure.value.exit_code_of_step == 127
    with pytest.raises(StepFailed, match="unable to find user ghost"):
        shop.build("FROM busybox\nUSER ghost\nRUN true\n")


def test_a_failing_step_stops_the_others(shop: Workshop) -> None:
    text = "FROM busybox AS a\nRUN sleep 5\nFROM busybox\nRUN sleep 0.2; false\nCOPY --from=a /x /x\n"
    began = time.monotonic()
    with pytest.raises(StepFailed, match="exit code: 1"):
        shop.build(text)
    assert time.monotonic() - began < 3


def test_what_succeeded_before_a_failure_is_cached(shop: Workshop) -> None:
    text = "FROM busybox\nRUN echo 1 > /a\nRUN false\n"
    with pytest.raises(StepFailed):
        shop.build(text)
    assert shop.build(text.replace("false", "true")).cached == [True, True, False]


def test_an_unknown_base_image(shop: Workshop) -> None:
    with pytest.raises(NotFound) as failure:
        shop.build("FROM busybos\n")
    assert str(failure.value).splitlines()[0] == "Buildfile:1:6: base image 'busybos' is not in the local store"
    assert "did you mean 'busybox:latest'?" in str(failure.value)
    assert "buildtool image bootstrap" in str(failure.value)
    with pytest.raises(NotFound, match="did you mean the stage 'builder'"):
        shop.build("FROM busybox AS builder\nFROM busybox\nCOPY --from=bulder /x /x\n")


def test_the_event_loop_is_not_blocked(shop: Workshop) -> None:
    """Measured by what the loop's own thread computes at a time, which a busy machine does not change."""
    for number in range(2000):
        shop.put(f"d{number % 20}/f{number}", str(number))
    slow: list[float] = []
    shop.loop.slow_callback_duration = 0.15

    async def watched() -> None:
        done = threading.Event()

        async def tick() -> None:
            while not done.is_set():
                began = time.thread_time()
                await asyncio.sleep(0.005)
                slow.append(time.thread_time() - began)

        ticker = asyncio.create_task(tick())
        await shop.abuild("FROM busybox\nCOPY . /x/\nRUN true\n")
        done.set()
        await ticker

    shop.run(watched())
    assert max(slow) < 0.2


def test_what_a_killed_daemon_left_is_ended_and_removed(shop: Workshop) -> None:
    """A container of a step whose daemon is gone, with its bundle: the next build ends it."""
    from buildtool.runtime import Bundle, Rootfs, SpecOptions, container_spec

    image = shop.images.get("busybox")
    lower = [shop.store.snapshots.fs(snapshot) for snapshot in shop.images.snapshots(image)]
    bundle = shop.root / "run" / "builds" / "build-left" / "bundle"
    upper, work = bundle.parent / "upper", bundle.parent / "work"
    for directory in (bundle, upper, work):
        directory.mkdir(parents=True)
    spec = container_spec(SpecOptions(id="build-left", args=["sleep", "66.6"], env=["PATH=/bin"]))

    async def leave() -> None:
        task = await shop.runtime.create(Bundle("build-left", bundle, spec, Rootfs(lower, upper, work)))
        await task.start()
        task.release()

    shop.run(leave())
    assert processes(b"sleep\x0066.6")
    shop.close()
    shop.open()
    shop.build("FROM busybox\nRUN true\n")
    assert processes(b"sleep\x0066.6") == []
    assert not bundle.parent.exists()
