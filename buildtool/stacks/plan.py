"""What `up` would change, and why: the wanted project against the containers, networks and volumes there are.

A function of values: it is what `up` executes, what `up --dry-run` and `stack diff` show.
"""

from __future__ import annotations

from buildtool.errors import Conflict
from buildtool.stacks import elsewhere, labels
from buildtool.stacks.jobs import jobs
from buildtool.stacks.names import image_name

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping, Sequence
    from typing import Any

    from buildtool.stacks.engine import Container
    from buildtool.stacks.model import Project

CREATE, RECREATE, START, RESTART, KEEP, REMOVE = "create", "recreate", "start", "restart", "keep", "remove"


class Options:
    """How `up` is to bring the project to what the files say."""

    def __init__(
        self,
        *,
        force_recreate: bool = False,
        no_recreate: bool = False,
        recreate_deps: bool = False,
        renew_anonymous: bool = False,
        scale: Mapping[str, int] | None = None,
        services: Sequence[str] = (),
        start: bool = True,
        rerun: bool = False,
    ) -> None:
        self.force_recreate = force_recreate
        self.no_recreate = no_recreate
        self.recreate_deps = recreate_deps
        self.renew_anonymous = renew_anonymous
        self.scale = dict(scale or {})
        self.services = list(services)
        self.start = start
        # Whether services that run once run again although they have ended well.
        self.rerun = rerun


class Action:
    """One change: of a container (`number` of `service`), a network or a volume; `why` is for the user."""

    __slots__ = ("container", "key", "kind", "number", "what", "why")

    def __init__(
        self, what: str, kind: str, key: str, why: str = "", container: Container | None = None, number: int = 0
    ) -> None:
        self.what = what
        self.kind = kind
        self.key = key
        self.why = why
        self.container = container
        self.number = number


class State:
    """What the engine has of the project. `networks` and `volumes` are by name, `images` are ids by name.

    `touched` are ids of ended containers on whose files somebody has worked since.
    """

    def __init__(
        self,
        containers: Sequence[Container] = (),
        networks: Mapping[str, dict[str, Any]] | None = None,
        volumes: Mapping[str, dict[str, Any]] | None = None,
        images: Mapping[str, str] | None = None,
        touched: Collection[str] = (),
    ) -> None:
        self.touched = frozenset(touched)
        self.containers = list(containers)
        self.networks = dict(networks or {})
        self.volumes = dict(volumes or {})
        self.images = dict(images or {})

    def of(self, service: str) -> list[Container]:
        """The service's containers, by number."""
        return [item for item in self.containers if item.service == service]


class Plan:
    """The actions in the order of the project's parts; `orphans` are containers of services that it does not have."""

    def __init__(self) -> None:
        self.networks: list[Action] = []
        self.volumes: list[Action] = []
        self.services: dict[str, list[Action]] = {}
        self.orphans: list[Container] = []

    @property
    def changes(self) -> list[Action]:
        """All actions that change something."""
        every = [*self.networks, *self.volumes, *(item for actions in self.services.values() for item in actions)]
        return [action for action in every if action.what != KEEP]


def replicas(name: str, service: Mapping[str, Any], options: Options) -> int:
    """How many containers the service is to have."""
    if name in options.scale:
        return options.scale[name]
    if service.get("scale") is not None:
        return int(service["scale"])
    count = (service.get("deploy") or {}).get("replicas")
    return 1 if count is None else int(count)


def make_plan(project: Project, state: State, options: Options, order: Sequence[str]) -> Plan:
    """What is to be done for the services in `order` (dependencies first)."""
    plan = Plan()
    plan.orphans = [item for item in state.containers if item.service not in project.services | project.disabled]
    recreated_networks = _plan_networks(project, state, plan, options)
    _plan_volumes(project, state, plan)
    changed: set[str] = set()
    for name in order:
        service = project.services[name]
        if service.get("provider"):
            plan.services[name] = []
            continue
        actions = _plan_service(project, name, state, options, changed, recreated_networks, plan)
        plan.services[name] = actions
        if any(action.what in (RECREATE, CREATE) and action.container is not None for action in actions):
            changed.add(name)
    return plan


def _plan_networks(project: Project, state: State, plan: Plan, options: Options) -> set[str]:
    recreated = set()
    for key, network in project.part("networks").items():
        found = state.networks.get(network["name"])
        if network.get("external"):
            continue
        if found is None:
            plan.networks.append(Action(CREATE, "network", key, "it does not exist"))
            continue
        marks = found.get("Labels") or {}
        digest = marks.get(labels.HASH)
        if digest and digest != project.digest("networks", key) and not options.no_recreate:
            plan.networks.append(Action(RECREATE, "network", key, "its configuration has changed"))
            recreated.add(network["name"])
        else:
            plan.networks.append(Action(KEEP, "network", key))
    return recreated


def _plan_volumes(project: Project, state: State, plan: Plan) -> None:
    for key, volume in project.part("volumes").items():
        if volume.get("external"):
            continue
        found = state.volumes.get(volume["name"])
        if found is None:
            plan.volumes.append(Action(CREATE, "volume", key, "it does not exist"))
            continue
        digest = (found.get("Labels") or {}).get(labels.HASH)
        why = "its configuration has changed: remove the volume to have it made anew (its data would be lost)"
        differs = bool(digest) and digest != project.digest("volumes", key)
        plan.volumes.append(Action(KEEP, "volume", key, why if differs else ""))


