"""Images: list, inspect, history, tag, delete, prune, save, load, import."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import msgspec
from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon.answers import json_answer, json_lines, nothing
from buildtool.daemon.call import Call
from buildtool.daemon.routes_registry import platform_named, platform_of, pull
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import body_file, iterate, written
from buildtool.errors import InvalidInput
from buildtool.oci import Platform, Reference, parse_reference

if TYPE_CHECKING:
    from buildtool.cache.leases import Lease

routes = Routes()


@routes.add("GET", "/images/json")
async def list_images(call: Call) -> web.StreamResponse:
    """All images, those without names that others build on only with `all`.

    `digests` asks for what every answer has, RepoDigests. `identity` is of API 1.53.
    """
    filters = call.filters()
    call.flag("digests")
    if call.version < (1, 41) and call.text("filter"):
        filters.setdefault("reference", []).append(call.text("filter"))
    summaries = await offload(
        call.services.images.summaries,
        filters,
        call.flag("all"),
        shared_size=call.flag("shared-size") and call.version >= (1, 42),
        manifests=call.flag("manifests") and call.version >= (1, 47),
    )
    return json_answer([_with_virtual_size(call, summary) for summary in summaries])


@routes.add("GET", "/images/get", stream=True)
async def save_many(call: Call) -> web.StreamResponse:
    """The archive of several images."""
    return await _save(call, call.texts("names"))


@routes.add("GET", "/images/{name:path}/get", stream=True)
async def save_one(call: Call) -> web.StreamResponse:
    """The archive of one image."""
    return await _save(call, [call.names["name"]])


async def _save(call: Call, names: list[str]) -> web.StreamResponse:
    if not names:
        raise InvalidInput("no image names were given")
    images, platform = call.services.images, platform_of(call, since=(1, 48))
    for image in await offload(images.chosen, names, platform):
        await images.bring(image)
    return await written(call, "application/x-tar", lambda write: images.save(names, write, platform))


@routes.add("POST", "/images/load", stream=True)
async def load(call: Call) -> web.StreamResponse:
    """Images from an archive in the body; progress as a JSON stream."""
    images, file = call.services.images, body_file(call.request)
    work = partial(images.load, file, platform=platform_of(call, since=(1, 48)), quiet=call.flag("quiet"))
    return await _progress(call, work)


async def _progress(call: Call, work: Any) -> web.StreamResponse:
    async with json_lines(call) as stream:
        async for item in iterate(work):
            await stream.line(item)
    return stream.response


@routes.add("POST", "/images/create", stream=True)
async def create(call: Call) -> web.StreamResponse:
    """Import (`fromSrc`), or pull (`fromImage`)."""
    if call.text("fromImage"):
        return await pull(call)
    source = call.text("fromSrc")
    if not source:
        raise InvalidInput("one of the parameters fromImage and fromSrc is needed")
    platform, reference = platform_of(call), _reference(call)
    changes, message = call.texts("changes"), call.text("message")
    if source == "-":
        return await _progress(call, _importing(call, body_file(call.request), platform, reference, changes, message))
    url = source if "://" in source else f"http://{source}"
    if not url.startswith(("http://", "https://")) or any(ord(char) <= 32 for char in url):
        raise InvalidInput(f"invalid source {source!r}: it is -, or the http(s) URL of an archive")
    with call.services.store.leases.hold(f"import {url}") as lease:
        async with json_lines(call) as stream:
            await stream.line({"status": f"Downloading from {url}"})
            file = await offload(open, await _downloaded(call, url, lease), "rb")
            with file:
                async for item in iterate(_importing(call, file, platform, reference, changes, message)):
                    await stream.line(item)
        return stream.response


async def _downloaded(call: Call, url: str, lease: Lease) -> Path:
    """The file that a URL names, by way of the files that builds fetch. Raises FetchFailed."""
    from buildtool.graph import Remote
    from buildtool.solve.remotes import Access

    step = Remote("http", url.partition("#")[0], name="archive")
    remotes = (await call.services.builder()).remotes
    fetched = await remotes.fetch(step, Access(), lease, lambda _text: None)
    return call.services.store.snapshots.fs(fetched.snapshot) / "archive"


def _importing(
    call: Call,
    file: BinaryIO,
    platform: Platform | None,
    reference: Reference | None,
    changes: list[str],
    message: str,
) -> Callable[[], Iterator[dict[str, Any]]]:
    def work() -> Iterator[dict[str, Any]]:
        image = call.services.images.import_tar(
            file, reference=reference, changes=changes, message=message, platform=platform
        )
        yield {"status": str(image.id)}

    return work


def _reference(call: Call) -> Reference | None:
    repository, tag = call.text("repo"), call.text("tag")
    if not repository:
        return None
    return parse_reference(f"{repository}:{tag}" if tag else repository)


@routes.add("POST", "/images/prune")
async def prune(call: Call) -> web.StreamResponse:
    """Delete images that nothing uses, and what only they held."""
    services = call.services
    in_use, running = services.image_users(), services.containers.is_running
    report = await offload(services.images.prune, True, call.filters(), in_use, running)
    await services.collect()
    return json_answer(report)


@routes.add("GET", "/images/{name:path}/json")
async def inspect(call: Call) -> web.StreamResponse:
    """One image."""

    platform = platform_of(call, since=(1, 49))
    manifests = call.flag("manifests") and call.version >= (1, 48)
    if platform is not None and manifests:
        raise InvalidInput("conflicting options: manifests and platform options cannot both be set")

    def work() -> dict[str, Any]:
        images = call.services.images
        name = call.names["name"]
        shape = images.inspect(images.get(name, platform))
        group = images.group(name)
        if group is not None and platform is None:
            shape["Descriptor"] = msgspec.to_builtins(group.descriptor)
        if manifests:
            shape["Manifests"] = images.manifests(name)
        return shape

    return json_answer(_older(call, await offload(work)))


@routes.add("GET", "/images/{name:path}/history")
async def history(call: Call) -> web.StreamResponse:
    """The steps that made the image."""

    def work() -> list[dict[str, Any]]:
        images = call.services.images
        return images.history(images.get(call.names["name"], platform_of(call, since=(1, 48))))

    return json_answer(await offload(work))


@routes.add("POST", "/images/{name:path}/tag")
async def tag(call: Call) -> web.StreamResponse:
    """Give the image one more name."""
    reference = _reference(call)
    if reference is None:
        raise InvalidInput("the parameter repo is missing")

    def work() -> None:
        images = call.services.images
        name = call.names["name"]
        images.tag(images.get(name).id, reference, images.group(name))

    await offload(work)
    return nothing(201)


@routes.add("DELETE", "/images/{name:path}")
async def delete(call: Call) -> web.StreamResponse:
    """Remove a name, and the image with its last one; with `platforms` only these of what the name means."""
    services = call.services
    platforms = [platform_named(text) for text in call.texts("platforms")] if call.version >= (1, 50) else []
    records = await offload(
        services.images.delete,
        call.names["name"],
        force=call.flag("force"),
        noprune=call.flag("noprune"),
        platforms=platforms,
        in_use=services.image_users(),
        running=services.containers.is_running,
    )
    if any("Deleted" in record for record in records):
        services.collect_soon()
    return json_answer(records)


_NO_STREAMS = ("AttachStderr", "AttachStdin", "AttachStdout", "OpenStdin", "StdinOnce", "Tty")


def _older(call: Call, document: dict[str, Any]) -> dict[str, Any]:
    """What `inspect` had until API 1.49: members of an image's config that mean something for containers only."""
    if call.version < (1, 50):
        unset = {"Hostname": "", "Domainname": "", "Image": "", **dict.fromkeys(_NO_STREAMS, False)}
        document["Config"] = {**unset, **document["Config"]}
        if call.version < (1, 45):
            empty = {"Cmd": None, "Entrypoint": None, "Env": None, "Labels": None, "OnBuild": None, "Volumes": None}
            document["Container"] = ""
            document["ContainerConfig"] = {**unset, **empty, "User": "", "WorkingDir": ""}
    return _with_virtual_size(call, document)


def _with_virtual_size(call: Call, document: dict[str, Any]) -> dict[str, Any]:
    """Clients before API 1.44 read VirtualSize."""
    if call.version < (1, 44):
        document["VirtualSize"] = document["Size"]
    return document
