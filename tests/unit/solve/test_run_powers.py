"""What a RUN may have beyond its tree: cache mounts in all their forms, secrets, agents, devices, insecurity."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import os
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.cache import Store, memory_files
from buildtool.errors import Forbidden, NotFound, StepFailed
from buildtool.graph import Exec, Node, StepId, StepMount
from buildtool.runtime import cdi
from buildtool.solve.cache_mounts import CacheMounts
from buildtool.solve.run_output import Mask
from tests.unit.solve.conftest import Outcome, Workshop


def node(*mounts: StepMount) -> Node:
    return Node(StepId("x"), Exec(("x",), "/", "", (), mounts=mounts), (), "", "", "", None)


def cache(id: str, sharing: str, target: str = "") -> StepMount:
    return StepMount("cache", target or f"/{id}-{sharing}", id=id, sharing=sharing)


async def take(mounts: CacheMounts, store: Store, *wanted: StepMount) -> tuple[AsyncExitStack, list[Path]]:
    stack = AsyncExitStack()
    try:
        found = await mounts.acquire_all(store, node(*wanted), [], stack)
    except BaseException:
        await stack.aclose()
        raise
    return stack, [found[mount.target] for mount in wanted]


def test_a_cache_mount_begins_as_what_from_names(shop: Workshop) -> None:
    text = """FROM busybox AS seed
RUN mkdir -p /s/d && echo 1 > /s/d/f && ln -s f /s/d/l && chmod 700 /s/d && chown 5:6 /s/d/f
FROM busybox
RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/d/l; stat -c '%a %u' /c/d /c/d/f; echo 2 > /c/d/f
RUN --mount=type=cache,target=/c,from=seed,source=/s cat /c/d/f
"""
    assert shop.build(text).output == "1\n700 0\n644 5\n2\n"
    changed = shop.build(text.replace("echo 1", "echo 3"))
    assert changed.output.startswith("3\n")
    with pytest.raises(NotFound, match="no such file or directory: /gone"):
        shop.build(text.replace("source=/s cat", "source=/gone cat"))


def test_mode_owner_and_readonly_of_a_cache_mount(shop: Workshop) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c,id=m,mode=0711,uid=7,gid=8{} stat -c '%a %u %g' /c{}\n"
    assert shop.build(text.format("", "")).output == "711 7 8\n"
    with pytest.raises(StepFailed, match="Read-only file system"):
        shop.build(text.format(",ro", "; touch /c/x"))


def test_the_namespace_of_cache_mounts_separates_builds(shop: Workshop) -> None:
    text = "FROM busybox\nRUN --mount=type=cache,target=/c ls /c; touch /c/there\n"
    shop.build(text)
    other = shop.build(text, no_cache=True, build_args={"BUILDKIT_CACHE_MOUNT_NS": "other"})
    assert other.output == ""
    assert shop.build(text, no_cache=True).output == "there\n"


def test_locked_mounts_wait_in_turn_and_never_for_each_other(shop: Workshop) -> None:
    """Two steps that name the same locks in another order, and one that names the same twice."""
    mounts = CacheMounts(shop.root / "mounts")

    async def scene() -> None:
        first, _ = await take(mounts, shop.store, cache("a", "locked"), cache("b", "locked"))
        orders = (("b", "a"), ("a", "b"))
        others = [
            asyncio.create_task(take(mounts, shop.store, *(cache(name, "locked") for name in names)))
            for names in orders
        ]
        await asyncio.sleep(0.05)
        assert not any(task.done() for task in others)
        await first.aclose()
        for _ in others:
            done, _pending = await asyncio.wait(others, return_when=asyncio.FIRST_COMPLETED, timeout=5)
            stack, _paths = done.pop().result()
            others = [task for task in others if not (task.done() and task.result()[0] is stack)]
            await stack.aclose()
        twice, paths = await take(mounts, shop.store, cache("a", "locked", "/1"), cache("a", "locked", "/2"))
        assert paths[0] == paths[1]
        cancelled = asyncio.create_task(take(mounts, shop.store, cache("a", "locked")))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await cancelled
        await twice.aclose()
        last, _ = await take(mounts, shop.store, cache("a", "locked"))
        await last.aclose()

    shop.run(scene())


def test_private_and_shared_mounts_never_meet_who_is_alone(shop: Workshop) -> None:
    mounts = CacheMounts(shop.root / "mounts")

    async def scene() -> None:
        stacks, paths = [], []
        for sharing in ("private", "shared", "shared", "private"):
            stack, found = await take(mounts, shop.store, cache("a", sharing))
            stacks.append(stack)
            paths += found
        assert paths[1] == paths[2]
        assert len(set(paths)) == 3
        for stack in stacks:
            await stack.aclose()
        stack, again = await take(mounts, shop.store, cache("a", "private"))
        assert again == paths[:1]
        await stack.aclose()

    shop.run(scene())


@given(st.text("ab", min_size=4, max_size=7), st.text("abc", max_size=60), st.lists(st.integers(0, 9)))
def test_a_masked_stream_is_the_masked_whole(secret: str, text: str, sizes: list[int]) -> None:
    """However the output is cut into chunks, what is shown is the text with the secret replaced."""
    value, whole = secret.encode(), text.encode()
    mask, shown, at = Mask([value]), b"", 0
    for size in [*sizes, len(whole)]:
        shown += mask.feed(whole[at : at + size])
        at += size
    assert shown + mask.end() == whole.replace(value, b"***")


def test_secrets_are_not_shown_when_a_command_writes_them(shop: Workshop) -> None:
    text = """FROM busybox