def _plan_service(
    project: Project, name: str, state: State, options: Options, changed: set[str], networks: set[str], plan: Plan
) -> list[Action]:
    service = project.services[name]
    shared = {other: _first_container(other, plan, state) for other in shared_services(service)}
    wanted = replicas(name, service, options)
    if service.get("container_name") and wanted > 1:
        raise Conflict(
            f"service {name!r} cannot have {wanted} containers: its container_name "
            f"{service['container_name']!r} is unique"
        )
    existing = state.of(name)
    reasons = {item.id: _why_recreate(project, name, item, state, options, shared, networks) for item in existing}
    # What is out of date goes first when there are too many, then what has the highest numbers.
    ranked = sorted(existing, key=lambda item: (bool(reasons[item.id]), item.number))
    actions = [Action(REMOVE, "container", name, "there are too many", item, item.number) for item in ranked[wanted:]]
    kept = sorted(ranked[:wanted], key=lambda item: item.number)
    restarts = _restarting_dependency(service, changed)
    for item in kept:
        reason = reasons[item.id]
        if reason:
            actions.append(Action(RECREATE, "container", name, reason, item, item.number))
        elif options.start and _is_done(project, name, item, state, options, plan):
            actions.append(Action(KEEP, "container", name, "it has done its work", item, item.number))
        elif not item.running and options.start:
            actions.append(Action(START, "container", name, f"it is {item.state}", item, item.number))
        elif restarts and options.start:
            actions.append(Action(RESTART, "container", name, f"{restarts} is recreated", item, item.number))
        else:
            actions.append(Action(KEEP, "container", name, "", item, item.number))
    taken = {item.number for item in existing}
    for number in _free_numbers(taken, wanted - len(kept)):
        why = "the service is new" if not existing else "there are too few"
        actions.append(Action(CREATE, "container", name, why, None, number))
    return actions


def _is_done(project: Project, name: str, container: Container, state: State, options: Options, plan: Plan) -> bool:
    """Whether the container ran once, ended well, and nothing that it works on is another since."""
    if container.exit_code != 0 or container.id in state.touched or options.rerun or name in options.services:
        return False
    fresh = {
        key for key, actions in plan.services.items() if any(action.what in (CREATE, RECREATE) for action in actions)
    }
    return name in jobs(project) and not fresh.intersection(project.services[name].get("depends_on") or {})


def _free_numbers(taken: set[int], count: int) -> list[int]:
    found: list[int] = []
    number = 1
    while len(found) < count:
        if number not in taken:
            found.append(number)
        number += 1
    return found


def _restarting_dependency(service: Mapping[str, Any], changed: set[str]) -> str:
    depends = service.get("depends_on") or {}
    return next((key for key in sorted(depends) if key in changed and depends[key].get("restart")), "")


def _why_recreate(
    project: Project,
    name: str,
    container: Container,
    state: State,
    options: Options,
    shared: dict[str, str],
    networks: set[str],
) -> str:
    """Why the container has to be made anew; "" when it may stay."""
    service = project.services[name]
    if options.no_recreate:
        return ""
    if _is_left_over(container.name):
        return "an interrupted up left it"
    named = not options.services or name in options.services
    if options.force_recreate and named:
        return "--force-recreate"
    if options.recreate_deps and not named:
        return "--always-recreate-deps"
    for other, what in shared_services(service).items():
        if not shared[other]:
            return f"{other}, whose {what} it has, is made anew"
    if container.labels.get(labels.HASH) != project.digest("services", name, shared):
        return "its configuration has changed"
    if container.labels.get(labels.USES, "") != elsewhere.label(service):
        return "what it needs of other projects has changed"
    image = image_name(project, name, service)
    current = state.images.get(image)
    has = container.labels.get(labels.IMAGE) or container.data.get("ImageID")
    if current and has and current not in (has, container.data.get("ImageID")):
        return f"image {image} has changed"
    written = project.digest("files", name)
    if container.labels.get(labels.FILES_HASH, written) != written:
        return "the content of its secrets or configs has changed"
    for key in service.get("networks") or {}:
        network = project.part("networks")[key]["name"]
        if network in networks:
            return f"network {network} is recreated"
        if network in state.networks and network not in container.networks:
            return f"it is not connected to network {network}"
    return ""


def shared_services(service: Mapping[str, Any]) -> dict[str, str]:
    """The services of whose first container it has something, and what of it."""
    found: dict[str, str] = {}
    for key, what in (("network_mode", "network"), ("ipc", "IPC namespace"), ("pid", "processes"), ("uts", "names")):
        value = service.get(key) or ""
        if value.startswith("service:"):
            found.setdefault(value.removeprefix("service:"), what)
    for source in service.get("volumes_from") or []:
        if not source.startswith("container:"):
            found.setdefault(source.partition(":")[0], "volumes")
    return found


def _first_container(service: str, plan: Plan, state: State) -> str:
    """The id of the container of a service that others share with; "" when that is yet to be made."""
    if service not in plan.services:
        return next((item.id for item in state.of(service)), "")
    kept = [action for action in plan.services[service] if action.what != REMOVE]
    first = min(kept, key=lambda action: action.number, default=None)
    return first.container.id if first and first.container and first.what in (KEEP, START, RESTART) else ""


def _is_left_over(name: str) -> bool:
    """Whether this is what a successor is called until it takes over: `0123456789ab_NAME`."""
    return name[12:13] == "_" and all(char in "0123456789abcdef" for char in name[:12])
