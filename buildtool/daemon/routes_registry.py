"""What needs a registry: pull, push, login, looking up, search."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon.answers import Stream, json_answer, json_lines
from buildtool.daemon.call import Call
from buildtool.daemon.routing import Routes
from buildtool.errors import InvalidInput
from buildtool.oci import Platform, parse_platform, parse_reference
from buildtool.oci.reference import is_host

if TYPE_CHECKING:
    from buildtool.registry import Credentials

routes = Routes()

Emit = Callable[[dict[str, Any]], None]


async def pull(call: Call) -> web.StreamResponse:
    """POST /images/create with `fromImage`: progress as a JSON stream; errors before the first line are answers."""
    name, tag = call.text("fromImage"), call.text("tag")
    if tag:
        name += f"@{tag}" if ":" in tag else f":{tag}"
    reference = parse_reference(name)
    registries, credentials = call.services.registries(), credentials_of(call)

    async def work(emit: Emit) -> None:
        if reference.tag or reference.digest:
            await registries.pull(name, emit, platform=platform_of(call), credentials=credentials)
        else:  # Docker's API: without a tag all of them
            await registries.pull_all(name, emit, platform=platform_of(call), credentials=credentials)

    return await _told(call, work)


@routes.add("POST", "/images/{name:path}/push", stream=True)
async def push(call: Call) -> web.StreamResponse:
    """Push one tag, or all of the repository's.

    Beyond Docker's call: `image` (ids; of several their index, which `notes` annotate) need no name here, and go
    under their digest when there is no tag; `docker-types`, `insecure` and `note=false` are those of a `Manner`.
    """
    from buildtool.images.groups import IndexNotes
    from buildtool.registry import Manner

    name, tag, images = call.names["name"], call.text("tag"), call.services.images
    reference = parse_reference(f"{name}:{tag}" if tag else name)
    registries, credentials = call.services.registries(), credentials_of(call)
    members = [await offload(images.get, each) for each in call.texts("image")]
    notes = msgspec.convert(call.document("notes") or {}, IndexNotes)
    how = Manner(
        docker_types=call.flag("docker-types"), insecure=call.flag("insecure"), note=call.flag("note", default=True)
    )

    async def work(emit: Emit) -> None:
        await registries.push(
            reference,
            emit,
            credentials=credentials,
            compression=call.text("compression"),
            level=call.text("compression-level"),
            force=call.flag("force-compression", default=True),
            platform=platform_of(call),
            members=members,
            notes=notes,
            how=how,
        )

    return await _told(call, work)


async def _told(call: Call, work: Callable[[Emit], Awaitable[None]]) -> web.StreamResponse:
    """Run the work and send what it tells; a client that goes away cancels it and it is waited for."""
    queue: asyncio.Queue[dict[str, Any] | None] = asyncio.Queue()
    task = asyncio.ensure_future(work(queue.put_nowait))
    task.add_done_callback(lambda _: queue.put_nowait(None))
    try:
        async with json_lines(call) as stream:
            await _send(stream, queue)
            await task
    finally:
        if not task.done():
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
    return stream.response


async def _send(stream: Stream, queue: asyncio.Queue[dict[str, Any] | None]) -> None:
    """Everything up to None; what has piled up goes out in one write."""
    while (item := await queue.get()) is not None:
        lines, ended = [item], False
        while not queue.empty() and not ended:
            more = queue.get_nowait()
            ended = more is None
            if more is not None:
                lines.append(more)
        await stream.write(b"".join(msgspec.json.encode(line) + b"\r\n" for line in lines))
        if ended:
            return


@routes.add("POST", "/auth")
async def auth(call: Call) -> web.StreamResponse:
    """Check credentials with their registry."""
    body = await call.json()
    credentials = _credentials_of(body)
    from buildtool.registry.credentials import server_domain

    server = str(body.get("serveraddress") or "")
    if server and not is_host(server_domain(server)):
        raise InvalidInput(f"invalid registry address {server!r}: it is HOST[:PORT], perhaps with https:// before it")
    token = await call.services.registries().login(server, credentials)
    return json_answer({"Status": "Login Succeeded", "IdentityToken": token})


@routes.add("GET", "/distribution/{name:path}/json")
async def distribution(call: Call) -> web.StreamResponse:
    """What a registry has under a name."""
    remote = await call.services.registries().look_up(call.names["name"], credentials=credentials_of(call))
    descriptor = remote.descriptor
    return json_answer(
        {
            "Descriptor": {
                "mediaType": descriptor.media_type,
                "digest": descriptor.digest,
                "size": descriptor.size,
            },
            "Platforms": [msgspec.to_builtins(platform) for platform in remote.platforms],
        }
    )


@routes.add("GET", "/images/search")
async def search(call: Call) -> web.StreamResponse:
    """Docker Hub by its search API, another registry by its catalog."""
    limit = call.text("limit") or "25"
    if not limit.isdigit() or not 1 <= int(limit) <= 100:
        raise InvalidInput(f"limit {limit} is outside the range of [1, 100]")
    filters = call.filters()
    found = await call.services.registries().search(call.text("term"), int(limit), credentials=credentials_of(call))
    official = filters.get("is-official", [])
    stars = [int(value) for value in filters.get("stars", []) if value.isdigit()]
    return json_answer(
        [
            {
                "name": one.name,
                "description": one.description,
                "star_count": one.stars,
                "is_official": one.official,
                "is_automated": False,
            }
            for one in found
            if (not official or str(one.official).lower() in official) and all(one.stars >= least for least in stars)
        ]
    )


def platform_of(call: Call, since: tuple[int, int] = (1, 24)) -> Platform | None:
    """The `platform` parameter, which calls have from an API version on. Raises InvalidInput."""
    text = call.text("platform")
    return platform_named(text) if text and call.version >= since else None


def platform_named(text: str) -> Platform:
    """A platform as text (`linux/arm64`) or as JSON (`{"os": "linux", …}`). Raises InvalidInput."""
    if text.startswith("{"):
        try:
            found = msgspec.json.decode(text)
        except (msgspec.DecodeError, UnicodeError) as error:
            raise InvalidInput(f"failed to parse platform: {error}") from None
        parts = [found.get(name) or "" for name in ("os", "architecture", "variant")]
        if not all(isinstance(part, str) for part in parts) or not parts[0]:
            raise InvalidInput(f"failed to parse platform: {text!r} names no os")
        text = "/".join(filter(None, parts))
    return parse_platform(text)


def credentials_of(call: Call) -> Credentials:
    """Who the client is in the registry that the call is about."""
    return _credentials_of(call.encoded_header("X-Registry-Auth"))


def _credentials_of(document: Any) -> Credentials:
    from buildtool.registry import Credentials

    return Credentials.from_document(document)
