"""The whole API: all route tables together."""

from __future__ import annotations

from buildtool.daemon import (
    routes_absent,
    routes_attestations,
    routes_build,
    routes_cache,
    routes_containers,
    routes_description,
    routes_exec,
    routes_export,
    routes_files,
    routes_history,
    routes_images,
    routes_networks,
    routes_own,
    routes_registry,
    routes_sessions,
    routes_system,
    routes_volumes,
)
from buildtool.daemon.routing import Router


def make_router() -> Router:
    """Every route of every module."""
    return Router(
        routes_system.routes,
        routes_containers.routes,
        routes_files.routes,
        routes_exec.routes,
        routes_registry.routes,
        routes_attestations.routes,
        routes_images.routes,
        routes_build.routes,
        routes_volumes.routes,
        routes_networks.routes,
        routes_own.routes,
        routes_description.routes,
        routes_export.routes,
        routes_sessions.routes,
        routes_history.routes,
        routes_cache.routes,
        routes_absent.routes,
    )
