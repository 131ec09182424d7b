"""/buildtool/v1: builds with our own events, the store's check and garbage collection, base images."""

from __future__ import annotations

import dataclasses
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon import build_policy, usage
from buildtool.daemon.answers import NDJSON, Stream, json_answer, json_lines, message_of
from buildtool.daemon.build_caches import CacheSpec, caches
from buildtool.daemon.build_contexts import (
    OWN_NAMES,
    ContextPlace,
    Given,
    NamedPlace,
    named_contexts,
    read_ignore,
    read_text,
    remote_context,
    visible,
)
from buildtool.daemon.build_pushes import PushSpec, destinations
from buildtool.daemon.build_text import TextDecoder
from buildtool.daemon.build_uploads import TAR, TARS, unpack_all
from buildtool.daemon.building import RunningBuild
from buildtool.daemon.call import JSON_LIMIT, Call
from buildtool.daemon.context import build_directory, unpack
from buildtool.daemon.routes_build import UPLOADED
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import body_file, in_own_thread, iterate
from buildtool.errors import BuildtoolError, InvalidInput, StepFailed
from buildtool.images.attestations import Wanted
from buildtool.oci import parse_platforms

if TYPE_CHECKING:
    from buildtool.images.groups import Group
    from buildtool.solve import BuildRequest, BuildResult

routes = Routes()


class AnnotationSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """An annotation of anything but all manifests."""

    on: Literal["manifest", "manifest-descriptor", "index", "index-descriptor"]
    key: str
    value: str
    platform: str = ""


class BuildBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The request's JSON. Names are those of BuildRequest, which has the meanings.

    `remote` is the URL of a context. Without `dockerfile` the Buildfile is read from the context (remote or tar):
    the file `dockerfile_path`, with `variables` when it is a template.
    """

    dockerfile: str | None = None
    dockerfile_path: str = ""
    variables: dict[str, Any] = {}
    context: ContextPlace | None = None
    remote: str = ""
    contexts: dict[str, NamedPlace] = {}
    dockerfile_name: str = "Buildfile"
    ignore: str | None = None
    ignore_name: str = ".dockerignore"
    tags: list[str] = []
    build_args: dict[str, str | None] = {}
    target: str = ""
    no_cache: bool = False
    no_cache_filter: list[str] = []
    pull: bool = False
    labels: dict[str, str] = {}
    platform: str | None = ""
    network_mode: str = "default"
    extra_hosts: list[str] = []
    shm_size: int = 0
    memory: int = 0
    memory_swap: int = 0
    cpu_shares: int = 0
    cpu_period: int = 0
    cpu_quota: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    ulimits: list[dict[str, Any]] = []
    cgroup_parent: str = ""
    epoch: int | None = None
    commit_epoch: int | None = None
    attest: Wanted | None = None
    explain: bool = False
    jobs: int = 0
    isolation: str = ""
    context_mode: str = ""
    annotations: dict[str, str] = {}
    annotate: list[AnnotationSpec] = []
    cache_from: list[CacheSpec] = []
    cache_to: list[CacheSpec] = []
    cutoff_ignore: list[str] = []
    pushes: list[PushSpec] = []
    secrets: dict[str, bytes] = {}
    entitlements: list[str] = []
    session: str = ""
    ssh: list[str] = []
    debug: bool = False
    debug_at: list[str] = []


class BootstrapBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The request of a base image."""

    base: str
    include: list[str] = []
    host_ca: bool = False
    tag: str = ""
    platform: str = ""


