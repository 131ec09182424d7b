"""The cache that travels: fresh machines that share one, what they execute, fetch and send."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from buildtool.errors import BuildtoolError, Corrupt
from buildtool.images import LayerSource
from buildtool.images.forms import Compression
from buildtool.solve.caches.layout import CacheLayout
from buildtool.solve.caches.records import BUNDLE, CacheRecord, decode_bundle, decode_record, encode_bundle
from buildtool.solve.events import Tell
from tests.unit.solve.caching import Place, executed, file_of
from tests.unit.solve.conftest import Workshop

TEXT = """\
FROM busybox AS build
WORKDIR /src
RUN echo tool > /tool
COPY lib lib
RUN cat lib/a > /made && cat /tool >> /made
FROM busybox
RUN echo base > /base
COPY --from=build /made /made
COPY main /main
"""


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path / "cache")


@pytest.fixture
def machine(workshops: Callable[[], Workshop]) -> Callable[[], Workshop]:
    """A fresh machine with the same sources."""

    def make() -> Workshop:
        shop = workshops()
        shop.write(lib__a="1", main="m")
        return shop

    return make


def test_a_fresh_machine_executes_nothing_and_fetches_no_layer(machine: Callable[[], Workshop], place: Place) -> None:
    first, second = machine(), machine()
    made = first.build(TEXT, caches=place.caches(first.store))
    place.log.clear()
    again = second.build(TEXT, caches=place.caches(second.store))
    assert all(again.cached)
    assert again.image.id == made.image.id
    assert place.log == ["open", "load"]  # one look at the bundle answers it all, and nothing is new to be sent
    assert [layer.snapshot for layer in again.image.layers[1:]] == [None] * 3


def test_after_a_change_only_the_right_steps_run_and_only_their_layers_are_fetched(
    machine: Callable[[], Workshop], place: Place
) -> None:
    first, second = machine(), machine()
    first.build(TEXT, caches=place.caches(first.store))
    place.log.clear()
    second.write(lib__a="2")
    ran = executed(second, TEXT, caches=place.caches(second.store))
    assert [name.partition("] ")[2] for name in ran] == [
        "COPY lib lib", "RUN cat lib/a > /made && cat /tool >> /made", "COPY --from=build /made /made",
    ]  # fmt: skip
    assert place.count("fetch") == 3  # WORKDIR and RUN of the build stage, RUN of the last one
    assert place.count("record") == 4  # the last COPY stands on another tree now


def test_what_a_second_machine_adds_does_not_replace_what_the_first_gave(
    machine: Callable[[], Workshop], place: Place
) -> None:
    """Both write at the same time: neither has seen the other's bundle."""
    shops = [machine(), machine()]
    texts = [f"FROM busybox\nRUN echo {number} > /f\nRUN echo again\n" for number in (1, 2)]

    async def together() -> None:
        work = [
            shop.abuild(text, caches=place.caches(shop.store, read=False))
            for shop, text in zip(shops, texts, strict=True)
        ]
        await asyncio.gather(*work)

    shops[0].run(together())
    index = json.loads((place.directory / "index.json").read_bytes())
    assert len(index["manifests"]) == 1
    third = machine()
    for text in texts:
        assert executed(third, text, caches=place.caches(third.store, write=False)) == []


def test_min_has_the_layers_of_the_image_only(machine: Callable[[], Workshop], place: Place) -> None:
    first, second = machine(), machine()
    first.build(TEXT, caches=place.caches(first.store, mode="min"))
    assert place.count("record") == 3
    assert executed(second, TEXT, caches=place.caches(second.store, write=False)) == []
    second.write(main="changed", lib__a="changed")
    third = machine()
    third.write(lib__a="changed")
    ran = executed(third, TEXT, caches=place.caches(third.store, write=False))
    assert len(ran) == 5


def test_a_copy_is_found_by_its_content_on_another_base(machine: Callable[[], Workshop], place: Place) -> None:
    first, second = machine(), machine()
    first.build("FROM busybox\nRUN echo 1 > /one\nCOPY lib /lib\n", caches=place.caches(first.store))
    text = "FROM busybox\nRUN echo 2 > /two\nCOPY lib /lib\n"
    ran = executed(second, text, caches=place.caches(second.store, write=False))
    assert ran == ["RUN echo 2 > /two"]


def test_results_that_were_fetched_are_the_machines_own(machine: Callable[[], Workshop], place: Place) -> None:
    first, second = machine(), machine()
    first.build(TEXT, caches=place.caches(first.store))
    second.write(lib__a="2")
    second.build(TEXT, caches=place.caches(second.store, write=False))
    assert executed(second, TEXT) == ["[stage-1] COPY main /main"]  # whose layer nothing has needed


