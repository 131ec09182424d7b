"""Short and long forms, unknown keys, and what must fit together (reference/stacks.md 1.3 to 1.9, 1.12)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildtool.errors import BuildtoolError
from buildtool.stacks.emit import to_yaml
from buildtool.stacks.hashing import service_hash
from buildtool.stacks.render import render_json, render_yaml
from buildtool.stacks.schema import RESOURCES, SERVICE
from buildtool.stacks.tree import StackError
from tests.unit.stacks.conftest import load_texts, model, service


def port(target: int, published: str = "", protocol: str = "tcp", **more: str) -> dict[str, Any]:
    return (
        {"mode": "ingress", **more, "target": target}
        | ({"published": published} if published else {})
        | {"protocol": protocol}
    )


def one(attribute: str) -> dict[str, Any]:
    return service(f"services:\n  s:\n    image: x\n    {attribute}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("ports: ['3000']", [port(3000)]),
        ("ports: [3000]", [port(3000)]),
        ("ports: ['8000:3000']", [port(3000, "8000")]),
        ("ports: ['8000:3000/udp']", [port(3000, "8000", "udp")]),
        ("ports: ['3000-3001']", [port(3000), port(3001)]),
        ("ports: ['8000-8001:3000-3001']", [port(3000, "8000"), port(3001, "8001")]),
        ("ports: ['8000-8010:3000']", [port(3000, "8000-8010")]),
        ("ports: ['127.0.0.1:80:90']", [port(90, "80", host_ip="127.0.0.1")]),
        ("ports: ['127.0.0.1::90']", [port(90, host_ip="127.0.0.1")]),
        ("ports: ['[::1]:80:90']", [port(90, "80", host_ip="::1")]),
        ("ports: [{target: 80, published: 8080, mode: host}]",
         [{"mode": "host", "target": 80, "published": "8080", "protocol": "tcp"}]),
    ],
)  # fmt: skip
def test_port(text: str, expected: list[dict[str, Any]]) -> None:
    assert one(text)["ports"] == expected


@pytest.mark.parametrize("text", ["80:", "x", "1-2:3-5", "70000", "0", "1:2/icmp", "1.2.3:1:2"])
def test_malformed_ports_are_refused_at_their_place(text: str) -> None:
    with pytest.raises(StackError, match=r"services.s.ports\[0\]"):
        one(f"ports: ['{text}']")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("./a:/b", {"type": "bind", "source": "/p/a", "target": "/b", "bind": {"create_host_path": True}}),
        ("/a:/b:ro", {"type": "bind", "source": "/a", "target": "/b", "read_only": True,
                      "bind": {"create_host_path": True}}),
        ("/a:/b:rw,z,rslave", {"type": "bind", "source": "/a", "target": "/b",
                               "bind": {"selinux": "z", "propagation": "rslave", "create_host_path": True}}),
        ("v:/b", {"type": "volume", "source": "v", "target": "/b", "volume": {}}),
        ("v:/b:nocopy,ro", {"type": "volume", "source": "v", "target": "/b", "read_only": True,
                            "volume": {"nocopy": True}}),
        ("/bb", {"type": "volume", "target": "/bb", "volume": {}}),
    ],
)  # fmt: skip
def test_volume(text: str, expected: dict[str, Any]) -> None:
    assert service(f"services: {{s: {{image: x, volumes: ['{text}']}}}}\nvolumes: {{v: }}")["volumes"] == [expected]


@pytest.mark.parametrize("text", ["", "a:", ":/b", "a:/b:ro:x", "v:/b:nope"])
def test_malformed_volumes_are_refused(text: str) -> None:
    with pytest.raises(StackError, match=r"services.s.volumes\[0\]"):
        one(f"volumes: ['{text}']")


@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("command: echo \"a b\" 'c d' e\\ f", "command", ["echo", "a b", "c d", "e f"]),
        ("command: ''", "command", []),
        ("entrypoint: []", "entrypoint", []),
        ("command: echo a; echo b", "command", ["echo", "a;", "echo", "b"]),
        ("healthcheck: {test: curl x}", "healthcheck", {"test": ["CMD-SHELL", "curl x"]}),
        ("healthcheck: {test: [NONE], interval: 90s, timeout: 1h, start_period: 0.5s}", "healthcheck",
         {"test": ["NONE"], "timeout": "1h0m0s", "interval": "1m30s", "start_period": "500ms"}),
        ("depends_on: [t]", "depends_on", {"t": {"condition": "service_started", "required": True}}),
        ("extra_hosts: ['a:1.1.1.1', 'b=2.2.2.2', 'c:::1', 'd=[::2]']", "extra_hosts",
         ["a=1.1.1.1", "b=2.2.2.2", "c=::1", "d=::2"]),
        ("extra_hosts: {a: 1.1.1.1, b: [2.2.2.2, 3.3.3.3]}", "extra_hosts", ["a=1.1.1.1", "b=2.2.2.2", "b=3.3.3.3"]),
        ("tmpfs: /run", "tmpfs", ["/run"]),
        ("gpus: all", "gpus", [{"count": -1}]),
        ("devices: [/dev/a, '/dev/b:/dev/c:r']", "devices",
         [{"source": "/dev/a", "target": "/dev/a", "permissions": "rwm"},
          {"source": "/dev/b", "target": "/dev/c", "permissions": "r"}]),
        ("mem_limit: 1.5g", "mem_limit", "1610612736"),
        ("shm_size: 64MB", "shm_size", "67108864"),
        ("memswap_limit: -1", "memswap_limit", "-1"),
        ("stop_grace_period: 1w2d", "stop_grace_period", "216h0m0s"),
        ("cpus: '0.50'", "cpus", 0.5),
        ("user: '1000'", "user", "1000"),
        ("group_add: [1, x]", "group_add", ["1", "x"]),
        ("init: false", "init", False),
        ("privileged: false", "privileged", None),
        ("x-own: {b: 1, a: [yes]}", "x-own", {"a": ["yes"], "b": 1}),
    ],
)  # fmt: skip
def test_form(text: str, key: str, expected: object) -> None:
    found = service(f"services:\n  s:\n    image: x\n    {text}\n  t: {{image: x}}\n")
    assert found.get(key) == expected


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("prots: []", "services.s: additional properties 'prots' not allowed", "did you mean ports?"),
        ("build: {contxt: .}", "services.s.build: additional properties 'contxt' not allowed", "context"),
        ("deploy: {resources: {limits: {cpu: 1}}}", "services.s.deploy.resources.limits: additional", "cpus"),
        ("image: 5", "services.s.image: must be a string", "Quote"),
        ("privileged: maybe", "services.s.privileged: must be true or false", ""),
        ("scale: many", "services.s.scale: 'many' is not a whole number", ""),
        ("mem_limit: 5x", "services.s.mem_limit: invalid size: '5x'", "gb"),
        ("stop_grace_period: 5", "services.s.stop_grace_period: must be a string", "unit"),
        ("stop_grace_period: '5'", "services.s.stop_grace_period: missing unit", "unit"),
        ("restart: sometimes", "services.s.restart: 'sometimes' does not match", ""),
        ("environment: [{A: 1}]", r"services.s.environment\[0\]: must be a string", "KEY=VALUE"),
        ("environment: {A: [1]}", "services.s.environment.A: must be a string, number", ""),
        ("depends_on: {t: {condition: healthy}}", "services.s.depends_on.t.condition: 'healthy' is not a choice",
         "service_healthy"),
        ("cap_add: [A, A]", r"services.s.cap_add: items\[0,1\] must be unique", ""),
        ("command: [a, 1]", r"services.s.command\[1\]: must be a string", "Quote"),
        ("command: \"echo 'open\"", "services.s.command: cannot be split into words", ""),
        ("healthcheck: {test: [curl, x]}", "services.s.healthcheck.test: healthcheck.test must start", "CMD"),
        ("develop: {watch: [{path: a, action: nope}]}", r"services.s.develop.watch\[0\].action", "sync"),
        ("volumes: [{source: a}]", r"services.s.volumes\[0\]: type is missing", ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_told_with_path_and_remedy(text: str, message: str, hint: str) -> None:
    with pytest.raises(StackError, match=message) as caught:
        service(f"services:\n  s:\n    {text}\n  t: {{image: x}}\n")
    assert hint in str(caught.value)
    assert str(caught.value).startswith("/p/compose.yaml:3:")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("services: {s: {}}", "services.s: service has neither an image nor a build context specified"),
        ("services: {}", "no services"),
        ("services: {s: {build: {context: ., dockerfile: D, dockerfile_inline: F}}}", "mutually exclusive"),
        ("services: {s: {image: x, networks: [nn]}}\nnetworks: {nm: }", "refers to undefined network nn"),
        ("services: {s: {image: x, volumes: ['v:/v']}}", "refers to undefined volume v"),
        ("services: {s: {image: x, secrets: [q]}}", "refers to undefined secret q"),
        ("services: {s: {image: x, configs: [q]}}", "refers to undefined config q"),
        ("services: {s: {image: x, network_mode: host, networks: [n]}}\nnetworks: {n: }", "mutually exclusive"),
        ("services: {s: {image: x, depends_on: [q]}}", "depends on undefined service 'q'"),
        ("services: {s: {image: x, depends_on: [s]}}", "cannot depend on itself"),
        ("services: {a: {image: x, depends_on: [b]}, b: {image: x, depends_on: [a]}}",
         "dependency cycle detected: a -> b -> a"),
        ("services: {s: {image: x, scale: 2, deploy: {replicas: 3}}}", "distinct values on 'scale'"),
        ("services: {s: {image: x, cpus: 1, deploy: {resources: {limits: {cpus: 2}}}}}", "distinct values on 'cpus'"),
        ("services: {s: {image: x, mem_limit: 1g, deploy: {resources: {limits: {memory: 2g}}}}}", "'mem_limit'"),
        ("services: {s: {image: x, container_name: one, scale: 2}}", "cannot be used with 2 replicas"),
        ("services: {a: {image: x, container_name: one}, b: {image: x, container_name: one}}", "already the name of"),
        ("services: {s: {image: x, volumes: ['/a:/x', '/b:/x']}}", "already mounted"),
        ("services: {s: {image: x, develop: {watch: [{path: a, action: sync}]}}}", "target is required"),
        ("services: {s: {image: x, labels: {com.docker.compose.x: y}}}", "reserved"),
        ("services: {s: {image: x, secrets: [q]}}\nsecrets: {q: {}}", "must be set"),
        ("services: {s: {image: x, secrets: [q]}}\nsecrets: {q: {file: a, environment: B}}", "mutually exclusive"),
        ("services: {s: {image: x, networks: [n]}}\nnetworks: {n: {external: true, driver: b}}",
         "conflicting parameters 'external' and 'driver'"),
        ("services: {s: {image: x, platform: linux/arm64, build: {platforms: [linux/amd64]}}}", "platform"),
        ("services: {s: {build: {additional_contexts: {a: 'service:q'}}}}", "undefined service q"),
        ("services: {s: {image: x, healthcheck: {test: [RUN, x]}}}", "healthcheck"),
        ("services: {s: {image: x, models: [q]}}", "undefined model q"),
        ("services: {s: {image: x, pids_limit: 1, deploy: {resources: {limits: {pids: 2}}}}}", "'pids_limit'"),
        ("services: {s: {image: x, mem_reservation: 1g, deploy: {resources: {reservations: {memory: 2g}}}}}",
         "'mem_reservation'"),
    ],
)  # fmt: skip
def test_what_does_not_fit_together_is_refused(text: str, message: str) -> None:
    with pytest.raises(StackError, match=message):
        load_texts(text)


def test_services_get_the_default_network_and_names() -> None:
    found = model(
        "name: n\nservices: {a: {image: x}, b: {image: x, network_mode: host}, c: {image: x, networks: [q]}}\n"
        "networks: {q: {external: true}, unused: {}}\nvolumes: {unused: {}}"
    )
    assert found["services"]["a"]["networks"] == {"default": None}
    assert "networks" not in found["services"]["b"]
    assert found["networks"] == {"default": {"name": "n_default"}, "q": {"name": "q", "external": True}}
    assert "volumes" not in found


def test_links_and_shared_namespaces_are_dependencies() -> None:
    text = (
        "services: {s: {image: x, links: ['a:b'], ipc: 'service:c', volumes_from: [d]}, "
        "a: {image: x}, c: {image: x}, d: {image: x}}"
    )
    found = service(text)["depends_on"]
    assert {key: how.get("restart", False) for key, how in found.items()} == {"a": True, "c": True, "d": False}


RICH = """
name: rich
x-top: {b: 1}
services:
  web:
    build: {context: ., args: [A=1], ulimits: {nofile: 5}, extra_hosts: ["a:1.1.1.1"], ssh: [default, k=./id]}
    image: web
    command: echo "a $$b" c
    environment: [A=1, B, "C=x: y"]
    ports: ["80", "8080:80/udp", {target: 9, published: 9000-9001}]
    volumes: ["./a:/a:ro", "v:/v", /anon, {type: tmpfs, target: /t, tmpfs: {size: 1m, mode: 0700}}]
    depends_on: {db: {condition: service_healthy, restart: true}}
    healthcheck: {test: exit 0, interval: 90s}
    deploy: {replicas: 2, resources: {limits: {cpus: 0.5, memory: 1g}}, update_config: {order: start-first}}
    develop: {watch: [{path: ./src, action: sync, target: /s}]}
    post_start: [{command: echo hi, environment: {A: b}}]
    secrets: [s, {source: s, target: other, mode: 0400}]
    labels: {a: null, b: true, c: 1.5}
    ulimits: {nproc: 3, nofile: {soft: 1, hard: 2}}
    sysctls: [a=1]
    stop_grace_period: 2m
  db: {image: db, mem_limit: 10m, expose: [1], dns: 1.1.1.1, entrypoint: [], restart: "no"}
