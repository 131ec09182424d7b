"""What the stack commands share: the engine, progress, builds and pulls, other commands called in turn."""

from __future__ import annotations

import os
import sys
from _thread import allocate_lock

from buildtool.client.quickjson import dumps
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from buildtool.cli.call import Call
    from buildtool.stacks.engine import Container, Engine
    from buildtool.stacks.model import Project
    from buildtool.stacks.report import Report

_SETTLED = frozenset(
    ("Running", "Created", "Started", "Healthy", "Exited", "Stopped", "Removed", "Recreated", "Built")
)


def open_engine(call: Call) -> Engine:
    """The engine of the call."""
    from buildtool.client import Client, resolve_address
    from buildtool.stacks.engine import Engine

    address = resolve_address(call.host, call.root)
    return Engine(lambda: Client(address), dry=call.switch("dry-run"))


def refuse_dry_run(call: Call) -> None:
    """Raise for verbs that cannot say beforehand what they would do."""
    if call.switch("dry-run"):
        raise InvalidInput(f"--dry-run is not possible with {call.name}")


def parallelism(call: Call) -> int:
    """How many things may be done at once, 0 for no limit."""
    wanted = call.number("parallel") or 0
    if wanted is True:  # the switch that `build` and `pull` once had
        return 0
    if not call.given("parallel"):
        text = os.environ.get("COMPOSE_PARALLEL_LIMIT", "")
        wanted = int(text) if text.lstrip("-").isdecimal() else wanted
    return max(0, wanted)


def project_name(call: Call) -> tuple[Project | None, str]:
    """The project, or only its name when there are no files but a name is given (`-p`)."""
    from buildtool.cli.stack_project import load_project
    from buildtool.errors import NotFound

    name = call.text("project-name") or os.environ.get("COMPOSE_PROJECT_NAME", "")
    try:
        project = load_project(call)
    except NotFound:
        if not name or call.texts("file"):
            raise
        return None, name
    return project, project.name


def service_containers(
    call: Call, engine: Engine, *, oneoff: bool = False, services: list[str] | None = None
) -> tuple[Project | None, list[Container]]:
    """The containers of the named services (all of them when none is named). Raises NotFound for unknown services."""
    from buildtool.buildfile.suggest import did_you_mean
    from buildtool.errors import NotFound

    project, name = project_name(call)
    found = engine.containers(name, oneoff=oneoff)
    wanted = call.arguments if services is None else services
    known = {item.service for item in found} | (set(project.services) | set(project.disabled) if project else set())
    for service in wanted:
        if service not in known:
            raise NotFound(f"no such service: {service}", hint=did_you_mean(service, known))
    return project, [item for item in found if not wanted or item.service in wanted]


def one_container(call: Call, engine: Engine, service: str, *, running: bool = True) -> Container:
    """The service's container that --index names, the first one when it is not given."""
    from buildtool.errors import Conflict

    _, found = service_containers(call, engine, services=[service])
    index = call.number("index") or 0
    chosen = [item for item in found if (not index or item.number == index) and (item.running or not running)]
    if not chosen:
        which = f" with index {index}" if index else ""
        raise Conflict(
            f'service "{service}" is not running{which}'
            if running
            else f'service "{service}" has no container{which}',
            hint="Bring the stack up first: buildtool up -d",
        )
    return chosen[0]


def call_other(call: Call, command: str, words: list[str], name: str = "") -> int:
    """Do what another command does with this command line, on the same daemon."""
    from buildtool.cli import table

    if call.switch("dry-run"):
        print(f"DRY-RUN MODE - buildtool {' '.join([command, *words])}")
        return 0
    other = sub_call(call, command, words, name)
    module, _, function = other.command.handler.partition(":")
    handler: Callable[[Call], int] = getattr(table.import_module(f"buildtool.cli.handlers.{module}"), function)
    return handler(other)


