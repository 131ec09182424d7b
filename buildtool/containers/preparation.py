"""From a container's record to the bundle that the runtime starts: files, mounts, user, limits, the OCI spec."""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec

from buildtool.aio import offload
from buildtool.cache.disk import FullDisk
from buildtool.cache.trees import Tree
from buildtool.containers import body, etcfiles, limits, links, logdrivers, mounts, runtimes
from buildtool.containers.base import Base, Bases
from buildtool.containers.connections import ANNOTATION
from buildtool.containers.container import Container
from buildtool.containers.device_requests import requested
from buildtool.containers.model import DeviceMapping, HostConfig, MountPoint, Record
from buildtool.containers.registry import Registry
from buildtool.containers.volumes import Volumes
from buildtool.errors import Conflict, InvalidInput, NotFound
from buildtool.images import Images
from buildtool.runtime import Bundle, ResolvedUser, Rootfs, SpecOptions, apparmor, container_spec, resolve_user

_IPC_SYSCTLS = frozenset(
    f"kernel.{name}"
    for name in ("msgmax", "msgmnb", "msgmni", "sem", "shmall", "shmmax", "shmmni", "shm_rmid_forced")
)
DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Preparer:
    """Prepares bundles; everything that touches files happens in one worker thread call."""

    def __init__(self, images: Images, registry: Registry, bases: Bases, volumes: Volumes) -> None:
        self._images, self._registry, self._bases, self._volumes = images, registry, bases, volumes

    async def bundle(self, container: Container) -> Bundle:
        """The bundle for the next start. Raises InvalidInput (user, mounts, devices), Conflict (joined container)."""
        namespaces = self._namespaces(container.record)
        shared = self._share_network_files(container.record)
        linked = links.gather(self._registry, container.record)
        container.record.link_environment = list(linked.environment)
        return await offload(self._prepare, container, namespaces, shared, linked.hosts)

    def _share_network_files(self, record: Record) -> Path | None:
        """A container in another's network has the other's host name and files."""
        mode = record.host.network_mode
        if not mode.startswith("container:"):
            return None
        other = self._registry.get(mode.partition(":")[2])
        record.config.hostname, record.config.domainname = other.config.hostname, other.config.domainname
        return other.directory

    def _prepare(
        self, container: Container, namespaces: dict[str, str], shared: Path | None, linked: Sequence[str]
    ) -> Bundle:
        record, directory = container.record, container.directory
        base = self._bases.get(record.snapshots)
        with FullDisk(directory):
            if shared is None:
                etcfiles.write(record, directory, linked)
            for point in record.mounts:
                if point.type == "volume":
                    self._volumes.hold(point.name, record.id)
            points = mounts.runtime_mounts(record, shared or directory, self._layers, self._images.store.root)
            _clear_volatile(directory / "work")
        user = self.user(container, record.config.user, base)
        spec = container_spec(_options(record, user, points, namespaces))
        spec["process"] |= confinement(record.host)
        if record.sandbox is not None:
            spec["annotations"] = {ANNOTATION: msgspec.json.encode(record.sandbox).decode()}
        return Bundle(
            id=record.id,
            directory=directory,
            spec=spec,
            rootfs=Rootfs(
                lower=base.lower,
                upper=directory / "upper",
                work=directory / "work",
                volatile=record.host.auto_remove,
            ),
            log=logdrivers.log_config(container),
            tty=record.config.tty,
            stdin=record.config.open_stdin,
            stdin_once=record.config.stdin_once,
            init=bool(record.host.init),
            runtime=runtimes.program(record.host.runtime),
        )

    def user(self, container: Container, text: str, base: Base | None = None) -> ResolvedUser:
        """Look a user up in the container's own passwd and group files (blocking). Raises InvalidInput."""
        base = base or self._bases.get(container.record.snapshots)
        passwd, group = base.passwd, base.group
        upper = container.directory / "upper"
        if (upper / "etc").exists():
            tree = Tree([*base.lower, upper])
            passwd, group = _text(tree, "/etc/passwd"), _text(tree, "/etc/group")
        return resolve_user(text, passwd, group, container.host.group_add or ())

    async def user_of(self, container: Container, text: str) -> ResolvedUser:
        """The same from the event loop: at once where the files are the image's, which are known then."""
        base = self._bases.known(container.record.snapshots)
        if base is not None and not (container.directory / "upper" / "etc").exists():
            return resolve_user(text, base.passwd, base.group, container.host.group_add or ())
        return await offload(self.user, container, text)

    def _layers(self, point: MountPoint) -> list[Path]:
        """An image mount's layers, which the container keeps from now on."""
        store = self._images.store
        numbers = self._images.snapshots(self._images.get(point.source))
        point.layers = [int(number) for number in numbers]
        return [store.snapshots.fs(number) for number in numbers]

    def _namespaces(self, record: Record) -> dict[str, str]:
        """The namespace files of other containers that this one joins, by kind (network, ipc, pid)."""
        host = record.host
        joined = {}
        for kind, mode in (("network", host.network_mode), ("ipc", host.ipc_mode), ("pid", host.pid_mode)):
            if not mode.startswith("container:"):
                continue
            other = self._registry.get(mode.partition(":")[2])
            if not other.alive:
                what = {"network": "network namespace", "ipc": "IPC", "pid": "PID namespace"}[kind]
                raise Conflict(f"cannot join {what} of a non running container: {other.id}")
            file = {"network": "net", "ipc": "ipc", "pid": "pid"}[kind]
            joined[kind] = f"/proc/{other.state.pid}/ns/{file}"
        return joined