networks: {default: {ipam: {config: [{subnet: 10.0.0.0/8}]}}}
volumes: {v: {driver_opts: {o: size=1}}}
secrets: {s: {file: ./s}}
"""


def test_config_of_config_is_the_same_and_so_are_the_hashes() -> None:
    first = load_texts(RICH)
    second = load_texts(render_yaml(first))
    third = load_texts(render_json(first))
    assert render_yaml(second) == render_yaml(first)
    assert render_json(second) == render_json(third)
    for name in first.services:
        assert service_hash(first.services[name]) == service_hash(second.services[name])


WORDS = st.text(alphabet="ab $\"'\\\n:#-", max_size=6)
SERVICES = st.fixed_dictionaries(
    {"image": st.just("x")},
    optional={
        "command": st.lists(WORDS, max_size=3) | st.just(""),
        "environment": st.dictionaries(st.text("AB_", min_size=1, max_size=3), WORDS | st.none() | st.integers()),
        "labels": st.dictionaries(st.text("ab.", min_size=1, max_size=3), WORDS),
        "ports": st.lists(st.integers(1, 9).map(lambda n: f"80{n}:{n}"), unique=True, max_size=3),
        "init": st.booleans(),
        "scale": st.integers(0, 3),
        "mem_limit": st.integers(0, 10**9),
        "cpus": st.sampled_from([0.5, 1, "1.25"]),
        "stop_grace_period": st.integers(0, 10**6).map(lambda n: f"{n}ms"),
        "ulimits": st.dictionaries(st.sampled_from(["nofile", "core"]), st.integers(0, 9)),
        "extra_hosts": st.dictionaries(st.text("ab", min_size=1, max_size=2), st.just("1.1.1.1")),
        "tmpfs": st.just("/run"),
        "x-any": st.recursive(WORDS | st.integers() | st.booleans(), lambda inner: st.lists(inner, max_size=2)),
    },
)


@settings(max_examples=150)
@given(st.dictionaries(st.sampled_from(["a", "b", "c1"]), SERVICES, min_size=1))
def test_config_is_a_fixed_point(services: dict[str, Any]) -> None:
    """config(config(x)) == config(x), for every stack x."""
    doubled = to_yaml({"services": services}).replace("$", "$$")
    once = render_yaml(load_texts(doubled))
    assert render_yaml(load_texts(once)) == once


ANY = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-5, 99999)
    | st.floats(allow_nan=False)
    | st.text("ab0:=/-. $", max_size=6),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["a", "source", "target", "x-a", "context", "test", "config", "soft"]), inner, max_size=3
        )
    ),
    max_leaves=6,
)


@settings(max_examples=400)
@given(st.sampled_from(sorted(SERVICE.fields)), ANY, st.sampled_from(RESOURCES), ANY)
def test_nothing_that_yaml_can_say_is_more_than_an_error(
    key: str, value: object, kind: str, resource: object
) -> None:
    """Every value at every place is taken, or refused with a StackError or another error for the user."""
    stack = {"services": {"s": {"image": "x", key: value}, "t": {"image": "y"}}, "x-more": value}
    if kind != "services":
        stack[kind] = {"a": resource}
    try:
        text = render_yaml(load_texts(to_yaml(stack)))
        assert render_yaml(load_texts(text)) == text
    except BuildtoolError as error:
        assert str(error)


def test_hosts_are_printed_in_their_order_whatever_the_file_has() -> None:
    found = service(
        "services: {s: {image: x, extra_hosts: ['b=2.2.2.2', 'a:1.1.1.1', 'host.docker.internal:host-gateway']}}"
    )
    assert found["extra_hosts"] == ["a=1.1.1.1", "b=2.2.2.2", "host.docker.internal=host-gateway"]


def test_a_relabelled_volume_keeps_its_label_as_docker_compose_has_it() -> None:
    found = service("services: {s: {image: x, volumes: ['data:/d:ro,z']}}\nvolumes: {data: {}}")
    (mount,) = found["volumes"]
    assert mount["bind"] == {"selinux": "z"} and mount["type"] == "volume" and mount["volume"] == {}
