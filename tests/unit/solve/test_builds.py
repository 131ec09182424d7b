"""Whole builds: what is executed, cached, shared, and what image comes out."""

from __future__ import annotations

import asyncio
import contextlib
import errno
import os
import random
import time
from collections.abc import Callable
from datetime import UTC, datetime

import pytest

from buildtool.errors import Conflict, InvalidInput, NotFound, StoreFull
from buildtool.oci import parse_reference
from buildtool.solve.events import Built, StepCached, StepDone, StepStarted
from tests.unit.solve.conftest import Workshop, processes
from tests.unit.solve.fixtures import busybox_rootfs


def test_a_built_image_has_config_history_and_layers(shop: Workshop) -> None:
    shop.write(app_py="print(1)")
    outcome = shop.build(
        """FROM busybox
MAINTAINER me@example.org
ARG VERSION=1
ENV A=b PATH=/x:$PATH
WORKDIR /srv
COPY app.py .
RUN echo hi > out
USER app
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-e", "-c"]
HEALTHCHECK --interval=5s CMD true
CMD echo "x y"
ENTRYPOINT ["/bin/sh"]
LABEL a.b="c d"
ONBUILD RUN echo later
""",
        tags=("mine", "other:2"),
        labels={"given": "yes"},
    )
    config = outcome.image.config
    assert config.config is not None
    assert config.config.env == [
        "PATH=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "A=b",
    ]
    assert config.config.working_dir == "/srv"
    assert config.config.user == "app"
    assert config.config.exposed_ports == {"53/udp": {}, "80/tcp": {}}
    assert config.config.volumes == {"/data": {}}
    assert config.config.stop_signal == "SIGINT"
    assert config.config.cmd == ["/bin/sh", "-e", "-c", 'echo "x y"']
    assert config.config.entrypoint == ["/bin/sh"]
    assert config.config.labels == {"a.b": "c d", "given": "yes"}
    assert config.config.on_build == ["RUN echo later"]
    assert config.author == "me@example.org"
    history = [(line.created_by, line.empty_layer) for line in config.history or ()][1:]
    assert history == [
        ("MAINTAINER me@example.org", True),
        ("ARG VERSION=1", True),
        ("ENV A=b PATH=/x:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", True),
        ("WORKDIR /srv", False),
        ("COPY app.py . # buildkit", False),
        ("RUN |1 VERSION=1 /bin/sh -c echo hi > out # buildkit", False),
        ("USER app", True),
        ("EXPOSE [53/udp 80/tcp]", True),
        ("VOLUME [/data]", True),
        ("STOPSIGNAL SIGINT", True),
        ("SHELL [/bin/sh -e -c]", True),
        (
            "HEALTHCHECK {Test:[CMD-SHELL true] Interval:5s Timeout:0s StartPeriod:0s StartInterval:0s Retries:0}",
            True,
        ),
        ('CMD ["/bin/sh" "-e" "-c" "echo \\"x y\\""]', True),
        ('ENTRYPOINT ["/bin/sh"]', True),
        ("LABEL a.b=c d", True),
    ]
    assert len(config.rootfs.diff_ids) == 4
    assert shop.images.get("mine").id == shop.images.get("other:2").id == outcome.image.id
    assert outcome.events[-1] == Built(outcome.image.id, ("mine:latest", "other:2"))


def test_a_second_build_is_fully_cached_and_the_same_image(shop: Workshop) -> None:
    shop.write(a="1")
    text = "FROM busybox\nCOPY a /a\nRUN cat /a\nWORKDIR /w\n"
    first, second = shop.build(text), shop.build(text)
    assert first.cached == [True, False, False, False]
    assert second.cached == [True] * 4
    assert first.image.id == second.image.id
    assert [type(event) for event in second.events[:-1]] == [StepStarted, StepCached] * 4


