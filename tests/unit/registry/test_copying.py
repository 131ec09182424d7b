"""`image copy`: between any two kinds of places, whole, verified, and visible only when complete."""

from __future__ import annotations

import json
import tarfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buildtool.errors import BuildtoolError, Corrupt, InvalidInput, NotFound
from buildtool.oci import Descriptor, Index, Manifest, Platform, encode, media_types, sha256
from buildtool.registry import RegistryConfig
from buildtool.registry.copying import Copied, CopyOptions, copy, open_place, parse_location
from buildtool.registry.copying.places import name_in
from buildtool.registry.referrers import fallback_tag, referrers
from buildtool.registry.repository import Repository
from buildtool.registry.transport import Transport
from tests.unit.registry.conftest import QUICK, Cutter, Running, Side

EMPTY = b"{}"


@asynccontextmanager
async def transport() -> AsyncIterator[Transport]:
    made = Transport(RegistryConfig(), QUICK)
    try:
        yield made
    finally:
        await made.close()


async def run(source: str, target: str, **options: Any) -> list[Copied]:
    """`image copy SOURCE TARGET`."""
    async with transport() as used:
        origin = await open_place(parse_location(source), used)
        try:
            goal = await open_place(parse_location(target), used, write=True)
            try:
                names = name_in(parse_location(source)), name_in(parse_location(target))
                return await copy(origin, names[0], goal, names[1], lambda _: None, CopyOptions(**options))
            finally:
                await goal.close()
        finally:
            await origin.close()


@asynccontextmanager
async def opened(host: str, path: str) -> AsyncIterator[Repository]:
    """A repository to read and write."""
    async with transport() as used:
        yield Repository(await used.connect(host), path, "pull", "push")


async def push_blob(repository: Repository, data: bytes, folder: Path) -> Descriptor:
    from buildtool.registry.uploads import upload

    path = folder / sha256(data)[7:]
    path.write_bytes(data)
    await upload(repository, path, sha256(data), lambda _: None)
    return Descriptor("application/octet-stream", sha256(data), len(data))


async def push_index(here: Side, host: str, path: str, tag: str = "1") -> str:
    """An image for two platforms; its digest."""
    entries = []
    for architecture in ("amd64", "arm64"):
        name = f"{host}/{path}:{architecture}"
        here.make(name, {"bin": architecture.encode(), "big": bytes(3000)}, architecture=architecture)
        pushed = (await here.push(name))[0]
        platform = Platform(architecture=architecture, os="linux")
        entries.append(Descriptor(media_types.MANIFEST, pushed.digest, pushed.size, platform=platform))
    data = encode(Index(2, media_types.INDEX, entries))
    async with opened(host, path) as repository:
        return await repository.put_manifest(tag, data, media_types.INDEX)


async def attach(host: str, path: str, subject: str, kind: str, folder: Path) -> str:
    """Push a referrer of an image."""
    async with opened(host, path) as repository:
        top = await repository.manifest(subject)
        layer = await push_blob(repository, b"signature of " + subject.encode(), folder)
        config = await push_blob(repository, EMPTY, folder)
        manifest = Manifest(
            2,
            media_types.MANIFEST,
            Descriptor(media_types.EMPTY, config.digest, 2),
            [layer],
            artifact_type=kind,
            subject=top.descriptor,
        )
        data = encode(manifest)
        return await repository.put_manifest(sha256(data), data, media_types.MANIFEST)


@pytest.mark.parametrize("form", ["oci:{}/x:1", "oci-archive:{}/x.tar:1", "dir:{}/x"])
async def test_an_index_comes_back_byte_for_byte_from_any_place(
    form: str, here: Side, host: str, tmp_path: Path
) -> None:
    digest = await push_index(here, host, "a/app")
    kept = form.format(tmp_path)

    assert await run(f"docker://{host}/a/app:1", kept) == [Copied(name_in(parse_location(kept)), digest)]
    assert (await run(kept, f"docker://{host}/b/app:2"))[0].digest == digest

    async with opened(host, "b/app") as repository:
        assert (await repository.manifest("2")).digest == digest


async def test_a_docker_archive_holds_the_image_of_one_platform(
    here: Side, there: Side, ours: Running, tmp_path: Path
) -> None:
    await push_index(here, ours.host, "a/app")
    archive = f"docker-archive:{tmp_path}/app.tar:example.com/app:1"

    await run(f"docker://{ours.host}/a/app:1", archive, platform=Platform(architecture="arm64", os="linux"))
    with tarfile.open(tmp_path / "app.tar") as tar:
        table = json.loads(tar.extractfile("manifest.json").read())  # type: ignore[union-attr]
        assert table[0]["RepoTags"] == ["example.com/app:1"]
        config = json.loads(tar.extractfile(table[0]["Config"]).read())  # type: ignore[union-attr]
        assert config["architecture"] == "arm64"

    with (tmp_path / "app.tar").open("rb") as file:
        list(there.images.load(file, platform=Platform(architecture="arm64", os="linux")))
    assert there.files(there.images.get("example.com/app:1"))["bin"] == b"arm64"

    await run(archive, f"docker://{ours.host}/c/app:1")
    image = await there.pull(f"{ours.host}/c/app:1", platform=Platform(architecture="arm64", os="linux"))
    assert there.files(image)["bin"] == b"arm64"


