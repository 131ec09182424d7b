"""The Compose specification's attributes as a table: what each takes, and the order in which `config` prints them.

Source: compose-spec, "spec.md" and its JSON schema; reference/stacks.md 1.3 to 1.8.
"""

from __future__ import annotations

from buildtool.stacks import short
from buildtool.stacks.attribute_kinds import (
    BOOLEAN,
    BYTES,
    DECIMAL,
    DURATION,
    INTEGER,
    LABELS,
    NAME_PATTERN,
    NUMBERED,
    ONE_OR_MORE,
    OPTIONS,
    PAIRS,
    TEXT,
    TEXTS,
    UNIQUE_TEXTS,
    Command,
    ExtraHosts,
    Gpus,
    ProviderOptions,
)
from buildtool.stacks.attributes import (
    BLKIO,
    BUILD,
    CONFIGS,
    DEPENDS_ON,
    DEPLOY,
    DEVELOP,
    HEALTHCHECK,
    HOOK,
    INIT_CONTAINER,
    PORTS,
    SECRETS,
    SERVICE_NETWORKS,
    ULIMITS,
    VOLUMES,
)
from buildtool.stacks.kinds import Integer, Text
from buildtool.stacks.structures import DictOf, ListOf, Struct

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
