from __future__ import annotations

import asyncio
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from buildtool.errors import Forbidden, InvalidInput, NotFound
from tests.unit.containers.conftest import World


def tar_of(files: dict[str, bytes | str | None], uid: int = 0) -> bytes:
    """A tar: bytes are files, str are symlinks, None are directories."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.uid = info.gid = uid
            if content is None:
                info.type, info.mode = tarfile.DIRTYPE, 0o755
                tar.addfile(info)
            elif isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


async def get(world: World, identity: str, path: str) -> dict[str, bytes | str | None]:
    """The archive of a path: name to content, link target, or None for a directory."""
    _, blocks = await world.containers.files.archive_get(identity, path)
    data = b"".join([block async for block in blocks])
    found: dict[str, bytes | str | None] = {}
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        for info in tar:
            file = tar.extractfile(info) if info.isreg() else None
            found[info.name] = file.read() if file else info.linkname if info.issym() else None
    return found


@pytest.fixture(params=["created", "running"])
async def identity(request: pytest.FixtureRequest, world: World) -> str:
    """A container before its start and while it runs."""
    found = await world.create("sh", "-c", "mkdir -p /made; echo made > /made/file; ln -s made /alias; sleep 60")
    if request.param == "running":
        await world.containers.start(found)
        async with asyncio.timeout(5):
            while not (world.root / "containers" / found / "upper/alias").is_symlink():
                await asyncio.sleep(0.01)
    else:
        await world.containers.files.archive_put(
            found, "/", io.BytesIO(tar_of({"made": None, "made/file": b"made\n", "alias": "made"}))
        )
    return found


async def test_what_comes_out_is_named_as_docker_names_it(world: World, identity: str) -> None:
    assert await get(world, identity, "/made/file") == {"file": b"made\n"}
    assert await get(world, identity, "/made") == {"made": None, "made/file": b"made\n"}
    assert await get(world, identity, "/made/.") == {".": None, "./file": b"made\n"}
    assert await get(world, identity, "/alias") == {"alias": "made"}
    assert await get(world, identity, "/alias/") == {"alias": None, "alias/file": b"made\n"}
    assert await get(world, identity, "data/seed") == {"seed": b"from the image\n"}


async def test_stat_tells_what_is_there(world: World, identity: str) -> None:
    stat = await world.containers.files.archive_stat(identity, "/alias")
    assert (stat["name"], stat["linkTarget"]) == ("alias", "/made")
    assert stat["mode"] & (1 << 27)
    assert (await world.containers.files.archive_stat(identity, "/data/seed"))["size"] == 15
    with pytest.raises(NotFound, match=f"Could not find the file /nope in container {identity}"):
        await world.containers.files.archive_stat(identity, "/nope")
    with pytest.raises(NotFound):
        await world.containers.files.archive_get(identity, "/nope")
    with pytest.raises(InvalidInput, match="not a directory"):
        await world.containers.files.archive_stat(identity, "/data/seed/")


async def test_what_goes_in_is_there(world: World, identity: str) -> None:
    archive = tar_of({"a": b"1", "d": None, "d/b": b"2"}, uid=7)
    await world.containers.files.archive_put(identity, "/alias", io.BytesIO(gzip.compress(archive)))
    assert await get(world, identity, "/made/d") == {"d": None, "d/b": b"2"}
    upper = world.root / "containers" / identity / "upper"
    assert (upper / "made/a").stat().st_uid == 7


async def test_links_never_lead_out_of_the_container(world: World, identity: str, tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    await world.containers.files.archive_put(identity, "/", io.BytesIO(tar_of({"trap": str(outside)})))
    with pytest.raises(NotFound):
        await world.containers.files.archive_put(identity, "/trap/", io.BytesIO(tar_of({"x": b"1"})))
    await world.containers.files.archive_put(identity, "/", io.BytesIO(tar_of({"trap/x": b"1"})))
    with pytest.raises(InvalidInput):
        await world.containers.files.archive_put(identity, "/", io.BytesIO(tar_of({"../../x": b"1"})))
    assert list(outside.iterdir()) == []


async def test_refusals_of_put(world: World, identity: str) -> None:
    with pytest.raises(NotFound):
        await world.containers.files.archive_put(identity, "/nope", io.BytesIO(tar_of({"a": b""})))
    with pytest.raises(InvalidInput, match="extraction point is not a directory"):
        await world.containers.files.archive_put(identity, "/data/seed", io.BytesIO(tar_of({"a": b""})))
    with pytest.raises(InvalidInput):
        await world.containers.files.archive_put(identity, "/", io.BytesIO(b"this is no archive" * 100))
    with pytest.raises(InvalidInput, match="cannot overwrite directory"):
        await world.containers.files.archive_put(identity, "/", io.BytesIO(tar_of({"made": b"x"})), no_overwrite=True)
    with pytest.raises(InvalidInput, match="cannot overwrite non-directory"):
        await world.containers.files.archive_put(
            identity, "/made", io.BytesIO(tar_of({"file": None})), no_overwrite=True
        )


async def test_an_archive_that_is_not_read_to_its_end_leaves_nothing(world: World) -> None:
    identity = await world.create("true")
    _, blocks = await world.containers.files.archive_get(identity, "/")
    await anext(blocks)
    await blocks.aclose()
    await world.containers.start(identity)
    assert (await world.containers.wait(identity)).exit_code == 0


async def test_read_only_places_refuse_copies(world: World) -> None:
    host = {"ReadonlyRootfs": True, "Binds": ["vol:/data", "ro:/ro:ro"]}
    identity = await world.create("true", host=host)
    with pytest.raises(Forbidden, match="container rootfs is marked read-only"):
        await world.containers.files.archive_put(identity, "/tmp", io.BytesIO(tar_of({"a": b""})))
    with pytest.raises(Forbidden, match="mounted volume is marked read-only"):
        await world.containers.files.archive_put(identity, "/ro", io.BytesIO(tar_of({"a": b""})))
    await world.containers.files.archive_put(identity, "/data", io.BytesIO(tar_of({"a": b"in the volume"})))
    assert (world.root / "volumes/vol/_data/a").read_bytes() == b"in the volume"


async def test_owners_can_become_the_containers_user(world: World) -> None:
    identity = await world.create("true", User="app")
    await world.containers.files.archive_put(identity, "/tmp", io.BytesIO(tar_of({"a": b""}, uid=5)), copy_ids=True)
    assert (world.root / "containers" / identity / "upper/tmp/a").stat().st_uid == 1000


# Changes, export, commit


async def test_changes_are_told_as_docker_tells_them(world: World) -> None:
    script = "rm /data/seed; echo x > /data/new; mkdir /d; echo y > /d/f; chmod 700 /root; rm -r /usr; mkdir /usr"
    identity = await world.create("sh", "-c", script)
    await world.containers.start(identity)
    await world.containers.wait(identity)
    found = {change["Path"]: change["Kind"] for change in await world.containers.files.changes(identity) or []}
    assert found == {"/data": 0, "/data/seed": 2, "/data/new": 1, "/d": 1, "/d/f": 1, "/root": 0, "/usr": 0}


async def test_export_is_the_whole_tree(world: World) -> None:
    identity = await world.create("sh", "-c", "rm /data/seed; echo x > /new")
    await world.containers.start(identity)
    await world.containers.wait(identity)
    data = b"".join([block async for block in await world.containers.files.export(identity)])
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        names = set(tar.getnames())
    assert {"bin/busybox", "new", "data", "etc/passwd", ".dockerenv"} <= names
    assert "data/seed" not in names


async def test_commit_makes_an_image_that_runs(world: World) -> None:
    identity = await world.create(
        "sh", "-c", "echo kept > /kept; rm -r /data; sleep 60", Env=["A=1"], WorkingDir="/tmp"
    )
    await world.containers.start(identity)
    async with asyncio.timeout(5):
        while (world.root / "containers" / identity / "upper/data").is_dir() or not (
            world.root / "containers" / identity / "upper/data"
        ).exists():
            await asyncio.sleep(0.01)
    image_id = await world.containers.files.commit(
        identity, repo="snap", tag="v1", comment="c", author="me", changes=['CMD ["cat", "/kept"]', "LABEL a=b"]
    )
    image = world.images.get("snap:v1")
    assert image.id == image_id
    config = image.container_config
    assert (config.cmd, config.labels, config.working_dir) == (["cat", "/kept"], {"a": "b"}, "/tmp")
    assert config.env == ["A=1"]
    assert (image.config.author, (image.config.history or [])[-1].comment) == ("me", "c")
    made, _ = await world.containers.create({"Image": "snap:v1", "HostConfig": {"NetworkMode": "none"}})
    await world.containers.start(made)
    await world.containers.wait(made)
    assert await world.output(made) == b"kept\n"
    with pytest.raises(NotFound):
        await world.containers.files.archive_stat(made, "/data")


# Volumes


async def test_an_empty_named_volume_is_filled_from_the_image(world: World) -> None:
    _, output = await world.run(
        "sh",
        "-c",
        "cat /data/seed /data/link; stat -c %u:%a /data /data/seed; echo more > /data/more",
        host={"Binds": ["named:/data"]},
    )
    assert output == b"from the image\nfrom the image\n1000:750\n1000:640\n"
    _, output = await world.run("ls", "/data", host={"Binds": ["named:/data"]})
    assert output.split() == [b"link", b"more", b"seed"]
    (volume,) = world.containers.volumes.list()
    assert volume["Name"] == "named"
    assert Path(volume["Mountpoint"]) == world.root / "volumes/named/_data"


async def test_anonymous_volumes_go_with_their_container_when_asked(world: World) -> None:
    first = await world.create("true", Volumes={"/data": {}})
    second = await world.create("true", Volumes={"/data": {}})
    assert len(world.containers.volumes.list()) == 2
    await world.containers.remove(first)
    assert len(world.containers.volumes.list()) == 2
    await world.containers.remove(second, volumes=True)
    assert len(world.containers.volumes.list({"dangling": ["true"]})) == 1
    assert len(world.containers.volumes.prune()["VolumesDeleted"]) == 1


async def test_volumes_in_use_are_kept(world: World) -> None:
    from buildtool.errors import Conflict

    await world.create("true", host={"Binds": ["named:/x"]})
    with pytest.raises(Conflict, match="remove named: volume is in use"):
        world.containers.volumes.remove("named")


async def test_binds_are_made_by_v_and_required_by_mount(world: World, tmp_path: Path) -> None:
    _, output = await world.run("sh", "-c", "echo x > /b/f; cat /b/f", host={"Binds": [f"{tmp_path}/new:/b"]})
    assert output == b"x\n"
    assert (tmp_path / "new/f").read_bytes() == b"x\n"
    code, _ = await world.run("sh", "-c", "echo x > /b/g", host={"Binds": [f"{tmp_path}/new:/b:ro"]})
    assert code != 0
    with pytest.raises(InvalidInput, match="bind source path does not exist"):
        await world.create("true", host={"Mounts": [{"Type": "bind", "Source": f"{tmp_path}/no", "Target": "/b"}]})


async def test_tmpfs_and_image_mounts(world: World) -> None:
    mounts = [
        {"Type": "tmpfs", "Target": "/t", "TmpfsOptions": {"SizeBytes": 1 << 20, "Mode": 0o700}},
        {"Type": "image", "Source": "busybox:latest", "Target": "/image"},
    ]
    _, output = await world.run(
        "sh",
        "-c",
        "stat -c %a /t; df -k /t | tail -1; cat /image/data/seed; touch /image/x || echo ro",
        host={"Mounts": mounts},
    )
    lines = output.decode().splitlines()
    assert lines[0] == "700"
    assert "1024" in lines[1]
    assert lines[2] == "from the image"
    assert "ro" in lines


async def test_attributes_are_copied_up(world: World) -> None:
    await world.run("true", host={"Binds": ["named:/data"]})
    assert os.readlink(world.root / "volumes/named/_data/link") == "seed"
