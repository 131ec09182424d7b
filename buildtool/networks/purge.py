"""Removing every trace of a data root's networks from the kernel, when it is uninstalled or its daemon was killed."""

from __future__ import annotations

import sys
from pathlib import Path

from buildtool.networks import kernel, rules
from buildtool.networks.firewall import Firewall


def purge(root: Path) -> None:
    """Remove the bridges, pairs and the packet filter's table of that root. Containers there lose their network."""
    names = kernel.Names(root)
    bridges, veths = kernel.own_links(names)
    kernel.delete_links([link.name for link in (*veths, *bridges)])
    Firewall().apply(rules.removal(names.table))
    names.remember(there=False)


if __name__ == "__main__":
    purge(Path(sys.argv[1]))
