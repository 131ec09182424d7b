"""POST /build: the classic builder's request, a tar in and a JSON stream out."""

from __future__ import annotations

import os
import re
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from aiohttp import web

from buildtool.aio import offload
from buildtool.daemon import build_policy
from buildtool.daemon.answers import Stream, error_line, json_lines
from buildtool.daemon.build_contexts import DOCKERS_NAMES, Given, read_ignore, remote_context
from buildtool.daemon.build_text import ClassicText
from buildtool.daemon.building import RunningBuild
from buildtool.daemon.call import Call
from buildtool.daemon.context import build_directory, unpack
from buildtool.daemon.routing import Routes
from buildtool.daemon.threads import body_file, in_own_thread
from buildtool.encoding import decode_file
from buildtool.errors import InvalidInput, StepFailed, Unavailable

if TYPE_CHECKING:
    from buildtool.solve import BuildRequest
    from buildtool.solve.caches.options import Caches

routes = Routes()

_COMMAND = re.compile(r'process "(.*)" did not complete successfully', re.DOTALL)
UPLOADED = "uploaded"


@routes.add("POST", "/build", stream=True)
async def build(call: Call) -> web.StreamResponse:
    """Build an image from the context in the body."""
    _check(call)
    with ExitStack() as stack:
        if remote := call.text("remote"):
            from buildtool.solve.remotes import Access

            lease = stack.enter_context(call.services.store.leases.hold(f"context {remote}"))
            access = Access(variables=_build_args(call))
            given = await remote_context(call.services, remote, access, lease)
        else:
            given = Given(stack.enter_context(build_directory(call.services.root)), UPLOADED)
            work = partial(unpack, body_file(call.request), cast(Path, given.directory))
            await in_own_thread(work, "context")
        request = await offload(_request, call, given)
        async with json_lines(call) as stream, RunningBuild(call.services, request) as running:
            await _tell(stream, running, quiet=call.flag("q"))
        return stream.response


async def _tell(stream: Stream, running: RunningBuild, *, quiet: bool) -> None:
    text = ClassicText()
    held: list[str] = []
    tags: list[str] = []
    async for event in running:
        tags = list(getattr(event, "tags", tags))
        for line in text.feed(event):
            if quiet:
                held.append(line)
            else:
                await stream.line({"stream": line})
    try:
        result = await running.result()
    except StepFailed as error:
        for line in held:
            await stream.line({"stream": line})
        await stream.line(_in_dockers_words(error))
        return
    if quiet:
        await stream.line({"stream": f"{result.image.id}\n"})
        return
    await stream.line({"aux": {"ID": result.image.id}})
    for line in text.end(result, tags):
        await stream.line({"stream": line})


def _in_dockers_words(error: StepFailed) -> dict[str, Any]:
    """A failed command as clients of the classic builder know it; they end with `code`."""
    line = error_line(error)
    command = _COMMAND.match(error.message)
    if command is not None and error.exit_code_of_step and not error.oom_killed:
        text = f"The command '{command[1]}' returned a non-zero code: {error.exit_code_of_step}"
        line = {"errorDetail": {"code": error.exit_code_of_step, "message": text}, "error": text}
    return line


def _check(call: Call) -> None:
    """Refuse what this builder does not do. `rm` and `forcerm` (a build leaves no containers behind) mean nothing."""
    call.flag("rm")
    call.flag("forcerm")
    if call.text("version") == "2":
        raise Unavailable("BuildKit is not supported by this daemon: use the classic builder (DOCKER_BUILDKIT=0)")
    if call.flag("squash"):
        raise InvalidInput("squash is not supported: use a multi-stage build with COPY --from to make one layer")
    if call.document("outputs"):
        raise InvalidInput("outputs are not supported by the classic builder")


