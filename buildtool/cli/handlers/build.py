"""`build`: an image from a Buildfile."""

from __future__ import annotations

import os
import sys

from buildtool.cli.build_input import BuildInput, read_input
from buildtool.cli.build_request import has_outputs, platforms_of, request_document
from buildtool.cli.credentials import config_headers
from buildtool.cli.preprocessing import make_plain
from buildtool.client import EngineError
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from buildtool.cli.build_outputs import Outputs
    from buildtool.cli.build_progress import Display
    from buildtool.cli.call import Call
    from buildtool.client import Response

_PATH = "/buildtool/v1/build"

_NOT_CLASSIC = (
    *("allow", "annotation", "build-context", "cache-from", "cache-to", "debug", "debug-at", "output", "secret"),
    "ssh",
)
_OURS = ("graph", "explain", "verify-reproducible", "jobs", "context-mode", "cutoff-ignore", "isolation")


class BuildFailed(BuildtoolError):
    """The build's own failure, as the daemon tells it; `steps` are the records of what was done until then."""

    steps: Sequence[Mapping[str, Any]] = ()


def build(call: Call) -> int:
    """Build, show how it goes on stderr, and print the image's id on stdout when --quiet is given; or do what --check
    and --call ask for.
    """
    if any(call.given(flag) for flag in ("builder", "call", "check", "security-opt")):
        from buildtool.cli.handlers.build_call import answer

        told = answer(call)
        if told is not None:
            return told
    wanted = call.text("progress")
    if not call.given("progress"):
        wanted = os.environ.get("BUILDKIT_PROGRESS", "") or wanted
    progress = "quiet" if call.switch("quiet") else wanted
    if progress not in ("auto", "plain", "tty", "quiet", "rawjson"):
        raise InvalidInput(
            f"invalid progress mode: {progress}", hint="Choose from auto, plain, tty, quiet and rawjson."
        )
    graph_form(call.text("graph"))
    if call.switch("no-daemon"):
        from buildtool.cli.own_daemon import OwnDaemon

        with OwnDaemon(call):
            return _build_all(call, progress)
    return _build_all(call, progress)


def _build_all(call: Call, progress: str) -> int:
    """Build, verify, give out."""
    outputs = None
    if has_outputs(call):
        from buildtool.cli.build_outputs import read_outputs

        outputs = read_outputs(call)
    twice = call.switch("verify-reproducible")
    if twice:
        from buildtool.cli.build_twice import refuse_streams, verify

        refuse_streams(call)
    try:
        result = build_result(call, progress, "")
        if twice:
            verify(call, result, lambda other: build_result(other, progress, ""))
        return finish(call, outputs, result, progress)
    except BuildFailed as error:
        sys.stdout.flush()
        print(f"ERROR: {error}", file=sys.stderr)
        return 1


def build_image(call: Call, progress: str, shown: str = "") -> str:
    """Build what the call says and return the image's id; `shown` is how errors name the Buildfile.

    Raises BuildFailed when the build itself fails.
    """
    identifier: str = build_result(call, progress, shown)["image_id"]
    return identifier


def build_result(call: Call, progress: str | Display, shown: str) -> dict[str, Any]:
    """Build, and show it as `progress` says, or there.

    The daemon's last word: `image_id` and, but for another engine's builds, more.
    """
    source = read_input(call.arguments[0], call.text("file"))
    source.name = shown or source.name
    make_plain(call, source)
    if not (source.archive is None or _is_ours(call)):
        return _classic(call, source, progress)
    if not call.texts("ssh"):
        return _build(call, source, progress, {})
    from buildtool.cli.build_agents import Agents

    with Agents(call.client, call.texts("ssh")) as agents:
        return _build(call, source, progress, {"session": agents.session, "ssh": agents.names})


def _build(call: Call, source: BuildInput, progress: str | Display, more: dict[str, Any]) -> dict[str, Any]:
    """Build by our own endpoint, or by Docker's where there is none."""
    if call.switch("debug") or call.texts("debug-at"):
        from secrets import token_hex

        more |= {"debug": call.switch("debug"), "debug_at": call.texts("debug-at")}
        more.setdefault("session", token_hex(16))
    response = _ask(call, source, more)
    if response is None:
        return _classic(call, source, progress)
    return _follow(call, response, _display(progress), more.get("session", ""))


def _classic(call: Call, source: BuildInput, progress: str | Display) -> dict[str, Any]:
    from buildtool.cli.build_attest import read_attest
    from buildtool.cli.build_classic import build_classic

    if len(platforms_of(call)) > 1:
        raise InvalidInput(
            "Docker's classic build call builds for one platform",
            hint="name a directory as the context and build with buildtool's daemon",
        )
    attest = read_attest(call, source)
    if attest.get("provenance") or attest.get("sbom"):
        raise InvalidInput(
            "Docker's classic build call makes no attestations",
            hint="build with buildtool's daemon, or leave --provenance, --sbom and --attest out",
        )
    for flag in (*_NOT_CLASSIC, *_OURS):
        if call.given(flag):
            raise InvalidInput(
                f"--{flag} is not possible with Docker's classic build call",
                hint="name a directory as the context and build with buildtool's daemon",
            )
    return {"image_id": build_classic(call, source, quiet=progress == "quiet")}


