"""Push and pull between two stores, through our server and through Debian's."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from dataclasses import replace

import msgspec
import pytest

from buildtool.cache import Pins
from buildtool.errors import InvalidInput, NotFound
from buildtool.images import Image
from buildtool.oci import (
    Descriptor,
    Digest,
    Index,
    Platform,
    RootFS,
    decode_config,
    encode,
    media_types,
    parse_reference,
)
from buildtool.registry.repository import Repository
from tests.unit.registry.conftest import Cutter, Running, Side

MIB = 1 << 20


async def test_a_pulled_image_is_the_pushed_one(here: Side, there: Side, host: str) -> None:
    name = f"{host}/team/round-trip:1"
    image = here.make(name, {"a": b"one"}, {"b/c": os.urandom(3 * MIB)}, {"d": b""})

    (pushed,) = await here.push(name)
    pulled = await there.pull(name)

    assert pulled.id == image.id  # the digest of the config: compression is none of its business
    assert there.files(pulled) == here.files(image)
    assert [reference.digest for reference in pulled.repo_digests] == [pushed.digest]
    assert pulled.references == [parse_reference(name)]
    assert there.is_clean() and here.is_clean()


async def test_layers_are_compressed_once_and_remembered(here: Side, host: str) -> None:
    name = f"{host}/team/remembered:1"
    image = here.make(name, {"a": b"x" * MIB})

    (first,) = await here.push(name)
    (blob,) = here.store.layers.blobs_of(image.layers[0].diff_id)
    (second,) = await here.push(name)

    assert media_types.compression_of(blob.media_type) == "gzip"
    assert first.digest == second.digest
    assert here.said("Layer already exists") and not here.said("Pushed") and not here.said("Compressing")


async def test_what_the_repository_has_whole_is_asked_for_once(
    here: Side, host: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"{host}/team/whole:1"
    image = here.make(name, {"a": b"1"}, {"b": b"2"}, {"c": b"3"})
    (first,) = await here.push(name)
    here.images.tag(image.id, parse_reference(f"{host}/team/whole:2"))
    asked: list[str] = []
    before = Repository.has_blob

    async def has_blob(repository: Repository, digest: Digest) -> bool:
        asked.append(digest)
        return await before(repository, digest)

    monkeypatch.setattr(Repository, "has_blob", has_blob)
    (second,) = await here.push(f"{host}/team/whole:2")
    assert first.digest == second.digest and not asked
    assert len(here.said("Layer already exists")) == 3


async def test_what_is_here_is_not_fetched_again(here: Side, there: Side, host: str) -> None:
    base, top = {"base": os.urandom(100_000)}, {"top": b"2"}
    here.make(f"{host}/team/skip:1", base)
    here.make(f"{host}/team/skip:2", base, top)
    await here.push(f"{host}/team/skip")

    await there.pull(f"{host}/team/skip:1")
    second = await there.pull(f"{host}/team/skip:2")

    assert len(there.said("Already exists")) == 1 and len(there.said("Download complete")) == 1
    assert there.files(second) == {**base, **top}
    await there.pull(f"{host}/team/skip:2")
    assert there.told[-1]["status"].startswith("Status: Image is up to date for")
    assert not there.said("Already exists")


async def test_pulling_ones_own_build_fetches_nothing(here: Side, host: str) -> None:
    image = here.make(f"{host}/team/own:1", {"a": b"mine"})
    await here.push(f"{host}/team/own:1")
    again = await here.pull(f"{host}/team/own:1")
    assert again.id == image.id and not here.said("Downloading") and not here.said("Pulling fs layer")


async def test_blobs_are_mounted_from_where_they_have_been_seen(here: Side, there: Side, host: str) -> None:
    image = here.make(f"{host}/one/app:1", {"a": os.urandom(5000)})
    await here.push(f"{host}/one/app:1")
    here.images.tag(image.id, parse_reference(f"{host}/two/app:1"))

    await here.push(f"{host}/two/app:1")

    assert here.said("Mounted from one/app") and not here.said("Pushed")
    assert (await there.pull(f"{host}/two/app:1")).id == image.id


async def test_a_pushed_again_image_keeps_its_manifest(here: Side, there: Side, host: str) -> None:
    """What was pulled goes out as it came, digest and all."""
    here.make(f"{host}/team/first:1", {"a": os.urandom(5000)})
    (pushed,) = await here.push(f"{host}/team/first:1")
    image = await there.pull(f"{host}/team/first:1")
    there.images.tag(image.id, parse_reference(f"{host}/team/copy:1"))
    (again,) = await there.push(f"{host}/team/copy:1")
    assert again.digest == pushed.digest


async def test_a_digest_reference_pulls_that_image_without_a_tag(here: Side, there: Side, host: str) -> None:
    image = here.make(f"{host}/team/digest:1", {"a": b"old"})
    (old,) = await here.push(f"{host}/team/digest:1")
    here.make(f"{host}/team/digest:1", {"a": b"new"})
    await here.push(f"{host}/team/digest:1")

    pulled = await there.pull(f"{host}/team/digest@{old.digest}")

    assert pulled.id == image.id and not pulled.references
    assert there.images.get(f"{host}/team/digest@{old.digest}").id == image.id


async def push_index(side: Side, name: str, *images: tuple[str, Platform | None]) -> str:
    """Make an index of tags that were pushed, and push it as `name`; its digest."""
    reference = parse_reference(name)
    connection = await side.registries._transport.connect(reference.domain)
    repository = Repository(connection, reference.path, "pull", "push")
    entries = []
    for tag, platform in images:
        fetched = await repository.manifest(tag)
        entries.append(Descriptor(fetched.media_type, fetched.digest, len(fetched.data), platform=platform))
    data = encode(Index(2, media_types.INDEX, entries))
    return await repository.put_manifest(reference.tag, data, media_types.INDEX)


async def test_the_platform_chooses_from_an_index(here: Side, there: Side, host: str) -> None:
    name = f"{host}/team/multi"
    amd = here.make(f"{name}:amd", {"a": b"amd64"})
    arm = here.make(f"{name}:arm", {"a": b"arm64"}, architecture="arm64")
    await here.push(name)
    index = await push_index(
        here, f"{name}:all", ("amd", Platform("amd64", "linux")), ("arm", Platform("arm64", "linux"))
    )

    chosen = await there.pull(f"{name}:all", platform=Platform("arm64", "linux"))
    assert chosen.id == arm.id
    assert [reference.digest for reference in chosen.repo_digests] == [index]
    assert (await there.pull(f"{name}:all", platform=Platform("amd64", "linux"))).id == amd.id
    with pytest.raises(NotFound, match="no matching manifest for linux/s390x"):
        await there.pull(f"{name}:all", platform=Platform("s390x", "linux"))
    with pytest.raises(NotFound, match="does not match the specified platform"):
        await there.pull(f"{name}:amd", platform=Platform("arm64", "linux"))
    remote = await there.registries.look_up(f"{name}:all")
    assert remote.descriptor.digest == index and len(remote.platforms) == 2


async def test_all_tags_are_pushed_and_pulled(here: Side, there: Side, host: str) -> None:
    name = f"{host}/team/tags"
    for tag in "abc":
        here.make(f"{name}:{tag}", {"tag": tag.encode()})
    await here.push(name)
    await there.registries.pull_all(name, there.tell)
    assert sorted(str(name) for image in there.images.list() for name in image.references) == [
        f"{name}:{tag}" for tag in "abc"
    ]


async def test_a_tag_or_repository_that_is_not_there(there: Side, here: Side, host: str) -> None:
    with pytest.raises(NotFound, match=r"manifest for .*/nobody:1 not found"):
        await there.pull(f"{host}/team/nobody:1")
    with pytest.raises(NotFound, match="tag does not exist"):
        await here.push(f"{host}/team/nobody:1")
    with pytest.raises(NotFound, match="An image does not exist locally with the tag"):
        await here.push(f"{host}/team/nobody")


async def test_a_cut_download_goes_on_where_it_was(
    here: Side, there: Side, host: str, make_cutter: Callable[..., Awaitable[Cutter]]
) -> None:
    image = here.make(f"{host}/team/cut:1", {"big": os.urandom(6 * MIB)})
    await here.push(f"{host}/team/cut:1")
    cutter = await make_cutter(host, "down", [500_000, 2 * MIB + 12345, 1 * MIB])

    pulled = await there.pull(f"{cutter.host}/team/cut:1")

    assert cutter.cuts == 3
    assert pulled.id == image.id and there.files(pulled) == here.files(image)
    assert there.is_clean()


@pytest.mark.parametrize("size", [3 * MIB, 20 * MIB])
async def test_a_cut_upload_goes_on_or_begins_anew(
    here: Side, there: Side, host: str, make_cutter: Callable[..., Awaitable[Cutter]], size: int
) -> None:
    cutter = await make_cutter(host, "up", [size // 3, size // 2])
    name = f"{cutter.host}/team/up{size}:1"
    image = here.make(name, {"big": os.urandom(size)})

    await here.push(name)

    assert cutter.cuts == 2
    pulled = await there.pull(name.replace(cutter.host, host))
    assert pulled.id == image.id and there.files(pulled) == here.files(image)


async def test_two_pulls_of_one_image_fetch_it_once(here: Side, there: Side, ours: Running) -> None:
    here.make(f"{ours.host}/team/twice:1", {"big": os.urandom(2 * MIB)})
    await here.push(f"{ours.host}/team/twice:1")
    told: list[dict[str, object]] = []
    first, second = await asyncio.gather(
        *(there.registries.pull(f"{ours.host}/team/twice:1", told.append) for _ in range(2))
    )
    assert first.id == second.id
    assert len([one for one in told if one.get("status") == "Verifying Checksum"]) == 1


async def test_a_cancelled_pull_leaves_nothing(here: Side, there: Side, ours: Running) -> None:
    here.make(f"{ours.host}/team/cancel:1", *({str(n): os.urandom(2 * MIB)} for n in range(4)))
    await here.push(f"{ours.host}/team/cancel:1")
    started = asyncio.Event()

    def tell(message: dict[str, object]) -> None:
        if message.get("status") == "Downloading":
            started.set()

    task = asyncio.ensure_future(there.registries.pull(f"{ours.host}/team/cancel:1", tell))
    await asyncio.wait_for(started.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert not there.images.list()
    there.store.gc(Pins())
    assert not list(there.store.blobs.list()) and not list(there.store.snapshots.all())
    assert there.is_clean()


async def test_gc_during_a_push_and_pull_takes_nothing(here: Side, there: Side, ours: Running) -> None:
    name = f"{ours.host}/team/gc:1"
    image = here.make(name, *({str(n): os.urandom(MIB)} for n in range(4)))
    done = asyncio.Event()

    async def collect() -> None:
        while not done.is_set():
            for side in (here, there):
                await asyncio.to_thread(lambda side=side: side.store.gc(side.images.pins(), actions="all"))
            await ours.server.collect()
            await asyncio.sleep(0.01)

    collecting = asyncio.ensure_future(collect())
    await here.push(name)
    pulled = await there.pull(name)
    done.set()
    await collecting

    assert there.files(pulled) == here.files(image)
    assert there.is_clean() and not ours.store.check()


async def test_the_blobs_of_a_loaded_image_go_out_as_gzip(here: Side, there: Side, ours: Running) -> None:
    """A plain tar among the blobs (docker save) is compressed for the registry; the image's id stays."""
    name = f"{ours.host}/team/loaded:1"
    image = here.make(name, {"a": b"y" * MIB})
    source = image.layers[0]
    assert source.snapshot is not None
    blob = here.store.blobs.put(b"".join(here.store.layers.tar(source.snapshot, source.epoch)))
    plain = Descriptor(media_types.LAYER, blob, source.size)
    there_image = here.images.add(
        here.store.blobs.read(image.id), [replace(source, blob=plain, snapshot=None, epoch=None)]
    )
    await here.push(name)
    pulled = await there.pull(name)
    assert pulled.id == there_image.id == image.id
    assert pulled.layers[0].blob is not None and pulled.layers[0].blob.media_type == media_types.LAYER_GZIP


