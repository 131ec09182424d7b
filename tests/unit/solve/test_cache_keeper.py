"""The keeper of the build cache, on a real store."""

from __future__ import annotations

import asyncio
import io
import time

import pytest

from buildtool.errors import Conflict, InvalidInput, NotFound, StepFailed
from buildtool.solve.cache_entries import CacheEntry, Policy
from buildtool.solve.cache_mounts import cache_mount_name
from tests.unit.solve.conftest import Workshop

TEXT = "FROM busybox\nRUN echo 1 > /one\nRUN echo 2 > /two\n"
MOUNT = "FROM busybox\nRUN --mount=type=cache,id=pip,target=/c echo kept > /c/file\n"


def entries(shop: Workshop) -> list[CacheEntry]:
    shop.run(shop.builder.close())
    return shop.builder.cache.entries(shop.images.pins())


def prune(shop: Workshop, **policy: object) -> list[str]:
    shop.run(shop.builder.close())
    time.sleep(0.06)  # what was used after the pins were taken stays
    gone, _ = shop.builder.cache.prune(Policy(**policy), shop.images.pins())
    return [entry.description for entry in gone]


def test_entries_have_sizes_hits_and_the_line_that_made_them(shop: Workshop) -> None:
    shop.build(TEXT)
    shop.build(TEXT)
    shop.build(TEXT)
    found = {entry.description: entry for entry in entries(shop)}
    assert set(found) == {"RUN echo 1 > /one", "RUN echo 2 > /two"}
    one = found["RUN echo 1 > /one"]
    assert one.origin is not None
    assert (one.origin.file, one.origin.line, one.hits) == ("Buildfile", 2, 2)
    assert one.size > 0
    assert one.shared, "the image has the layer as well"
    record = shop.builder.cache.records(one)[0]
    assert record["preimage"]["step"]["args"] == ["/bin/sh", "-c", "echo 1 > /one"]


def test_entries_are_found_by_beginnings_of_ids_keys_and_mounts(shop: Workshop) -> None:
    shop.build(TEXT)
    shop.build(MOUNT)
    first = entries(shop)[0]
    find = shop.builder.cache.find
    pins = shop.images.pins()
    assert find(first.id, pins).id == first.id
    assert find(first.keys[0], pins).id == first.id
    assert find("pip", pins).type == "mount"
    with pytest.raises(NotFound, match="no such cache entry"):
        find("nothing", pins)


def test_pruning_keeps_what_images_need_and_the_next_build_makes_the_rest_again(shop: Workshop) -> None:
    first = shop.build(TEXT, tags=("kept",))
    other = shop.build(TEXT.replace("echo 2", "echo 22"))
    assert prune(shop) == []
    shop.images.delete(other.image.id, force=True)
    assert prune(shop) == ["RUN echo 22 > /two"]
    assert shop.build(TEXT).image.id == first.image.id
    assert shop.build(TEXT).cached == [True, True, True]
    assert shop.build(TEXT.replace("echo 2", "echo 22")).cached == [True, True, False]


def test_a_dry_run_removes_nothing(shop: Workshop) -> None:
    image = shop.build(TEXT).image
    shop.images.delete(image.id, force=True)
    shop.run(shop.builder.close())
    gone, report = shop.builder.cache.prune(Policy(), shop.images.pins(), dry_run=True)
    assert len(gone) == 2
    assert report.bytes > 0
    assert len(entries(shop)) == 2


def test_protected_steps_and_those_below_survive_every_removal(shop: Workshop) -> None:
    image = shop.build(TEXT).image
    shop.images.delete(image.id, force=True)
    keeper, pins = shop.builder.cache, shop.images.pins()
    top = next(entry for entry in entries(shop) if "two" in entry.description)
    keeper.protect([top.id], pins, protect=True)
    assert all(entry.protected for entry in entries(shop))
    assert prune(shop, all=True, mounts=True) == []
    time.sleep(0.06)
    shop.store.gc(shop.images.pins(), actions="all", protected=keeper.protected_snapshots())
    assert shop.build(TEXT).cached == [True, True, True]
    shop.images.delete(image.id, force=True)
    keeper.protect([top.id], pins, protect=False)
    assert len(prune(shop)) == 2


