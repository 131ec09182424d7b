"""The registries as the builder uses them: base images, their layers when a step needs these."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from buildtool.cache import SnapshotId
from buildtool.images import Image
from buildtool.oci import Platform, parse_reference

if TYPE_CHECKING:
    from buildtool.registry import Credentials, Registries
    from buildtool.solve import BuildRequest
    from buildtool.solve.events import Tell
    from buildtool.solve.prepare import Prepared


class Bases:
    """A solve.BaseRegistry. `registries` gives the client, made at the first use."""

    def __init__(self, registries: Callable[[], Registries]) -> None:
        self._registries = registries

    async def resolve(self, reference: str, platform: Platform, request: BuildRequest, tell: Tell) -> None:
        credentials = _finder(request)(parse_reference(reference).domain)
        await self._registries().resolve(reference, lines(tell), platform=platform, credentials=credentials)

    async def complete(self, image: Image, request: BuildRequest, tell: Tell) -> None:
        await self._registries().remote_layers.complete(image, lines(tell), _finder(request))

    async def layer(self, image: Image, index: int, prepared: Prepared, tell: Tell) -> SnapshotId:
        layers, find = self._registries().remote_layers, _finder(prepared.request)
        found = await layers.layer(image, index, prepared.lease, lines(tell), find)
        assert found.snapshot is not None
        return found.snapshot


def _finder(request: BuildRequest) -> Callable[[str], Credentials | None]:
    """The credentials that came with the request, none for a registry that is not among them."""
    from buildtool.registry import find_credentials

    return lambda domain: find_credentials(request.registry_auth, domain) or None


def lines(tell: Tell) -> Callable[[dict[str, Any]], None]:
    """Progress messages as lines, and as numbers of bytes."""

    def emit(message: dict[str, Any]) -> None:
        detail = message.get("progressDetail") or {}
        identity = f"{message['id']}: " if "id" in message else ""
        if not detail or detail.get("total"):
            tell(f"{identity}{message['status']}", detail.get("current", 0), detail.get("total", 0))

    return emit
