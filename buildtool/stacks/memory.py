"""What `up` remembers of a stack: enough to see that nothing has changed without loading the stack again.

A memory is a function of what the load was asked for and of everything that it read: files, which files there were,
and the variables of the environment whose names occur in a file. All of it goes into one SHA-256; the memory holds
only that digest, the names of the files and what a plan asks of a project (names and digests, no values of the
environment, no contents of secrets). Whatever does not match is as good as no memory.
"""

from __future__ import annotations

import os

from buildtool import __version__
from buildtool.client.quickjson import dumps
from buildtool.stacks.caching import digest, read_own, write_own
from buildtool.stacks.elsewhere import KEY
from buildtool.stacks.jobs import bound_sources
from buildtool.stacks.model import Project, Request
from buildtool.stacks.observed import Known
from buildtool.stacks.plan import shared_services
from buildtool.stacks.sources import fingerprint, look

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from typing import Any

    from buildtool.stacks.reading import FileSystem

# What a plan asks of a service.
_PLANNED = ("image", "scale", "container_name", "network_mode", "ipc", "pid", "uts", "volumes_from", KEY)
# Services with these are brought up by more than a plan.
_BEYOND_THE_PLAN = ("provider", "models", "credential_spec", "isolation")
_POLICIES_OF_A_PLAN = (None, "missing", "if_not_present", "never")
_MOST = 200


class Remembered(Project):
    """A project of which only what a plan asks is known; `order` are its services, dependencies first."""

    def __init__(self, document: dict[str, Any]) -> None:
        super().__init__(document["name"], document, Request([], ""))
        self.disabled = {key: {} for key in document["disabled"]}
        self.warnings = document["warnings"]
        self.order: list[str] = document["order"]
        self._shared: dict[str, dict[str, str]] = document["shared"]
        self._digests: dict[str, dict[str, str]] = document["digests"]
        self.known = Known(document["containers"], document["network_ids"])

    def digest(self, kind: str, key: str, shared: Mapping[str, str] | None = None) -> str:
        """As it was computed when the project was loaded; "" for a service that shared with other containers."""
        if kind == "services" and (shared or {}) != self._shared.get(key, {}):
            return ""
        return self._digests[kind].get(key, "")


class Memory:
    """What is remembered of a load with these parameters, in a file of the folder.

    `parameters` must name all that decides what is loaded, but for files and environment.
    """

    def __init__(self, parameters: Sequence[object], folder: str) -> None:
        self._parameters = dumps([__version__, _program(), *parameters])
        self._document: dict[str, Any] = {}
        self._path = f"{folder}/{digest(self._parameters.encode())[:32]}.json"

    def recall(self, reader: FileSystem) -> Remembered | None:
        """The project, None when there is no memory or anything that was read is different now."""
        try:
            document = read_own(self._path)
            if document["inputs"] != self._inputs(document["read"], document["looked"], reader):
                return None
            if not all(fingerprint(look(sources)) == then for sources, then in document["builds"]):
                return None
            self._document = document
            return Remembered(document)
        except (OSError, ValueError, LookupError, TypeError, AttributeError):
            return None

    def remember(
        self,
        project: Project,
        order: Sequence[str],
        reader: FileSystem,
        containers: Mapping[str, str],
        builds: Sequence[object] = (),
    ) -> None:
        """Keep it, when the project is one that a plan is all about. A folder that cannot be written is no error.

        `containers` are the ids of the services' first ones, `builds` the sources of images with their fingerprints
        (`built.watched`).
        """
        if not _is_plain(project):
            return
        read = sorted({*reader.opened, *_written(project)})
        looked = sorted(reader.looked)
        services = project.services
        shared = {
            name: {other: containers.get(other, "") for other in others}
            for name, service in services.items()
            if (others := shared_services(service))
        }
        document = {
            "shared": shared,
            "inputs": self._inputs(read, looked, reader),
            "builds": list(builds),
            "containers": [],
            "network_ids": {},
            "read": read,
            "looked": looked,
            "name": project.name,
            "warnings": project.warnings,
            "disabled": list(project.disabled),
            "order": list(order),
            "services": {name: _reduced(service) for name, service in services.items()},
            "networks": {key: _named(item) for key, item in project.part("networks").items()},
            "volumes": {key: _named(item) for key, item in project.part("volumes").items()},
            "digests": {
                "services": {name: project.digest("services", name, shared.get(name)) for name in services},
                "files": {name: digest for name in services if (digest := project.digest("files", name))},
                "networks": {key: project.digest("networks", key) for key in project.part("networks")},
                "volumes": {key: project.digest("volumes", key) for key in project.part("volumes")},
            },
        }
        write_own(self._path, document, _MOST)

    def learn(self, known: Known) -> None:
        """Keep also what was seen to be as the recalled project wants it."""
        found = {"containers": known.containers, "network_ids": known.networks}
        if not self._document.items() >= found.items():
            write_own(self._path, self._document | found, _MOST)

    def _inputs(self, read: Sequence[str], looked: Sequence[str], reader: FileSystem) -> str:
        """One digest over everything that a load of these files depends on."""
        texts = []
        parts = [self._parameters.encode()]
        for path in read:
            data = reader.data(path)
            parts += [os.fsencode(path), b"absent" if data is None else b"%d" % len(data), data or b""]
            texts.append(data or b"")
        parts += [b"%d" % reader.exists(path) + os.fsencode(path) for path in looked]
        for name, value in sorted(os.environb.items()):
            if name != b"_" and any(name in text for text in texts):  # `_` is the shell's, another in every call
                parts += [name, b"%d" % len(value), value]
        return digest(b"\0".join(parts))


def _program() -> list[int]:
    """What tells one state of this program from another."""
    folder = os.path.dirname(__file__)
    return [int(os.stat(f"{folder}/{name}").st_mtime_ns) for name in sorted(os.listdir(folder)) if name[-3:] == ".py"]


def _is_plain(project: Project) -> bool:
    return all(
        service.get("pull_policy") in _POLICIES_OF_A_PLAN and not any(service.get(key) for key in _BEYOND_THE_PLAN)
        for service in project.services.values()
    )


def _written(project: Project) -> list[str]:
    """Files whose content is written into containers: read only when one is made, they count all the same."""
    parts = (*project.part("secrets").values(), *project.part("configs").values())
    return [item["file"] for item in parts if item.get("file")]


def _reduced(service: dict[str, Any]) -> dict[str, Any]:
    found = {key: service[key] for key in _PLANNED if service.get(key) is not None}
    found["networks"] = dict.fromkeys(service.get("networks") or {})
    depends = service.get("depends_on") or {}
    found["depends_on"] = {
        name: {"restart": bool(how.get("restart")), "condition": how["condition"]} for name, how in depends.items()
    }
    found["volumes"] = [{"type": "bind", "source": source} for source in bound_sources(service)]
    replicas = (service.get("deploy") or {}).get("replicas")
    return found if replicas is None else found | {"deploy": {"replicas": replicas}}


def _named(item: dict[str, Any]) -> dict[str, Any]:
    return {"name": item["name"], "external": bool(item.get("external"))}
