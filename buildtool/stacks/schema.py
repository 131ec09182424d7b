"""The Compose specification's attributes as a table: what each takes, and the order in which `config` prints them.

Source: compose-spec, "spec.md" and its JSON schema; reference/stacks.md 1.3 to 1.8.
"""

from __future__ import annotations

from typing import Any

from buildtool.stacks import short
from buildtool.stacks.kinds import (
    ANYTHING,
    At,
    Boolean,
    Bytes,
    Decimal,
    DictOf,
    Duration,
    FileMode,
    Integer,
    Kind,
    ListOf,
    Order,
    Pairs,
    Struct,
    Text,
)

NAME_PATTERN = r"[a-zA-Z0-9._-]+"

TEXT, NUMBERED, INTEGER, DECIMAL = Text(), Text(numbers=True), Integer(), Decimal()
BOOLEAN, BYTES, DURATION, MODE = Boolean(), Bytes(), Duration(), FileMode()
TEXTS, UNIQUE_TEXTS = ListOf(TEXT), ListOf(TEXT, unique=True)
ONE_OR_MORE = ListOf(TEXT, single=True)
PAIRS, LABELS = Pairs(), Pairs(filled=True)
OPTIONS = DictOf(NUMBERED)


class Command(Kind):
    """A command: text that is split into words, or a list; empty takes the image's away."""

    def canonical(self, value: Any, at: At) -> Any:
        return value if at.leave(value) else TEXTS.canonical(short.command(value, at), at)


class HealthTest(Kind):
    """A health check's command: text for the shell, or a list that begins with NONE, CMD or CMD-SHELL."""

    def canonical(self, value: Any, at: At) -> Any:
        if at.leave(value):
            return value
        words = TEXTS.canonical(short.healthcheck_test(value, at), at)
        if words and words[0] not in ("NONE", "CMD", "CMD-SHELL"):
            raise at.refuse(
                f"healthcheck.test must start either by 'CMD', 'CMD-SHELL' or 'NONE', not {words[0]!r}",
                "Put CMD before the words of a command.",
            )
        return words