@pytest.mark.parametrize("form", [Compression("zstd", 3), Compression("gzip", 9), Compression("")])
def test_layers_go_in_the_wanted_compression(
    machine: Callable[[], Workshop], place: Place, form: Compression
) -> None:
    first, second = machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\nRUN cat /one > /two\n"
    first.build(text, caches=place.caches(first.store, compression=form))
    bundle = records_of(place)
    suffix = f"+{form.name}" if form.name else ""
    assert {record.blob.media_type for record in bundle} == {f"application/vnd.oci.image.layer.v1.tar{suffix}"}
    image = second.build(text + "RUN cat /two > /three\n", caches=place.caches(second.store, write=False)).image
    assert file_of(second, image, "/three") == "1\n"


def records_of(place: Place) -> list[CacheRecord]:
    loaded = asyncio.run(CacheLayout(place.directory).load())
    return decode_bundle(loaded[0][0])[0]


# What goes wrong


def test_a_damaged_layer_is_noticed_and_its_step_executed(machine: Callable[[], Workshop], place: Place) -> None:
    first, second = machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\n"
    first.build(text, caches=place.caches(first.store))
    blob = place.directory / "blobs/sha256" / records_of(place)[0].blob.digest[7:]
    blob.write_bytes(b"\x1f\x8b" + blob.read_bytes()[2:-1] + b"x")
    outcome = second.build(text + "RUN cat /one > /two\n", caches=place.caches(second.store, write=False))
    assert file_of(second, outcome.image, "/two") == "1\n"
    assert outcome.cached == [True, False, False]
    assert any("cannot be had" in text and "is executed" in text for text in outcome.warnings)


def test_a_layer_with_another_content_than_promised_is_noticed(machine: Callable[[], Workshop], place: Place) -> None:
    """The blob is what its digest says, and not what the record says of it."""
    first, second = machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\n"
    first.build(text + "RUN echo evil > /one\n", caches=place.caches(first.store))
    good, evil = sorted(records_of(place), key=command)
    forged, _ = encode_bundle([msgspec.structs.replace(good, blob=evil.blob)])
    write_bundle(place, forged)
    outcome = second.build(text + "RUN cat /one > /two\n", caches=place.caches(second.store, write=False))
    assert file_of(second, outcome.image, "/two") == "1\n"
    assert any("cannot be had" in text for text in outcome.warnings)


def command(record: CacheRecord) -> str:
    assert record.preimage is not None
    return str(record.preimage["step"]["args"][-1])


def write_bundle(place: Place, data: bytes) -> None:
    asyncio.run(CacheLayout(place.directory).put_bundle(data, BUNDLE, []))


def test_records_that_cannot_be_true_are_ignored_with_a_warning(
    machine: Callable[[], Workshop], place: Place
) -> None:
    first, second = machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\n"
    first.build(text, caches=place.caches(first.store))
    (record,) = records_of(place)
    assert record.preimage is not None
    forged = msgspec.structs.replace(record, preimage={**record.preimage, "inputs": ["other"]})
    write_bundle(place, encode_bundle([forged])[0])
    for path in (place.directory / "buildtool-cache").iterdir():
        path.write_bytes(msgspec.json.encode(forged))
    outcome = second.build(text, caches=place.caches(second.store, write=False))
    assert outcome.cached == [True, False]
    assert len([text for text in outcome.warnings if "a record is ignored" in text]) == 2
    for data in (b"", b"{", b"[]", b'{"key": "x"}', msgspec.json.encode(record)):
        with pytest.raises(Corrupt):
            decode_record(data, "sha256:" + "0" * 64)


@pytest.mark.parametrize("broken", ["open", "load", "find", "fetch", "blob", "record", "bundle"])
def test_a_failing_cache_never_fails_the_build(machine: Callable[[], Workshop], place: Place, broken: str) -> None:
    first, second = machine(), machine()
    first.build(TEXT, caches=place.caches(first.store))
    second.write(lib__a="2")
    place.broken = {broken}
    outcome = second.build(TEXT, caches=place.caches(second.store))
    assert file_of(second, outcome.image, "/made") == "2tool\n"
    assert any(f"{broken} does not work" in text for text in outcome.warnings)


def test_a_failing_export_fails_the_build_when_that_is_asked_for(
    machine: Callable[[], Workshop], place: Place
) -> None:
    shop = machine()
    place.broken = {"blob"}
    with pytest.raises(BuildtoolError, match=r"cannot export the cache to .*: blob does not work"):
        shop.build(TEXT, caches=place.caches(shop.store, ignore_errors=False))
    shop.run(shop.builder.close())
    shop.assert_clean()