def test_identical_inputs_give_the_same_digest_from_empty_stores(workshops: Callable[[], Workshop]) -> None:
    text = (
        "FROM busybox AS one\nWORKDIR /w\nCOPY . .\nRUN echo 1 > made && mkdir -p d/e && ln -s made l\n"
        "FROM busybox\nCOPY --from=one /w /w\nRUN touch /w/now; rm /bin/tr\n"
    )
    ids = []
    for turn in range(2):
        shop = workshops()
        shop.put("src/main.c", "int main;", 0o755)
        os.utime(shop.put("old", "x"), (1_000_000_000 + turn, 1_000_000_000 + turn))
        ids.append(shop.build(text).image.id)
        time.sleep(1.05 if turn == 0 else 0)
    assert ids[0] == ids[1]


def test_source_date_epoch_dates_the_image_and_clamps_its_files(shop: Workshop) -> None:
    plain = shop.build("FROM busybox\nRUN echo 1 > /f\n")
    dated = shop.build("FROM busybox\nRUN echo 1 > /f\n", build_args={"SOURCE_DATE_EPOCH": "1600000000"})
    assert plain.image.config.created == "2023-11-14T22:13:20Z"  # the base's
    assert dated.image.config.created == "2020-09-13T12:26:40Z"
    assert dated.cached == [True, True]
    assert plain.image.diff_ids[1] != dated.image.diff_ids[1]
    with pytest.raises(InvalidInput, match="SOURCE_DATE_EPOCH"):
        shop.build("FROM busybox\n", build_args={"SOURCE_DATE_EPOCH": "yesterday"})


