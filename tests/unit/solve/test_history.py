"""The history of builds: every build has a record and its whole log, also one that failed or was killed."""

from __future__ import annotations

import asyncio
import base64
import json

import msgspec
import pytest

from buildtool.errors import Conflict, InvalidInput, NotFound, StepFailed
from buildtool.solve.history import BuildHistory, new_id
from buildtool.solve.trace import chrome_trace
from tests.unit.solve.conftest import Workshop

TEXT = "FROM busybox AS a\nRUN echo one; sleep 0.05\nFROM a\nRUN echo two\n"


def records(shop: Workshop) -> list[str]:
    shop.run(shop.builder.close())
    return [record.status for record in shop.builder.history.all()]


def test_a_build_has_its_steps_with_hits_times_places_and_inputs(shop: Workshop) -> None:
    shop.build(TEXT)
    shop.build(TEXT.replace("echo two", "echo 2"), tags=("t",))
    assert records(shop) == ["completed", "completed"]
    record = shop.builder.history.find("")
    assert (record.tags, record.cached, record.file) == (["t:latest"], 2, "Buildfile")
    assert [(step.index, step.inputs, step.status, step.hit) for step in record.steps] == [
        (1, (), "cached", "base"),
        (2, (1,), "cached", "definition"),
        (3, (2,), "done", ""),
    ]
    assert record.steps[2].place == "Buildfile:4"
    assert record.steps[2].seconds > 0
    assert [name for name, _, _ in record.phases] == ["prepare", "solve", "export"]


def test_the_log_is_kept_uncut(shop: Workshop) -> None:
    """BuildKit clips at 2 MiB."""
    outcome = shop.build("FROM busybox\nRUN seq 1 600000\n")
    lines = shop.builder.history.log(outcome.result.id)
    text = "".join(line["data"] for line in lines if line["event"] == "step_output")
    assert text == "".join(f"{number}\n" for number in range(1, 600001))


def test_bytes_that_are_no_text_are_kept(shop: Workshop) -> None:
    outcome = shop.build("FROM busybox\nRUN printf '\\377\\n'\n")
    assert b'"bytes":"/wo="' in shop.builder.history.log_path(outcome.result.id).read_bytes()


def test_failed_and_refused_builds_are_in_it(shop: Workshop) -> None:
    with pytest.raises(StepFailed):
        shop.build("FROM busybox\nRUN true\nRUN exit 3\nRUN true\n")
    with pytest.raises(InvalidInput):
        shop.build("FROM busybox\nRUM true\n")
    assert records(shop) == ["failed", "failed"]
    refused, failed = shop.builder.history.all()
    assert "RUM" in refused.error
    assert failed.exit_code == 3
    assert [step.status for step in failed.steps] == ["cached", "done", "failed", "pending"]


def test_a_cancelled_build_is_in_it(shop: Workshop) -> None:
    async def cancel() -> None:
        task = asyncio.ensure_future(shop.abuild("FROM busybox\nRUN sleep 60\n"))
        while not shop.builder.history.all():
            await asyncio.sleep(0.01)
        assert shop.builder.history.all()[0].status == "running"
        with pytest.raises(Conflict, match="still running"):
            shop.builder.history.remove(shop.builder.history.all()[0].id)
        await asyncio.sleep(0.3)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    shop.run(cancel())
    assert records(shop) == ["canceled"]
    assert [step.status for step in shop.builder.history.find("").steps] == ["cached", "canceled"]