def _ask(call: Call, source: BuildInput, more: dict[str, Any]) -> Response | None:
    """The answer of our own build call; None when this daemon is another engine and has only Docker's.

    When the daemon cannot see a context under the same path, all that are directories are sent as tars.
    """
    document, logins = request_document(call, source) | more, config_headers()
    if source.archive is None and (call.client.address.path or not source.directory):
        try:
            return call.client.call("POST", _PATH, document=document, headers=logins)
        except EngineError as error:
            if _is_unknown_path(error):
                return None
            if error.document.get("code") != "context-not-visible":
                raise
    from buildtool.cli.build_context import upload

    body, kind = upload(document, source)
    try:
        return call.client.call("POST", _PATH, body=body, headers={"Content-Type": kind} | logins)
    except EngineError as error:
        if _is_unknown_path(error):
            return None
        raise


def _is_ours(call: Call) -> bool:
    """Whether the engine is this program's daemon: a stream can be sent once only, so it is asked before."""
    platform = call.client.get("/version").get("Platform") or {}
    return bool(platform.get("Name") == "buildtool")


def _is_unknown_path(error: EngineError) -> bool:
    """Whether the engine does not know our call at all, as opposed to not finding something the build names."""
    return error.status == 404 and error.message.lower().removeprefix("404").strip() in (
        "page not found",
        "not found",
    )


def _display(progress: str | Display) -> Display:
    if not isinstance(progress, str):
        return progress
    if progress == "tty" or (progress == "auto" and sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"):
        from buildtool.cli.build_tty import TtyDisplay

        return TtyDisplay()
    if progress == "rawjson":
        from buildtool.cli.build_rawjson import RawJsonDisplay

        return RawJsonDisplay()
    from buildtool.cli.build_progress import PlainDisplay, QuietDisplay

    return QuietDisplay() if progress == "quiet" else PlainDisplay()


def _follow(call: Call, response: Response, display: Display, session: str = "") -> dict[str, Any]:
    """Show the events of a build and return the last one. Raises BuildFailed with the daemon's words."""
    result: dict[str, Any] | None = None
    try:
        for event in response.objects():
            kind = event["event"]
            if kind == "error":
                display.finish(None)
                _keep_promises(call, event)
                failure = BuildFailed(event["message"])
                failure.steps = event.get("steps") or ()
                raise failure
            if kind == "result":
                result = event
            elif kind == "debug_shell":
                from buildtool.cli.build_debug import visit

                display.pause()
                visit(call.client, session, event)
                display.resume()
            else:
                display.show(event)
    except KeyboardInterrupt:
        display.finish(None)
        response.connection.close()
        print("ERROR: canceled", file=sys.stderr)
        raise
    if result is None:
        display.finish(None)
        raise BuildFailed("the daemon ended the connection in the middle of the build: it was stopped or it died")
    display.finish(result)
    _keep_promises(call, result)
    return result


def _keep_promises(call: Call, end: dict[str, Any]) -> None:
    """--explain and --graph, for a build that succeeded or failed."""
    build = end.get("build_id")
    if call.switch("explain") and end.get("steps"):
        from buildtool.cli.build_explanation import print_explanation

        print("\nCache:", file=sys.stderr)
        print_explanation(end["steps"], sys.stderr)
    if call.text("graph") and build:
        query = {"format": graph_form(call.text("graph"))}
        drawing = call.client.call("GET", f"/buildtool/v1/builds/{build}/graph", query).read()
        with open(call.text("graph"), "wb") as file:
            file.write(drawing)


def graph_form(path: str) -> str:
    """The form that the file's name asks for. Raises InvalidInput for another one."""
    form = path.rpartition(".")[2].lower()
    if path and form not in ("svg", "dot", "gv", "mmd", "html"):
        raise InvalidInput(
            f"--graph {path}: unknown form of a graph", hint="End the name with .svg, .html, .dot or .mmd."
        )
    return form


def finish(call: Call, outputs: Outputs | None, result: dict[str, Any], progress: str) -> int:
    """Give the result to where the flags say. The exit code."""
    identifier, to_stdout = result["image_id"], False
    if outputs is not None:
        from buildtool.cli.build_attest import inline_only
        from buildtool.cli.build_giving import give, made, write_metadata
        from buildtool.cli.build_statements import statements, without_provenance

        stated = {each["id"]: statements(call, each["id"]) for each in made(result)}
        beside = stated
        if inline_only(call):
            beside = {image: without_provenance(each) for image, each in stated.items()}
        pushed = give(call, outputs, result, beside, quiet=progress == "quiet")
        to_stdout = any(item.dest == "-" for item in outputs.items)
        if call.text("metadata-file"):
            write_metadata(call.text("metadata-file"), outputs, result, pushed, stated)
    if call.text("iidfile"):
        with open(call.text("iidfile"), "w", encoding="ascii") as file:
            file.write(identifier)
    if progress == "quiet" and not to_stdout:
        print(identifier)
    return 0
