"""A loaded stack: the project's name, its canonical model, and what it was loaded from."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any, Protocol

    from buildtool.stacks.tree import Map, Path, StackError
else:
    Protocol = object  # `typing` costs an `up` with nothing to do a tenth of its time


class Files(Protocol):
    """Where texts come from: the file system, or a test's dictionary."""

    def read(self, path: str) -> str:
        """The file's text. Raises OSError, InvalidInput when it is no text."""
        ...

    def exists(self, path: str) -> bool:
        """Whether there is such a file."""
        ...


class Request:
    """What is to be loaded, and how.

    `files` are absolute names (or `-` with its text in `files.read`), `directory` is the project's, `name` what `-p`
    said. `environment` is what interpolation sees: the process's, over the `.env` files. The switches are those of
    `config`.
    """

    def __init__(
        self,
        files: list[str],
        directory: str,
        *,
        name: str = "",
        environment: Mapping[str, str] | None = None,
        profiles: list[str] | None = None,
        interpolate: bool = True,
        normalise: bool = True,
        consistent: bool = True,
        resolve_paths: bool = True,
        resolve_environment: bool = True,
        read_env_files: bool = True,
        all_resources: bool = False,
    ) -> None:
        self.files = files
        self.directory = directory
        self.name = name
        self.environment = dict(environment or {})
        self.profiles = list(profiles or [])
        self.interpolate = interpolate
        self.normalise = normalise
        self.consistent = consistent
        self.resolve_paths = resolve_paths
        self.resolve_environment = resolve_environment
        self.read_env_files = read_env_files
        self.all_resources = all_resources
        # Variables of env files for interpolation: (file, value) in the order of reading, later ones win.
        self.origins: dict[str, list[tuple[str, str]]] = {}


class Project:
    """One stack. `model` is canonical; `disabled` are services whose profiles are not active."""

    def __init__(self, name: str, model: dict[str, Any], request: Request) -> None:
        self.name = name
        self.model = model
        self.request = request
        self.directory = request.directory
        self.files = list(request.files)
        self.environment = request.environment
        self.profiles = list(request.profiles)
        self.disabled: dict[str, dict[str, Any]] = {}
        # The label files of services: what they say is in the labels, their names go into the hash.
        self.label_files: dict[str, list[str]] = {}
        self.warnings: list[str] = []

    def part(self, kind: str) -> dict[str, Any]:
        """The resources of a kind, by key."""
        found: dict[str, Any] | None = self.model.get(kind)
        return {} if found is None else found

    def declare(self, kind: str) -> Map:
        """The resources of a kind, to add to."""
        from buildtool.stacks.tree import Map

        found = self.model.get(kind)
        if not isinstance(found, Map):
            assert isinstance(self.model, Map)
            found = Map()
            self.model.put(kind, found)
        return found

    def digest(self, kind: str, key: str, shared: Mapping[str, str] | None = None) -> str:
        """The configuration hash of a resource; for `files`, the hash of what is written into a service's files.

        `shared` are the ids of the containers whose namespaces or volumes a service has, by service.
        """
        from buildtool.stacks import hashing

        if kind == "files":
            from buildtool.stacks.files import files_hash, written_files

            return files_hash(written_files(self, self.services[key]))
        if kind == "services":
            return hashing.service_hash(self.services[key], shared=shared, label_files=self.label_files.get(key, ()))
        by_kind = {"networks": hashing.network_hash, "volumes": hashing.volume_hash}
        return by_kind[kind](self.part(kind)[key])

    @property
    def services(self) -> dict[str, Any]:
        """The active services."""
        return self.part("services")

    def error(self, path: Path, problem: str, hint: str = "") -> StackError:
        """An error at a place of the model."""
        from buildtool.stacks.tree import StackError, mark_at

        return StackError(path, problem, mark_at(self.model, path), hint=hint)
