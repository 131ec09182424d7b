"""Docker's own build call: for other engines, and for contexts that come by STDIN as a tar."""

from __future__ import annotations

import json
import os
import secrets
import sys

from buildtool.cli.archives import read_parts
from buildtool.cli.build_request import build_arguments
from buildtool.cli.container_config import extra_host
from buildtool.cli.container_resources import parse_ulimit
from buildtool.cli.credentials import config_headers
from buildtool.cli.progress import show_json_stream
from buildtool.cli.values import key_value_map
from buildtool.client import EngineError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator
    from io import StringIO
    from typing import Any, TextIO

    from buildtool.cli.build_input import BuildInput
    from buildtool.cli.call import Call

_NUMBERS = ("memory", "cpu-shares", "cpu-period", "cpu-quota", "shm-size")


def build_classic(call: Call, source: BuildInput, *, quiet: bool) -> str:
    """POST /build with a tar, its output on stderr (with `quiet` only when it fails); the image's id.

    Raises BuildFailed with the engine's words.
    """
    from buildtool.cli.handlers.build import BuildFailed

    out: TextIO | StringIO = sys.stderr
    if quiet:
        from io import StringIO as Buffer

        out = Buffer()
    body, dockerfile = _body(source) if not source.elsewhere or source.archive else (iter(()), source.given)
    headers = {"Content-Type": "application/x-tar"} | config_headers()
    response = call.client.call("POST", "/build", _query(call, source, dockerfile), body=body, headers=headers)
    try:
        aux = show_json_stream(response, out)
    except EngineError as error:
        if quiet:
            sys.stderr.write(out.getvalue())  # type: ignore[union-attr]
        raise BuildFailed(error.message) from error
    identifiers = [item["ID"] for item in aux if isinstance(item, dict) and "ID" in item]
    if not identifiers:
        raise BuildFailed("the engine ended the build without naming an image")
    last: str = identifiers[-1]
    return last


def _body(source: BuildInput) -> tuple[Iterator[bytes], str]:
    """The tar, and the Buildfile's path in it; one from elsewhere or from STDIN is put in under a name of its own."""
    if source.archive is not None:
        return _archive(source), source.given
    from buildtool.cli.build_context import context_tar

    inside = bool(source.directory) and source.path.startswith(source.directory.rstrip("/") + "/")
    if inside:
        return context_tar(source), os.path.relpath(source.path, source.directory)
    name = f".dockerfile.{secrets.token_hex(10)}"
    return context_tar(source, extra={name: source.text.encode()}), name


def _archive(source: BuildInput) -> Iterator[bytes]:
    assert source.archive is not None
    yield source.begun
    yield from read_parts(source.archive)


def _query(call: Call, source: BuildInput, dockerfile: str) -> dict[str, Any]:
    query: dict[str, Any] = {
        "dockerfile": dockerfile or None,
        "remote": source.remote or None,
        "t": call.texts("tag"),
        "buildargs": build_arguments(call.texts("build-arg")) or None,
        "labels": key_value_map(call.texts("label")) or None,
        "extrahosts": [extra_host(item) for item in call.texts("add-host")],
        "networkmode": call.text("network"),
        "nocache": call.switch("no-cache"),
        "pull": call.switch("pull"),
        "rm": True,
        "forcerm": True,
        "target": call.text("target") or None,
        "platform": ",".join(call.texts("platform")) or None,
        "memswap": call.number("memory-swap"),
        "cpusetcpus": call.text("cpuset-cpus") or None,
        "cpusetmems": call.text("cpuset-mems") or None,
        "cgroupparent": call.text("cgroup-parent") or None,
    }
    if call.texts("ulimit"):
        query["ulimits"] = json.dumps([parse_ulimit(item) for item in call.texts("ulimit")])
    return query | {flag.replace("-", ""): call.number(flag) for flag in _NUMBERS}