RUN --mount=type=secret,id=t,env=T printf %s "$T" | cut -c1-5 | tr -d '\\n'; sleep 0.1; printf %s "$T" | cut -c6-; \
  echo again $T >&2; exit 1
"""
    with pytest.raises(StepFailed) as failure:
        shop.build(text, secrets={"t": b"wonderful-secret"})
    shown = repr(shop.events) + str(failure.value)
    assert "wonderful-secret" not in shown
    assert "again ***" in shown


def test_secrets_touch_no_disk(shop: Workshop) -> None:
    """While the step runs its secret is in memory only: neither the store nor the run directory has it."""
    text = """FROM busybox
RUN --mount=type=secret,id=a,env=A --mount=type=secret,id=b,target=/b,mode=0440,uid=1,gid=2 \
  stat -c '%a %u %g' /b; wc -c < /b; while [ ! -e /ctl/go ]; do sleep 0.05; done; sleep 88.21
"""
    values = {"a": b"value-of-a-0123456789", "b": b"value-of-b-0123456789"}

    async def scene() -> None:
        build = asyncio.create_task(shop.abuild(text, secrets=values))
        while not any(getattr(event, "data", b"").endswith(b"21\n") for event in shop.events):
            await asyncio.sleep(0.05)
        where = shop.root / "run" / "builds"
        if memory_files.in_memory(where) != where:
            for path in shop.root.rglob("*"):
                if path.is_file() and not path.is_symlink():
                    data = path.read_bytes()
                    for value in values.values():
                        assert value not in data and base64.b64encode(value)[:20] not in data, path
        build.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await build

    shop.run(scene())
    left = memory_files.remembered(shop.root / "run" / "builds")
    assert [path for place in left for path in place.iterdir() if path.name.startswith("build-")] == []


class Echo:
    """A channel to something that answers with what it was asked."""

    def __init__(self) -> None:
        self.said: asyncio.Queue[bytes] = asyncio.Queue()

    async def read(self) -> bytes:
        return await self.said.get()

    async def write(self, data: bytes) -> None:
        self.said.put_nowait(b"you said " + data)

    async def end(self) -> None:
        self.said.put_nowait(b"")

    async def close(self) -> None:
        self.said.put_nowait(b"")


def test_an_agent_is_reached_over_a_socket(shop: Workshop) -> None:
    async def dial() -> Echo:
        return Echo()

    text = """FROM busybox
