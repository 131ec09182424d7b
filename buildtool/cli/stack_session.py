"""One bringing up of a stack: what is wanted, what there is, the plan, the images it needs, and the run of it."""

from __future__ import annotations

import time

from buildtool.cli.stack_run import Tools, close_report, make_report, open_engine, parallelism
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.stacks.body import References
    from buildtool.stacks.built import Built
    from buildtool.stacks.engine import Engine
    from buildtool.stacks.images import ImagePolicy
    from buildtool.stacks.model import Project
    from buildtool.stacks.plan import Options, Plan, State
    from buildtool.stacks.report import Report
    from buildtool.stacks.up import Up


def parse_scale(items: list[str]) -> dict[str, int]:
    """`web=3` as numbers. Raises InvalidInput."""
    numbers = {}
    for item in items:
        name, separator, count = item.partition("=")
        if not separator or not name or not count.isdecimal():
            raise InvalidInput(f"invalid --scale option {item!r}: should be SERVICE=NUM")
        numbers[name] = int(count)
    return numbers


class Session:
    """One bringing up: options, what is there, the plan, and the run of it."""

    def __init__(
        self,
        call: Call,
        project: Project,
        *,
        services: list[str] | None = None,
        scale: dict[str, int] | None = None,
    ) -> None:
        from buildtool.stacks.plan import Options

        self.call = call
        self.project = project
        self.engine: Engine = open_engine(call)
        self.report: Report = make_report(call)
        self.services = call.arguments if services is None else services
        self.no_deps = False
        self.timeout: int | None = None
        # Whether the report goes on after `bring_up`, with `wait`.
        self.waits = False
        names = {flag.name for flag in call.command.flags}
        numbers = scale if scale is not None else parse_scale(call.texts("scale")) if "scale" in names else {}
        for name in numbers:
            if name not in project.services:
                raise InvalidInput(f"no such service: {name}")
        self.options: Options = Options(
            force_recreate="force-recreate" in names and call.switch("force-recreate"),
            no_recreate="no-recreate" in names and call.switch("no-recreate"),
            scale=numbers,
            services=self.services,
        )
        self._names = names
        self.order: list[str] = []
        self.plan: Plan | None = None
        self._state: State | None = None

    def observe(self) -> State:
        """What there is, and in which order the services come."""
        from buildtool.stacks.elsewhere import check as check_elsewhere
        from buildtool.stacks.graph import dependency_order, with_dependencies
        from buildtool.stacks.observed import check_external, observe

        chosen = self.services or list(self.project.services)
        if self.no_deps:
            self.order = dependency_order(self.project, chosen)
        else:
            self.order = with_dependencies(self.project, chosen)
        if self.services:
            from buildtool.stacks.profiles import prune_resources

            kept = {name: self.project.services[name] for name in self.order}
            others = {name: item for name, item in self.project.services.items() if name not in kept}
            self.project.services.clear()
            self.project.services.update(kept)
            prune_resources(self.project)
            self.project.disabled.update(others)
        state = observe(self.engine, self.project, self.order)
        check_external(self.engine, self.project, state)
        check_elsewhere(self.engine, self.project, self.order)
        return state

    def bring_up(self, *, remove_orphans: bool) -> Up | None:
        """Do it all up to the start. None after --dry-run."""
        from buildtool.stacks.plan import make_plan
        from buildtool.stacks.up import Up

        done = False
        try:
            self._tell_ignored()
            state = self.observe()
            if self.call.switch("dry-run"):
                self._dry_run(make_plan(self.project, state, self.options, self.order), state)
                return None
            self._provide()
            state = self._state = self._images(state, self.stale(state))
            plan = self.plan = make_plan(self.project, state, self.options, self.order)
            self._orphans(plan, remove_orphans)
            run = Up(
                self.engine,
                self.project,
                plan,
                self.options,
                self.order,
                self.report,
                images=state.images,
                timeout=self.timeout,
                begun=self._listen(),
                parallel=parallelism(self.call),
            )
            run.create()
            if self.options.start:
                run.start()
            done = True
            return run
        finally:
            if not (done and self.waits):
                close_report(self.report)

    def _listen(self) -> Callable[[str, str], None] | None:
        """On a terminal: show the last line of each container that has been started."""
        heard = getattr(self.report, "line", None)
        if heard is None:
            return None
        from buildtool.stacks.logs import Follower

        follower = Follower(self.engine, lambda name, text, _stream: heard(name, text), lambda *_end: None)
        follower.stopping = True  # what goes wrong with it is no news: it only decorates
        since = f"{time.time():.9f}"
        return lambda identifier, name: follower.add(identifier, name, since=since)

    def _tell_ignored(self) -> None:
        """What is read and has no effect."""
        for name, service in self.project.services.items():
            for key in ("models", "credential_spec", "isolation"):
                if service.get(key):
                    self.report.warn(f"services.{name}.{key} is ignored: it has no effect here")

    def bring_up_for_run(self, state: State, service: str) -> References:
        """Start what the service depends on and have its image; what its container may refer to."""
        from buildtool.stacks.body import References
        from buildtool.stacks.plan import make_plan
        from buildtool.stacks.up import Up

        self._provide()
        state = self._images(state, {})
        others = [name for name in self.order if name != service]
        self.options.services = others
        plan = make_plan(self.project, state, self.options, others)
        self._orphans(plan, self._flag("remove-orphans"))
        run = Up(
            self.engine,
            self.project,
            plan,
            self.options,
            others,
            self.report,
            images=state.images,
            parallel=parallelism(self.call),
        )
        run.create()
        run.start()
        run.wait_for_dependencies(service)
        return References({name: [(i, n) for s, i, n in run.containers if s == name] for name in others})

    def _provide(self) -> None:
        """Have the services that other programs provide, before anything depends on their variables."""
        if any(self.project.services[name].get("provider") for name in self.order):
            from buildtool.stacks.providers import provide

            provide(self.project, self.order, self.report)

    def stale(self, state: State) -> dict[str, str]:
        """Why images are to be built anew although they are there, by service."""
        from buildtool.stacks.images import may_be_stale

        policy = self._policy()
        if self.options.no_recreate or not any(
            may_be_stale(self.project.services[name], policy) for name in self.order
        ):
            return {}
        from buildtool.stacks.built import stale

        found = stale(self.project, self._built_images(state), self._built())
        return {
            name: why
            for name, why in found.items()
            if name in self.order and may_be_stale(self.project.services[name], policy)
        }

    def watched_builds(self) -> list[list[Any]]:
        """What a memory of the project has to know of its images."""
        if self._state is None or not any(service.get("build") for service in self.project.services.values()):
            return []
        from buildtool.stacks.built import watched

        return watched(self._built_images(self._state), self._built())

    def _built(self) -> Built:
        from buildtool.stacks.built import Built

        return Built(self.project, str(self.call.client.address))

    def _built_images(self, state: State) -> dict[str, str]:
        """The ids of the images that are built for the services, and for those whose images they take files from."""
        from buildtool.stacks.building import service_of, with_contexts
        from buildtool.stacks.names import image_name

        found = {}
        for name in with_contexts(self.project, self.order):
            image = image_name(self.project, name, service_of(self.project, name))
            identifier = state.images.get(image)
            if identifier is None and name not in self.order:
                identifier = (self.engine.image(image) or {}).get("Id")
            if identifier:
                found[name] = identifier
        return found

    def _images(self, state: State, stale: dict[str, str]) -> State:
        from buildtool.stacks.images import ensure_images
        from buildtool.stacks.names import image_name

        tools = Tools(self.call, self.report, quiet_build=self._flag("quiet-build"))
        if ensure_images(self.engine, self.project, self.order, state.images, self._policy(), tools, stale):
            for name in self.order:
                service = self.project.services[name]
                found = (
                    None if service.get("provider") else self.engine.image(image_name(self.project, name, service))
                )
                if found is not None:
                    state.images[image_name(self.project, name, service)] = found["Id"]
        return state

    def _policy(self) -> ImagePolicy:
        from buildtool.stacks.images import ImagePolicy

        pull = self.call.text("pull") if "pull" in self._names else "policy"
        return ImagePolicy(build=self._flag("build"), no_build=self._flag("no-build"), pull=pull or "policy")

    def _flag(self, name: str) -> bool:
        return name in self._names and self.call.switch(name)

    def _orphans(self, plan: Plan, remove: bool) -> None:
        import os

        from buildtool.stacks.teardown import remove_container, stop_container

        if not plan.orphans or os.environ.get("COMPOSE_IGNORE_ORPHANS", "").lower() in ("1", "true"):
            return
        if remove or os.environ.get("COMPOSE_REMOVE_ORPHANS", "").lower() in ("1", "true"):
            for item in plan.orphans:
                stop_container(self.engine, self.project, item, self.report, self.timeout)
                remove_container(self.engine, item, self.report)
            return
        from buildtool.stacks.orphans import warnings

        for text in warnings(self.project, plan.orphans):
            self.report.warn(text)

    def _dry_run(self, plan: Plan, state: State) -> None:
        for image, why in self.builds(state):
            print(f"DRY-RUN MODE - Image {image}: build ({why})")
        for action in plan.changes:
            print(f"DRY-RUN MODE - {describe(self.project, action)}")

    def builds(self, state: State) -> list[tuple[str, str]]:
        """Which images would be built, and why."""
        from buildtool.stacks.names import image_name

        stale = self.stale(state)
        found = []
        for name in self.order:
            service = self.project.services[name]
            image = "" if service.get("build") is None else image_name(self.project, name, service)
            why = stale.get(name, "") if image in state.images else "it does not exist"
            if image and why:
                found.append((image, why))
        return found

    def wait(self, run: Up, timeout: int | None) -> int:
        """`--wait`."""
        from buildtool.stacks.conditions import running_or_healthy, wait_for

        deadline = time.monotonic() + timeout if timeout else None
        try:
            containers = [(identifier, name) for _, identifier, name in run.containers]
            wait_for(self.engine, containers, running_or_healthy, self.report, deadline=deadline)
        finally:
            close_report(self.report)
        return 0

    def attached(self) -> set[str]:
        """The services whose output is shown."""
        call = self.call
        hidden = set(call.texts("no-attach"))
        for name in self.order:
            if self.project.services[name].get("attach") is False and name not in call.texts("attach"):
                hidden.add(name)
        shown = set(self.order)
        if call.texts("attach"):
            shown = set(call.texts("attach"))
        elif self.services and not call.switch("attach-dependencies"):
            shown = set(self.services)
        for name in [*call.texts("attach"), *call.texts("no-attach")]:
            if name not in self.order:
                raise BuildtoolError(f"no such service: {name}")
        return shown - hidden


def describe(project: Project, action: object) -> str:
    """One action of a plan in words."""
    from buildtool.stacks.names import container_name
    from buildtool.stacks.plan import Action

    assert isinstance(action, Action)
    if action.kind == "container":
        service = project.services[action.key]
        name = (
            action.container.name if action.container else container_name(project, action.key, service, action.number)
        )
    else:
        name = project.part(f"{action.kind}s")[action.key]["name"]
    return f"{action.kind.title()} {name}: {action.what}" + (f" ({action.why})" if action.why else "")
