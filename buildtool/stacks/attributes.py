"""Attributes of services that have parts: what each takes, and the order in which `config` prints them.

Source: compose-spec, "spec.md" and its JSON schema; reference/stacks.md 1.3 to 1.8.
"""

from __future__ import annotations

from buildtool.stacks import short
from buildtool.stacks.attribute_kinds import (
    BOOLEAN,
    BYTES,
    DECIMAL,
    DEVICE,
    DURATION,
    INTEGER,
    LABELS,
    MODE,
    NAME_PATTERN,
    NUMBERED,
    ONE_OR_MORE,
    OPTIONS,
    PAIRS,
    TEXT,
    TEXTS,
    Attestation,
    Command,
    ExtraHosts,
    HealthTest,
    Ssh,
    TmpfsMode,
    Ulimit,
)
from buildtool.stacks.kinds import Integer, Text
from buildtool.stacks.structures import DictOf, ListOf, Struct

ULIMITS = DictOf(Ulimit(), names="[a-z]+")

_FILE_REFERENCE = Struct({"source": TEXT, "target": TEXT, "uid": TEXT, "gid": TEXT, "mode": MODE}, needed=("source",))
SECRETS = ListOf(_FILE_REFERENCE, expand=short.secret_reference)
BUILD_SECRETS = ListOf(_FILE_REFERENCE, expand=short.file_reference)
CONFIGS = ListOf(_FILE_REFERENCE, expand=short.file_reference)


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
        "provenance": Attestation(),
        "sbom": Attestation(),
    },
    convert=short.build,
)


WATCH = Struct(
    {
        "path": TEXT,
        "action": Text(choices=("rebuild", "sync", "restart", "sync+restart", "sync+exec")),
        "target": TEXT,
        # docker compose's JSON has a hook without a command in every rule.
        "exec": Struct(HOOK.fields),
        "include": ONE_OR_MORE,
        "ignore": ONE_OR_MORE,
        "initial_sync": BOOLEAN,
    },
    needed=("path", "action"),
)
DEVELOP = Struct({"watch": ListOf(WATCH)}, nullable=True)

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
        "devices": ListOf(DEVICE),
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
