"""`commit`: a container's writable layer becomes the topmost layer of a new image."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache import Store
from buildtool.cache.overlay import opaque_xattr
from buildtool.cache.snapshots import SnapshotId
from buildtool.containers import body, times
from buildtool.containers.model import Config, Record, decode
from buildtool.containers.mounts import copy_entry, copy_owner_and_attributes
from buildtool.errors import InvalidInput
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import ContainerConfig, Digest, History, Reference, encode, parse_reference


@dataclass(frozen=True)
class CommitRequest:
    """What the new image is to be."""

    reference: Reference | None
    config: ContainerConfig
    comment: str
    author: str


def parse_request(
    record: Record, *, repo: str, tag: str, comment: str, author: str, changes: Sequence[str], config: Any
) -> CommitRequest:
    """Check everything before the layer is copied. Raises InvalidInput."""
    reference = None
    if repo:
        reference = parse_reference(f"{repo}:{tag}" if tag else repo).with_default_tag()
        if reference.digest:
            raise InvalidInput("refusing to create a tag with a digest reference")
    own = decode(config, Config, "container config") if config else Config()
    merged = _merged(own, record.config)
    if any(change.strip() for change in changes):
        from buildtool.images.changes import apply_changes

        merged = apply_changes(merged, changes)
    return CommitRequest(reference, merged, comment, author)


def commit(store: Store, images: Images, base: Image, record: Record, upper: Path, request: CommitRequest) -> Image:
    """Copy the layer and register the image (blocking). The container should not write meanwhile."""
    with store.leases.hold("commit") as lease:
        with store.snapshots.prepare([SnapshotId(number) for number in record.snapshots[-1:]]) as draft:
            copy_layer(upper, draft.fs)
            snapshot = draft.commit()
        lease.snapshot(snapshot)
        layers = list(base.layers)
        if not store.layers.is_empty(snapshot):
            diff_id, size = store.layers.diff_id(snapshot, None)
            layers.append(LayerSource(diff_id, size, snapshot))
        store.snapshots.sync()
        created = times.rfc3339nano(times.now())
        entry = History(
            created=created,
            created_by=" ".join(record.config.cmd or ()),
            author=request.author,
            comment=request.comment,
            empty_layer=len(layers) == len(base.layers),
        )
        document = msgspec.structs.replace(
            base.config,
            config=request.config,
            created=created,
            author=request.author,
            rootfs=msgspec.structs.replace(base.config.rootfs, diff_ids=[layer.diff_id for layer in layers]),
            history=[*(base.config.history or ()), entry],
        )
        references = [request.reference] if request.reference else []
        return images.add(
            encode(document), layers, references=references, parent=Digest(record.image_id), durable=True
        )


def copy_layer(upper: Path, target: Path) -> None:
    """Copy an overlay's upper directory, whiteouts and opaque marks included."""
    links: dict[tuple[int, int], Path] = {}
    directories: list[tuple[Path, Path, os.stat_result]] = [(upper, target, upper.lstat())]
    opaque = opaque_xattr()
    for source, destination, _ in directories:
        with os.scandir(source) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                path, copy = source / entry.name, destination / entry.name
                if stat.S_ISDIR(status.st_mode):
                    copy.mkdir()
                    directories.append((path, copy, status))
                    _copy_mark(path, copy, opaque)
                    continue
                copy_entry(path, copy, status, links)
                if copy.is_symlink() or copy.exists():
                    copy_owner_and_attributes(path, copy, status)
    for source, destination, status in reversed(directories):
        copy_owner_and_attributes(source, destination, status)


def _copy_mark(source: Path, target: Path, name: str) -> None:
    try:
        value = os.getxattr(source, name, follow_symlinks=False)
    except OSError:
        return
    os.setxattr(target, name, value, follow_symlinks=False)


def _merged(own: Config, container: Config) -> ContainerConfig:
    """The request's config over the container's, as an image's config."""
    inherited = _image_config(container)
    if own == Config():
        return inherited
    if not own.cmd and not own.entrypoint:
        own.cmd, own.entrypoint = container.cmd, container.entrypoint
    body.merge(own, inherited)
    return _image_config(own)


def _image_config(config: Config) -> ContainerConfig:
    return ContainerConfig(
        user=config.user,
        exposed_ports=config.exposed_ports or None,
        env=config.env or None,
        entrypoint=config.entrypoint or None,
        cmd=config.cmd or None,
        healthcheck=config.healthcheck,
        args_escaped=config.args_escaped,
        volumes=config.volumes or None,
        working_dir=config.working_dir,
        on_build=config.on_build or None,
        labels=config.labels or None,
        stop_signal=config.stop_signal,
        stop_timeout=config.stop_timeout,
        shell=config.shell or None,
    )
