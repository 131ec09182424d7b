"""The engine that a stack runs on: a client for each thread, and what the stack asks of it."""

from __future__ import annotations

from _thread import get_ident

from buildtool.client import Client, EngineError, Response, quote_path
from buildtool.stacks import labels

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any


class Engine:
    """Requests to one daemon, from any thread. `open_client` makes a client.

    With `dry` nothing is changed: `post` and `act` do nothing.
    """

    def __init__(self, open_client: Callable[[], Client], *, dry: bool = False) -> None:
        self._open = open_client
        self.dry = dry
        self._clients: dict[int, Client] = {}

    @property
    def client(self) -> Client:
        """This thread's client; one that a thread has left behind serves the next of the same number."""
        mine = get_ident()
        if mine not in self._clients:
            self._clients[mine] = self._open()
        return self._clients[mine]

    def get(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """GET, and the JSON of the answer."""
        return self.client.get(path, query)

    def find(self, path: str, query: dict[str, Any] | None = None) -> Any:
        """GET, and None when there is no such thing."""
        try:
            return self.client.get(path, query)
        except EngineError as error:
            if error.status == 404:
                return None
            raise

    def post(self, path: str, query: dict[str, Any] | None = None, document: object = None) -> Any:
        """POST, and the JSON of the answer."""
        if self.dry:
            return {}
        return self.client.post(path, query, document)

    def act(self, method: str, path: str, query: dict[str, Any] | None = None, *, missing: bool = False) -> None:
        """A request whose answer says nothing. With `missing`, what is not there (or is going) is no error."""
        if self.dry:
            return
        try:
            self.client.call(method, path, query).read()
        except EngineError as error:
            gone = error.status == 404 or (error.status == 409 and "already in progress" in error.message)
            if not (missing and gone):
                raise

    def stream(self, path: str, query: dict[str, Any] | None = None) -> Response:
        """GET on a connection of its own, for an answer that goes on."""
        return self.client.call("GET", path, query, dedicated=True)

    def image(self, name: str) -> dict[str, Any] | None:
        """An image's details, None when it is not there."""
        found: dict[str, Any] | None = self.find(f"/images/{quote_path(name)}/json")
        return found

    def containers(self, project: str, *, oneoff: bool = False) -> list[Container]:
        """The project's containers in any state; with `oneoff`, those of `run` too."""
        found = self.get("/containers/json", {"all": True, **labels.project_filter(project)})
        all_of_them = sorted((Container(item) for item in found), key=lambda item: (item.service, item.number))
        return [item for item in all_of_them if oneoff or not item.oneoff]


class Container:
    """A container as a list call shows it."""

    __slots__ = ("data", "id", "labels", "name", "number", "service", "state")

    def __init__(self, data: dict[str, Any]) -> None:
        self.data = data
        self.id: str = data["Id"]
        self.labels: dict[str, str] = data.get("Labels") or {}
        names = [name for name in data.get("Names") or [] if name.count("/") == 1]
        self.name: str = (names or data.get("Names") or [self.id[:12]])[0].removeprefix("/")
        self.service = self.labels.get(labels.SERVICE, "")
        number = self.labels.get(labels.NUMBER, "")
        self.number = int(number) if number.isdecimal() else 0
        self.state: str = data.get("State", "")

    @property
    def oneoff(self) -> bool:
        """Whether `run` made it."""
        return self.labels.get(labels.ONEOFF, "").lower() == "true"

    @property
    def running(self) -> bool:
        """Whether its process runs (or is frozen)."""
        return self.state in ("running", "paused", "restarting")

    @property
    def exit_code(self) -> int | None:
        """What it ended with; None when it runs or has never run. A list call has it in words only."""
        status: str = self.data.get("Status") or ""
        if self.state != "exited" or not status.startswith("Exited ("):
            return None
        code = status[len("Exited (") :].partition(")")[0]
        return int(code) if code.lstrip("-").isdecimal() else None

    @property
    def networks(self) -> dict[str, Any]:
        """Its networks by name."""
        found: dict[str, Any] = (self.data.get("NetworkSettings") or {}).get("Networks") or {}
        return found