async def test_all_tags_are_copied(here: Side, ours: Running, tmp_path: Path) -> None:
    for tag in ("1", "2"):
        here.make(f"{ours.host}/a/app:{tag}", {"a": tag.encode()})
        await here.push(f"{ours.host}/a/app:{tag}")

    done = await run(f"docker://{ours.host}/a/app", f"oci:{tmp_path}/all", all_tags=True)
    assert [one.name for one in done] == ["1", "2"]
    await run(f"oci:{tmp_path}/all", f"docker://{ours.host}/b/app", all_tags=True)

    async with opened(ours.host, "b/app") as repository:
        assert await repository.tags() == ["1", "2"]


async def test_one_platform_of_an_index_can_be_copied(here: Side, ours: Running, tmp_path: Path) -> None:
    await push_index(here, ours.host, "a/app")
    arm = Platform(architecture="arm64", os="linux")

    done = await run(f"docker://{ours.host}/a/app:1", f"oci:{tmp_path}/x:1", platform=arm)
    async with opened(ours.host, "a/app") as repository:
        assert done[0].digest == (await repository.manifest("arm64")).digest
    with pytest.raises(NotFound, match="not there for linux/riscv64"):
        wanted = Platform(architecture="riscv64", os="linux")
        await run(f"docker://{ours.host}/a/app:1", f"oci:{tmp_path}/y:1", platform=wanted)


async def test_referrers_come_along_through_a_layout(here: Side, host: str, ours: Running, tmp_path: Path) -> None:
    """Also from and to a registry that has no referrers API: there they are in the fallback tag."""
    digest = await push_index(here, host, "a/signed")
    signature = await attach(host, "a/signed", digest, "application/x.signature", tmp_path)
    about = await attach(host, "a/signed", signature, "application/x.about", tmp_path)

    await run(f"docker://{host}/a/signed:1", f"oci:{tmp_path}/x:1", referrers=True)
    await run(f"oci:{tmp_path}/x:1", f"docker://{host}/b/signed:1", referrers=True)

    async with opened(host, "b/signed") as repository:
        assert [one.digest for one in await referrers(repository, sha256((await repository.manifest("1")).data))] == [
            signature
        ]
        [found] = await referrers(repository, signature, "application/x.about")  # type: ignore[arg-type]
        assert (found.digest, found.artifact_type) == (about, "application/x.about")
        assert await referrers(repository, digest, "application/x.other") == []  # type: ignore[arg-type]


async def test_a_registry_without_the_referrers_api_gets_the_fallback_tag(
    here: Side, debian: str, tmp_path: Path
) -> None:
    digest = await push_index(here, debian, "a/tagged")
    first = await attach(debian, "a/tagged", digest, "application/x.one", tmp_path)
    second = await attach(debian, "a/tagged", digest, "application/x.two", tmp_path)

    async with opened(debian, "a/tagged") as repository:
        index = await repository.manifest(fallback_tag(digest))  # type: ignore[arg-type]
        assert [entry["digest"] for entry in json.loads(index.data)["manifests"]] == [first, second]