def environment(record: Record, home: str = "") -> list[str]:
    """PATH, HOSTNAME, TERM with a terminal, its links', then its own (without `=`: unset); HOME unless given."""
    values = {"PATH": DEFAULT_PATH, "HOSTNAME": record.config.hostname}
    if record.config.tty:
        values["TERM"] = "xterm"
    return merge_environment(values, [*record.link_environment, *(record.config.env or ())], home)


def merge_environment(values: dict[str, str], entries: list[str], home: str) -> list[str]:
    """Put entries over values; HOME is added where nobody set it."""
    merged = dict(values)
    for entry in entries:
        name, equals, value = entry.partition("=")
        if equals:
            merged[name] = value
        else:
            merged.pop(name, None)
    if home and "HOME" not in merged:
        merged["HOME"] = home
    return [f"{name}={value}" for name, value in merged.items()]


def confinement(host: HostConfig) -> dict[str, str]:
    """What the OCI process of a container says of AppArmor: nothing where there is none. Raises Unavailable."""
    return apparmor.KERNEL.process(body.security(host.security_opt).apparmor, privileged=host.privileged)


def _options(
    record: Record, user: ResolvedUser, points: list[dict[str, Any]], namespaces: dict[str, str]
) -> SpecOptions:
    config, host = record.config, record.host
    security = body.security(host.security_opt)
    check_sysctls(record)
    more = requested(host)
    height, width = host.console_size
    return SpecOptions(
        id=record.id,
        args=[record.path, *record.args],
        env=[*environment(record, user.home), *more.env],
        cwd=config.working_dir or "/",
        user=replace(user, additional_gids=(*user.additional_gids, *more.gids)) if more.gids else user,
        hostname=config.hostname,
        domainname=config.domainname,
        network=namespaces.get("network", host.network_mode),
        pid=namespaces.get("pid", host.pid_mode),
        ipc=namespaces.get("ipc", "host" if host.ipc_mode == "host" else ""),
        uts=host.uts_mode,
        cgroup=host.cgroupns_mode,
        mounts=[*points, *more.mounts],
        cap_add=host.cap_add or [],
        cap_drop=host.cap_drop or [],
        privileged=host.privileged,
        readonly_rootfs=host.readonly_rootfs,
        seccomp="unconfined" if host.privileged and security.seccomp == "default" else security.seccomp,
        no_new_privileges=security.no_new_privileges,
        resources={**limits.resources(host), "devices": limits.device_rules(host)},
        shm_size=host.shm_size,
        ulimits=limits.rlimits(host),
        sysctls={**_network_sysctls(record), **(host.sysctls or {})},
        devices=_devices_of(host, more.nodes),
        masked_paths=[] if security.unmasked else host.masked_paths,
        readonly_paths=[] if security.unmasked else host.readonly_paths,
        tty=config.tty,
        console_size=(height, width) if config.tty and height and width else None,
        oom_score_adj=host.oom_score_adj or None,
        cgroup_parent=host.cgroup_parent or "/buildtool",
    )


