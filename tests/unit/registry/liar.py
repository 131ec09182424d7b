"""A registry whose every answer a test decides."""

from __future__ import annotations

import gzip
import hashlib
import json
from typing import Any

from aiohttp import web

from tests.unit.registry.conftest import make_tar

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
CONFIG = "application/vnd.oci.image.config.v1+json"
LAYER = "application/vnd.oci.image.layer.v1.tar+gzip"


def digest_of(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


class Liar:
    """`paths` maps a path to a body or a function of the request."""

    def __init__(self) -> None:
        self.paths: dict[str, Any] = {}
        self.calls: list[tuple[str, str]] = []
        self.host = ""

    async def handle(self, request: web.BaseRequest) -> web.StreamResponse:
        self.calls.append((request.method, request.path))
        if request.path == "/v2/":
            return web.Response(text="{}")
        found = self.paths.get(request.path)
        if callable(found):
            return await found(request)  # type: ignore[no-any-return]
        if found is None:
            return web.Response(status=404, text='{"errors":[{"code":"BLOB_UNKNOWN","message":"not here"}]}')
        return web.Response(body=found)

    def serve(self, name: str, layer: bytes, *, diff_id: str = "", media_type: str = LAYER, **changes: Any) -> None:
        """An image of one layer under `name:1`, with lies."""
        plain = gzip.decompress(layer) if layer[:2] == b"\x1f\x8b" else layer
        config = json.dumps(
            {
                "architecture": "amd64",
                "os": "linux",
                "rootfs": {"type": "layers", "diff_ids": [diff_id or digest_of(plain)]},
                **changes.pop("config", {}),
            }
        ).encode()
        manifest = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": {"mediaType": CONFIG, "digest": digest_of(config), "size": len(config)},
            "layers": [{"mediaType": media_type, "digest": digest_of(layer), "size": len(layer)}],
            **changes,
        }
        self.paths[f"/v2/{name}/manifests/1"] = json.dumps(manifest).encode()
        self.paths[f"/v2/{name}/blobs/{digest_of(config)}"] = config
        self.paths[f"/v2/{name}/blobs/{digest_of(layer)}"] = layer


LAYER_BYTES = gzip.compress(make_tar({"file": b"content" * 1000}), mtime=0)