def test_a_cache_that_does_not_answer_is_done_without(machine: Callable[[], Workshop], place: Place) -> None:
    shop = machine()
    caches = place.caches(shop.store, write=False, answer_within=0.05)

    async def never() -> None:
        await asyncio.sleep(60)

    caches = replace(caches, origins=(replace(caches.origins[0], open=never),))
    outcome = shop.build("FROM busybox\nRUN echo 1\n", caches=caches)
    assert any("did not answer within 0.05 seconds" in text for text in outcome.warnings)


def test_one_that_answers_but_sends_no_layers_is_done_without(machine: Callable[[], Workshop], place: Place) -> None:
    """The second layer is not waited for as well, and what does come keeps the patience up."""
    first, second = machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two\n"
    first.build(text, caches=place.caches(first.store))
    caches = place.caches(second.store, write=False, answer_within=0.1)
    begun = 0

    async def fetch(layer: LayerSource, tell: Tell) -> None:
        nonlocal begun
        begun += 1
        for part in range(10):
            tell("a little", part, 100)
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)

    outcome = second.build(text + "RUN cat /one /two > /three\n", caches=replace(caches, fetch=fetch))
    assert file_of(second, outcome.image, "/three") == "1\n2\n"
    silent = [text for text in outcome.warnings if "nothing has come for 0.3 seconds" in text]
    assert len(silent) == 1 and begun == 2
    assert outcome.cached == [True, False, False, False]


def test_no_cache_asks_none_and_never_cached_steps_do_not_travel(
    machine: Callable[[], Workshop], place: Place
) -> None:
    first, second = machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\nRUN --no-cache echo 2 > /two\n"
    first.build(text, caches=place.caches(first.store))
    assert place.count("record") == 1
    place.log.clear()
    assert len(executed(second, text, caches=place.caches(second.store, write=False), no_cache=True)) == 2
    assert place.log == []


def test_an_earlier_time_than_the_caches_makes_the_layers_anew(machine: Callable[[], Workshop], place: Place) -> None:
    first, second, third = machine(), machine(), machine()
    text = "FROM busybox\nRUN echo 1 > /one\n"
    first.build(text, caches=place.caches(first.store), epoch=1_700_000_000)
    made = second.build(text, epoch=1_600_000_000).image
    outcome = third.build(text, caches=place.caches(third.store, write=False), epoch=1_600_000_000)
    assert all(outcome.cached) and outcome.image.id == made.id


def test_a_hit_on_a_step_that_is_none_waits_for_that(machine: Callable[[], Workshop], place: Place) -> None:
    """The record of the step under it is gone: it is executed while the one on top is taken from the cache."""
    first, second = machine(), machine()
    text = "FROM busybox\nRUN sleep 0.2; echo 1 > /one\nRUN echo 2 > /two\n"
    first.build(text, caches=place.caches(first.store))
    records = [record for record in records_of(place) if "sleep" not in command(record)]
    write_bundle(place, encode_bundle(records)[0])
    for path in (place.directory / "buildtool-cache").iterdir():
        path.unlink()
    outcome = second.build(text + "RUN cat /one /two > /three\n", caches=place.caches(second.store, write=False))
    assert outcome.cached == [True, False, True, False]
    assert file_of(second, outcome.image, "/three") == "1\n2\n"


# Cache mounts

FILL = "FROM busybox\nRUN --mount=type=cache,id=m,target=/c {command}\n"


def test_a_cache_mount_travels_and_unchanged_files_are_not_sent_again(
    machine: Callable[[], Workshop], place: Place
) -> None:
    first, second = machine(), machine()
    fill = "for i in $(seq 300); do mkdir /c/d$i; echo $i > /c/d$i/f; done; ln -s d1/f /c/l; chmod 700 /c"
    first.build(FILL.format(command=fill), caches=place.caches(first.store, mounts=("*",)))
    sent = place.count("blob")
    assert sent > 3
    place.log.clear()
    again = FILL.format(command="touch /c/d5/f && echo new > /c/d7/f && echo step > /dev/null")
    first.build(again, caches=place.caches(first.store, mounts=("m",)))
    assert place.count("blob") == 1  # the pack of the file with another content; the layer is as empty as before
    seen = second.build(
        FILL.format(command="cat /c/l /c/d7/f /c/d299/f > /seen; stat -c %a /c >> /seen"),
        caches=place.caches(second.store, write=False),
    )
    assert file_of(second, seen.image, "/seen") == "1\nnew\n299\n700\n"


