"""RUN --no-cache, --cache-ttl, --retry, --timeout: when a step is executed, how often and how long."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from types import SimpleNamespace

import pytest

from buildtool.errors import NotFound, StepFailed
from buildtool.graph import Exec, definition
from buildtool.solve import events
from tests.unit.solve.conftest import Workshop, processes

HOURS = 3600.0
SLEEP = f"sleep {4_000_000 + os.getpid()}"  # no other run of these tests has it
Later = Callable[[float], None]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Later:
    """Lets time pass for what asks how old a result is."""

    def pass_by(seconds: float) -> None:
        monkeypatch.setattr("buildtool.solve.expiry.time", SimpleNamespace(time=lambda: time.time() + seconds))

    return pass_by


def test_no_cache_runs_in_every_build_and_an_equal_result_lets_later_steps_hit(shop: Workshop) -> None:
    shop.write(f="1")
    text = "FROM busybox\nRUN echo a > /a\nRUN --no-cache echo b > /b\nRUN cat /a /b > /c\nCOPY f /f\nWORKDIR /w\n"
    assert not any(shop.build(text).cached[1:])
    again = shop.build(text)
    assert again.cached == [True, True, False, True, True, True]
    assert "never cached" in again.reason(2)
    third = shop.build(text)
    assert third.cached == again.cached and third.image.id == again.image.id


def test_steps_behind_no_cache_run_when_its_result_differs(shop: Workshop) -> None:
    text = "FROM busybox\nRUN --no-cache head -c 9 /dev/urandom | base64 > /b\nRUN cat /b > /c; cat /b\n"
    first, second = shop.build(text), shop.build(text)
    assert second.cached == [True, False, False]
    assert first.output != second.output
    assert shop.tree(second.image)["/c"].content == second.output
    assert "an earlier step changed: RUN --no-cache" in second.reason(2)


def test_a_plain_run_uses_what_a_no_cache_one_made_but_not_the_other_way_round(shop: Workshop) -> None:
    shop.build("FROM busybox\nRUN --no-cache echo x > /x\n")
    assert shop.build("FROM busybox\nRUN echo x > /x\n").cached == [True, True]
    assert shop.build("FROM busybox\nRUN --no-cache=false echo x > /x\n").cached == [True, True]
    assert shop.build("FROM busybox\nRUN --no-cache echo x > /x\n").cached == [True, False]


def test_a_result_lasts_for_its_ttl(shop: Workshop, later: Later) -> None:
    text = "FROM busybox\nRUN --cache-ttl=12h head -c 9 /dev/urandom | base64 > /b\nRUN cat /b > /c\n"
    first = shop.build(text)
    later(11 * HOURS)
    assert all(shop.build(text).cached)
    later(13 * HOURS)
    second = shop.build(text)
    assert second.cached == [True, False, False]
    assert "its result is older than --cache-ttl=12h: it was made 13h" in second.reason(1)
    assert "an earlier step changed" in second.reason(2)
    assert second.image.id != first.image.id
    tree = shop.tree(second.image)
    assert tree["/b"].content == tree["/c"].content
    later(0)
    assert all(shop.build(text).cached) and shop.build(text).image.id == second.image.id
    later(26 * HOURS)
    assert shop.build(text).cached == [True, False, False]


def test_an_expired_step_that_makes_the_same_lets_later_steps_hit(shop: Workshop, later: Later) -> None:
    text = "FROM busybox\nRUN --cache-ttl=1h echo b > /b\nRUN cat /b > /c\n"
    first = shop.build(text)
    later(2 * HOURS)
    second = shop.build(text)
    assert second.cached == [True, False, True]
    assert second.image.id == first.image.id


def test_the_shorter_ttl_decides_and_plain_steps_know_none(shop: Workshop, later: Later) -> None:
    text = "FROM busybox\nRUN {}echo b > /b\n"
    shop.build(text.format(""))
    later(2 * HOURS)
    assert shop.build(text.format("--cache-ttl=3h ")).cached == [True, True]
    assert shop.build(text.format("--cache-ttl=1h ")).cached == [True, False]
    assert shop.build(text.format("")).cached == [True, True]
    later(4 * HOURS)
    assert shop.build(text.format("")).cached == [True, True]
    assert shop.build(text.format("--cache-ttl=3h ")).cached == [True, False]


def test_an_equal_execution_counts_for_a_ttl_only_while_it_is_young(shop: Workshop, later: Later) -> None:
    text = "FROM busybox\nRUN echo {} >/dev/null; echo a > /a\nRUN --cache-ttl=1h cat /a > /b\n"
    shop.build(text.format(1))
    assert shop.build(text.format(2)).cached == [True, False, True]
    later(2 * HOURS)
    assert shop.build(text.format(3)).cached == [True, False, False]


def test_results_dropped_by_gc_are_made_again(shop: Workshop, later: Later) -> None:
    text = "FROM busybox\nRUN --cache-ttl=1h echo b > /b\nRUN cat /b > /c\n"
    shop.images.delete(shop.build(text).image.id, force=True)
    later(2 * HOURS)
    shop.images.delete(shop.build(text).image.id, force=True)
    shop.run(shop.builder.close())
    time.sleep(1.1)
    shop.store.gc(shop.images.pins(), actions="all")
    again = shop.build(text)
    assert again.cached[1:] == [False, False]


def test_no_cache_of_the_request_renews_a_ttl(shop: Workshop, later: Later) -> None:
    text = "FROM busybox\nRUN --cache-ttl=1h head -c 9 /dev/urandom | base64 > /b\n"
    first, second = shop.build(text), shop.build(text, no_cache=True)
    third = shop.build(text)
    assert third.cached == [True, True]
    assert third.image.id == second.image.id != first.image.id


@pytest.mark.parametrize("flags", ["--no-cache ", "--cache-ttl=1h ", "--retry=3 --timeout=1h "])
def test_the_flags_are_no_part_of_what_is_done(shop: Workshop, flags: str) -> None:
    plain, flagged = (
        shop.build("FROM busybox\nRUN date -u -d @0\n"),
        shop.build(f"FROM busybox\nRUN {flags}date -u -d @0\n"),
    )
    assert plain.image.id == flagged.image.id
    assert definition(Exec(("x",), "/", "", ())).keys().isdisjoint({"execution", "cache_ttl"})


def test_a_failed_try_leaves_nothing_but_its_cache_mount(shop: Workshop) -> None:
    text = (
        "FROM busybox\n"
        "RUN --retry=2 --mount=type=cache,target=/c echo x >> /c/tries; "
        "test ! -e /half && touch /half && test $(wc -l < /c/tries) -ge 3 && echo done > /whole\n"
    )
    outcome = shop.build(text)
    assert shop.layer(outcome.image) == {"half": "", "whole": "done\n"}
    assert "try 1 of 3 failed: exit code: 1; trying again" in outcome.output
    assert "try 2 of 3 failed" in outcome.output and "try 3" not in outcome.output


def test_the_last_failure_is_told(shop: Workshop) -> None:
    with pytest.raises(StepFailed) as failure:
        shop.build("FROM busybox\nRUN --retry=1 echo no; exit 3\n")
    assert failure.value.exit_code_of_step == 3
    assert "exit code: 3 (the last of 2 tries)" in failure.value.message
    failed = [event for event in shop.events if isinstance(event, events.StepFailed)]
    assert [event.exit_code for event in failed] == [3]


def test_what_fails_before_the_command_is_not_tried_again(shop: Workshop) -> None:
    with pytest.raises(NotFound):
        shop.build("FROM busybox\nRUN --retry=9 --mount=type=secret,id=s,required true\n")
    with pytest.raises(StepFailed) as failure:
        shop.build("FROM busybox\nUSER nobody-knows\nRUN --retry=9 true\n")
    assert "tries)" not in failure.value.message


def test_a_timeout_kills_the_step_and_says_so(shop: Workshop) -> None:
    with pytest.raises(StepFailed) as failure:
        shop.build(f"FROM busybox\nRUN --timeout=300ms echo begun; touch /x; {SLEEP} & {SLEEP}\n")
    assert "killed after 300ms (--timeout)" in failure.value.message
    assert "begun" in failure.value.hint
    assert failure.value.exit_code_of_step == 137
    assert processes(SLEEP.replace(" ", "\0").encode()) == []


def test_each_try_has_the_timeout_for_itself(shop: Workshop) -> None:
    text = (
        "FROM busybox\nRUN --timeout=2s --retry=1 --mount=type=cache,target=/c "
        f"if test ! -e /c/was; then touch /c/was; {SLEEP}; fi; echo ok > /ok\n"
    )
    outcome = shop.build(text)
    assert "try 1 of 2 failed: killed after 2s (--timeout)" in outcome.output
    assert shop.layer(outcome.image)["ok"] == "ok\n"
    assert processes(SLEEP.replace(" ", "\0").encode()) == []


def test_the_host_name_and_the_caches_of_a_build_can_be_told(shop: Workshop) -> None:
    text = (
        "FROM busybox\nRUN --mount=type=cache,target=/c hostname; cat /etc/hostname; echo x >> /c/f; wc -l < /c/f\n"
    )
    assert shop.build(text).output == "buildkitsandbox\nbuildkitsandbox\n1\n"
    args: dict[str, str | None] = {"BUILDKIT_SANDBOX_HOSTNAME": "there"}
    assert shop.build(text, build_args=args).output == "there\nthere\n2\n"
    args["BUILDKIT_CACHE_MOUNT_NS"] = "mine"
    assert shop.build(text, build_args=args, no_cache=True).output == "there\nthere\n1\n"
    assert shop.build(text, no_cache=True).output.endswith("3\n")