def sub_call(call: Call, command: str, words: list[str], name: str = "") -> Call:
    """The call of another command with this command line."""
    from buildtool.cli import table
    from buildtool.cli.call import Call as CallType
    from buildtool.cli.parse import parse_flags

    found = table.load(command)
    parsed = parse_flags(found.flags, words, interspersed=found.interspersed)
    return CallType(name or call.name, found, parsed, host=call.host, root=call.root)


def make_report(call: Call) -> Report:
    """How progress is shown: as --progress says, or as the terminal allows."""
    wanted = call.text("progress") or os.environ.get("COMPOSE_PROGRESS", "auto")
    if wanted == "auto":
        ansi = call.text("ansi") or os.environ.get("COMPOSE_ANSI", "auto")
        terminal = sys.stderr.isatty() and os.environ.get("TERM", "dumb") != "dumb"
        wanted = "tty" if (terminal or ansi == "always") and ansi != "never" else "plain"
    if wanted == "tty" and not call.switch("dry-run"):
        from buildtool.cli.stack_tree import TreeReport

        return TreeReport()
    if wanted not in ("plain", "tty", "json", "quiet"):
        raise InvalidInput(
            f"unsupported --progress value {wanted!r}", hint="Choose from auto, tty, plain, json, quiet."
        )
    return LineReport(wanted, "DRY-RUN MODE - " if call.switch("dry-run") else "")


class LineReport:
    """A line for every change of state, on stderr: words, JSON, or nothing."""

    def __init__(self, form: str, before: str = "") -> None:
        self._form = form
        self._before = before
        self._lock = allocate_lock()

    def state(self, kind: str, name: str, state: str, detail: str = "") -> None:
        """Say it."""
        if self._form == "quiet":
            return
        if self._form == "json":
            document = {"id": f"{kind} {name}", "status": "Done" if state in _SETTLED else "Working", "text": state}
            self._say(dumps(document | ({"details": detail} if detail else {})))
        else:
            why = f" ({detail})" if detail and kind == "Image" else ""
            self._say(f"{self._before} {kind} {name}  {state}{why}")

    def warn(self, message: str) -> None:
        """Warnings are told in every form."""
        self._say(dumps({"level": "warning", "text": message}) if self._form == "json" else f"WARNING: {message}")

    def close(self) -> None:
        """Nothing is kept back."""

    def _say(self, text: str) -> None:
        with self._lock:
            out = sys.stdout if os.environ.get("COMPOSE_STATUS_STDOUT", "").lower() in ("1", "true") else sys.stderr
            out.write(f"{text}\n")
            out.flush()


class Tools:
    """Builds and pulls with the commands that this program has for them."""

    def __init__(self, call: Call, report: Report, *, quiet_pull: bool = False, quiet_build: bool = False) -> None:
        self._call = call
        self._report = report
        self._quiet_pull = quiet_pull
        self._quiet_build = quiet_build

    def pull(self, image: str, platform: str) -> None:
        """Pull one image; its progress is told only as a whole."""
        from buildtool.cli.handlers.registry import pull_image
        from buildtool.client import Client

        self._report.state("Image", image, "Pulling")
        if self._call.switch("dry-run"):
            return
        with open(os.devnull, "w", encoding="utf-8") as nowhere:
            pull_image(Client(self._call.client.address), image, platform, quiet=True, out=nowhere)
        self._report.state("Image", image, "Pulled")

    def try_pull(self, image: str, platform: str) -> bool:
        """Pull one image that could be built; whether it could be pulled."""
        from buildtool.errors import BuildtoolError

        if self._call.switch("dry-run"):
            return False
        try:
            self.pull(image, platform)
        except BuildtoolError as error:
            self._report.state("Image", image, "Not pulled", error.message)
            return False
        return True

    def build(self, project: Project, names: list[str], reasons: Mapping[str, str]) -> None:
        """Build services' images, those that do not need each other at the same time."""
        from buildtool.cli.stack_build import build_services

        build_services(self._call, project, names, self._report, quiet=self._quiet_build, reasons=reasons)


def close_report(report: Report) -> None:
    """Let the last of it be shown."""
    close = getattr(report, "close", None)
    if close is not None:
        close()