def test_logs_of_a_killed_daemon_become_records(shop: Workshop) -> None:
    """A log with an end has its whole record; one without is told as interrupted, with what it had."""
    done = shop.build(TEXT).result.id
    shop.run(shop.builder.close())
    history = shop.builder.history
    shop.store.state.documents("builds").delete(done)
    whole = history.log_path(done).read_bytes()
    cut = new_id()
    history.log_path(cut).write_bytes(whole.replace(done.encode(), cut.encode())[: len(whole) // 2])
    history.log_path(new_id()).write_bytes(b"{")
    recovered = {record.id: record for record in BuildHistory(shop.store).all()}
    assert set(recovered) == {done, cut}
    assert (recovered[done].status, len(recovered[done].steps)) == ("completed", 3)
    assert (recovered[cut].status, recovered[cut].file) == ("interrupted", "Buildfile")


SECRETS = ("first-value-7731", "other-value-9402", "proxy-pass-3366")
WITH_SECRETS = """ARG API_TOKEN
FROM busybox
ARG API_TOKEN
ARG VERSION
RUN echo "$API_TOKEN" && echo $VERSION
RUN true
RUN exit 3
"""


def test_values_of_args_called_like_secrets_are_in_no_byte_that_is_written(shop: Workshop) -> None:
    """Records, logs, keys' ingredients, reasons: only that a value changed is told. A digest of it is in the keys."""
    text = WITH_SECRETS
    for value in SECRETS[:2]:
        proxy = f"http://me:{SECRETS[2]}@proxy:3128"
        with pytest.raises(StepFailed) as failed:
            shop.build(text, build_args={"API_TOKEN": value, "VERSION": value[:5], "HTTP_PROXY": proxy}, explain=True)
        assert value not in str(failed.value)
    shop.build(text.replace("RUN exit 3\n", ""), build_args={"API_TOKEN": SECRETS[0], "VERSION": "third"})
    shop.run(shop.builder.close())

    record = shop.builder.history.find("^1")
    assert record.build_args == {"API_TOKEN": "***", "VERSION": "other", "HTTP_PROXY": "http://proxy:3128"}
    step = record.steps[1]
    assert step.miss_reason == "ARG API_TOKEN changed: '***' → '***'; ARG VERSION changed: 'first' → 'other'"
    told = [record, shop.builder.history.find("^2"), chrome_trace(record), *shop.builder.history.log(record.id)]
    assert not [value for value in SECRETS if value in json.dumps(msgspec.to_builtins(told))]
    assert "".join(line.get("data", "") for line in shop.builder.history.log(record.id)) == "***\nother\n"
    shop.store.close()
    forms = [value.encode() for value in SECRETS]
    forms += [base64.b64encode(pad + value)[4:-4] for value in forms for pad in (b"", b"x", b"xy")]
    for path in shop.root.rglob("*"):
        if path.is_file() and not path.is_symlink():
            data = path.read_bytes()
            assert not [form for form in forms if form in data], path
    shop.open()


def test_values_of_args_called_like_secrets_still_make_the_key(shop: Workshop) -> None:
    """In the preimages, which other machines may see, their digests stand; equal values hit."""
    text = "FROM busybox\nARG API_TOKEN\nRUN echo x\n"
    shop.build(text, build_args={"API_TOKEN": "short"})
    assert shop.build(text, build_args={"API_TOKEN": "short"}).cached == [True, True]
    assert shop.build(text, build_args={"API_TOKEN": "other"}).cached == [True, False]
    assert shop.build(text, build_args={"API_TOKEN": ""}).reason(1) == "ARG API_TOKEN changed: '***' → ''"


def test_the_values_of_env_called_like_secrets_are_not_told_as_reasons(shop: Workshop) -> None:
    """They are in the image, for all who have it; a record is seen by others."""
    shop.build("FROM busybox\nENV DB_PASSWORD=one-value-1\nRUN true\n")
    changed = shop.build("FROM busybox\nENV DB_PASSWORD=two-value-2\nRUN true\n")
    assert changed.reason(1) == "ENV DB_PASSWORD changed: '***' → '***'"
    log = shop.builder.history.log_path(changed.result.id).read_text()
    assert "two-value-2" not in log


def test_builds_are_found_by_beginnings_and_from_the_end(shop: Workshop) -> None:
    ids = [shop.build(TEXT).result.id for _ in range(3)]
    shop.run(shop.builder.close())
    history = shop.builder.history
    assert ids == sorted(ids)
    assert [history.find(name).id for name in ("", "^0", "^2", ids[1], ids[0][:-1])] == [
        ids[2],
        ids[2],
        ids[0],
        ids[1],
        ids[0],
    ]
    with pytest.raises(InvalidInput, match="ambiguous"):
        history.find(ids[0][:4])
    with pytest.raises(NotFound, match="only 3 builds"):
        history.find("^3")
    with pytest.raises(NotFound, match="no such build"):
        history.find("nothing")
    history.remove(ids[1])
    assert [record.id for record in history.all()] == [ids[2], ids[0]]
    assert not history.log_path(ids[1]).exists()


def test_only_the_last_ones_are_kept(shop: Workshop) -> None:
    shop.builder.history = BuildHistory(shop.store, keep=2)
    ids = [shop.build(TEXT).result.id for _ in range(4)]
    shop.run(shop.builder.close())
    assert [record.id for record in shop.builder.history.all()] == [ids[3], ids[2]]
    assert sorted(path.stem for path in shop.builder.history.directory.iterdir()) == ids[2:]


def test_the_trace_has_complete_events_in_microseconds(shop: Workshop) -> None:
    shop.build(TEXT)
    document = chrome_trace(shop.builder.history.find(""))
    events = {event["name"]: event for event in document["traceEvents"] if event["ph"] == "X"}
    assert {"prepare", "solve", "export", "[a] RUN echo one; sleep 0.05"} <= set(events)
    assert events["[a] RUN echo one; sleep 0.05"]["dur"] >= 50_000
    assert all(isinstance(event["ts"], int) for event in events.values())


def test_explain_compares_an_instruction_that_moved_with_itself(shop: Workshop) -> None:
    shop.build("FROM busybox\nRUN echo a > /a\nRUN echo b > /b\n")
    moved = shop.build("FROM busybox\nRUN echo new > /n\nRUN echo a > /a\nRUN echo b > /b\n")
    assert moved.reason(2) == "an earlier step changed: RUN echo new > /n"
    assert moved.reason(3) == "an earlier step changed: RUN echo a > /a"


def test_explain_has_every_file_with_old_and_new_digest(shop: Workshop) -> None:
    for number in range(6):
        shop.put(f"f{number}", "1")
    shop.build("FROM busybox\nCOPY . /src\n")
    for number in range(5):
        shop.put(f"f{number}", "22")
    found = shop.build("FROM busybox\nCOPY . /src\n").result.steps[1].differences
    assert [(each.name, each.change) for each in found] == [(f"f{number}", "content") for number in range(5)]
    assert all(each.before != each.now and each.now for each in found)


def test_explain_compares_with_the_last_build_also_when_that_was_cached(shop: Workshop) -> None:
    text = "FROM busybox\nCOPY . /src\n"
    for content in ("one", "two", "one"):
        shop.put("a", content)
        shop.build(text)
    shop.put("a", "three")
    shop.put("b", "new")
    found = shop.build(text).result.steps[1].differences
    assert [(each.name, each.change) for each in found] == [("a", "content"), ("b", "new")]


def test_explain_tells_the_files_that_a_mount_shows(shop: Workshop) -> None:
    shop.put("a", "1")
    text = "FROM busybox\nRUN --mount=target=/ctx cat /ctx/a\n"
    shop.build(text)
    shop.put("a", "2")
    assert shop.build(text).reason(1) == "1 file changed: a (content)"


def test_logs_take_no_more_room_than_they_may(shop: Workshop) -> None:
    shop.builder.history = BuildHistory(shop.store, keep_bytes=20_000)
    ids = [shop.build(f"FROM busybox\nRUN seq 1 1500; echo {n}\n").result.id for n in range(4)]
    shop.run(shop.builder.close())
    kept = [record.id for record in shop.builder.history.all()]
    assert kept[0] == ids[-1]
    assert 1 <= len(kept) < 4


def test_thousands_of_changed_files_are_counted(shop: Workshop) -> None:
    from buildtool.solve.explain import differences, summary

    before = [f"f{n:05}\x00100644 old" for n in range(6000)]
    now = [f"f{n:05}\x00100644 new" for n in range(6000)]
    preimage = {"step": {"op": "copy"}, "inputs": [], "content": "1"}
    found = differences(preimage, {**preimage, "content": "2"}, [], lambda: (before, now))
    assert len(found) == 5001
    assert summary(found) == (
        "5000 files changed: f00000 (content), f00001 (content), f00002 (content) and 4997 more; "
        "1000 more files changed"
    )