RUN --mount=type=ssh,mode=0666,uid=3,gid=4 stat -c '%n %a %u %g %F' $SSH_AUTH_SOCK; sleep 1
RUN --mount=type=ssh,id=other,target=/agent test -S /agent && echo $SSH_AUTH_SOCK
"""

    async def scene() -> Outcome:
        build = asyncio.create_task(shop.abuild(text, agents={"default": dial, "other": dial}))
        while not (sockets := list((shop.root / "run" / "builds").glob("build-*/ssh.0"))):
            await asyncio.sleep(0.02)
        reader, writer = await asyncio.open_unix_connection(str(sockets[0]))
        writer.write(b"hello")
        assert await reader.read(100) == b"you said hello"
        writer.write_eof()
        assert await reader.read(100) == b""
        writer.close()
        return await build

    outcome = shop.run(scene())
    assert outcome.output == "/run/buildkit/ssh_agent.0 666 3 4 socket\n/agent\n"
    assert not any(path.startswith("/run") for path in shop.tree(outcome.image))
    with pytest.raises(NotFound, match="ssh agent default: not found"):
        shop.build("FROM busybox\nRUN --mount=type=ssh,required true\n")


def test_an_agents_socket_is_let_go_when_the_build_is_cancelled(shop: Workshop) -> None:
    """Its descriptor is closed only when the event loop watches it no more: the next one has the same number."""

    async def dial() -> Echo:
        return Echo()

    async def scene(number: int) -> str:
        text = f"FROM busybox\nRUN --mount=type=ssh sleep 66.{number}\n"
        build = asyncio.create_task(shop.abuild(text, agents={"default": dial}))
        while not (sockets := list((shop.root / "run" / "builds").glob("build-*/ssh.0"))):
            await asyncio.sleep(0.02)
        reader, writer = await asyncio.open_unix_connection(str(sockets[0]))
        writer.write(b"hello")
        assert await reader.read(100) == b"you said hello"
        build.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await build
        assert await reader.read(100) == b""
        writer.close()
        return str(sockets[0])

    for number in range(3):
        assert not Path(shop.run(scene(number))).exists()


def test_insecure_steps_have_every_power(shop: Workshop) -> None:
    text = "FROM busybox\nRUN --security={} grep CapEff /proc/self/status; mount -t tmpfs x /mnt && echo mounted\n"
    text = text.replace("mount -t", "mkdir -p /mnt; mount -t")
    allowed = frozenset({"security.insecure"})
    with pytest.raises(Forbidden, match=r"security\.insecure is not allowed"):
        shop.build(text.format("insecure"))
    assert "mounted" in shop.build(text.format("insecure"), entitlements=allowed).output
    with pytest.raises(StepFailed):
        shop.build(text.format("sandbox"), entitlements=allowed)


def test_devices_by_path_and_by_cdi_name(shop: Workshop, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(cdi, "DIRECTORIES", (str(tmp_path),))
    edits = {"deviceNodes": [{"path": "/dev/mine", "hostPath": "/dev/zero"}], "env": ["FROM_CDI=yes"]}
    spec = {"cdiVersion": "0.6.0", "kind": "v.com/zero", "devices": [{"name": "one", "containerEdits": edits}]}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    (tmp_path / "hooks.yaml").write_text(
        "cdiVersion: 0.6.0\nkind: v.com/hook\ndevices:\n- name: a\n  containerEdits:\n    hooks: [{hookName: x}]\n"
    )
    allowed = frozenset({"device"})
    text = "FROM busybox\nRUN --device={} ls /dev; echo $FROM_CDI\n"
    seen = shop.build(text.format("v.com/zero=one"), entitlements=allowed).output
    assert "mine\n" in seen and "yes\n" in seen
    assert "kmsg\n" in shop.build(text.format("/dev/kmsg,required"), entitlements=allowed).output
    shop.build(text.format("v.com/none=x"), entitlements=allowed)
    with pytest.raises(NotFound, match="unresolvable CDI device") as failure:
        shop.build(text.format("v.com/none=x,required"), entitlements=allowed)
    assert "v.com/zero=one" in str(failure.value)
    with pytest.raises(Exception, match="hooks"):
        shop.build(text.format("v.com/hook=a"), entitlements=allowed)
    with pytest.raises(Forbidden, match="zero=one is not allowed"):
        shop.build(text.format("v.com/zero=one"), entitlements=frozenset({"device=/dev/kmsg"}))


def test_limits_are_set(shop: Workshop) -> None:
    limits = {"ulimits": ({"Name": "nofile", "Soft": 77, "Hard": 78},), "shm_size": 5 << 20}
    outcome = shop.build("FROM busybox\nRUN ulimit -n; ulimit -Hn; df -k /dev/shm | tail -1\n", **limits)
    assert outcome.output.startswith("77\n78\n") and "5120" in outcome.output
    assert os.getuid() == 0