def test_protecting_is_all_or_nothing(shop: Workshop) -> None:
    shop.build(TEXT)
    first = entries(shop)[0]
    with pytest.raises(NotFound):
        shop.builder.cache.protect([first.id, "nothing"], shop.images.pins(), protect=True)
    assert not any(entry.protected for entry in entries(shop))


def test_every_directory_of_a_cache_mount_tells_the_line_that_made_it(shop: Workshop) -> None:
    """Also one that begins as another tree, a second one of a private mount, and one of a step that failed."""
    private = "RUN --mount=type=cache,id=p,target=/c,sharing=private sleep 0.5; echo {} > /c/x"
    shop.build(
        "FROM busybox AS a\nRUN mkdir /seed\nFROM busybox\n"
        "RUN --mount=type=cache,target=/c,from=a,source=/seed ls /c\n"
    )
    shop.build(
        f"FROM busybox AS a\n{private.format(1)}\nFROM busybox AS b\n{private.format(2)}\nFROM busybox\n"
        "COPY --from=a /etc /a\nCOPY --from=b /etc /b\n"
    )
    with pytest.raises(StepFailed):
        shop.build("FROM busybox\n\n\nRUN --mount=type=cache,id=bad,target=/c false\n")
    lines = sorted(
        (entry.description.partition(" ")[0], entry.origin and entry.origin.line)
        for entry in entries(shop)
        if entry.type == "mount"
    )
    assert lines == [("/c", 4), ("bad", 4), ("p", 2), ("p", 4)]


def test_cache_mounts_are_listed_exported_imported_and_removed(shop: Workshop) -> None:
    shop.build(MOUNT)
    keeper, pins = shop.builder.cache, shop.images.pins()
    mount = next(entry for entry in entries(shop) if entry.type == "mount")
    assert (mount.description, mount.hits) == ("pip", 0)
    assert mount.origin is not None
    assert mount.origin.line == 2
    archive = b"".join(keeper.export_mount(mount))
    assert prune(shop, all=True) != []
    assert prune(shop, mounts=True) == ["pip"]
    keeper.import_mount("pip", io.BytesIO(archive))
    again = shop.build("FROM busybox\nRUN --mount=type=cache,id=pip,target=/c cat /c/file\n")
    assert again.output == "kept\n"
    with pytest.raises(InvalidInput):
        keeper.import_mount("pip", io.BytesIO(b"no archive, but long enough to be read as one" * 20))
    assert keeper.find("pip", pins).size == mount.size
    step = next(entry for entry in entries(shop) if entry.type == "step")
    with pytest.raises(InvalidInput, match="no cache mount"):
        keeper.export_mount(step)


def test_what_a_running_build_uses_is_left_alone(shop: Workshop) -> None:
    image = shop.build(TEXT).image
    shop.images.delete(image.id, force=True)
    text = f"{TEXT}RUN --mount=type=cache,id=busy,target=/c touch /c/begun; sleep 1\n"

    async def prune_meanwhile() -> list[bool]:
        task = asyncio.ensure_future(shop.abuild(text))
        while not shop.builder._shared.run.cache_mounts.busy(cache_mount_name("busy")):
            await asyncio.sleep(0.01)
        keeper = shop.builder.cache
        gone, _ = await asyncio.to_thread(keeper.prune, Policy(all=True, mounts=True), shop.images.pins())
        assert gone == []
        with pytest.raises(Conflict, match="in use"):
            keeper.import_mount("busy", io.BytesIO(b""))
        return (await task).cached

    assert shop.run(prune_meanwhile()) == [True, True, True, False]
