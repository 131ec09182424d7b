"""Copying images between registries, OCI layouts, archives and directories."""

from buildtool.registry.copying.copy import Copied, CopyOptions, copy
from buildtool.registry.copying.names import Location, parse_location
from buildtool.registry.copying.place import Place
from buildtool.registry.copying.places import open_place

__all__ = ["Copied", "CopyOptions", "Location", "Place", "copy", "open_place", "parse_location"]
