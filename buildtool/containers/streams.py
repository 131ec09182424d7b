"""Attaching to containers and reading their logs."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing

from buildtool.containers import follow, logdrivers
from buildtool.containers.attach import Attachment
from buildtool.containers.container import Container
from buildtool.containers.detach import parse_detach_keys
from buildtool.containers.lifecycle import Lifecycle
from buildtool.containers.logs import LogOptions
from buildtool.errors import Conflict, NotFound, Unavailable


async def attach(
    lifecycle: Lifecycle,
    container: Container,
    *,
    stdin: bool,
    stdout: bool,
    stderr: bool,
    logs: bool,
    stream: bool,
    detach_keys: str,
) -> Attachment:
    """See Containers.attach."""
    keys = parse_detach_keys(detach_keys or container.detach_keys)
    if container.state.paused:
        raise Conflict(f"container {container.id} is paused, unpause the container before attach")
    if container.state.restarting:
        raise Conflict(f"container {container.id} is restarting, wait until the container is running")

    def closed(attachment: Attachment) -> None:
        container.attachments.discard(attachment)
        if attachment.detached:
            lifecycle.publish(container, "detach")

    attachment = Attachment(
        stdin=stdin and container.config.open_stdin,
        stdout=stdout,
        stderr=stderr,
        tty=container.tty,
        detach_keys=keys,
        on_close=closed,
    )
    if not stream:
        attachment.bind(None)
    else:
        container.attachments.add(attachment)
        if container.task is not None and container.alive:
            try:
                await lifecycle.bind(attachment, container.task)
            except NotFound:  # it ended meanwhile
                container.attachments.discard(attachment)
                attachment.bind(None)
    if logs and (stdout or stderr):
        attachment.history = _history(container, stdout, stderr)
    lifecycle.publish(container, "attach")
    return attachment


def _history(container: Container, stdout: bool, stderr: bool) -> AsyncIterator[bytes]:
    options = LogOptions(stdout=stdout, stderr=stderr, raw=container.tty)
    return follow.until_now(container.log_path, options)


def details(container: Container) -> bytes:
    """What `--details` puts before each line: the labels, variables and tag that the log options name."""
    found = logdrivers.said(container.record)
    return ",".join(f"{key}={value}" for key, value in sorted(found.items())).encode() + b" "


async def logs(container: Container, options: LogOptions, *, following: bool) -> AsyncGenerator[bytes]:
    """See Containers.logs."""
    if container.host.log_config.type == "none":
        raise Unavailable("configured logging driver does not support reading")
    stopped = _stopped(container) if following and container.state.running else None
    async with aclosing(follow.stream(container.log_path, options, stopped)) as blocks:
        async for block in blocks:
            yield block


async def _stopped(container: Container) -> None:
    """Wait until the container neither runs nor waits for a restart."""
    while container.state.running and not container.removed:
        await container.waiters.subscribe("next-exit")