async def test_layers_go_out_as_zstd_when_asked(here: Side, there: Side, ours: Running) -> None:
    """Built layers and layers that are gzip already; the image's id stays, and another machine can use it."""
    name = f"{ours.host}/a/app:1"
    image = here.make(name, {"a": bytes(100_000)}, {"b": b"2" * 100_000})
    await here.push(name)
    await here.push(name, compression="zstd")
    assert len(here.said("Pushed")) == 2

    pulled = await there.pull(name)
    assert pulled.id == image.id and there.files(pulled) == here.files(image)
    assert {layer.blob.media_type for layer in pulled.layers if layer.blob} == {media_types.LAYER_ZSTD}

    await here.push(name, compression="zstd")
    assert len(here.said("Layer already exists")) == 2
    other = f"{ours.host}/a/other:1"
    there.images.tag(pulled.id, parse_reference(other))
    await there.push(other)
    assert (await here.pull(other)).id == image.id
    await there.push(other, compression="gzip")
    assert len(there.said("Pushed")) == 2
    with pytest.raises(InvalidInput, match="unsupported compression"):
        await here.push(name, compression="xz")


async def _types(side: Side, name: str) -> list[str]:
    """How the layers are compressed of what the registry has under a name."""
    async with side.registries._resolved(parse_reference(name), None, None) as (_, selected):
        return [media_types.compression_of(layer.media_type) for layer in selected.manifest.layers]


