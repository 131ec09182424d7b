"""`extends`: a service begins as another one, of the same file or of another.

Source: Compose specification, "extends"; reference/stacks.md 1.12.
"""

from __future__ import annotations

import os
from collections.abc import Callable

from buildtool.buildfile.suggest import did_you_mean
from buildtool.stacks.merge import merge_service, settle
from buildtool.stacks.paths import absolute, resolve_service
from buildtool.stacks.tree import Map, Path, StackError

# Reads a file as one canonical model that is not merged with anything.
Open = Callable[[str, StackError], Map]
_Chain = tuple[tuple[str, str], ...]


def apply_extends(
    model: Map, name: str, directory: str, open_file: Open, path_base: Callable[[str], str] = lambda folder: folder
) -> None:
    """Replace every service of the model that extends another, in place.

    `name` is the model's file, `directory` what `file:` is relative to; `path_base` says what the relative paths of
    services from a folder are put behind. Raises StackError for a service or a file
    that is not there, and for a circle.
    """
    services = model.get("services")
    if not isinstance(services, Map):
        return
    extender = _Extender(open_file, path_base)
    for key, service in list(services.items()):
        if isinstance(service, Map) and service.get("extends") is not None:
            services[key] = extender.resolve(services, key, name, directory, ())


class _Extender:
    def __init__(self, open_file: Open, path_base: Callable[[str], str]) -> None:
        self._open = open_file
        self._path_base = path_base

    def resolve(self, services: Map, key: str, file: str, directory: str, chain: _Chain) -> Map:
        """The service with everything that it extends."""
        service: Map = services[key]
        base = service.get("extends")
        if base is None:
            return service
        path: Path = ("services", key, "extends")
        mark = service.place("extends")
        if (file, key) in chain:
            trail = " -> ".join(name for _, name in (*chain, (file, key)))
            raise StackError(path, f"circular reference: {trail}", mark)
        chain = (*chain, (file, key))
        wanted = base["service"]
        own = Map(service.mark)
        for name, value in service.items():
            if name != "extends":
                own.put(name, value, service.place(name))
        if base.get("file"):
            other = absolute(base["file"], directory)
            found = self._open(
                other, StackError((*path, "file"), f"cannot read {base['file']!r}", base.place("file"))
            )
            there, inner, folder = found.get("services") or Map(), other, os.path.dirname(other)  # noqa: PTH120
        else:
            there, inner, folder = services, file, directory
        if not isinstance(there.get(wanted), Map):
            shown = f" in {base['file']}" if base.get("file") else ""
            raise StackError(
                path,
                f"cannot extend service {wanted!r}{shown}: there is no such service",
                base.place("service"),
                hint=did_you_mean(wanted, there),
            )
        first = settle(self.resolve(there, wanted, inner, folder, chain))
        if inner != file:
            resolve_service(first, self._path_base(folder))
        return merge_service(first, own)