def test_an_image_takes_the_time_of_its_base(shop: Workshop) -> None:
    shop.build("FROM busybox\nRUN echo\n", build_args={"SOURCE_DATE_EPOCH": "1600000000"}, tags=("base",))
    child = shop.build("FROM base\nRUN echo > /x\n")
    assert child.image.config.created == datetime.fromtimestamp(1_600_000_000, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def test_stages_that_the_target_does_not_need_are_skipped(shop: Workshop) -> None:
    text = (
        "FROM busybox AS a\nRUN echo A > /a\nFROM busybox AS b\nRUN false\nFROM busybox AS c\nCOPY --from=a /a /c\n"
    )
    outcome = shop.build(text)
    assert [step.name for step in outcome.result.steps] == [
        "[a] FROM busybox AS a",
        "[a] RUN echo A > /a",
        "[c] COPY --from=a /a /c",
    ]
    assert shop.tree(outcome.image)["/c"].content == "A\n"
    target = shop.build(text, target="A")
    assert "/a" in shop.tree(target.image)
    with pytest.raises(NotFound, match=r"target stage 'cc' could not be found\n.*did you mean"):
        shop.build(text, target="cc")


def test_independent_stages_run_at_the_same_time(shop: Workshop) -> None:
    stages = "".join(f"FROM busybox AS s{n}\nRUN sleep 0.5; echo {n} > /r{n}\n" for n in range(4))
    began = time.monotonic()
    shop.build(stages + "FROM scratch\n" + "".join(f"COPY --from=s{n} /r{n} /\n" for n in range(4)))
    assert time.monotonic() - began < 1.6


def test_equal_steps_of_concurrent_builds_run_once(shop: Workshop) -> None:
    text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id; echo said; sleep 0.3\n"

    async def both() -> list[str]:
        outcomes = await asyncio.gather(*(shop.abuild(text) for _ in range(3)))
        assert all("said" in outcome.output for outcome in outcomes)
        return [outcome.image.id for outcome in outcomes]

    assert len(set(shop.run(both()))) == 1


def test_one_of_two_builds_can_be_cancelled_and_the_other_goes_on(shop: Workshop) -> None:
    text = "FROM busybox\nRUN sleep 0.4; echo done > /x\n"

    async def two() -> str:
        first, second = (asyncio.create_task(shop.abuild(text)) for _ in range(2))
        await asyncio.sleep(0.2)
        first.cancel()
        with pytest.raises(asyncio.CancelledError):
            await first
        return (await second).image.id

    assert shop.images.find(shop.run(two())) is not None


def test_cancelling_kills_the_step_and_leaves_nothing(shop: Workshop) -> None:
    async def cancel() -> float:
        task = asyncio.create_task(shop.abuild("FROM busybox\nRUN sleep 7.25 & sleep 7.25\n"))
        await asyncio.sleep(0.4)
        began = time.monotonic()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        return time.monotonic() - began

    assert shop.run(cancel()) < 3
    assert processes(b"sleep\x007.25") == []
    shop.run(shop.builder.close())
    shop.assert_clean()


def test_no_cache_executes_everything_again(shop: Workshop) -> None:
    text = "FROM busybox\nRUN cat /proc/sys/kernel/random/uuid > /id\n"
    first, second = shop.build(text), shop.build(text, no_cache=True)
    assert second.cached == [True, False]
    assert first.image.id != second.image.id
    assert second.reason(1) == "the cache is not used (--no-cache)"
    assert shop.build(text).image.id == second.image.id


def test_a_run_after_an_equal_tree_is_not_run_again(shop: Workshop) -> None:
    """Early cutoff: another command, the same files."""
    text = "FROM busybox\nRUN {} > /f\nRUN cat /proc/sys/kernel/random/uuid > /id\nRUN true\n"
    first = shop.build(text.format("echo 1"))
    second = shop.build(text.format("echo   1"))
    assert second.cached == [True, False, True, True]
    assert first.image.diff_ids == second.image.diff_ids
    third = shop.build(text.format("echo 2"))
    assert third.cached == [True, False, False, False]


def test_another_base_with_the_same_files_is_a_hit(shop: Workshop) -> None:
    shop.build("FROM busybox\nENV X=1\n", tags=("renamed",))
    shop.write(a="1")
    shop.build("FROM busybox\nCOPY a /a\n")
    assert shop.build("FROM renamed\nCOPY a /a\n").cached == [True, True]


def test_copy_is_a_hit_on_another_base(shop: Workshop) -> None:
    """The content key: a COPY depends on its files and on the way to its destination, not on all of the base."""
    shop.images.import_tar(busybox_rootfs({"etc/extra": "x"}), reference=parse_reference("base2"))
    shop.write(a="1")
    first = shop.build("FROM busybox\nCOPY a /srv/a\nRUN true\n")
    second = shop.build("FROM base2\nCOPY a /srv/a\nRUN true\n")
    assert second.cached == [True, True, False]
    assert first.image.diff_ids[1] == second.image.diff_ids[1]
    assert "/etc/extra" in shop.tree(second.image)


def test_onbuild_triggers_run_in_the_child_and_are_cleared(shop: Workshop) -> None:
    shop.write(a="1")
    shop.build("FROM busybox\nONBUILD COPY a /a\nONBUILD RUN cat /a > /b\nONBUILD ENV T=1\n", tags=("parent",))
    child = shop.build("FROM parent\nRUN cat /b\n", tags=("child",))
    assert child.output == "1"
    assert child.image.config.config is not None
    assert child.image.config.config.on_build is None
    assert "T=1" in (child.image.config.config.env or ())
    assert shop.build("FROM child\n").image.config.rootfs == child.image.config.rootfs


def test_copy_from_an_image(shop: Workshop) -> None:
    outcome = shop.build("FROM scratch\nCOPY --from=busybox /etc/passwd /p\n")
    assert list(shop.layer(outcome.image)) == ["p"]


def test_build_args(shop: Workshop) -> None:
    text = "ARG BASE=nothing\nFROM $BASE\nARG A=1\nARG B\nARG BASE\nRUN echo $A-$B-$BASE-$http_proxy-$TARGETARCH\n"
    args = {"BASE": "busybox", "B": "two", "http_proxy": "p"}
    first = shop.build(text, build_args=args)
    assert first.output == "1-two-busybox-p-\n"
    assert shop.build(text, build_args=args | {"http_proxy": "q"}).cached == [True, True]
    changed = shop.build(text, build_args=args | {"B": "three"})
    assert changed.cached == [True, False]
    assert changed.reason(1) == "ARG B changed: 'two' → 'three'"


def test_explain_tells_what_changed(shop: Workshop) -> None:
    shop.write(a="1", b="1", c="1")
    text = "FROM busybox\nENV E=1\nCOPY . /src\nRUN echo 1\nRUN echo 2\n"
    assert shop.build(text).reason(1) == "it was not built before"
    shop.write(a="2", d="1")
    (shop.context / "b").unlink()
    (shop.context / "c").chmod(0o755)
    second = shop.build(text)
    assert second.reason(1) == "4 files changed: a (content), b (removed), c (mode or owner) and 1 more"
    assert second.reason(2) == "an earlier step changed: COPY . /src"
    third = shop.build(text.replace("RUN echo 1", "RUN echo 11"))
    assert "the command changed: '/bin/sh -c echo 1' → '/bin/sh -c echo 11'" in third.reason(2)
    fourth = shop.build(text.replace("E=1", "E=2"))
    assert "ENV E changed: '1' → '2'" in fourth.reason(2)
    shop.images.import_tar(busybox_rootfs({"etc/extra": "x"}), reference=parse_reference("busybox"))
    assert "the base image changed" in shop.build(text.replace("COPY . /src", "RUN true")).reason(1)


def test_a_touched_file_is_a_hit(shop: Workshop) -> None:
    shop.write(a="1")
    shop.build("FROM busybox\nCOPY a /a\n")
    (shop.context / "a").touch()
    assert shop.build("FROM busybox\nCOPY a /a\n").cached == [True, True]


def test_the_build_is_recorded(shop: Workshop) -> None:
    shop.build("FROM busybox\nRUN echo\n", tags=("x",))
    shop.run(shop.builder.close())
    (record,) = shop.builder.history.all()
    assert record.tags == ["x:latest"]
    assert [step.cached for step in record.steps] == [True, False]


def test_results_dropped_by_gc_are_made_again(shop: Workshop) -> None:
    text = "FROM busybox\nRUN echo 1 > /a\nRUN echo 2 > /b\n"
    first = shop.build(text)
    shop.images.delete(first.image.id, force=True)
    shop.run(shop.builder.close())
    time.sleep(1.1)
    shop.store.gc(shop.images.pins(), actions="all")
    second = shop.build(text)
    assert second.cached == [True, False, False]
    assert second.image.id == first.image.id


def test_a_build_survives_a_new_daemon(shop: Workshop) -> None:
    text = "FROM busybox\nRUN echo 1 > /a\n"
    first = shop.build(text)
    shop.close()
    shop.open()
    second = shop.build(text)
    assert second.cached == [True, True]
    assert second.image.id == first.image.id


def test_progress_counts_visible_steps(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nENV A=1\nRUN echo\n")
    started = [event for event in outcome.events if isinstance(event, StepStarted)]
    assert [(event.index, event.total, event.name) for event in started] == [
        (1, 2, "FROM busybox"),
        (2, 2, "RUN echo"),
    ]
    assert any(isinstance(event, StepDone) and event.index == 2 for event in outcome.events)


def test_random_cancellation_of_overlapping_builds_leaves_right_results(shop: Workshop) -> None:
    """Builds that share steps are begun and cancelled at random; those that end give what they give alone."""
    chance = random.Random(4)
    shared = "FROM busybox AS s\nRUN echo s > /s; sleep 0.05\nRUN cat /s > /t; sleep 0.05\n"
    texts = [f"{shared}FROM busybox\nCOPY --from=s /t /t\nRUN echo {n} > /n; sleep 0.05\n" for n in range(4)]

    async def storm() -> list[tuple[int, str]]:
        finished: list[tuple[int, str]] = []
        for _ in range(4):
            builds = [
                (n, asyncio.create_task(shop.abuild(texts[n], no_cache=chance.random() < 0.3))) for n in range(4)
            ]
            for _, build in builds:
                await asyncio.sleep(chance.random() * 0.08)
                if chance.random() < 0.5:
                    build.cancel()
            for n, build in builds:
                with contextlib.suppress(asyncio.CancelledError):
                    finished.append((n, (await build).image.id))
        return finished

    finished = shop.run(storm())
    assert finished
    expected = {n: shop.build(texts[n]).image.id for n in range(4)}
    assert all(expected[n] == image_id for n, image_id in finished)


def test_files_that_cannot_be_read_and_full_disks_are_told(shop: Workshop, monkeypatch: pytest.MonkeyPatch) -> None:
    shop.write(a="1")
    import buildtool.solve.writer as writer

    def full(fd: int, data: bytes) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(writer, "_write", full)
    with pytest.raises(StoreFull) as failure:
        shop.build("FROM busybox\nCOPY a /a\n")
    assert failure.value.where is not None
    monkeypatch.undo()
    shop.build("FROM busybox\nCOPY a /a\n")


def test_a_file_that_changes_while_it_is_copied_ends_the_build(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    import buildtool.solve.solver as solver

    path = shop.put("a", "1")
    real = solver.execute_copy

    def late(*args: object) -> object:
        path.write_text("changed")
        return real(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(solver, "execute_copy", late)
    with pytest.raises(Conflict, match="changed while the build was copying it"):
        shop.build("FROM busybox\nCOPY a /a\n")


def test_the_index_of_digests_trusts_no_young_status(shop: Workshop) -> None:
    """A file changed within the clock's tick, with the same size, is seen."""
    path = shop.put("a", "1")
    for content in "2345678":
        first = shop.build("FROM busybox\nCOPY a /a\n")
        path.write_text(content)
        second = shop.build("FROM busybox\nCOPY a /a\n")
        assert shop.tree(second.image)["/a"].content == content
        assert first.image.id != second.image.id


def test_hundreds_of_steps(shop: Workshop) -> None:
    text = "FROM busybox\n" + "".join(f"WORKDIR /d{number}\n" for number in range(250)) + "RUN ls / | wc -l\n"
    began = time.monotonic()
    first = shop.build(text)
    cold = time.monotonic() - began
    began = time.monotonic()
    second = shop.build(text)
    assert all(second.cached)
    assert second.image.id == first.image.id
    assert time.monotonic() - began < max(1.0, cold / 2)


def test_checks_that_need_the_context_and_values_fire_in_a_build(shop: Workshop) -> None:
    shop.write(ignored__a="1", ignored__b="2", c="3")
    text = (
        "# check=experimental=CopyIgnoredFile{}\nFROM busybox\nARG D=rel\nWORKDIR $D\n"
        "COPY ignored* c /x/\nADD ignored/? /y/\n# check=skip=CopyIgnoredFile\nCOPY ignored/? /z/\n"
    )
    ignored = "that is excluded by .dockerignore"
    outcome = shop.build(text.format(""), ignore="ignored")
    assert outcome.warnings[:2] == [
        'Relative workdir "rel" can have unexpected results if the base image changes',
        f'Attempting to Add file "ignored/?" {ignored}',
    ]
    with pytest.raises(InvalidInput, match="lint violation found for rules: CopyIgnoredFile"):
        shop.build(text.format(";skip=WorkdirRelativePath;error=true"), ignore="ignored")
    assert not any(ignored in warning for warning in shop.build(text.format(""), ignore="").warnings)


def test_only_system_and_architecture_of_a_base_are_compared(shop: Workshop) -> None:
    machine = shop.images.get("busybox").config.platform
    variant = f"{machine.os}/{machine.architecture}/v9"
    assert shop.build(f"FROM --platform={variant} busybox AS x{machine.architecture}\n").warnings == []


def test_stages_that_are_not_built_are_not_checked(shop: Workshop) -> None:
    text = "FROM busybox AS A\nENV TOKEN=1\nCMD x\nEXPOSE 80/TCP\nFROM busybox AS b\n"
    assert shop.build(text).warnings == ["Stage name 'A' should be lowercase"]
    assert len(shop.build(text, target="a").warnings) == 4


def test_a_shell_of_the_base_image_makes_the_shell_form_right(shop: Workshop) -> None:
    shop.build('FROM busybox\nSHELL ["/bin/sh", "-ec"]\n', tags=("with-shell",))
    assert shop.build("FROM with-shell AS a\nCMD x\nFROM a\nENTRYPOINT y\n").warnings == []
    assert len(shop.build("FROM busybox\nCMD x\n").warnings) == 1
