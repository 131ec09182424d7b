"""What images of build sections were built from, remembered: so that `up` builds them anew when that has changed."""

from __future__ import annotations

from buildtool.client.quickjson import dumps
from buildtool.stacks.building import context_services, service_of
from buildtool.stacks.caching import cache_folder, digest, read_own, write_own
from buildtool.stacks.sources import definition, fingerprint, look, sources_of, what_changed, what_differs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

    from buildtool.stacks.model import Project
    from buildtool.stacks.sources import Listing, Source

_MOST = 500


class Record:
    """A build: the image's id, digests of the build section's attributes, and how the files were before it."""

    def __init__(
        self, image: str, defined: Mapping[str, str], sources: list[Source], listings: list[Listing]
    ) -> None:
        self.image = image
        self.defined = dict(defined)
        self.sources = sources
        self.listings = listings

    def difference(self, service: Mapping[str, Any]) -> str:
        """Why the image would come out differently now, "" when nothing speaks for that."""
        found = what_differs(self.defined, definition(service))
        if found:
            return found
        sources = sources_of(service["build"])
        if sources != self.sources:
            return f"{_first_other(self.sources, sources)} appeared or is gone"
        return what_changed(sources, self.listings, look(sources))


def _first_other(before: list[Source], now: list[Source]) -> str:
    names = [source[0] for source in (*before, *now) if source not in before or source not in now]
    return str(names[0])


def begin(service: Mapping[str, Any]) -> Record:
    """How everything is before a build; its image is not known yet."""
    sources = sources_of(service["build"])
    return Record("", definition(service), sources, look(sources))


class Built:
    """The records of one project's builds on one engine."""

    def __init__(self, project: Project, engine: str, folder: str | None = None) -> None:
        self._folder = cache_folder("builds") if folder is None else folder
        self._key = [engine, project.name, project.directory]

    def _path(self, service: str) -> str:
        return f"{self._folder}/{digest(dumps([*self._key, service]).encode())[:32]}.json"

    def keep(self, service: str, record: Record, image: str) -> None:
        """The build that was begun with this record has made this image."""
        if self._folder:
            document = {
                "image": image,
                "defined": record.defined,
                "sources": record.sources,
                "listings": record.listings,
            }
            write_own(self._path(service), document, _MOST)

    def of(self, service: str, image: str) -> Record | None:
        """The build of this image; None when it was built by others, pulled, or forgotten."""
        try:
            document = read_own(self._path(service))
            record = Record(document["image"], document["defined"], document["sources"], document["listings"])
        except (OSError, ValueError, LookupError, TypeError):
            return None
        return record if record.image == image else None


def stale(project: Project, services: Mapping[str, str], built: Built) -> dict[str, str]:
    """Why images should be built anew, by service; `services` are those that may be, with the ids of their images.

    An image that takes files from one that is built anew is one too.
    """
    found: dict[str, str] = {}
    for name, image in services.items():
        record = built.of(name, image)
        why = record.difference(service_of(project, name)) if record is not None else ""
        if why:
            found[name] = why
    spreading = bool(found)
    while spreading:
        spreading = False
        for name in services:
            base = next((other for other in context_services(service_of(project, name)) if other in found), None)
            if base is not None and name not in found:
                found[name] = f"the image of {base} is built anew"
                spreading = True
    return found


def watched(services: Mapping[str, str], built: Built) -> list[list[Any]]:
    """For a memory of the project: the sources of every image that we built, with the fingerprint of that time."""
    records = [built.of(name, image) for name, image in services.items()]
    return [[record.sources, fingerprint(record.listings)] for record in records if record is not None]