def _network_sysctls(record: Record) -> dict[str, str]:
    """What Docker sets in a network namespace of the container's own; endpoints with IPv6 turn it on themselves."""
    if record.sandbox is None:
        return {}
    return {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.default.disable_ipv6": "1"}


def _devices_of(host: HostConfig, nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """A privileged container has what it asks for besides everything: it may want it under another name."""
    asked = [*devices(host.devices), *(_device(Path(each["source"]), each["path"], each["access"]) for each in nodes)]
    if not host.privileged:
        return asked
    names = {device["path"] for device in asked}
    return [*(device for device in all_devices() if device["path"] not in names), *asked]


def all_devices() -> list[dict[str, Any]]:
    """What a privileged container gets: the host's devices, but for terminals and what every container has anyway."""
    found = []
    for directory, names, files in os.walk("/dev"):
        names[:] = [name for name in names if name not in ("pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts")]
        for name in files:
            path = Path(directory, name)
            if name != "console" and not path.is_symlink() and (path.is_char_device() or path.is_block_device()):
                found.append(_device(path, str(path), "rwm"))
    return found


def check_sysctls(record: Record) -> None:
    """Raises InvalidInput for a kernel parameter that would change the host, as runc does."""
    host = record.host
    for name in host.sysctls or ():
        dotted = name.replace("/", ".")
        if dotted.startswith("net."):
            if host.network_mode == "host":
                raise InvalidInput(f'sysctl "{name}" not allowed in host network namespace')
        elif dotted in _IPC_SYSCTLS or dotted.startswith("fs.mqueue."):
            if host.ipc_mode == "host":
                raise InvalidInput(f'sysctl "{name}" is not allowed in the hosts ipc namespace')
        elif dotted == "kernel.domainname":
            if host.uts_mode == "host":
                raise InvalidInput(f'sysctl "{name}" is not allowed in the hosts uts namespace')
        else:
            raise InvalidInput(f'sysctl "{name}" is not in a separate kernel namespace')


def devices(mappings: list[DeviceMapping] | None) -> list[dict[str, Any]]:
    """OCI devices of `HostConfig.Devices`; a directory means all devices in it. Raises InvalidInput."""
    found: list[dict[str, Any]] = []
    for mapping in mappings or ():
        source = Path(mapping.path_on_host)
        target = mapping.path_in_container or mapping.path_on_host
        access = mapping.cgroup_permissions or "rwm"
        if source.is_dir():
            members = [path for path in sorted(source.rglob("*")) if path.is_block_device() or path.is_char_device()]
            found += [_device(path, f"{target}/{path.relative_to(source)}", access) for path in members]
        else:
            found.append(_device(source, target, access))
    return found


def _device(source: Path, target: str, access: str) -> dict[str, Any]:
    try:
        status = source.stat()
    except OSError as error:
        raise InvalidInput(
            f'error gathering device information while adding custom device "{source}": no such file or '
            f"directory ({error.strerror})"
        ) from None
    if not stat.S_ISCHR(status.st_mode) and not stat.S_ISBLK(status.st_mode):
        raise InvalidInput(
            f'error gathering device information while adding custom device "{source}": not a device node'
        )
    return {
        "type": "c" if stat.S_ISCHR(status.st_mode) else "b",
        "path": target,
        "major": os.major(status.st_rdev),
        "minor": os.minor(status.st_rdev),
        "fileMode": stat.S_IMODE(status.st_mode),
        "uid": status.st_uid,
        "gid": status.st_gid,
        "access": access,
    }


def _clear_volatile(work: Path) -> None:
    """A volatile overlay leaves a mark that forbids its next mount; the layer is ours, and as good as it is."""
    if (work / "work" / "incompat").is_dir():
        shutil.rmtree(work / "work")


def _text(tree: Tree, path: str) -> str:
    try:
        return tree.read_text(path)
    except (NotFound, OSError):
        return ""
