"""Images whose layers stay in the registry until something needs them."""

from __future__ import annotations

import asyncio
import io
import os
import shutil
import tarfile
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import bcrypt
import pytest

from buildtool.cache import Pins
from buildtool.daemon.bases import Bases
from buildtool.errors import BuildtoolError, Corrupt
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import (
    Descriptor,
    Digest,
    ImageConfig,
    RootFS,
    encode,
    media_types,
    parse_reference,
    sha256,
)
from buildtool.registry import Credentials
from buildtool.registry.server.access import Guarded
from buildtool.registry.server.htpasswd import Htpasswd
from buildtool.runtime import Runtime
from buildtool.solve import Builder, BuildRequest, BuildResult
from tests.unit.registry.conftest import Running, Side, make_tar
from tests.unit.solve.fixtures import busybox_rootfs


def here_of(side: Side, image: Image) -> list[bool]:
    """For each layer whether its blob is in the store."""
    layers = side.images.get(image.id).layers
    return [layer.blob is not None and side.store.blobs.has(layer.blob.digest) for layer in layers]


@dataclass
class Site:
    """A machine that builds."""

    side: Side
    builder: Builder
    context: Path

    @property
    def images(self) -> Images:
        return self.side.images

    async def build(self, text: str, **options: Any) -> BuildResult:
        request = BuildRequest(dockerfile=text, context=self.context, **options)
        return await self.builder.build(request, lambda event: None)

    def here(self, name: str) -> list[bool]:
        return here_of(self.side, self.images.get(name))


@pytest.fixture
async def site(there: Side, tmp_path: Path) -> AsyncIterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("builds in this very process take root")
    directory = Path(tempfile.mkdtemp(prefix="lazy-", dir="/tmp"))
    runtime = await Runtime.launch(directory, state_dir=directory / "state")
    there.images.bringer = lambda image: _complete(there, image)
    builder = Builder(there.store, there.images, runtime, directory, Bases(lambda: there.registries))
    (tmp_path / "context").mkdir()
    yield Site(there, builder, tmp_path / "context")
    await builder.close()
    await runtime.close()
    shutil.rmtree(directory)
    assert there.is_clean()


async def _complete(side: Side, image: Image) -> None:
    await side.registries.remote_layers.complete(image, side.tell)


async def publish(here: Side, name: str, *layers: dict[str, bytes]) -> Image:
    image = here.make(name, *layers)
    await here.push(name)
    return image


async def test_copy_from_an_image_fetches_the_layers_that_tell_of_the_file(
    here: Side, site: Site, ours: Running
) -> None:
    name = f"{ours.host}/team/tools:1"
    await publish(here, name, {"bin/low": b"1"}, {"bin/tool": b"old"}, {"bin/tool": b"new"}, {"etc/top": b"t"})

    built = await site.build(f"FROM scratch\nCOPY --from={name} /bin/tool /tool\n")

    assert site.here(name) == [False, False, True, True]
    assert site.side.files(built.image) == {"tool": b"new"}
    again = await site.build(f"FROM scratch\nCOPY --from={name} /bin/tool /tool\nLABEL a=1\n")
    assert all(step.cached for step in again.steps)
    assert site.here(name) == [False, False, True, True], "a cached build fetches nothing"
    await site.build(f"FROM scratch\nCOPY --from={name} /etc/top /bin/tool /\n")
    assert site.here(name) == [False, False, True, True], "what is here is enough"


@pytest.mark.parametrize("source", ["/bin", "/bin/*", "/bin/nothing"])
async def test_what_only_all_layers_tell_needs_them_all(here: Side, site: Site, ours: Running, source: str) -> None:
    name = f"{ours.host}/team/whole:1"
    await publish(here, name, {"bin/a": b"1"}, {"bin/b": b"2"}, {"c": b"3"})
    text = f"FROM scratch\nCOPY --from={name} {source} /out/\n"
    if source == "/bin/nothing":
        with pytest.raises(BuildtoolError, match="no such file in the stage or image"):
            await site.build(text)
    else:
        assert site.side.files((await site.build(text)).image) == {"out/a": b"1", "out/b": b"2"}
    assert site.here(name) == [True, True, True]


