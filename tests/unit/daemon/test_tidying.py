"""The limits of the build cache in daemon.json."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from buildtool.daemon.tidying import GcLimits, load_limits
from buildtool.errors import InvalidInput

GIB = 1 << 30


def test_without_a_file_a_share_of_the_disk(tmp_path: Path) -> None:
    policy = load_limits(tmp_path).policy(100 * GIB)
    assert (policy.reserved, policy.max_used, policy.min_free) == (10 * GIB, 60 * GIB, 20 * GIB)
    assert policy.unused_for == 60 * 86400.0
    assert policy.mounts


def test_dockers_keys_and_ours(tmp_path: Path) -> None:
    gc = {"defaultReservedSpace": "2GB", "defaultMaxUsedSpace": "50%", "defaultMinFreeSpace": "1g", "unusedFor": "7d"}
    (tmp_path / "daemon.json").write_text(json.dumps({"builder": {"gc": gc}, "registry-mirrors": []}))
    policy = load_limits(tmp_path).policy(10 * GIB)
    assert (policy.reserved, policy.max_used, policy.min_free) == (2 * GIB, 5 * GIB, GIB)
    (tmp_path / "daemon.json").write_text('{"builder": {"gc": {"enabled": false}}}')
    assert load_limits(tmp_path) == GcLimits(enabled=False)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "not a JSON document"),
        ('{"builder": []}', "builder.gc is not an object"),
        ('{"builder": {"gc": {"defaultSpace": "1g"}}}', "builder.gc.defaultSpace is unknown"),
        ('{"builder": {"gc": {"defaultMaxUsedSpace": "much"}}}', "defaultMaxUsedSpace"),
        ('{"builder": {"gc": {"unusedFor": "long"}}}', "unusedFor"),
    ],
)
def test_errors_name_the_file_and_the_key(tmp_path: Path, text: str, words: str) -> None:
    (tmp_path / "daemon.json").write_text(text)
    with pytest.raises(InvalidInput) as refused:
        load_limits(tmp_path)
    assert words in str(refused.value)
    assert "daemon.json" in str(refused.value)


def test_the_daemon_collects_within_its_limits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond the limits goes without being asked; a wrong file removes nothing."""
    asyncio.run(_collect(tmp_path, monkeypatch))


def test_images_without_a_name_are_part_of_the_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an untagged build left pins nothing against the limits; a named, used or imported image does."""
    asyncio.run(_collect_leftovers(tmp_path, monkeypatch))


async def _collect_leftovers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from buildtool.daemon.services import Services
    from buildtool.daemon.tidying import Tidier
    from buildtool.solve import BuildRequest
    from tests.unit.solve.fixtures import busybox_rootfs

    monkeypatch.setenv("BUILDTOOL_CONFIG_DIR", str(tmp_path))
    services = await Services.open(tmp_path / "data", tmp_path / "run")
    try:
        builder = await services.builder()

        async def build(text: str, *tags: str) -> str:
            request = BuildRequest(dockerfile=f'FROM scratch\n{text}\nCMD ["x"]\n', tags=tags)
            return (await builder.build(request, lambda _: None)).image.id

        named, left = await build("WORKDIR /named", "named"), await build("WORKDIR /a\nWORKDIR /b")
        used = await build("WORKDIR /used")
        await services.containers.create({"Image": used}, name=None, platform=None)
        imported = services.images.import_tar(busybox_rootfs()).id
        await builder.close()
        await asyncio.sleep(0.1)
        (tmp_path / "daemon.json").write_text('{"builder": {"gc": {"defaultMaxUsedSpace": "1TB"}}}')
        await Tidier(services).tidy()
        assert services.images.find(left) is not None, "within the limits everything stays"

        limits = '"defaultReservedSpace": "0", "defaultMaxUsedSpace": "0"'
        (tmp_path / "daemon.json").write_text(f'{{"builder": {{"gc": {{{limits}}}}}}}')
        await Tidier(services).tidy()

        assert services.images.find(left) is None
        assert {image.id for image in services.images.list()} == {named, used, imported}
        assert services.images.check() == [] and services.store.check() == []
    finally:
        await services.close()


async def _collect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from buildtool.daemon.services import Services
    from buildtool.daemon.tidying import Tidier
    from buildtool.solve import BuildRequest

    monkeypatch.setenv("BUILDTOOL_CONFIG_DIR", str(tmp_path))
    services = await Services.open(tmp_path / "data", tmp_path / "run")
    try:
        builder = await services.builder()
        result = await builder.build(
            BuildRequest(dockerfile="FROM scratch\nWORKDIR /a\nWORKDIR /b\n"), lambda _: None
        )
        services.images.delete(result.image.id, force=True)
        await builder.close()
        await asyncio.sleep(0.1)
        for config, left in (
            ('{"builder": {"gc": {"enabled": false, "defaultMaxUsedSpace": "0"}}}', 2),
            ('{"builder": {"gc": {"defaultReservedSpace": "1TB", "defaultMaxUsedSpace": "0"}}}', 2),
            (
                '{"builder": {"gc": {"defaultReservedSpace": "1TB", "defaultMaxUsedSpace": "2TB",'
                ' "defaultMinFreeSpace": "100%"}}}',
                2,
            ),
            (
                '{"builder": {"gc": {"defaultReservedSpace": "0", "defaultMaxUsedSpace": "1TB",'
                ' "defaultMinFreeSpace": "100%"}}}',
                0,
            ),
        ):
            (tmp_path / "daemon.json").write_text(config)
            await Tidier(services).tidy()
            assert len(builder.cache.entries(services.pins())) == left
        (tmp_path / "daemon.json").write_text("{")
        with pytest.raises(InvalidInput):
            await Tidier(services).tidy()
    finally:
        await services.close()
