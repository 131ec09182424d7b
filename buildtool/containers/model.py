"""The documents of the Engine API that describe a container, as typed values.

Field order is the order in which Docker writes them. Decoding follows Go where clients rely on it: null means
"not given", unknown keys are ignored, a command may be one string.
"""

from __future__ import annotations

from typing import Any, TypeVar

import msgspec

from buildtool.errors import InvalidInput
from buildtool.networks import Sandbox
from buildtool.oci import HealthConfig

T = TypeVar("T")

_field = msgspec.field


class Config(msgspec.Struct, rename="pascal", kw_only=True):
    """`ContainerConfig`: what runs, independent of the host."""

    hostname: str = ""
    domainname: str = ""
    user: str = ""
    attach_stdin: bool = False
    attach_stdout: bool = False
    attach_stderr: bool = False
    exposed_ports: dict[str, dict[str, Any]] | None = None
    tty: bool = False
    open_stdin: bool = False
    stdin_once: bool = False
    env: list[str] | None = None
    cmd: list[str] | None = None
    healthcheck: HealthConfig | None = None
    args_escaped: bool = False
    image: str = ""
    volumes: dict[str, dict[str, Any]] | None = None
    working_dir: str = ""
    entrypoint: list[str] | None = None
    network_disabled: bool = False
    mac_address: str = ""
    on_build: list[str] | None = None
    labels: dict[str, str] | None = None
    stop_signal: str = ""
    stop_timeout: int | None = None
    shell: list[str] | None = None


class LogConfig(msgspec.Struct, rename="pascal"):
    """Logging driver and its options."""

    type: str = ""
    config: dict[str, str] = _field(default_factory=dict)


class RestartPolicySpec(msgspec.Struct, rename="pascal"):
    """Restart policy as asked for."""

    name: str = ""
    maximum_retry_count: int = 0


class PortBinding(msgspec.Struct, rename="pascal"):
    """A host address and port, as text."""

    host_ip: str = ""
    host_port: str = ""


class Ulimit(msgspec.Struct, rename="pascal"):
    """One resource limit."""

    name: str
    hard: int = 0
    soft: int = 0


class DeviceMapping(msgspec.Struct, rename="pascal"):
    """A host device in the container."""

    path_on_host: str = ""
    path_in_container: str = ""
    cgroup_permissions: str = ""


class ThrottleDevice(msgspec.Struct, rename="pascal"):
    """A rate for one block device."""

    path: str
    rate: int = 0


class WeightDevice(msgspec.Struct, rename="pascal"):
    """A weight for one block device."""

    path: str
    weight: int = 0


class BindOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Options of a bind mount."""

    propagation: str = ""
    non_recursive: bool = False
    create_mountpoint: bool = False
    read_only_non_recursive: bool = False
    read_only_force_recursive: bool = False


class DriverConfig(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Volume driver and its options."""

    name: str = ""
    options: dict[str, str] | None = None


class VolumeOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Options of a volume mount."""

    no_copy: bool = False
    labels: dict[str, str] | None = None
    subpath: str = ""
    driver_config: DriverConfig | None = None


class ImageOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Options of an image mount."""

    subpath: str = ""


class TmpfsOptions(msgspec.Struct, rename="pascal", omit_defaults=True):
    """Options of a tmpfs mount."""

    size_bytes: int = 0
    mode: int = 0
    options: list[list[str]] | None = None


class Mount(msgspec.Struct, rename="pascal", omit_defaults=True):
    """One entry of `HostConfig.Mounts`."""

    type: str = ""
    source: str = ""
    target: str = ""
    read_only: bool = False
    consistency: str = ""
    bind_options: BindOptions | None = None
    volume_options: VolumeOptions | None = None
    image_options: ImageOptions | None = None
    tmpfs_options: TmpfsOptions | None = None


