"""What the engine has of a project already: containers, networks, volumes and images."""

from __future__ import annotations

from buildtool.errors import NotFound
from buildtool.stacks import labels
from buildtool.stacks.jobs import jobs, touched
from buildtool.stacks.names import image_name
from buildtool.stacks.plan import State

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from buildtool.stacks.engine import Container, Engine
    from buildtool.stacks.model import Project


class Known:
    """What an earlier look has found to be as the project wants it: ids of containers, ids of networks by name."""

    def __init__(self, containers: Sequence[str] = (), networks: Mapping[str, str] | None = None) -> None:
        self.containers = list(containers)
        self.networks = dict(networks or {})


def observe(engine: Engine, project: Project, services: Sequence[str], known: Known | None = None) -> State:
    """What the engine has of the project, with as few requests as tell it.

    With `known`, networks and volumes are not asked for again as long as the same containers have them: networks and
    volumes do not change, and none of them can be removed while a container has it.
    """
    containers = engine.containers(project.name)
    if known is not None and _still_so(project, containers, known):
        networks = {
            item["name"]: {
                "Id": known.networks[item["name"]],
                "Labels": {labels.HASH: project.digest("networks", key)},
            }
            for key, item in project.part("networks").items()
        }
        volumes = {
            item["name"]: {"Labels": {labels.HASH: project.digest("volumes", key)}}
            for key, item in project.part("volumes").items()
        }
        return State(containers, networks, volumes, _images(engine, project, services, containers))
    wanted = {item["name"] for item in project.part("networks").values()}
    networks = {item["Name"]: item for item in engine.get("/networks") if item["Name"] in wanted} if wanted else {}
    volumes = {}
    if project.part("volumes"):
        wanted = {item["name"] for item in project.part("volumes").values()}
        volumes = {
            item["Name"]: item for item in engine.get("/volumes").get("Volumes") or () if item["Name"] in wanted
        }
    images = _images(engine, project, services, containers)
    return State(containers, networks, volumes, images, _touched(engine, project, containers))


def _touched(engine: Engine, project: Project, containers: Sequence[Container]) -> list[str]:
    """The ids of jobs' ended containers on whose files somebody has worked since."""
    once = jobs(project)
    ended = [item for item in containers if item.exit_code == 0 and item.service in once]
    return [item.id for item in ended if touched(engine, project.services.get(item.service) or {}, item)]


def _still_so(project: Project, containers: Sequence[Container], known: Known) -> bool:
    """Whether these are the containers of that time, and all networks and volumes are theirs."""
    if [item.id for item in containers] != known.containers or not all(item.running for item in containers):
        return False
    networks = {(name, end.get("NetworkID")) for item in containers for name, end in item.networks.items()}
    volumes = {mount.get("Name") for item in containers for mount in item.data.get("Mounts") or ()}
    return all(
        (item["name"], known.networks.get(item["name"], "")) in networks for item in project.part("networks").values()
    ) and all(item["name"] in volumes for item in project.part("volumes").values())


def _images(
    engine: Engine, project: Project, services: Sequence[str], containers: Sequence[Container]
) -> dict[str, str]:
    """The ids of the services' images that are there.

    A list of containers shows the name that an image was asked for by as long as the name still means that image
    (its id otherwise): what such a container runs need not be asked for.
    Source: Docker Engine API, GET /containers/json, `Image` and `ImageID`.
    """
    shown = {item.data.get("Image"): item.data["ImageID"] for item in containers if item.data.get("ImageID")}
    found: dict[str, str] = {}
    for name in services:
        service = project.services[name]
        image = "" if service.get("provider") else image_name(project, name, service)
        if not image or image in found:
            continue
        identifier = shown.get(image) or (engine.image(image) or {}).get("Id")
        if identifier:
            found[image] = identifier
    return found


def check_external(engine: Engine, project: Project, state: State) -> None:
    """Raise NotFound for an external network or volume that is not there."""
    for kind, found in (("networks", state.networks), ("volumes", state.volumes)):
        for item in project.part(kind).values():
            predefined = kind == "networks" and item["name"] in ("host", "none", "bridge")
            if item.get("external") and item["name"] not in found and not predefined:
                raise NotFound(
                    f"{kind[:-1]} {item['name']} declared as external, but could not be found",
                    hint=f"Make it with: buildtool {kind[:-1]} create {item['name']}",
                )