@pytest.mark.parametrize("other", [{"compression": "zstd"}, {"compression": "gzip", "level": "9"}])
async def test_what_another_push_made_of_the_layers_changes_no_push(
    here: Side, ours: Running, other: dict[str, str]
) -> None:
    """The digest of what is pushed is the image's affair: the same before and after, and where nothing was before."""
    image = here.make("app:1", {"a": b"1" * 100_000}, {"b": b"2" * 100_000})
    names = [f"{ours.host}/{name}:1" for name in ("forced", "plain", "again")]
    for name in names:
        here.images.tag(image.id, parse_reference(name))
    (forced,) = await here.push(names[0], **other)
    (plain,) = await here.push(names[1])
    assert plain.digest != forced.digest and await _types(here, names[1]) == ["gzip", "gzip"]
    assert (await here.push(names[0], **other))[0].digest == forced.digest
    assert not here.said("Compressing")
    assert (await here.push(names[2]))[0].digest == plain.digest


async def test_an_image_on_a_base_of_zstd_keeps_the_bases_layers(here: Side, there: Side, ours: Running) -> None:
    """Its own layers are gzip, or what is asked for; only force changes the base's."""
    base_name, name = f"{ours.host}/base:1", f"{ours.host}/app:1"
    here.make(base_name, {"a": b"1" * 100_000})
    await here.push(base_name, compression="zstd")
    base = await there.pull(base_name)
    own = there.make("own:1", {"b": b"2" * 100_000}).layers
    config = replace_diff_ids(there.store.blobs.read(base.id), [*base.diff_ids, own[0].diff_id])
    there.images.add(config, [*base.layers, *own], references=[parse_reference(name)])
    expected = {
        (): ["zstd", "gzip"],
        (("compression", "zstd"), ("force", False)): ["zstd", "zstd"],
        (("compression", "gzip"), ("force", False)): ["zstd", "gzip"],
        (("compression", "gzip"),): ["gzip", "gzip"],
    }
    for options, forms in expected.items():
        await there.push(name, **dict(options))
        assert await _types(there, name) == forms