async def test_a_layer_that_takes_something_from_those_below_brings_them(
    here: Side, site: Site, ours: Running
) -> None:
    name = f"{ours.host}/team/linked:1"
    lower, upper = make_tar({"bin/one": b"1", "etc/gone": b"x"}), io.BytesIO()
    with tarfile.open(fileobj=upper, mode="w") as tar:
        link = tarfile.TarInfo("bin/two")
        link.type, link.linkname = tarfile.LNKTYPE, "bin/one"
        tar.addfile(link)
        tar.addfile(tarfile.TarInfo("etc/.wh.gone"))
    sources: list[LayerSource] = []
    for data in (lower, upper.getvalue()):
        parents = [source.snapshot for source in sources if source.snapshot is not None]
        snapshot = here.store.layers.unpack(io.BytesIO(data), compression="", parents=parents)
        blob = Descriptor(media_types.LAYER, here.store.blobs.put(data), len(data))
        sources.append(LayerSource(sha256(data), len(data), snapshot, blob))
    rootfs = RootFS("layers", [source.diff_id for source in sources])
    here.images.add(encode(ImageConfig("amd64", "linux", rootfs)), sources, references=[parse_reference(name)])
    await here.push(name)

    built = await site.build(f"FROM scratch\nCOPY --from={name} /bin/two /\n")
    assert site.side.files(built.image) == {"two": b"1"}
    with pytest.raises(BuildtoolError, match="no such file"):
        await site.build(f"FROM scratch\nCOPY --from={name} /etc/gone /\n")


async def test_a_build_that_is_cancelled_while_it_fetches_leaves_nothing(
    here: Side, site: Site, ours: Running
) -> None:
    name = f"{ours.host}/team/slow:1"
    await publish(here, name, {"a": os.urandom(3 << 20)}, {"b": b"2"})
    waiting = asyncio.Event()
    fetch = site.side.registries.remote_layers._download

    async def slow(*arguments: Any) -> None:
        waiting.set()
        await asyncio.sleep(3600)
        await fetch(*arguments)

    site.side.registries.remote_layers._download = slow  # type: ignore[method-assign]
    build = asyncio.create_task(site.build(f"FROM scratch\nCOPY --from={name} /a /a\n"))
    await waiting.wait()
    build.cancel()
    with pytest.raises(asyncio.CancelledError):
        await build
    site.side.registries.remote_layers._download = fetch  # type: ignore[method-assign]
    assert site.here(name) == [False, False] and site.side.is_clean()


async def test_a_base_whose_files_no_step_needs_stays_where_it_is(here: Side, site: Site, ours: Running) -> None:
    name, other = f"{ours.host}/team/base:1", f"{ours.host}/team/built:1"
    image = await publish(here, name, {"a": b"1"}, {"b": b"2"})

    built = await site.build(f'FROM {name}\nENV A=1\nCMD ["run"]\n', tags=(other,))

    assert built.image.diff_ids == image.diff_ids
    assert site.here(name) == site.here(other) == [False, False]
    assert site.images.check() == [] and site.side.is_clean()
    await site.side.push(other)
    assert site.here(other) == [False, False], "the registry had the layers already"
    assert (await here.pull(other)).id == built.image.id
    await site.images.bring(site.images.get(other))
    assert site.side.files(site.images.get(other)) == {"a": b"1", "b": b"2"}
    assert not site.images.lacks(site.images.get(other)) and not site.images.lacks(site.images.get(name))
    assert site.images.get(other).size == image.size, "sizes are known once the layers are"


async def test_a_run_brings_all_of_its_base(here: Side, site: Site, ours: Running) -> None:
    name = f"{ours.host}/team/busybox:1"
    here.images.import_tar(busybox_rootfs(), reference=parse_reference(name))
    await here.push(name)
    site.context.joinpath("file").write_text("content")

    await site.build(f"FROM {name}\nENV A=1\n")
    assert site.here(name) == [False]
    built = await site.build(f"FROM {name}\nRUN cat /etc/passwd > /copy\nCOPY file /\n")

    assert site.here(name) == [True]
    assert site.side.files(built.image)["copy"].startswith(b"root:")