async def test_blobs_are_mounted_within_one_registry(here: Side, ours: Running) -> None:
    await push_index(here, ours.host, "a/app")
    asked: list[str] = []
    before = aiohttp.ClientSession._request

    async def count(self: Any, method: str, url: Any, **options: Any) -> Any:
        asked.append(f"{method} {url.path_qs}")
        return await before(self, method, url, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(aiohttp.ClientSession, "_request", count)
        await run(f"docker://{ours.host}/a/app:1", f"docker://{ours.host}/b/app:1")
    assert any("mount=" in line for line in asked)
    assert not [line for line in asked if line.startswith(("PATCH", "GET")) and "/blobs/" in line]


async def test_a_copy_goes_on_after_cuts(
    here: Side, ours: Running, make_cutter: Callable[..., Awaitable[Cutter]], tmp_path: Path
) -> None:
    import os

    here.make(f"{ours.host}/a/big:1", {"big": os.urandom(3 << 20)})
    await here.push(f"{ours.host}/a/big:1")
    down = await make_cutter(ours.host, "down", [1 << 20, 1 << 19])
    up = await make_cutter(ours.host, "up", [1 << 20])

    await run(f"docker://{down.host}/a/big:1", f"docker://{up.host}/b/big:1")
    assert down.cuts == 2 and up.cuts == 1
    async with opened(ours.host, "b/big") as repository:
        assert await repository.tags() == ["1"]


async def test_damage_is_found_on_either_side(here: Side, ours: Running, tmp_path: Path) -> None:
    await push_index(here, ours.host, "a/app")
    await run(f"docker://{ours.host}/a/app:1", f"oci:{tmp_path}/x:1")
    blobs = sorted((tmp_path / "x/blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    victim = next(path for path in blobs if path.read_bytes()[:2] == b"\x1f\x8b")
    victim.write_bytes(victim.read_bytes()[:-1] + b"?")

    for target in (f"docker://{ours.host}/b/app:1", f"oci:{tmp_path}/y:1", f"dir:{tmp_path}/z"):
        with pytest.raises(Corrupt):
            await run(f"oci:{tmp_path}/x:1", target)
    with pytest.raises(BuildtoolError):
        async with opened(ours.host, "b/app") as repository:
            await repository.tags()
    assert json.loads((tmp_path / "y/index.json").read_bytes())["manifests"] == []
    assert not (tmp_path / "z/manifest.json").exists()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("busybox", "write TRANSPORT:NAME"),
        ("docker:busybox", "write docker://NAME"),
        ("docker://", "write docker://NAME"),
        ("docker://Upper", "invalid reference format"),
        ("oci:", "names no path"),
        ("docker-archive:x.tar:Upper:1", "invalid reference format"),
        ("containers-storage:x", "is no place of an image"),
    ],
)
def test_wrong_places_are_refused(text: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        parse_location(text)


async def test_what_is_there_is_not_overwritten(here: Side, ours: Running, tmp_path: Path) -> None:
    await push_index(here, ours.host, "a/app")
    source = f"docker://{ours.host}/a/app:1"
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder/file").write_text("precious")
    (tmp_path / "file").write_text("precious")
    for target in ("oci:{}/folder:1", "dir:{}/folder", "docker-archive:{}/file:x:1", "oci-archive:{}/file:1"):
        with pytest.raises(InvalidInput):
            await run(source, target.format(tmp_path))
    assert sorted(path.name for path in (tmp_path / "folder").iterdir()) == ["file"]

    with pytest.raises(NotFound, match="is no OCI layout"):
        await run(f"oci:{tmp_path}/folder:1", f"oci:{tmp_path}/new:1")
    with pytest.raises(NotFound, match="does not exist"):
        await run(f"oci-archive:{tmp_path}/nothing.tar", f"oci:{tmp_path}/new:1")
    with pytest.raises(InvalidInput, match="damaged or no tar"):
        await run(f"docker-archive:{tmp_path}/file", f"oci:{tmp_path}/new:1")


async def test_search_asks_docker_hub_or_a_catalog(here: Side, ours: Running) -> None:
    from aiohttp import web

    from buildtool.registry.remote_images import SearchResult, search

    asked: list[dict[str, str]] = []

    async def hub(request: web.BaseRequest) -> web.Response:
        asked.append(dict(request.query))
        one = {
            "name": "busybox",
            "description": "Small.",
            "star_count": 3,
            "is_official": True,
            "is_automated": False,
        }
        return web.json_response({"results": [one, {**one, "name": "x/busybox", "description": None}]})

    import asyncio

    server = web.Server(hub)
    listening = await asyncio.get_running_loop().create_server(server, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}/v1/search"
    for path in ("a/app", "b/app", "b/other"):
        here.make(f"{ours.host}/{path}:1", {"a": path.encode()})
        await here.push(f"{ours.host}/{path}:1")
    try:
        async with transport() as used:
            found = await search(used, "busy", 10, None, hub=url)
            assert found == [SearchResult("busybox", "Small.", 3, True), SearchResult("x/busybox", "", 3, True)]
            assert asked == [{"q": "busy", "n": "10"}]
            names = [one.name for one in await search(used, f"{ours.host}/app", 10, None)]
            assert names == [f"{ours.host}/a/app", f"{ours.host}/b/app"]
    finally:
        listening.close()
        await server.shutdown(0.1)


@pytest.mark.parametrize("origin", ["docker", "oci", "oci-archive", "docker-archive", "dir"])
async def test_any_place_is_copied_to_any_other(
    origin: str, here: Side, there: Side, ours: Running, tmp_path: Path
) -> None:
    """The image is the same at the end of every pair; its manifest too, unless Docker's archive lies between."""
    name = f"{ours.host}/a/app:1"
    image = here.make(name, {"a": b"1" * 5000}, {"b": b"2"})
    (pushed,) = await here.push(name)

    def place(kind: str, where: str) -> str:
        return {
            "docker": f"docker://{ours.host}/{where}/app:1",
            "oci": f"oci:{tmp_path}/{where}:1",
            "oci-archive": f"oci-archive:{tmp_path}/{where}.tar:1",
            "docker-archive": f"docker-archive:{tmp_path}/{where}-d.tar:example.com/app:1",
            "dir": f"dir:{tmp_path}/{where}-dir",
        }[kind]

    source = place(origin, "from")
    await run(f"docker://{name}", source)
    for kind in ("docker", "oci", "oci-archive", "docker-archive", "dir"):
        target = place(kind, f"to-{kind}")
        await run(source, target)
        if kind != "docker":
            await run(target, f"docker://{ours.host}/back-{kind}/app:1")
        back = "to-docker" if kind == "docker" else f"back-{kind}"
        pulled = await there.pull(f"{ours.host}/{back}/app:1")
        assert pulled.id == image.id and there.files(pulled) == here.files(image)
        if "docker-archive" not in (origin, kind):
            async with opened(ours.host, f"{back}/app") as repository:
                assert (await repository.manifest("1")).digest == pushed.digest