def replace_diff_ids(config: bytes, diff_ids: list[Digest]) -> bytes:
    document = decode_config(config)
    return encode(msgspec.structs.replace(document, rootfs=RootFS("layers", diff_ids)))


async def _pull_on_another_form(here: Side, there: Side, host: str) -> tuple[Image, Digest]:
    """An image whose lower layer came to `there` as gzip before, while its manifest names zstd; with its digest."""
    base, name = f"{host}/base:1", f"{host}/app:1"
    lower = {"a": b"1" * 100_000}
    here.make(base, lower)
    await here.push(base)
    await there.pull(base)
    here.make(name, lower, {"b": b"2" * 100_000})
    (pushed,) = await here.push(name, compression="zstd")
    image = await there.pull(name)
    assert there.said("Already exists") and image.manifest.digest == pushed.digest
    return image, pushed.digest


async def test_a_pulled_image_keeps_its_digest_though_a_layer_was_here_in_another_form(
    here: Side, there: Side, make_server: Callable[..., Awaitable[Running]]
) -> None:
    one, two = await make_server(), await make_server()
    image, digest = await _pull_on_another_form(here, there, one.host)
    for name in (f"{two.host}/copied:1", f"{one.host}/other:1"):
        there.images.tag(image.id, parse_reference(name))
        assert (await there.push(name))[0].digest == digest


async def test_a_pulled_image_is_pushed_as_it_is_here_when_its_own_blobs_cannot_be_had(
    here: Side, there: Side, make_server: Callable[..., Awaitable[Running]]
) -> None:
    one, two = await make_server(grace=0.0), await make_server()
    image, digest = await _pull_on_another_form(here, there, one.host)
    assert one.server.local is not None and one.server.local.delete_manifest("app", digest)
    await one.server.collect()
    name = f"{two.host}/copied:1"
    there.images.tag(image.id, parse_reference(name))
    await there.push(name)
    assert await _types(there, name) == ["gzip", "zstd"]
    assert (await here.pull(name)).id == image.id