class Ulimit(Kind):
    """A limit, or its soft and hard values."""

    def canonical(self, value: Any, at: At) -> Any:
        return _ULIMIT_PAIR.canonical(value, at) if isinstance(value, dict) else INTEGER.canonical(value, at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return _ULIMIT_PAIR.arrange(value, order) if isinstance(value, dict) else value


class DeviceCount(Kind):
    """A number of devices, or `all`."""

    def canonical(self, value: Any, at: At) -> Any:
        return INTEGER.canonical(short.device_count(value, at), at)


class TmpfsMode(Kind):
    """Permissions of a tmpfs, octal text or a number; printed as the number."""

    def canonical(self, value: Any, at: At) -> Any:
        text = MODE.canonical(value, at)
        return text if at.leave(text) else int(text, 8)


class ExtraHosts(Kind):
    """Host names and their addresses."""

    def canonical(self, value: Any, at: At) -> Any:
        return short.extra_hosts(value, at)


class Ssh(Kind):
    """SSH keys and agents of a build."""

    def canonical(self, value: Any, at: At) -> Any:
        return TEXTS.canonical(short.ssh(value, at), at)


class Gpus(Kind):
    """`all`, or requests for devices."""

    def canonical(self, value: Any, at: At) -> Any:
        return _GPU_LIST.canonical(short.gpus(value, at), at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return _GPU_LIST.arrange(value, order)


class ProviderOptions(Kind):
    """Scalars, or lists of them; printed as lists."""

    def canonical(self, value: Any, at: At) -> Any:
        return _PROVIDER_OPTIONS.canonical(value, at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return _PROVIDER_OPTIONS.arrange(value, order)


_PROVIDER_OPTIONS = DictOf(ListOf(NUMBERED, single=True))
_ULIMIT_PAIR = Struct({"soft": INTEGER, "hard": INTEGER}, needed=("soft", "hard"), kept=("soft", "hard"))
ULIMITS = DictOf(Ulimit(), names="[a-z]+")

_FILE_REFERENCE = Struct({"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": MODE}, needed=("source",))
SECRETS = ListOf(_FILE_REFERENCE, expand=short.secret_reference)
BUILD_SECRETS = ListOf(_FILE_REFERENCE, expand=short.file_reference)
CONFIGS = ListOf(_FILE_REFERENCE, expand=short.file_reference)

_DEVICE = {
    "capabilities": TEXTS,
    "driver": TEXT,
    "count": DeviceCount(),
    "device_ids": TEXTS,
    "options": LABELS,
}
_GPU_LIST = ListOf(Struct(_DEVICE))

HOOK = Struct(
    {"command": Command(), "user": TEXT, "privileged": BOOLEAN, "working_dir": TEXT, "environment": PAIRS},
    needed=("command",),
)
INIT_CONTAINER = Struct(
    {
        "command": Command(),
        "image": TEXT,
        "user": TEXT,
        "privileged": BOOLEAN,
        "working_dir": TEXT,
        "environment": PAIRS,
        "per_replica": BOOLEAN,
    },
)

BUILD = Struct(
    {
        "context": TEXT,
        "dockerfile": TEXT,
        "dockerfile_inline": TEXT,
        "entitlements": TEXTS,
        "args": PAIRS,
        "ssh": Ssh(),
        "labels": LABELS,
        "cache_from": TEXTS,
        "cache_to": TEXTS,
        "no_cache": BOOLEAN,
        "no_cache_filter": ONE_OR_MORE,
        "additional_contexts": LABELS,
        "pull": BOOLEAN,
        "extra_hosts": ExtraHosts(),
        "isolation": TEXT,
        "network": TEXT,
        "target": TEXT,
        "secrets": BUILD_SECRETS,
        "shm_size": BYTES,
        "tags": TEXTS,
        "ulimits": ULIMITS,
        "platforms": TEXTS,
        "privileged": BOOLEAN,
        "provenance": NUMBERED,
        "sbom": NUMBERED,
    },
    convert=short.build,
)


class Attestation(Kind):
    """`true`, `false` or text."""

    def canonical(self, value: Any, at: At) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        return TEXT.canonical(value, at)


BUILD.fields["provenance"] = BUILD.fields["sbom"] = Attestation()

DEVELOP = Struct(
    {
        "watch": ListOf(
            Struct(
                {
                    "path": TEXT,
                    "action": Text(choices=("rebuild", "sync", "restart", "sync+restart", "sync+exec")),
                    "target": TEXT,
                    "exec": HOOK,
                    "include": ONE_OR_MORE,
                    "ignore": ONE_OR_MORE,
                    "initial_sync": BOOLEAN,
                },
                needed=("path", "action"),
            )
        )
    },
    nullable=True,
)

_BLKIO_RATE = ListOf(Struct({"path": TEXT, "rate": BYTES}, extensible=False))
BLKIO = Struct(
    {
        "weight": INTEGER,
        "weight_device": ListOf(Struct({"path": TEXT, "weight": INTEGER}, extensible=False)),
        "device_read_bps": _BLKIO_RATE,
        "device_read_iops": _BLKIO_RATE,
        "device_write_bps": _BLKIO_RATE,
        "device_write_iops": _BLKIO_RATE,
    },
    extensible=False,
)

_UPDATE = Struct(
    {
        "parallelism": INTEGER,
        "delay": DURATION,
        "failure_action": TEXT,
        "monitor": DURATION,
        "max_failure_ratio": DECIMAL,
        "order": Text(choices=("start-first", "stop-first")),
    },
    kept=("parallelism",),
)
_GENERIC = ListOf(Struct({"discrete_resource_spec": Struct({"kind": TEXT, "value": INTEGER})}))
_LIMITS = Struct({"cpus": DECIMAL, "memory": BYTES, "pids": INTEGER})
_RESERVATIONS = Struct(
    {
        "cpus": DECIMAL,
        "memory": BYTES,
        "pids": INTEGER,
        "devices": ListOf(Struct(_DEVICE)),
        "generic_resources": _GENERIC,
    }
)
DEPLOY = Struct(
    {
        "mode": TEXT,
        "replicas": INTEGER,
        "labels": LABELS,
        "update_config": _UPDATE,
        "rollback_config": _UPDATE,
        "resources": Struct({"limits": _LIMITS, "reservations": _RESERVATIONS}),
        "restart_policy": Struct(
            {
                "condition": Text(choices=("none", "on-failure", "any")),
                "delay": DURATION,
                "max_attempts": INTEGER,
                "window": DURATION,
            },
            kept=("max_attempts", "delay", "window"),
        ),
        "placement": Struct(
            {
                "constraints": TEXTS,
                "preferences": ListOf(Struct({"spread": TEXT})),
                "max_replicas_per_node": INTEGER,
            }
        ),
        "endpoint_mode": TEXT,
    },
    kept=("replicas",),
    nullable=True,
)

HEALTHCHECK = Struct(
    {
        "test": HealthTest(),
        "timeout": DURATION,
        "interval": DURATION,
        "retries": INTEGER,
        "start_period": DURATION,
        "start_interval": DURATION,
        "disable": BOOLEAN,
    },
    kept=("timeout", "interval", "retries", "start_period", "start_interval"),
)

DEPENDS_ON = DictOf(
    Struct(
        {
            "condition": Text(choices=("service_started", "service_healthy", "service_completed_successfully")),
            "restart": BOOLEAN,
            "required": BOOLEAN,
        },
        needed=("condition",),
        kept=("required",),
        defaults={"required": True},
    ),
    names=NAME_PATTERN,
    convert=short.depends_on,
)

SERVICE_NETWORKS = DictOf(
    Struct(
        {
            "aliases": TEXTS,
            "driver_opts": OPTIONS,
            "gw_priority": INTEGER,
            "interface_name": TEXT,
            "ipv4_address": TEXT,
            "ipv6_address": TEXT,
            "link_local_ips": TEXTS,
            "mac_address": TEXT,
            "priority": INTEGER,
        },
        nullable=True,
    ),
    names=NAME_PATTERN,
    convert=short.names,
)

PORTS = ListOf(
    Struct(
        {
            "name": TEXT,
            "mode": TEXT,
            "host_ip": TEXT,
            "target": Integer(0, 65535),
            "published": NUMBERED,
            "protocol": TEXT,
            "app_protocol": TEXT,
        },
        needed=("target",),
        defaults={"mode": "ingress", "protocol": "tcp"},
    ),
    expand=short.port,
    unique=True,
)

VOLUMES = ListOf(
    Struct(
        {
            "type": Text(choices=("bind", "volume", "tmpfs", "cluster", "npipe", "image")),
            "source": TEXT,
            "target": TEXT,
            "read_only": BOOLEAN,
            "consistency": TEXT,
            "bind": Struct(
                {
                    "selinux": Text(choices=("z", "Z")),
                    "propagation": TEXT,
                    "create_host_path": BOOLEAN,
                    "recursive": Text(choices=("enabled", "disabled", "writable", "readonly")),
                },
                kept=("create_host_path",),
            ),
            "volume": Struct({"labels": LABELS, "nocopy": BOOLEAN, "subpath": TEXT}),
            "tmpfs": Struct({"size": BYTES, "mode": TmpfsMode()}),
            "image": Struct({"subpath": TEXT}),
        },
        needed=("type", "target"),
    ),
    expand=short.volume,
    unique=True,
)

SERVICE = Struct(
    {
        "profiles": TEXTS,
        "annotations": LABELS,
        "attach": BOOLEAN,
        "build": BUILD,
        "develop": DEVELOP,
        "blkio_config": BLKIO,
        "cap_add": UNIQUE_TEXTS,
        "cap_drop": UNIQUE_TEXTS,
        "cgroup_parent": TEXT,
        "cgroup": Text(choices=("host", "private")),
        "cpu_count": INTEGER,
        "cpu_percent": DECIMAL,
        "cpu_period": INTEGER,
        "cpu_quota": INTEGER,
        "cpu_rt_period": INTEGER,
        "cpu_rt_runtime": INTEGER,
        "cpus": DECIMAL,
        "cpuset": TEXT,
        "cpu_shares": INTEGER,
        "command": Command(),
        "configs": CONFIGS,
        "container_name": Text(pattern="[a-zA-Z0-9][a-zA-Z0-9_.-]+"),
        "credential_spec": Struct({"config": TEXT, "file": TEXT, "registry": TEXT}),
        "depends_on": DEPENDS_ON,
        "deploy": DEPLOY,
        "device_cgroup_rules": TEXTS,
        "devices": ListOf(
            Struct({"source": TEXT, "target": TEXT, "permissions": TEXT}, needed=("source",)), expand=short.device
        ),
        "dns": ONE_OR_MORE,
        "dns_opt": UNIQUE_TEXTS,
        "dns_search": ONE_OR_MORE,
        "domainname": TEXT,
        "entrypoint": Command(),
        "provider": Struct({"type": TEXT, "options": ProviderOptions()}, needed=("type",)),
        "environment": PAIRS,
        "env_file": ListOf(
            Struct(
                {"path": TEXT, "required": BOOLEAN, "format": TEXT},
                needed=("path",),
                kept=("required",),
                defaults={"required": True},
            ),
            expand=short.env_file,
            single=True,
        ),
        "expose": ListOf(NUMBERED, unique=True),
        "extends": Struct({"file": TEXT, "service": TEXT}, convert=short.extends, needed=("service",)),
        "external_links": UNIQUE_TEXTS,
        "extra_hosts": ExtraHosts(),
        "group_add": ListOf(NUMBERED, unique=True),
        "gpus": Gpus(),
        "hostname": TEXT,
        "healthcheck": HEALTHCHECK,
        "image": TEXT,
        "init": BOOLEAN,
        "ipc": TEXT,
        "isolation": TEXT,
        "labels": LABELS,
        "label_file": ONE_OR_MORE,
        "links": UNIQUE_TEXTS,
        "logging": Struct({"driver": TEXT, "options": DictOf(NUMBERED)}),
        "mem_limit": BYTES,
        "mem_reservation": BYTES,
        "memswap_limit": BYTES,
        "mem_swappiness": BYTES,
        "mac_address": TEXT,
        "models": DictOf(
            Struct({"endpoint_var": TEXT, "model_var": TEXT}, nullable=True), names=NAME_PATTERN, convert=short.names
        ),
        "network_mode": TEXT,
        "networks": SERVICE_NETWORKS,
        "oom_kill_disable": BOOLEAN,
        "oom_score_adj": Integer(-1000, 1000),
        "pid": TEXT,
        "pids_limit": INTEGER,
        "platform": TEXT,
        "ports": PORTS,
        "privileged": BOOLEAN,
        "pull_policy": Text(
            pattern=r"always|never|build|if_not_present|missing|refresh|daily|weekly|every_([0-9]+[wdhms])+"
        ),
        "pull_refresh_after": DURATION,
        "read_only": BOOLEAN,
        "restart": Text(pattern=r"no|always|unless-stopped|on-failure(:\d+)?"),
        "runtime": TEXT,
        "scale": INTEGER,
        "secrets": SECRETS,
        "security_opt": UNIQUE_TEXTS,
        "shm_size": BYTES,
        "stdin_open": BOOLEAN,
        "stop_grace_period": DURATION,
        "stop_signal": TEXT,
        "storage_opt": OPTIONS,
        "sysctls": LABELS,
        "tmpfs": ONE_OR_MORE,
        "tty": BOOLEAN,
        "ulimits": ULIMITS,
        "use_api_socket": BOOLEAN,
        "user": TEXT,
        "userns_mode": TEXT,
        "uts": TEXT,
        "volumes": VOLUMES,
        "volumes_from": UNIQUE_TEXTS,
        "working_dir": TEXT,
        "pre_start": ListOf(INIT_CONTAINER),
        "post_start": ListOf(HOOK),
        "pre_stop": ListOf(HOOK),
    },
    kept=("attach", "init", "scale", "stop_grace_period"),
    nullable=True,
)

NETWORK = Struct(
    {
        "name": TEXT,
        "driver": TEXT,
        "driver_opts": OPTIONS,
        "ipam": Struct(
            {
                "driver": TEXT,
                "config": ListOf(
                    Struct({"subnet": TEXT, "gateway": TEXT, "ip_range": TEXT, "aux_addresses": DictOf(TEXT)})
                ),
                "options": DictOf(TEXT),
            }
        ),
        "external": BOOLEAN,
        "internal": BOOLEAN,
        "attachable": BOOLEAN,
        "labels": LABELS,
        "enable_ipv4": BOOLEAN,
        "enable_ipv6": BOOLEAN,
    },
    convert=short.external,
    kept=("enable_ipv4", "enable_ipv6"),
    nullable=True,
)
VOLUME = Struct(
    {"name": TEXT, "driver": TEXT, "driver_opts": OPTIONS, "external": BOOLEAN, "labels": LABELS},
    convert=short.external,
    nullable=True,
)
_FILE_OBJECT = {
    "name": TEXT,
    "file": TEXT,
    "environment": TEXT,
    "content": TEXT,
    "external": BOOLEAN,
    "labels": LABELS,
    "driver": TEXT,
    "driver_opts": OPTIONS,
    "template_driver": TEXT,
}
SECRET = Struct({key: kind for key, kind in _FILE_OBJECT.items() if key != "content"}, convert=short.external)
CONFIG = Struct(
    {key: kind for key, kind in _FILE_OBJECT.items() if key not in ("driver", "driver_opts")}, convert=short.external
)
MODEL = Struct({"name": TEXT, "model": TEXT, "context_size": INTEGER, "runtime_flags": TEXTS}, needed=("model",))
INCLUDE = ListOf(
    Struct({"path": ONE_OR_MORE, "project_directory": TEXT, "env_file": ONE_OR_MORE}, extensible=False),
    expand=short.include,
)

FILE = Struct(
    {
        "version": NUMBERED,
        "name": TEXT,
        "include": INCLUDE,
        "services": DictOf(SERVICE, names=NAME_PATTERN),
        "networks": DictOf(NETWORK, names=NAME_PATTERN),
        "volumes": DictOf(VOLUME, names=NAME_PATTERN),
        "secrets": DictOf(SECRET, names=NAME_PATTERN),
        "configs": DictOf(CONFIG, names=NAME_PATTERN),
        "models": DictOf(MODEL, names=NAME_PATTERN),
    }
)
RESOURCES = ("services", "networks", "volumes", "secrets", "configs", "models")

__all__ = ["ANYTHING", "FILE", "NAME_PATTERN", "NETWORK", "RESOURCES", "SERVICE", "VOLUME"]
