"""How layers travel: at once over few connections, unpacked while they come, foreign ones from their owners."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from buildtool.oci import parse_reference
from tests.unit.registry.conftest import Running, Side, make_tar
from tests.unit.registry.liar import CONFIG, LAYER, LAYER_BYTES, MANIFEST, Liar, digest_of

FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def serve_layers(liar: Liar, *layers: bytes) -> None:
    """An image of several layers under `x:1`."""
    diff_ids = [digest_of(gzip.decompress(layer)) for layer in layers]
    config = json.dumps(
        {"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": diff_ids}}
    ).encode()
    document = {
        "schemaVersion": 2,
        "mediaType": MANIFEST,
        "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
        "layers": [{"mediaType": LAYER, "digest": digest_of(one), "size": len(one)} for one in layers],
    }
    liar.paths["/v2/x/manifests/1"] = json.dumps(document).encode()
    for blob in (config, *layers):
        liar.paths[f"/v2/x/blobs/{digest_of(blob)}"] = blob


async def test_layers_come_at_once_over_connections_that_are_kept(there: Side, liar: Liar) -> None:
    layers = [gzip.compress(make_tar({f"f{n}": bytes([n]) * 1000}), mtime=0) for n in range(12)]
    serve_layers(liar, *layers)
    running = most = 0
    connections: set[Any] = set()
    together = asyncio.Event()

    def answer_with(data: bytes) -> Any:
        async def answer(request: web.BaseRequest) -> web.StreamResponse:
            nonlocal running, most
            assert request.transport is not None
            connections.add(request.transport.get_extra_info("peername"))
            running += 1
            most = max(most, running)
            if running >= 4:
                together.set()
            async with asyncio.timeout(10):
                await together.wait()  # one after the other would hang here
            running -= 1
            return web.Response(body=data)

        return answer

    for layer in layers:
        liar.paths[f"/v2/x/blobs/{digest_of(layer)}"] = answer_with(layer)
    await there.pull(f"{liar.host}/x:1")
    assert 4 <= most <= 8 and len(connections) <= 8 and there.is_clean()


async def test_a_layer_is_unpacked_while_it_comes(there: Side, liar: Liar) -> None:
    """The registry holds back the second half until the first file is on the disk."""
    layer = gzip.compress(make_tar({"a-first": b"here", "b-rest": os.urandom(4 << 20)}), compresslevel=1, mtime=0)
    serve_layers(liar, layer)
    snapshots = there.store.root / "snapshots"

    def first() -> list[Path]:
        return [path for path in snapshots.rglob("a-first") if path.read_bytes() == b"here"]

    async def answer(request: web.BaseRequest) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Length": str(len(layer))})
        await response.prepare(request)
        await response.write(layer[: len(layer) // 2])
        async with asyncio.timeout(10):
            while not first():
                await asyncio.sleep(0.01)
        await response.write(layer[len(layer) // 2 :])
        await response.write_eof()
        return response

    liar.paths[f"/v2/x/blobs/{digest_of(layer)}"] = answer
    image = await there.pull(f"{liar.host}/x:1")
    assert there.files(image)["a-first"] == b"here" and there.is_clean()


async def test_foreign_layers_come_from_their_owner_and_are_not_pushed(
    there: Side, liar: Liar, ours: Running
) -> None:
    """Named in the manifest with their address, without the registry's credentials; a push names them again."""
    liar.serve("x", LAYER_BYTES, media_type=FOREIGN)
    document = json.loads(liar.paths["/v2/x/manifests/1"])
    document["layers"][0]["urls"] = [f"http://{liar.host}/owner/gone", f"http://{liar.host}/owner/layer"]
    liar.paths["/v2/x/manifests/1"] = json.dumps(document).encode()
    digest = digest_of(LAYER_BYTES)
    liar.paths["/owner/layer"] = liar.paths.pop(f"/v2/x/blobs/{digest}")
    image = await there.pull(f"{liar.host}/x:1")
    assert there.files(image) == {"file": b"content" * 1000}

    name = f"{ours.host}/copied:1"
    there.images.tag(image.id, parse_reference(name))
    (pushed,) = await there.push(name)
    assert there.said("Skipped foreign layer") and pushed.digest == image.manifest.digest
    assert ours.server.local is not None and ours.server.local.blob("copied", digest) is None


async def test_a_foreign_layer_whose_owner_lies_is_refused(there: Side, liar: Liar) -> None:
    liar.serve("x", LAYER_BYTES, media_type=FOREIGN)
    document = json.loads(liar.paths["/v2/x/manifests/1"])
    document["layers"][0]["urls"] = [f"http://{liar.host}/owner/layer"]
    liar.paths["/v2/x/manifests/1"] = json.dumps(document).encode()
    del liar.paths[f"/v2/x/blobs/{digest_of(LAYER_BYTES)}"]
    liar.paths["/owner/layer"] = LAYER_BYTES[::-1]
    with pytest.raises(Exception, match=r"digest|damaged|not here|malformed"):
        await there.pull(f"{liar.host}/x:1")
    assert not there.images.list() and there.is_clean()
