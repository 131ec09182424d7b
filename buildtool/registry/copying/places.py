"""From a location to the place itself."""

from __future__ import annotations

from pathlib import Path

from buildtool.registry.copying.archives import ArchivePlace
from buildtool.registry.copying.directory import DirectoryPlace
from buildtool.registry.copying.layout import LayoutPlace
from buildtool.registry.copying.names import Location
from buildtool.registry.copying.place import Place
from buildtool.registry.copying.remote import RemotePlace
from buildtool.registry.credentials import Credentials
from buildtool.registry.repository import Repository
from buildtool.registry.transport import Transport
from buildtool.registry.work import settled


async def open_place(
    location: Location, transport: Transport, credentials: Credentials | None = None, *, write: bool = False
) -> Place:
    """Close it after use. Raises NotFound, InvalidInput, RegistryUnreachable."""
    if location.reference is not None:
        connection = await transport.connect(location.reference.domain, credentials)
        actions = ("pull", "push") if write else ("pull",)
        return RemotePlace(Repository(connection, location.reference.path, *actions))
    path = Path(location.path).absolute()
    if location.kind == "oci":
        return LayoutPlace(path, write=write)
    if location.kind == "dir":
        return DirectoryPlace(path, write=write)
    return await settled(ArchivePlace, path, docker=location.kind == "docker-archive", write=write)


def name_in(location: Location) -> str:
    """What the location calls the image, in its place's words: a tag, a digest, a name."""
    if location.reference is None:
        return location.name
    reference = location.reference.with_default_tag()
    return reference.digest or reference.tag
