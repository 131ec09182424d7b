"""`up` in the foreground: the output of the containers until they end or Ctrl-C stops them."""

from __future__ import annotations

import signal
import sys
import threading
import time

from buildtool.cli.handlers.stack_logs import short_name
from buildtool.cli.stack_output import make_printer

TYPE_CHECKING = False
if TYPE_CHECKING:
    from types import FrameType

    from buildtool.cli.call import Call
    from buildtool.stacks.engine import Engine
    from buildtool.stacks.logs import Follower
    from buildtool.stacks.model import Project
    from buildtool.stacks.up import Up


def follow_up(
    call: Call, project: Project, engine: Engine, run: Up, shown: set[str], begun: float, timeout: int | None
) -> int:
    """Show the output; the exit code is 0, or that of the container whose end ended everything."""
    return _Foreground(call, project, engine, run, shown, begun, timeout).run()


class _Foreground:
    def __init__(
        self,
        call: Call,
        project: Project,
        engine: Engine,
        run: Up,
        shown: set[str],
        begun: float,
        timeout: int | None,
    ) -> None:
        self._call = call
        self._project = project
        self._engine = engine
        self._containers = [item for item in run.containers if item[1] not in run.resting]
        self._started = run.started
        self._shown = shown
        self._begun = begun
        self._timeout = timeout
        self._events = threading.Event()
        self._interrupts = 0
        self._ends: list[tuple[str, str, int]] = []
        numbers = {
            identifier: short_name(name, service, _number(name)) for service, identifier, name in self._containers
        }
        self._names = numbers
        self._printer = make_printer(call, [numbers[i] for s, i, _ in self._containers if s in shown])

    def run(self) -> int:
        """Follow until the end."""
        from buildtool.stacks.logs import Follower, LogQuery

        call = self._call
        source = call.text("exit-code-from")
        if source and source not in self._project.services:
            from buildtool.errors import NotFound

            raise NotFound(f"no such service: {source}")
        services = {identifier: service for service, identifier, _ in self._containers}
        follower = Follower(
            self._engine, self._printer.line, self._ended, LogQuery(timestamps=call.switch("timestamps"))
        )
        before = {number: signal.signal(number, self._interrupted) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            for service, identifier, _ in self._containers:
                since = f"{self._started.get(identifier, self._begun):.9f}"
                follower.add(identifier, self._names[identifier], since=since, show=service in self._shown)
            code = 0
            looked = time.monotonic()
            while follower.active or call.switch("watch"):
                self._events.wait(0.1)
                self._events.clear()
                if call.switch("watch") and time.monotonic() - looked > 1:
                    looked = time.monotonic()
                    self._follow_new(follower)
                if self._interrupts:
                    follower.stopping = True
                    self._stop_all()
                    follower.drain()
                    return self._code_from(source, services) if source else 0
                ended = self._ending(services, source)
                if ended is not None:
                    follower.stopping = True
                    code = ended
                    self._stop_all()
                    follower.drain()
                    break
            return self._code_from(source, services) if source else code
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _follow_new(self, follower: Follower) -> None:
        """Containers that a rebuild has made are followed too."""
        services = {service for service, _, _ in self._containers}
        for item in self._engine.containers(self._project.name):
            if item.service in services and item.running and item.id not in self._names:
                self._names[item.id] = short_name(item.name, item.service, item.number)
                self._containers.append((item.service, item.id, item.name))
                follower.add(item.id, self._names[item.id], show=item.service in self._shown)

    def _interrupted(self, _number: int, _frame: FrameType | None) -> None:
        self._interrupts += 1
        self._events.set()

    def _ended(self, name: str, identifier: str, code: int) -> None:
        self._printer.note(name, f"exited with code {code}")
        self._ends.append((name, identifier, code))
        self._events.set()

    def _ending(self, services: dict[str, str], source: str) -> int | None:
        """The exit code when an end is to end everything."""
        call = self._call
        for _, identifier, code in list(self._ends):
            if source:
                if services.get(identifier) == source:
                    return code
                if call.given("abort-on-container-failure") and code:
                    return code
            elif call.switch("abort-on-container-exit") or (call.switch("abort-on-container-failure") and code):
                return code
        return None

    def _code_from(self, source: str, services: dict[str, str]) -> int:
        for identifier, service in services.items():
            if service == source:
                details = self._engine.find(f"/containers/{identifier}/json") or {}
                return int((details.get("State") or {}).get("ExitCode") or 0)
        return 0

    def _stop_all(self) -> None:
        """Stop what runs, dependents first; a second Ctrl-C kills."""
        from buildtool.cli.stack_run import close_report, make_report
        from buildtool.stacks.teardown import in_reverse, stop_container

        if self._interrupts:
            print("\nGracefully stopping... (press Ctrl+C again to force)", file=sys.stderr)
        mine = {identifier for _, identifier, _ in self._containers}
        found = [item for item in self._engine.containers(self._project.name) if item.id in mine]
        report = make_report(self._call)
        done = threading.Event()

        def stop() -> None:
            try:
                in_reverse(found).each(
                    lambda container: stop_container(self._engine, self._project, container, report, self._timeout)
                )
            finally:
                done.set()

        before = self._interrupts
        threading.Thread(target=stop, daemon=True).start()
        while not done.wait(0.05):
            if self._interrupts > before:
                for item in found:
                    self._engine.act("POST", f"/containers/{item.id}/kill", missing=True)
                before = 10**9
        close_report(report)


def _number(name: str) -> int:
    last = name.rpartition("-")[2]
    return int(last) if last.isdecimal() else 1