async def test_link_onto_an_image_elsewhere_fetches_none_of_it(here: Side, site: Site, ours: Running) -> None:
    """The layers are made without it, and the push finds them there."""
    name, other = f"{ours.host}/team/base:1", f"{ours.host}/team/linked:1"
    image = await publish(here, name, {"usr/bin/a": b"1"}, {"usr/b": b"2"})
    site.context.joinpath("file").write_text("content")

    text = f"FROM {name}\nENV A=1\nCOPY --link file /usr/bin/\nCOPY --link file <<one /tmp/\n1\none\nCMD run\n"
    built = await site.build(text, tags=(other,))
    await site.side.push(other)

    assert site.here(name) == [False, False] and site.here(other)[:2] == [False, False]
    assert built.image.diff_ids[:2] == image.diff_ids and len(built.image.diff_ids) == 4
    pulled = await here.pull(other)
    files = here.files(pulled)
    assert (files["usr/bin/a"], files["usr/b"], files["usr/bin/file"]) == (b"1", b"2", b"content")
    again = await site.build(text.replace("A=1", "A=2"), tags=(other,))
    assert all(step.cached for step in again.steps)
    assert site.here(name) == [False, False]


@pytest.mark.parametrize(("source", "wanted"), [("/bin/tool", [False, True, True]), ("/bin", [True, True, True])])
async def test_a_mount_of_a_file_fetches_the_layers_that_tell_of_it(
    here: Side, site: Site, ours: Running, source: str, wanted: list[bool]
) -> None:
    name, base = f"{ours.host}/team/tools:1", f"{ours.host}/team/busybox:1"
    await publish(here, name, {"bin/low": b"1"}, {"bin/tool": b"new"}, {"etc/top": b"t"})
    site.images.import_tar(busybox_rootfs(), reference=parse_reference(base))
    mount = f"--mount=type=bind,from={name},source={source},target=/m"

    built = await site.build(f"FROM {base}\nRUN {mount} cat /m /m/tool > /copy 2>/dev/null; true\n")

    assert site.side.files(built.image)["copy"] == b"new"
    assert site.here(name) == wanted


async def test_a_mount_of_what_is_not_there_is_told(here: Side, site: Site, ours: Running) -> None:
    name, base = f"{ours.host}/team/tools:1", f"{ours.host}/team/busybox:1"
    await publish(here, name, {"a": b"1"}, {"b": b"2"})
    site.images.import_tar(busybox_rootfs(), reference=parse_reference(base))
    with pytest.raises(BuildtoolError, match="no such file or directory: /none"):
        await site.build(f"FROM {base}\nRUN --mount=from={name},source=/none,target=/m true\n")


async def test_layers_survive_a_restart_and_gc_as_names(
    here: Side, there: Side, ours: Running, make_side: Callable[..., Side]
) -> None:
    name = f"{ours.host}/team/kept:1"
    image = await publish(here, name, {"a": os.urandom(2000)})
    await there.registries.resolve(name, there.tell)
    assert there.images.lacks(there.images.get(name))
    there.store.gc(there.images.pins() | Pins())
    again = Images(there.store)
    assert again.get(name).id == image.id and again.lacks(again.get(name)) and again.check() == []

    pulled = await there.pull(name)

    assert not there.images.lacks(pulled) and there.files(pulled) == here.files(image)
    assert there.said("Download complete") and "Downloaded newer" in there.told[-1]["status"]


