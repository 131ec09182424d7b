"""Creating a container: the request and the image's config become a record, a directory and its volumes."""

from __future__ import annotations

import os
import posixpath
import shutil
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from buildtool.aio import offload
from buildtool.cache.disk import FullDisk
from buildtool.containers import body as bodies
from buildtool.containers import limits, links, mounts, mountspec, names, times
from buildtool.containers.base import Base, Bases
from buildtool.containers.connections import Connections
from buildtool.containers.container import Container
from buildtool.containers.model import MountPoint, Record
from buildtool.containers.registry import Registry
from buildtool.containers.volumes import Volumes
from buildtool.errors import InvalidInput, NotFound
from buildtool.images import Image, Images
from buildtool.oci import Platform, best_platform, host_platform

_UNIFIED = Path("/sys/fs/cgroup/cgroup.controllers").exists()


class Creator:
    """Checks everything before anything is stored."""

    def __init__(
        self, images: Images, registry: Registry, bases: Bases, volumes: Volumes, connections: Connections
    ) -> None:
        self._images, self._registry, self._bases, self._volumes = images, registry, bases, volumes
        self._connections = connections
        self._root = registry.directory.parent.absolute()

    async def create(self, body: Any, name: str | None, platform: Platform | None) -> tuple[Container, list[str]]:
        """Make the container. Raises InvalidInput, NotFound (no such image), Conflict (the name), Unavailable."""
        request = bodies.decode_body(body)
        if not request.config.image:
            raise InvalidInput("no image given: the Image of the request is empty")
        image = self._image(request.config.image, platform)
        warnings = _check_platform(request.config.image, image, platform)
        bodies.merge(request.config, image.config.config)
        asked = request.host.network_mode
        warnings += self._settle(request)
        points = await self._points(request)
        linked = links.resolve(self._registry, request.host.links, request.host.network_mode)
        identity = names.new_id()
        private_hostname = asked != "host" and request.host.uts_mode != "host"
        if not request.config.hostname:
            request.config.hostname = identity[:12] if private_hostname else socket.gethostname()
        arguments = bodies.command(request.config)
        snapshots = await self._layers(image)
        name = self._registry.reserve(name, identity)
        record = Record(
            id=identity,
            name=name,
            created=times.now(),
            image_id=image.id,
            snapshots=snapshots,
            path=arguments[0],
            args=arguments[1:],
            platform=str(image.config.platform),
            config=request.config,
            host=request.host,
            mounts=points,
            networks=request.endpoints,
            links=linked,
            private_hostname=private_hostname,
        )
        container = Container(record, self._registry.directory_of(identity))
        try:
            with self._registry.holding(snapshots):
                await offload(self._store, container)
                self._registry.add(container)
        except BaseException:
            self._registry.release(name, identity)
            raise
        return container, warnings

    def _image(self, reference: str, platform: Platform | None) -> Image:
        """The image; of a name that means an index the one for the platform, if there is one."""
        members = self._images.members(reference) if platform is not None else []
        place = None if platform is None else best_platform(platform, [each.config.platform for each in members])
        return self._images.get(reference) if place is None else members[place]

    async def _layers(self, image: Image) -> list[int]:
        known = [int(layer.snapshot) for layer in image.layers if layer.snapshot is not None]
        if len(known) == len(image.layers):
            return known
        image = await self._images.bring(image)
        return [int(number) for number in await offload(self._images.snapshots, image)]

    def _settle(self, request: bodies.CreateBody) -> list[str]:
        """Fill in what Docker's daemon fills in; warnings about what has no effect."""
        host, warnings = request.host, []
        if request.config.network_disabled:
            host.network_mode, request.endpoints = "none", {}
        if host.network_mode.startswith("container:"):
            self._joined(host.network_mode)
        settled = self._connections.settle(host.network_mode, request.endpoints)
        host.network_mode, request.endpoints, said = settled
        warnings += said
        for namespace in (host.ipc_mode, host.pid_mode):
            if namespace.startswith("container:"):
                self._joined(namespace)
        if host.port_bindings and host.network_mode == "host":
            warnings.append("Published ports are discarded when using host network mode")
        host.restart_policy.name = host.restart_policy.name or "no"
        host.log_config.type = host.log_config.type or "json-file"
        host.shm_size = host.shm_size or limits.SHM_SIZE
        host.ipc_mode = host.ipc_mode or "private"
        host.cgroupns_mode = host.cgroupns_mode or ("private" if _UNIFIED else "host")
        if host.oom_kill_disable is None and not _UNIFIED:
            host.oom_kill_disable = False
        host.runtime = host.runtime or "buildtool"
        if host.memory and not host.memory_swap:
            host.memory_swap = host.memory * 2
        return warnings

    def _joined(self, mode: str) -> None:
        """Raises InvalidInput for a container that is not there: clients take a 404 here for a missing image."""
        try:
            self._registry.get(mode.partition(":")[2])
        except NotFound as error:
            raise InvalidInput(str(error)) from None

    async def _points(self, request: bodies.CreateBody) -> list[MountPoint]:
        if request.host.mounts:  # looks at the sources of binds
            for mount in request.host.mounts:
                if mount.type == "image" and (image := self._images.find(mount.source)) is not None:
                    await self._images.bring(image)
            return await offload(mountspec.mount_points, request.config, request.host, self._mounts_of, self._root)
        return mountspec.mount_points(request.config, request.host, self._mounts_of, self._root)

    def _mounts_of(self, reference: str) -> Sequence[MountPoint]:
        """What `--volumes-from` gives: all but what is the other's own by `--tmpfs` (moby: no mount point)."""
        record = self._registry.get(reference).record
        own = {posixpath.normpath(path) for path in record.host.tmpfs or ()}
        return [point for point in record.mounts if point.destination not in own]

    def _store(self, container: Container) -> None:
        record, directory = container.record, container.directory
        base = self._bases.get(record.snapshots)
        with FullDisk(directory):
            try:
                make_directory(container, base)
                if record.mounts:
                    mounts.create_sources(record, self._volumes, base.tree)
                self._registry.store(record)
            except BaseException:
                shutil.rmtree(directory, ignore_errors=True)
                raise


def make_directory(container: Container, base: Base) -> None:
    """The bundle directory with an empty writable layer that has the attributes of the image's root."""
    directory = container.directory
    directory.mkdir(0o710)
    upper = directory / "upper"
    upper.mkdir()
    (directory / "work").mkdir(0o700)
    if base.root_owner != (os.geteuid(), os.getegid()):
        os.chown(upper, *base.root_owner)
    upper.chmod(base.root_mode)


def _check_platform(reference: str, image: Image, platform: Platform | None) -> list[str]:
    actual, wanted = image.config.platform, platform
    if wanted is not None:
        if (wanted.os, wanted.architecture) != (actual.os, actual.architecture):
            raise NotFound(
                f"image with reference {reference} was found but does not match the specified platform: "
                f"wanted {wanted}, actual: {actual}"
            )
        return []
    host = host_platform()
    if (host.os, host.architecture) == (actual.os, actual.architecture):
        return []
    return [
        f"The requested image's platform ({actual}) does not match the detected host platform ({host}) "
        "and no specific platform was requested"
    ]