class HostConfig(msgspec.Struct, rename="pascal", kw_only=True):
    """`HostConfig`: what depends on the host."""

    binds: list[str] | None = None
    container_id_file: str = _field(default="", name="ContainerIDFile")
    log_config: LogConfig = _field(default_factory=LogConfig)
    network_mode: str = ""
    port_bindings: dict[str, list[PortBinding] | None] = _field(default_factory=dict)
    restart_policy: RestartPolicySpec = _field(default_factory=RestartPolicySpec)
    auto_remove: bool = False
    volume_driver: str = ""
    volumes_from: list[str] | None = None
    console_size: list[int] = _field(default_factory=lambda: [0, 0])
    annotations: dict[str, str] | None = None
    cap_add: list[str] | None = None
    cap_drop: list[str] | None = None
    cgroupns_mode: str = ""
    dns: list[str] | None = None
    dns_options: list[str] | None = None
    dns_search: list[str] | None = None
    extra_hosts: list[str] | None = None
    group_add: list[str] | None = None
    ipc_mode: str = ""
    cgroup: str = ""
    links: list[str] | None = None
    oom_score_adj: int = 0
    pid_mode: str = ""
    privileged: bool = False
    publish_all_ports: bool = False
    readonly_rootfs: bool = False
    security_opt: list[str] | None = None
    storage_opt: dict[str, str] | None = None
    tmpfs: dict[str, str] | None = None
    uts_mode: str = _field(default="", name="UTSMode")
    userns_mode: str = ""
    shm_size: int = 0
    sysctls: dict[str, str] | None = None
    runtime: str = ""
    isolation: str = ""
    cpu_shares: int = 0
    memory: int = 0
    nano_cpus: int = 0
    cgroup_parent: str = ""
    blkio_weight: int = 0
    blkio_weight_device: list[WeightDevice] | None = None
    blkio_device_read_bps: list[ThrottleDevice] | None = None
    blkio_device_write_bps: list[ThrottleDevice] | None = None
    blkio_device_read_iops: list[ThrottleDevice] | None = _field(default=None, name="BlkioDeviceReadIOps")
    blkio_device_write_iops: list[ThrottleDevice] | None = _field(default=None, name="BlkioDeviceWriteIOps")
    cpu_period: int = 0
    cpu_quota: int = 0
    cpu_realtime_period: int = 0
    cpu_realtime_runtime: int = 0
    cpuset_cpus: str = ""
    cpuset_mems: str = ""
    devices: list[DeviceMapping] | None = None
    device_cgroup_rules: list[str] | None = None
    device_requests: list[dict[str, Any]] | None = None
    memory_reservation: int = 0
    memory_swap: int = 0
    memory_swappiness: int | None = None
    oom_kill_disable: bool | None = None
    pids_limit: int | None = None
    ulimits: list[Ulimit] | None = None
    cpu_count: int = 0
    cpu_percent: int = 0
    io_maximum_iops: int = _field(default=0, name="IOMaximumIOps")
    io_maximum_bandwidth: int = _field(default=0, name="IOMaximumBandwidth")
    mounts: list[Mount] | None = None
    masked_paths: list[str] | None = None
    readonly_paths: list[str] | None = None
    init: bool | None = None


class MountPoint(msgspec.Struct, rename="pascal"):
    """A mount of an existing container, as inspect shows it (`name` and `driver` only for volumes)."""

    type: str
    source: str
    destination: str
    mode: str = ""
    rw: bool = _field(default=True, name="RW")
    propagation: str = ""
    name: str = ""
    driver: str = ""
    anonymous: bool = False
    no_copy: bool = False
    non_recursive: bool = False
    subpath: str = ""
    writable_below: bool = False
    """Read-only itself, but not what is mounted below it."""
    layers: list[int] = _field(default_factory=list)
    """The snapshots of an image mount, since its last start."""


class HealthResult(msgspec.Struct, rename="pascal"):
    """One probe. Times are nanoseconds."""

    start: int
    end: int
    exit_code: int
    output: str


class Health(msgspec.Struct, rename="pascal"):
    """`starting`, `healthy` or `unhealthy`, and the last five probes."""

    status: str = "starting"
    failing_streak: int = 0
    log: list[HealthResult] = _field(default_factory=list)


class State(msgspec.Struct, rename="pascal"):
    """Where the container is in its life. `running` is also true while it is paused or waits for its next restart."""

    running: bool = False
    paused: bool = False
    restarting: bool = False
    oom_killed: bool = False
    removing: bool = False
    dead: bool = False
    pid: int = 0
    exit_code: int = 0
    error: str = ""
    started_at: int = 0
    finished_at: int = 0
    health: Health | None = None

    @property
    def status(self) -> str:
        """`created`, `running`, `paused`, `restarting`, `removing`, `exited` or `dead`."""
        if self.running:
            return "paused" if self.paused else "restarting" if self.restarting else "running"
        if self.removing:
            return "removing"
        if self.dead:
            return "dead"
        return "exited" if self.started_at else "created"


class Record(msgspec.Struct, rename="pascal", kw_only=True):
    """Everything about a container that survives the daemon."""

    id: str
    name: str
    created: int
    image_id: str
    snapshots: list[int]
    path: str
    args: list[str]
    platform: str
    config: Config
    host: HostConfig
    mounts: list[MountPoint] = _field(default_factory=list)
    networks: dict[str, dict[str, Any]] = _field(default_factory=dict)
    state: State = _field(default_factory=State)
    restart_count: int = 0
    manually_stopped: bool = False
    private_hostname: bool = True
    sandbox: Sandbox | None = None
    """What it has in its bridge networks while it runs."""
    links: dict[str, str] = _field(default_factory=dict)
    """The ids of the containers it is linked to on the default bridge, by alias."""
    link_environment: list[str] = _field(default_factory=list)
    """The variables that its links gave it at its last start."""


def decode(raw: Any, kind: type[T], what: str) -> T:
    """Turn decoded JSON into a typed value. Raises InvalidInput naming the JSON path of the first fault."""
    try:
        return msgspec.convert(without_nulls(raw), kind)
    except msgspec.ValidationError as error:
        raise InvalidInput(f"invalid {what}: {error}") from None


def without_nulls(value: Any) -> Any:
    """The same JSON without object members that are null: Go leaves such fields at their zero value.

    Raises InvalidInput for integers of more than 64 bits and strings with a NUL byte: no kernel interface takes them.
    """
    if isinstance(value, dict):
        return {key: without_nulls(member) for key, member in value.items() if member is not None}
    if isinstance(value, list):
        return [without_nulls(member) for member in value]
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 63:
        raise InvalidInput(f"the number {value} is out of range")
    if isinstance(value, str) and "\0" in value:
        raise InvalidInput(f"a NUL byte in {value!r}")
    return value
