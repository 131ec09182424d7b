"""/buildtool/v1/builds: the history of builds."""

from __future__ import annotations

import asyncio
import io
import tarfile
import time
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon.answers import NDJSON, Stream, byte_stream, json_answer, nothing, text_answer
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from buildtool.solve.history import BuildHistory, BuildRecord

routes = Routes()

_TYPES = {"svg": "image/svg+xml", "html": "text/html; charset=utf-8"}
_POLL = 0.1


async def _history(call: Call) -> BuildHistory:
    return (await call.services.builder()).history


async def _record(call: Call) -> tuple[BuildHistory, BuildRecord]:
    history = await _history(call)
    return history, await offload(history.find, call.names["id"])


@routes.add("GET", "/buildtool/v1/builds")
async def builds(call: Call) -> web.StreamResponse:
    """All builds, the newest first, without their steps."""
    history = await _history(call)
    filters = call.filters()
    unknown = set(filters) - {"status", "tag", "file", "id"}
    if unknown:
        raise InvalidInput(f"invalid filter '{min(unknown)}'", hint="There are file, id, status and tag.")
    found = await offload(history.all)
    return json_answer([_summary(record) for record in found if _matches(record, filters)])


def _matches(record: BuildRecord, filters: dict[str, list[str]]) -> bool:
    texts = {"status": [record.status], "tag": record.tags, "file": [record.file], "id": [record.id]}
    for name, wanted in filters.items():
        if name == "status":
            good = record.status in wanted
        elif name == "id":
            good = any(record.id.startswith(value) for value in wanted)
        else:
            good = any(value in text for value in wanted for text in texts[name])
        if not good:
            return False
    return True


def _summary(record: BuildRecord) -> dict[str, Any]:
    document: dict[str, Any] = msgspec.to_builtins(record)
    steps = document.pop("steps", [])
    shown = {"total": len(steps), "cached": record.cached, "tags": [], "image": "", "seconds": 0.0, **document}
    if record.status == "running":
        shown["seconds"] = max(0.0, time.time() - record.began)
    return shown


@routes.add("GET", "/buildtool/v1/builds/{id}")
async def build(call: Call) -> web.StreamResponse:
    """One build with its steps. `{id}` may be the beginning of an id, or ^N."""
    history, record = await _record(call)
    log = history.log_path(record.id)
    size = log.stat().st_size if log.exists() else 0
    document = msgspec.to_builtins(record)
    return json_answer({**_summary(record), "steps": document.get("steps", []), "log_bytes": size})


@routes.add("DELETE", "/buildtool/v1/builds/{id}")
async def remove(call: Call) -> web.StreamResponse:
    """Forget a build and its log."""
    history, record = await _record(call)
    await offload(history.remove, record.id)
    return json_answer({"removed": record.id})


@routes.add("GET", "/buildtool/v1/builds/{id}/logs", stream=True)
async def logs(call: Call) -> web.StreamResponse:
    """The log's lines; with `follow` those to come as well."""
    from buildtool.solve.history import decode_lines

    history, record = await _record(call)
    path = history.log_path(record.id)
    if not path.exists():
        return nothing(200)
    stream = Stream(call, NDJSON)
    await stream.open()
    with path.open("rb") as file:
        while True:
            running = history.running(record.id)
            while lines := await offload(file.readlines, 1 << 20):
                if not lines[-1].endswith(b"\n"):
                    file.seek(-len(lines.pop()), io.SEEK_CUR)
                await stream.write(b"".join(msgspec.json.encode(line) + b"\n" for line in decode_lines(lines)))
                if not lines:
                    break
            if not call.flag("follow") or not running:
                return stream.response
            await asyncio.sleep(_POLL)


@routes.add("GET", "/buildtool/v1/builds/{id}/trace")
async def trace(call: Call) -> web.StreamResponse:
    """The build in Chrome's trace-event format."""
    from buildtool.solve.trace import chrome_trace

    _, record = await _record(call)
    return json_answer(chrome_trace(record))


@routes.add("GET", "/buildtool/v1/builds/{id}/graph")
async def graph(call: Call) -> web.StreamResponse:
    """The graph of the build's steps: `format` is svg (default), html, dot or mmd."""
    from buildtool.solve.drawings import draw

    _, record = await _record(call)
    form = call.text("format", "svg")
    text = await offload(draw, record, form)
    return text_answer(text, {"Content-Type": _TYPES.get(form, "text/plain; charset=utf-8")})


@routes.add("GET", "/buildtool/v1/builds/{id}/export", stream=True)
async def export(call: Call) -> web.StreamResponse:
    """A gzipped tar with all that is known: record.json, log.ndjson, log.txt, trace.json, graph.html."""
    history, record = await _record(call)
    data = await offload(_bundle, history, record)

    async def chunks() -> AsyncIterator[bytes]:
        yield data

    return await byte_stream(call, "application/gzip", chunks())


def _bundle(history: BuildHistory, record: BuildRecord) -> bytes:
    from buildtool.solve.drawings import draw
    from buildtool.solve.trace import chrome_trace

    lines = list(history.log(record.id))
    text = "".join(str(line["data"]) for line in lines if "data" in line)
    files = {
        "record.json": msgspec.json.format(msgspec.json.encode(record)),
        "log.ndjson": b"".join(msgspec.json.encode(line) + b"\n" for line in lines),
        "log.txt": text.encode(errors="replace"),
        "trace.json": msgspec.json.encode(chrome_trace(record)),
        "graph.html": draw(record, "html").encode(),
    }
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz", compresslevel=6) as archive:
        for name, content in files.items():
            info = tarfile.TarInfo(f"build-{record.id}/{name}")
            info.size, info.mtime = len(content), int(record.began)
            archive.addfile(info, io.BytesIO(content))
    return out.getvalue()
