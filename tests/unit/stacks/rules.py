"""Rules of merging, interpolation and scalars as rows: what two files, a form or a scalar come to.

They are what docker compose 2.40 does; tests/e2e/stacks/test_docker_compose.py compares with the plugins there are.
"""

from __future__ import annotations

VARIABLES = {"SET": "value", "EMPTY": ""}

# A template with these variables, and its value.
FORMS = [
    ("$SET", "value"),
    ("${SET}", "value"),
    ("a${SET}b$SET", "avaluebvalue"),
    ("$MISSING", ""),
    ("${MISSING:-default}", "default"),
    ("${EMPTY:-default}", "default"),
    ("${SET:-default}", "value"),
    ("${MISSING-default}", "default"),
    ("${EMPTY-default}", ""),
    ("${MISSING:-}", ""),
    ("${SET:+other}", "other"),
    ("${EMPTY:+other}", ""),
    ("${MISSING:+other}", ""),
    ("${EMPTY+other}", "other"),
    ("${MISSING+other}", ""),
    ("${SET:?needed}", "value"),
    ("${EMPTY?needed}", ""),
    ("${MISSING:-${SET}}", "value"),
    ("${MISSING:-${ALSO:-$SET}}", "value"),
    ("${MISSING:-${ALSO-deep}}!", "deep!"),
    ("${SET:-x?y}", "value"),
    ("${MISSING:-x?y}", "x?y"),
    ("${MISSING:-a:b/c}", "a:b/c"),
    ('${MISSING:-{"a": {"b": 1}}}', '{"a": {"b": 1}}'),
    ("${SET:-${UNUSED?never asked}}", "value"),
    ("$$SET", "$SET"),
    ("$$$SET", "$value"),
    ("${MISSING:-$$x}", "$x"),
    ("^x$", "^x$"),
    ("$}", "$}"),
    ("$1", "$1"),
    ("a $ b", "a $ b"),
    ("{$SET}", "{value}"),
    ("$set", ""),
]

# A scalar of YAML as the value of a variable of the environment.
SCALARS = [
    ("yes", "yes"), ("no", "no"), ("on", "on"), ("off", "off"), ("y", "y"), ("n", "n"), ("NO", "NO"),
    ("true", "true"), ("TRUE", "true"), ("~", None), ("null", None), ("017", "15"), ("0o17", "15"), ("08", "8"),
    ("0x1F", "31"), ("0b11", "3"), ("1_000", "1000"), ("22:22", "22:22"), ("1e3", "1000"), ("1.0", "1"),
    ("1.10", "1.1"), (".5", "0.5"), ("+1", "1"), ("0.000001", "1e-06"), (".inf", "+Inf"), (".nan", "NaN"),
    ("123456789012345678901234567890", "1.2345678901234568e+29"), ("!!binary aGk=", "hi"), ("=", "="),
    ("!!str 5", "5"),
]  # fmt: skip

# The files that the services below refer to, and the rest of their stack.
FILES = {"a.env": "A=1\n", "b.env": "B=1\n"}
AROUND = """
  o: {image: o}
  p: {image: p}
networks: {n: {}, m: {}}
volumes: {v: {}}
secrets: {q: {file: a.env}, r: {file: b.env}}
configs: {q: {file: a.env}, r: {file: b.env}}
"""