class GcBody(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """The request of a garbage collection."""

    max_cache_bytes: int | None = None
    unused_since: float | None = None
    actions: Literal["keep", "unused", "all"] = "keep"


@routes.add("POST", "/buildtool/v1/build", stream=True)
async def build(call: Call) -> web.StreamResponse:
    """Build from a directory of this machine, from a URL, or from a tar after the options."""
    async with AsyncExitStack() as stack:
        body, given = await _context(call, stack)
        more = await offload(_from_contexts, call, body, given)
        request = _request(call, body, given, more)
        desk = None
        if body.debug or body.debug_at:
            from buildtool.solve.debugger import DebugOptions

            desk = stack.enter_context(call.services.sessions.debugging(body.session))
            request = dataclasses.replace(request, debug=DebugOptions(desk, body.debug, tuple(body.debug_at)))
        running = await stack.enter_async_context(RunningBuild(call.services, request))
        if desk is not None:
            desk.tell = running.tell
        stream = Stream(call, NDJSON)
        await stream.open()
        for said in given.said:
            await stream.line({"event": "base_pull", "message": said})
        await _tell(stream, running)
    return stream.response


async def _context(call: Call, stack: AsyncExitStack) -> tuple[BuildBody, Given]:
    """The request and its context, which is there as long as the stack is."""
    kind = call.request.headers.get("Content-Type", "")
    if kind in (TAR, TARS):
        line, rest = await _first_line(call)
        body = _decode(line, BuildBody)
        uploaded = stack.enter_context(build_directory(call.services.root))
        sent: dict[str, Path] = {}
        work = partial(unpack, body_file(call.request, rest), uploaded)
        if kind == TARS:
            names = [name for name, place in body.contexts.items() if place.sent]
            sent = {name: stack.enter_context(build_directory(call.services.root)) for name in names}
            work = partial(unpack_all, body_file(call.request, rest), [uploaded, *sent.values()])
        await in_own_thread(work, "context")
        given = await _remote(call, body, stack) if body.remote else Given(uploaded, UPLOADED)
        given.sent = sent
        return body, given
    body = _decode(await call.body(), BuildBody)
    if body.context is not None:
        directory = await offload(visible, body.context)
        return body, Given(directory, str(directory))
    return body, await _remote(call, body, stack) if body.remote else Given()


async def _remote(call: Call, body: BuildBody, stack: AsyncExitStack) -> Given:
    from buildtool.solve.remotes import Access

    lease = stack.enter_context(call.services.store.leases.hold(f"context {body.remote}"))
    access = Access(body.secrets, body.build_args, call.services.sessions.agents(body.session, body.ssh))
    return await remote_context(call.services, body.remote, access, lease)


@routes.add("POST", "/buildtool/v1/buildfile")
async def buildfile(call: Call) -> web.StreamResponse:
    """The plain Buildfile of a context that the client cannot read: the request is that of a build."""
    async with AsyncExitStack() as stack:
        body, given = await _context(call, stack)
        found = await offload(_from_contexts, call, body, given)
    names = ("dockerfile", "dockerfile_name", "ignore", "ignore_name")
    return json_answer({name: found.get(name) for name in names})


async def _tell(stream: Stream, running: RunningBuild) -> None:
    decoder = TextDecoder()
    tags: list[str] = []
    async for event in running:
        tags = list(getattr(event, "tags", tags))
        await stream.line(_event_document(event, decoder))
    try:
        result = await running.result()
    except Exception as error:  # noqa: BLE001 - the stream has begun: its last line tells what went wrong
        await stream.line(await _failure(running, error))
    else:
        await stream.line(_success(result, tags))


def _request(call: Call, body: BuildBody, given: Given, more: dict[str, Any]) -> BuildRequest:
    from buildtool.solve import BuildRequest
    from buildtool.solve.request import Annotation

    own = (
        "annotate",
        "cache_from",
        "cache_to",
        "context",
        "contexts",
        "debug",
        "debug_at",
        "dockerfile_path",
        "pushes",
        "remote",
        "session",
        "ssh",
        "variables",
    )
    values = {name: getattr(body, name) for name in body.__struct_fields__ if name not in own}
    values["entitlements"] = build_policy.granted(call.services, body.entitlements, body.network_mode)
    values["agents"] = call.services.sessions.agents(body.session, body.ssh)
    build_policy.check_limits(body)
    for name in ("tags", "extra_hosts", "ulimits", "cutoff_ignore", "no_cache_filter"):
        values[name] = tuple(values[name])
    values["platform"] = body.platform or ""
    values["annotate"] = tuple(Annotation(**msgspec.to_builtins(each)) for each in body.annotate)
    auth = values["registry_auth"] = call.encoded_header("X-Registry-Config") or {}
    if body.cache_from or body.cache_to or body.build_args.get("BUILDKIT_INLINE_CACHE"):
        inline = body.build_args.get("BUILDKIT_INLINE_CACHE", "") in ("1", "true")
        values["caches"] = caches(
            call.services.registries,
            body.cache_from,
            body.cache_to,
            auth=auth,
            platform=body.platform or "",
            inline=inline,
        )
    if body.pushes:
        values["destinations"] = destinations(call.services.registries(), body.pushes, auth)
    if body.remote:
        values |= {"commit_epoch": given.commit_epoch, "context_source": given.source}
    values |= {"context_epoch": given.epoch if body.remote else body.commit_epoch} | more
    return BuildRequest(context=given.directory, context_key=given.key, **values)


def _from_contexts(call: Call, body: BuildBody, given: Given) -> dict[str, Any]:
    """What of the request has to be read: the named contexts, a Buildfile that lies in the context. Blocking."""
    values: dict[str, Any] = {
        "contexts": named_contexts(call.services, body.contexts, given.sent, body.platform or "")
    }
    if body.dockerfile is None and given.text is not None:
        values |= {"dockerfile": given.text, "dockerfile_name": body.remote}
    elif body.dockerfile is None:
        if given.directory is None:
            raise InvalidInput("invalid request: there is neither a dockerfile nor a context to read it from")
        found = read_text(given.directory, body.dockerfile_path, OWN_NAMES, body.variables)
        values |= {"dockerfile": found.text, "dockerfile_name": found.name}
        values |= {"ignore": found.ignore, "ignore_name": found.ignore_name}
    elif body.remote and given.directory is not None and body.ignore is None:
        values["ignore"] = read_ignore(given.directory)
    return values


async def _first_line(call: Call) -> tuple[bytes, bytes]:
    """The options before the tar, and what has come of the tar with them."""
    data = bytearray()
    async for part in call.request.content.iter_any():
        data += part
        if b"\n" in part:
            line, _, rest = bytes(data).partition(b"\n")
            return line, rest
        if len(data) > JSON_LIMIT:
            break
    raise InvalidInput("the body does not begin with a line of JSON")


def _decode(body: bytes, kind: type[Any]) -> Any:
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid request: {error}") from None
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise InvalidInput(f"invalid JSON: {error}") from None


def _event_document(event: Any, decoder: TextDecoder) -> dict[str, Any]:
    from buildtool.solve.events import StepOutput, to_document

    document = to_document(event)
    if isinstance(event, StepOutput):
        document.pop("bytes", None)
        document["data"] = decoder.decode((event.index, event.stream), event.data)
    return document


def _success(result: BuildResult, tags: list[str]) -> dict[str, Any]:
    several = {} if result.index is None else _index_shape(result, result.index)
    return {
        "event": "result",
        "build_id": result.id,
        "image_id": result.image.id if result.index is None else result.index.digest,
        "tags": tags,
        "steps": msgspec.to_builtins(result.steps),
        "warnings": [str(warning) for warning in result.warnings],
        "manifest": msgspec.to_builtins(result.image.manifest),
        "is_new": result.is_new,
        "platform": str(result.image.config.platform),
        **several,
    }


def _index_shape(result: BuildResult, index: Group) -> dict[str, Any]:
    """What a build for several platforms tells besides: the index and each platform's image."""
    images = [
        {
            "id": image.id,
            "platform": str(image.config.platform),
            "manifest": msgspec.to_builtins(image.manifest),
            "is_new": result.is_new,
        }
        for image in result.images
    ]
    return {
        "index": msgspec.to_builtins(index.descriptor),
        "images": images,
        "notes": msgspec.to_builtins(index.notes),
    }


async def _failure(running: RunningBuild, error: Exception) -> dict[str, Any]:
    record = await running.record()
    step = error if isinstance(error, StepFailed) else None
    return {
        "event": "error",
        "build_id": record.id if record is not None else "",
        "steps": msgspec.to_builtins(record.steps) if record is not None else [],
        "message": message_of(error),
        "exit_code": step.exit_code_of_step if step else None,
        "oom_killed": step.oom_killed if step else False,
        "status": error.http_status if isinstance(error, BuildtoolError) else 500,
    }


@routes.add("POST", "/buildtool/v1/bootstrap", stream=True)
async def bootstrap(call: Call) -> web.StreamResponse:
    """Make a base image with this machine's apt tools."""
    from buildtool.images.bootstrap import Cancel, bootstrap

    body = _decode(await call.body(), BootstrapBody)
    cancel = Cancel()
    progress = await offload(
        bootstrap,
        call.services.images,
        body.base,
        include=body.include,
        host_ca=body.host_ca,
        tag=body.tag,
        cancel=cancel,
        platforms=parse_platforms(body.platform) if body.platform else (),
    )
    try:
        async with json_lines(call, NDJSON) as stream:
            async for item in iterate(lambda: progress):
                await stream.line(item)
    finally:
        cancel()
    return stream.response


@routes.add("GET", "/buildtool/v1/check")
async def check(call: Call) -> web.StreamResponse:
    """Whether the store is whole."""
    problems = await offload(call.services.store.check, repair=call.flag("repair"))
    found = [{"kind": each.kind, "subject": each.subject, "message": each.message} for each in problems]
    return json_answer({"ok": not found, "problems": found})


@routes.add("POST", "/buildtool/v1/gc")
async def gc(call: Call) -> web.StreamResponse:
    """Remove what nothing refers to."""
    body = _decode(await call.body() or b"{}", GcBody)
    report = await call.services.collect(
        max_cache_bytes=body.max_cache_bytes, unused_since=body.unused_since, actions=body.actions
    )
    return json_answer({"report": usage.report_shape(report)})