def test_a_damaged_cache_mount_begins_empty(machine: Callable[[], Workshop], place: Place) -> None:
    first, second = machine(), machine()
    first.build(FILL.format(command="echo 1 > /c/f"), caches=place.caches(first.store, mounts=("m",)))
    for path in (place.directory / "blobs/sha256").iterdir():
        if path.read_bytes()[:4] == b"\x28\xb5\x2f\xfd":
            path.write_bytes(b"damaged")
    outcome = second.build(
        FILL.format(command="ls /c > /seen"), caches=place.caches(second.store, write=False, mounts=())
    )
    assert file_of(second, outcome.image, "/seen") == ""
    assert any("the cache mount m begins empty" in text for text in outcome.warnings)
    third = machine()
    third.build(FILL.format(command="echo mine > /c/f"))
    kept = third.build(FILL.format(command="cat /c/f > /seen"), caches=place.caches(third.store, write=False))
    assert third.layer(kept.image)["seen"] == "mine\n"


def test_a_mount_is_sent_again_only_when_its_files_change(machine: Callable[[], Workshop], place: Place) -> None:
    shop = machine()
    text = FILL.format(command="echo 1 > /c/f")
    shop.build(text, caches=place.caches(shop.store, mounts=("*",)))
    place.log.clear()
    shop.build(text, caches=place.caches(shop.store, mounts=("*",)))
    assert not {"blob", "record", "bundle"} & set(place.log)


CUT = """\
FROM busybox
RUN echo same > /same && : VERSION=1
COPY main /main
RUN cat /same > /first
RUN cat /first /same > /second
RUN cat /main /second > /third
"""


def test_equal_trees_are_found_on_other_machines(machine: Callable[[], Workshop], place: Place) -> None:
    """A step that is another and makes the same: what stands on it is taken, and not even fetched."""
    first, second = machine(), machine()
    made = first.build(CUT, caches=place.caches(first.store))
    place.log.clear()
    changed = CUT.replace("VERSION=1", "VERSION=2")
    again = second.build(changed, caches=place.caches(second.store))
    ran = [step.name for step in again.result.steps if not step.cached]
    assert ran == ["RUN echo same > /same && : VERSION=2"]
    assert place.count("fetch") == 0
    assert [layer.diff_id for layer in again.image.layers] == [layer.diff_id for layer in made.image.layers]
    assert file_of(second, again.image, "/third") == "msame\nsame\n"
    third = machine()  # which has what the second one told, under the keys of the changed text
    assert executed(third, changed, caches=place.caches(third.store, write=False)) == []
    other = changed.replace("echo same >", "echo other >")
    ran = executed(third, other, caches=place.caches(third.store, write=False))
    assert len(ran) == 4 and "COPY" not in " ".join(ran)  # all that read it


def test_a_tree_is_another_when_a_mount_shows_another(machine: Callable[[], Workshop], place: Place) -> None:
    text = "FROM busybox AS made\nRUN echo {0} > /made\nFROM busybox\n"
    text += "RUN echo {1} >/dev/null\nRUN --mount=type=bind,from=made,target=/m cat /m/made > /f\n"
    first, second, third = machine(), machine(), machine()
    first.build(text.format(1, 1), caches=place.caches(first.store))
    assert len(executed(second, text.format(1, 2), caches=place.caches(second.store, write=False))) == 1
    found = third.build(text.format(2, 1), caches=place.caches(third.store, write=False))
    assert file_of(third, found.image, "/f") == "2\n"


def test_generations_travel(machine: Callable[[], Workshop], place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    """What another machine executed anew because it was too old is found, and what stands on it."""
    text = "FROM busybox\nRUN --cache-ttl=1h cat /proc/sys/kernel/random/uuid > /now\nRUN cat /now > /copied\n"
    first, second, third = machine(), machine(), machine()
    first.build(text, caches=place.caches(first.store))
    later = time.time() + 4000
    monkeypatch.setattr("buildtool.solve.expiry.time.time", lambda: later)
    anew = first.build(text, caches=place.caches(first.store))
    assert anew.cached.count(False) == 2
    again = second.build(text, caches=place.caches(second.store, write=False))
    assert all(again.cached) and again.image.id == anew.image.id
    later += 4000
    last = third.build(text, caches=place.caches(third.store, write=False))
    assert last.cached.count(False) == 2  # what stands on an old result is not taken either
    assert file_of(third, last.image, "/now") == file_of(third, last.image, "/copied")