# Attributes of a service in the first file and in the second, and what `config --format json` has then.
MERGES: list[tuple[str, str, str, object]] = [
    ("links: [o]", "links: [o, 'o:p']", "links", ["o", "o:p"]),
    ("profiles: [a]", "profiles: [a, b]", "profiles", ["a", "b"]),
    (
        "networks: {default: {aliases: [a]}}",
        "networks: {default: {aliases: [a, b], link_local_ips: [1.1.1.1]}}",
        "networks",
        {"default": {"aliases": ["a", "b"], "link_local_ips": ["1.1.1.1"]}},
    ),
    (
        "networks: {default: {ipv4_address: 10.0.0.1}}",
        "networks: {default: {ipv4_address: 10.0.0.2, priority: 3}}",
        "networks",
        {"default": {"ipv4_address": "10.0.0.2", "priority": 3}},
    ),
    ("label_file: a.env", "label_file: [a.env, b.env]", "labels", {"A": "1", "B": "1"}),
    (
        "build: {context: ., extra_hosts: ['a=1.1.1.1']}",
        "build: {extra_hosts: {a: 1.1.1.1, b: 2.2.2.2}}",
        "build",
        {"context": "/p", "dockerfile": "Dockerfile", "extra_hosts": ["a=1.1.1.1", "b=2.2.2.2"]},
    ),
    (
        "build: {context: ., ulimits: {nofile: 1}}",
        "build: {ulimits: {nofile: {soft: 2, hard: 3}}}",
        "build",
        {"context": "/p", "dockerfile": "Dockerfile", "ulimits": {"nofile": {"soft": 2, "hard": 3}}},
    ),
    (
        "build: {context: ., args: {A: 1, B: 2}}",
        "build: {args: [A=2, C]}",
        "build",
        {"context": "/p", "dockerfile": "Dockerfile", "args": {"A": "2", "B": "2"}},
    ),
    (
        "build: {context: ., target: a, dockerfile: X}",
        "build: {target: b}",
        "build",
        {"context": "/p", "dockerfile": "X", "target": "b"},
    ),
    ("build: ./a", "build: ./b", "build", {"context": "/p/b", "dockerfile": "Dockerfile"}),
    (
        "build: {context: ., entitlements: [a]}",
        "build: {entitlements: [a, b]}",
        "build",
        {"context": "/p", "dockerfile": "Dockerfile", "entitlements": ["a", "a", "b"]},
    ),
    (
        "deploy: {resources: {limits: {cpus: '1', memory: 1g}}}",
        "deploy: {resources: {limits: {memory: 2g}, reservations: {cpus: '0.5'}}}",
        "deploy",
        {
            "resources": {"limits": {"cpus": 1, "memory": "2147483648"}, "reservations": {"cpus": 0.5}},
            "placement": {},
        },
    ),
    (
        "deploy: {placement: {constraints: [a, b]}}",
        "deploy: {placement: {constraints: [b, c], preferences: [{spread: x}]}}",
        "deploy",
        {"resources": {}, "placement": {"constraints": ["a", "b", "b", "c"], "preferences": [{"spread": "x"}]}},
    ),
    (
        "deploy: {resources: {reservations: {devices: [{capabilities: [gpu], count: 1}]}}}",
        "deploy: {resources: {reservations: {devices: [{capabilities: [tpu]}]}}}",
        "deploy",
        {
            "resources": {
                "reservations": {
                    "devices": [{"capabilities": ["gpu"], "count": 1}, {"capabilities": ["tpu"], "count": -1}]
                }
            },
            "placement": {},
        },
    ),
    (
        "deploy: {replicas: 2, restart_policy: {condition: any, delay: 5s}}",
        "deploy: {replicas: 3, restart_policy: {max_attempts: 3}}",
        "deploy",
        {
            "replicas": 3,
            "resources": {},
            "restart_policy": {"condition": "any", "delay": "5s", "max_attempts": 3},
            "placement": {},
        },
    ),
    (
        "deploy: {update_config: {parallelism: 1}}",
        "deploy: {update_config: {order: start-first}, rollback_config: {parallelism: 2}}",
        "deploy",
        {
            "update_config": {"parallelism": 1, "order": "start-first"},
            "rollback_config": {"parallelism": 2},
            "resources": {},
            "placement": {},
        },
    ),
    (
        "healthcheck: {test: [CMD, a], interval: 1s}",
        "healthcheck: {interval: 2s, retries: 3}",
        "healthcheck",
        {"test": ["CMD", "a"], "interval": "2s", "retries": 3},
    ),
    (
        "healthcheck: {test: [CMD, a]}",
        "healthcheck: {disable: true}",
        "healthcheck",
        {"test": ["CMD", "a"], "disable": True},
    ),
    (
        "develop: {watch: [{path: a, action: rebuild}]}",
        "develop: {watch: [{path: b, action: sync, target: /x}]}",
        "develop",
        {
            "watch": [
                {"path": "/p/a", "action": "rebuild", "exec": {"command": None}},
                {"path": "/p/b", "action": "sync", "target": "/x", "exec": {"command": None}},
            ]
        },
    ),
    (
        "develop: {watch: [{path: a, action: rebuild}]}",
        "develop: {watch: [{path: a, action: sync, target: /x}]}",
        "develop",
        {
            "watch": [
                {"path": "/p/a", "action": "rebuild", "exec": {"command": None}},
                {"path": "/p/a", "action": "sync", "target": "/x", "exec": {"command": None}},
            ]
        },
    ),
    (
        "post_start: [{command: a}]",
        "post_start: [{command: b}]",
        "post_start",
        [{"command": ["a"]}, {"command": ["b"]}],
    ),
    ("pre_stop: [{command: a}]", "pre_stop: [{command: a}]", "pre_stop", [{"command": ["a"]}, {"command": ["a"]}]),
    (
        "depends_on: [o]",
        "depends_on: {o: {condition: service_healthy, restart: true}}",
        "depends_on",
        {"o": {"condition": "service_healthy", "restart": True, "required": True}},
    ),
    (
        "depends_on: {o: {condition: service_healthy, restart: true, required: false}}",
        "depends_on: [o]",
        "depends_on",
        {"o": {"condition": "service_started", "restart": True, "required": True}},
    ),
    ("storage_opt: {size: 1g}", "storage_opt: {other: x}", "storage_opt", {"other": "x", "size": "1g"}),
    ("gpus: [{count: 1}]", "gpus: [{driver: x, count: 2}]", "gpus", [{"count": 1}, {"driver": "x", "count": 2}]),
    ("x-a: {k: 1, l: [a]}", "x-a: {k: 2, l: [b], m: c}", "x-a", None),
    ("x-a: text", "x-a: {k: 1}", "x-a", None),
    ("env_file: [a.env]", "env_file: [b.env, {path: a.env, required: false}]", "environment", {"A": "1", "B": "1"}),
    ("environment: [A=1, B]", "environment: {A: , C: null, B: x}", "environment", {"A": None, "B": "x", "C": None}),
    ("labels: {a: x}", "labels: [a, b]", "labels", {"a": "", "b": ""}),
    ("annotations: [a=1]", "annotations: {a: 2, b: 3}", "annotations", {"a": "2", "b": "3"}),
    ("sysctls: {net.core.somaxconn: 1}", "sysctls: [net.core.somaxconn=2]", "sysctls", {"net.core.somaxconn": "2"}),
    ("logging: {options: {a: b}}", "logging: {driver: x}", "logging", {"driver": "x", "options": {"a": "b"}}),
    (
        "logging: {driver: x, options: {a: b, c: d}}",
        "logging: {driver: x, options: {a: z}}",
        "logging",
        {"driver": "x", "options": {"a": "z", "c": "d"}},
    ),
    (
        "ports: ['80:80', '127.0.0.1:80:80']",
        "ports: ['80:80/udp', '80:80', '81:80']",
        "ports",
        [
            {"mode": "ingress", "target": 80, "published": "80", "protocol": "tcp"},
            {"mode": "ingress", "host_ip": "127.0.0.1", "target": 80, "published": "80", "protocol": "tcp"},
            {"mode": "ingress", "target": 80, "published": "80", "protocol": "udp"},
            {"mode": "ingress", "target": 80, "published": "81", "protocol": "tcp"},
        ],
    ),
    (
        "ports: ['80-81:80-81']",
        "ports: ['81:81', '82:82']",
        "ports",
        [
            {"mode": "ingress", "target": 80, "published": "80", "protocol": "tcp"},
            {"mode": "ingress", "target": 81, "published": "81", "protocol": "tcp"},
            {"mode": "ingress", "target": 82, "published": "82", "protocol": "tcp"},
        ],
    ),
    (
        "volumes: [{type: volume, source: v, target: /a, volume: {nocopy: true}}]",
        "volumes: [{type: volume, source: v, target: /a, read_only: true}]",
        "volumes",
        [{"type": "volume", "source": "v", "target": "/a", "read_only": True}],
    ),
    (
        "secrets: [q]",
        "secrets: [{source: r, target: q}, {source: q, target: /run/secrets/q}]",
        "secrets",
        [{"source": "q", "target": "/run/secrets/q"}, {"source": "r", "target": "q"}],
    ),
    ("secrets: [{source: q, mode: 0400}]", "secrets: [q]", "secrets", [{"source": "q", "target": "/run/secrets/q"}]),
    (
        "configs: [q]",
        "configs: [{source: r, target: /q}, {source: r}]",
        "configs",
        [{"source": "r", "target": "/q"}, {"source": "r"}],
    ),
    (
        "configs: [{source: q, uid: '1'}]",
        "configs: [{source: q, mode: 0400}]",
        "configs",
        [{"source": "q", "mode": "0400"}],
    ),
    (
        "devices: ['/dev/a:/dev/x', /dev/b]",
        "devices: ['/dev/b:/dev/b:r', '/dev/c:/dev/x']",
        "devices",
        [
            {"source": "/dev/c", "target": "/dev/x", "permissions": "rwm"},
            {"source": "/dev/b", "target": "/dev/b", "permissions": "r"},
        ],
    ),
    ("dns: 1.1.1.1", "dns: 1.1.1.1", "dns", ["1.1.1.1"]),
    ("expose: ['80']", "expose: [80, 81]", "expose", ["80", "81"]),
    ("extra_hosts: ['a:1.1.1.1']", "extra_hosts: ['a:2.2.2.2']", "extra_hosts", ["a=1.1.1.1", "a=2.2.2.2"]),
    ("extra_hosts: {a: 1.1.1.1}", "extra_hosts: {a: 2.2.2.2}", "extra_hosts", ["a=1.1.1.1", "a=2.2.2.2"]),
    ("cap_add: [A]", "cap_add: [A, B]\n    cap_drop: [C]", "cap_add", ["A", "B"]),
    ("command: a b", "command: [c]", "command", ["c"]),
    ("command: [a]", "command: []", "command", []),
    ("command: [a]", "command: ''", "command", []),
    ("command: [a]", "command: null", "command", None),
    ("entrypoint: [a]", "entrypoint: ''", "entrypoint", []),
    ("scale: 2", "scale: 3", "scale", 3),
    ("ulimits: {nofile: {soft: 1, hard: 2}, nproc: 5}", "ulimits: {nofile: 7}", "ulimits", {"nofile": 7, "nproc": 5}),
    (
        "credential_spec: {file: a}",
        "credential_spec: {registry: b}",
        "credential_spec",
        {"file": "a", "registry": "b"},
    ),
    ("pull_policy: always", "pull_policy: never", "pull_policy", "never"),
    ("stop_grace_period: 1s", "stop_grace_period: 2s", "stop_grace_period", "2s"),
    ("mem_limit: 1g", "mem_limit: 2g", "mem_limit", "2147483648"),
    ("network_mode: host", "network_mode: none", "network_mode", "none"),
    ("init: true", "init: false", "init", False),
    ("privileged: true", "privileged: false", "privileged", None),
    ("ports: ['80:80']", "ports: !reset []", "ports", None),
    (
        "ports: ['80:80']",
        "ports: !override ['81:81']",
        "ports",
        [{"mode": "ingress", "target": 81, "published": "81", "protocol": "tcp"}],
    ),
    ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", "environment", {"B": "2"}),
    ("environment: {A: 1, B: 2}", "environment: !override {C: 3}", "environment", {"C": "3"}),
    ("environment: [A=1]", "environment: !reset {}", "environment", None),
    ("command: [a]", "command: !reset null", "command", None),
    (
        "deploy: {replicas: 2, resources: {limits: {cpus: '1', pids: 3}}}",
        "deploy: {resources: {limits: !override {pids: 4}}}",
        "deploy",
        {"replicas": 2, "resources": {"limits": {"pids": 4}}, "placement": {}},
    ),
    (
        "deploy: {replicas: 2, resources: {limits: {cpus: '1', pids: 3}}}",
        "deploy: {resources: {limits: {cpus: !reset null}}}",
        "deploy",
        {"replicas": 2, "resources": {"limits": {"pids": 3}}, "placement": {}},
    ),
    (
        "healthcheck: {test: a, interval: 1s}",
        "healthcheck: !override {test: b}",
        "healthcheck",
        {"test": ["CMD-SHELL", "b"]},
    ),
    ("volumes: ['v:/a', '/b']", "volumes: !override ['/c']", "volumes", [{"type": "volume", "target": "/c"}]),
    (
        "build: {context: ., args: {A: 1}}",
        "build: !override {context: ./x}",
        "build",
        {"context": "/p/x", "dockerfile": "Dockerfile"},
    ),
    (
        "build: {context: ., args: {A: 1}, target: x}",
        "build: {args: !reset {}, target: !reset null}",
        "build",
        {"context": "/p", "dockerfile": "Dockerfile"},
    ),
    ("depends_on: [o]", "depends_on: !reset []", "depends_on", None),
    (
        "depends_on: [o]",
        "depends_on: !override {p: {condition: service_started}}",
        "depends_on",
        {"p": {"condition": "service_started", "required": True}},
    ),
    ("networks: [n]", "networks: !reset []", "networks", {"default": None}),
    ("networks: [n]", "networks: !override [m]", "networks", {"m": None}),
    ("secrets: [q]", "secrets: !reset []", "secrets", None),
    ("logging: {driver: x}", "logging: !reset {}", "logging", None),
    ("user: a", "user: !reset ''", "user", None),
    ("extra_hosts: ['a:1.1.1.1']", "extra_hosts: !override ['b:2.2.2.2']", "extra_hosts", ["b=2.2.2.2"]),
    ("entrypoint: [a]", "entrypoint: null", "entrypoint", None),
    (
        "develop: {watch: [{path: a, action: rebuild}]}",
        "develop: {watch: [{path: b, action: sync, target: /x}]}",
        "develop",
        {
            "watch": [
                {"path": "/p/a", "action": "rebuild", "exec": {"command": None}},
                {"path": "/p/b", "action": "sync", "target": "/x", "exec": {"command": None}},
            ]
        },
    ),
    ("hostname: a", "hostname: null", "hostname", "a"),
    ("ports: ['80']", "ports: null", "ports", [{"mode": "ingress", "target": 80, "protocol": "tcp"}]),
    ("ports: ['80']", "ports:", "ports", [{"mode": "ingress", "target": 80, "protocol": "tcp"}]),
    ("environment: {A: 1}", "environment: null", "environment", {"A": "1"}),
    ("labels: {a: b}", "labels: ", "labels", {"a": "b"}),
    ("deploy: {replicas: 2}", "deploy: null", "deploy", {"replicas": 2, "resources": {}, "placement": {}}),
    ("build: {context: .}", "build: null", "build", {"context": "/p", "dockerfile": "Dockerfile"}),
    ("healthcheck: {test: a}", "healthcheck: null", "healthcheck", {"test": ["CMD-SHELL", "a"]}),
    ("networks: [n]", "networks: null", "networks", {"n": None}),
    ("depends_on: [o]", "depends_on: null", "depends_on", {"o": {"condition": "service_started", "required": True}}),
]