async def test_credentials_of_the_resolution_serve_for_the_layers(
    here: Side, there: Side, make_server: Callable[..., Awaitable[Running]], tmp_path: Path
) -> None:
    htpasswd = tmp_path / "htpasswd"
    htpasswd.write_bytes(b"me:" + bcrypt.hashpw(b"secret", bcrypt.gensalt(4)) + b"\n")
    running = await make_server(access=Guarded(Htpasswd(htpasswd)))
    name, me = f"{running.host}/team/private:1", Credentials("me", "secret")
    here.make(name, {"a": b"1"})
    await here.push(name, credentials=me)

    image = await there.registries.resolve(name, there.tell, credentials=me)
    there.registries.remote_layers._credentials.clear()
    with pytest.raises(BuildtoolError) as refused:
        await there.registries.remote_layers.complete(image, there.tell)
    assert f"buildtool pull {name}" in refused.value.hint
    assert there.is_clean()
    await there.registries.resolve(name, there.tell, credentials=me)
    await there.registries.remote_layers.complete(image, there.tell)
    assert there.files(image) == {"a": b"1"}


async def test_the_next_source_is_tried_and_other_schemes_have_providers(there: Side) -> None:
    data = make_tar({"a": b"1"})
    blob = Descriptor(media_types.LAYER, sha256(data), len(data))
    asked: list[str] = []

    async def provide(place: str, wanted: Descriptor, blobs: Any, progress: Any, growing: Any) -> None:
        asked.append(place)
        if place == "gone":
            raise Corrupt("nothing there")
        blobs.put(data)

    there.registries.remote_layers.providers["shelf"] = provide
    layer = LayerSource(sha256(data), len(data), blob=blob, sources=("shelf://gone", "shelf://second"))
    await there.registries.remote_layers.fetch(layer, there.tell)
    assert asked == ["gone", "second"] and there.store.blobs.has(blob.digest)
    with pytest.raises(BuildtoolError, match="cannot read"):
        missing = Descriptor(media_types.LAYER, sha256(b"x"), 1)
        await there.registries.remote_layers.fetch(
            LayerSource(Digest(sha256(b"x")), 1, blob=missing, sources=("attic://x",)), there.tell
        )


async def test_builds_that_need_one_base_at_once_fetch_it_once(here: Side, site: Site, ours: Running) -> None:
    name = f"{ours.host}/team/shared:1"
    here.images.import_tar(busybox_rootfs(), reference=parse_reference(name))
    await here.push(name)
    fetched: list[str] = []
    remote = site.side.registries.remote_layers
    fetch = remote._from_registry

    async def counted(place: str, blob: Descriptor, *more: Any) -> None:
        fetched.append(blob.digest)
        await fetch(place, blob, *more)

    remote._from_registry = counted  # type: ignore[method-assign]
    await asyncio.gather(
        *(site.build(f"FROM {name}\nRUN echo {number} > /n\n") for number in range(3)),
        site.build(f"FROM scratch\nCOPY --from={name} /etc/passwd /\n"),
    )
    assert len(fetched) == 1


async def test_images_that_a_step_stands_on_are_fetched_at_once(here: Side, site: Site, ours: Running) -> None:
    """The base of a RUN and what its mounts show: none waits for another's layers."""
    names = [f"{ours.host}/team/{name}:1" for name in ("busybox", "one", "two")]
    here.images.import_tar(busybox_rootfs(), reference=parse_reference(names[0]))
    await here.push(names[0])
    for name in names[1:]:
        await publish(here, name, {"dir/file": name.encode()})
    remote = site.side.registries.remote_layers
    fetch, fetching, all_of_them = remote._from_registry, 0, asyncio.Event()

    async def counted(*arguments: Any) -> None:
        nonlocal fetching
        fetching += 1
        if fetching == len(names):
            all_of_them.set()
        await asyncio.wait_for(all_of_them.wait(), 20)
        await fetch(*arguments)

    remote._from_registry = counted  # type: ignore[method-assign]
    mounts = f"--mount=from={names[1]},target=/one --mount=from={names[2]},target=/two"
    built = await site.build(f"FROM {names[0]}\nRUN {mounts} cat /one/dir/file /two/dir/file > /both\n")

    assert site.side.files(built.image)["both"] == "".join(names[1:]).encode()