def _request(call: Call, given: Given) -> BuildRequest:
    from buildtool.solve import BuildRequest

    name, text, ignore = call.text("remote"), given.text, None
    if text is None:
        assert given.directory is not None
        name, text = _read_buildfile(given.directory, call.text("dockerfile"))
        ignore = read_ignore(given.directory)
    if "," in call.text("platform"):
        raise InvalidInput(
            f"invalid platform {call.text('platform')!r}: this call builds for one platform",
            hint="build for several with `buildtool build --platform A,B`, or POST /buildtool/v1/build",
        )
    auth = call.encoded_header("X-Registry-Config") or {}
    request = BuildRequest(
        dockerfile=text,
        dockerfile_name=name,
        context=given.directory,
        context_key=given.key,
        context_epoch=given.epoch,
        context_source=given.source,
        commit_epoch=given.commit_epoch,
        ignore=ignore,
        tags=tuple(call.texts("t")),
        build_args=_build_args(call),
        labels=_strings(call, "labels"),
        target=call.text("target"),
        no_cache=call.flag("nocache"),
        pull=call.flag("pull"),
        platform=call.text("platform"),
        network_mode=call.text("networkmode") or "default",
        extra_hosts=tuple(host for value in call.texts("extrahosts") for host in _list_or_one(value)),
        shm_size=call.number("shmsize", 0) or 0,
        memory=call.number("memory", 0) or 0,
        memory_swap=call.number("memswap", 0) or 0,
        cpu_shares=call.number("cpushares", 0) or 0,
        cpu_period=call.number("cpuperiod", 0) or 0,
        cpu_quota=call.number("cpuquota", 0) or 0,
        cpuset_cpus=call.text("cpusetcpus"),
        cpuset_mems=call.text("cpusetmems"),
        ulimits=_ulimits(call),
        cgroup_parent=call.text("cgroupparent"),
        registry_auth=auth,
        caches=_cached_from(call, auth),
    )
    build_policy.granted(call.services, (), request.network_mode)
    build_policy.check_limits(request)
    return request


def _cached_from(call: Call, auth: Any) -> Caches:
    """`cachefrom`: images whose cache counts too. What the store has counts anyway; others are asked for theirs."""
    from buildtool.daemon.build_caches import CacheSpec, caches
    from buildtool.solve.caches.options import Caches

    names = call.document("cachefrom") or []
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise InvalidInput('invalid query parameter "cachefrom": not a list of strings')
    images = call.services.images
    others = [name for name in names if name and images.find(name) is None]
    specs = [CacheSpec(type="registry", attributes={"ref": name}) for name in others]
    return (
        caches(call.services.registries, specs, (), auth=auth, platform=call.text("platform")) if specs else Caches()
    )


def _read_buildfile(directory: Path, wanted: str) -> tuple[str, str]:
    """The build file's name and text: the wanted one, else the first of the usual names. Never from outside the
    context."""
    names = [wanted] if wanted and wanted != DOCKERS_NAMES[0] else list(DOCKERS_NAMES)
    root = os.path.realpath(directory)
    for name in names:
        path = os.path.realpath(f"{root}/{name}")
        if not path.startswith(f"{root}/"):
            raise InvalidInput(f"forbidden path outside the build context: {name}")
        if Path(path).is_file():
            return name, _read(Path(path))
    raise InvalidInput(
        f"Cannot locate specified Dockerfile: {wanted or DOCKERS_NAMES[0]}",
        hint="Name the file with -f, and see that it is not excluded from the context.",
    )


def _read(path: Path) -> str:
    return decode_file(path.read_bytes(), path.name)


def _build_args(call: Call) -> dict[str, str | None]:
    return _strings(call, "buildargs", nullable=True)


def _strings(call: Call, name: str, *, nullable: bool = False) -> dict[str, Any]:
    found = call.document(name) or {}
    if not isinstance(found, dict) or not all(isinstance(v, str) or (nullable and v is None) for v in found.values()):
        raise InvalidInput(f'query parameter "{name}" is not a JSON object of strings')
    return found


def _ulimits(call: Call) -> tuple[dict[str, Any], ...]:
    found = call.document("ulimits") or []
    if not isinstance(found, list) or not all(isinstance(limit, dict) for limit in found):
        raise InvalidInput('query parameter "ulimits" is not a JSON list of objects')
    return tuple(found)


def _list_or_one(value: str) -> list[str]:
    """Some clients send a JSON list or a comma-separated one instead of repeating the parameter."""
    return [part for part in value.strip("[]").replace('"', "").split(",") if part]
