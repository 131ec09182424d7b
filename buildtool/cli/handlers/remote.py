"""`image copy`, `image tags`, `image inspect --remote`: what needs registries but no daemon."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypeVar

from buildtool.cli import credentials
from buildtool.cli.progress import Display
from buildtool.oci import parse_platform, parse_reference
from buildtool.registry import Credentials, RegistryConfig
from buildtool.registry.copying import CopyOptions, open_place, parse_location
from buildtool.registry.copying import copy as copy_images
from buildtool.registry.copying.places import name_in
from buildtool.registry.transport import Transport

if TYPE_CHECKING:
    from buildtool.cli.call import Call
    from buildtool.registry.copying import Location

R = TypeVar("R")


def with_transport(work: Callable[[Transport], Awaitable[R]], *, insecure: bool = False) -> R:
    """Run something that talks to registries, and close the connections."""

    async def run() -> R:
        config = RegistryConfig.load()
        if insecure:
            config = replace(config, insecure=("*",))
        transport = Transport(config)
        try:
            return await work(transport)
        finally:
            await transport.close()

    return asyncio.run(run())


def login_of(domain: str) -> Credentials:
    """The login of a registry in config.json or its helper."""
    return Credentials.from_document(credentials.find(domain) or None)


def copy(call: Call) -> int:
    """Copy images; their digests are printed."""
    source, target = (parse_location(text) for text in call.arguments)
    options = CopyOptions(
        parse_platform(call.text("platform")) if call.text("platform") else None,
        call.switch("all-tags"),
        call.switch("referrers"),
    )
    display = Display(sys.stderr)
    emit: Callable[[dict[str, Any]], None] = (lambda _: None) if call.switch("quiet") else display.show

    async def work(transport: Transport) -> int:
        origin = await open_place(source, transport, _login(source))
        try:
            if not options.all_tags:
                await origin.manifest(name_in(source))  # before anything is made at the destination
            goal = await open_place(target, transport, _login(target), write=True)
            try:
                done = await copy_images(origin, name_in(source), goal, name_in(target), emit, options)
            finally:
                await goal.close()
        finally:
            await origin.close()
        display.finish()
        for one in done:
            print(f"{one.digest} {one.name}" if options.all_tags else one.digest)
        return 0

    return with_transport(work)


def _login(location: Location) -> Credentials:
    return Credentials() if location.reference is None else login_of(location.reference.domain)


def tags(call: Call) -> int:
    """List the tags of a repository, one a line."""
    from buildtool.registry.remote_images import tags_of

    name = call.arguments[0]
    login = login_of(parse_reference(name).domain)
    for tag in with_transport(lambda transport: tags_of(transport, name, login)):
        print(tag)
    return 0


def inspect(call: Call) -> int:
    """Show what registries have under the names."""
    from buildtool.cli.handlers.inspect import printer
    from buildtool.registry.remote_images import inspect_remote

    show = printer(call.text("format"))
    platform = parse_platform(call.text("platform")) if call.text("platform") else None

    async def work(transport: Transport) -> list[tuple[str, Any]]:
        return [
            ("image", await inspect_remote(transport, name, platform, login_of(parse_reference(name).domain)))
            for name in call.arguments
        ]

    problems = show(with_transport(work))
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0
