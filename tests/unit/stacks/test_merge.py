"""Merging files, one case a rule (reference/stacks.md 1.11)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.stacks.kinds import At
from buildtool.stacks.merge import merge, settle
from buildtool.stacks.render import render_json
from buildtool.stacks.schema import FILE
from buildtool.stacks.tree import Map, plain
from buildtool.stacks.yamlfile import parse
from tests.unit.stacks.conftest import load_texts, model, service
from tests.unit.stacks.rules import AROUND, FILES, MERGES


def both(left: str, right: str) -> dict[str, Any]:
    return service(f"services: {{s: {{image: x, {left}}}}}", f"services: {{s: {{{right}}}}}")


@pytest.mark.parametrize(
    ("left", "right", "key", "expected"),
    [
        ("hostname: a", "hostname: b", "hostname", "b"),
        ("hostname: a", "hostname: ", "hostname", "a"),
        ("command: [a, b]", "command: [c]", "command", ["c"]),
        ("command: a b", "command: c d", "command", ["c", "d"]),
        ("command: a", "command: []", "command", []),
        ("entrypoint: [a]", "entrypoint: b", "entrypoint", ["b"]),
        ("healthcheck: {test: [CMD, a], retries: 3}", "healthcheck: {test: b}", "healthcheck",
         {"test": ["CMD-SHELL", "b"], "retries": 3}),
        ("environment: {A: 1, B: 2}", "environment: [B=3, C=4]", "environment", {"A": "1", "B": "3", "C": "4"}),
        ("environment: {A: 1}", "environment: [A]", "environment", {"A": None}),
        ("labels: [a=1, b]", "labels: {a: 2}", "labels", {"a": "2", "b": ""}),
        ("annotations: {a: 1}", "annotations: {b: 2}", "annotations", {"a": "1", "b": "2"}),
        ("sysctls: [a=1]", "sysctls: {a: 2}", "sysctls", {"a": "2"}),
        ("dns: 1.1.1.1", "dns: [2.2.2.2, 1.1.1.1]", "dns", ["1.1.1.1", "2.2.2.2"]),
        ("tmpfs: /run", "tmpfs: ['/run:size=1m', /tmp]", "tmpfs", ["/run:size=1m", "/tmp"]),
        ("build: .", "build: {args: {A: 1}}", "build",
         {"context": "/p", "dockerfile": "Dockerfile", "args": {"A": "1"}}),
        ("build: {args: [A=1, B=2]}", "build: {args: {A: 3}}", "build",
         {"context": "/p", "dockerfile": "Dockerfile", "args": {"A": "3", "B": "2"}}),
        ("extra_hosts: ['a:1.1.1.1']", "extra_hosts: {a: 1.1.1.1, b: 2.2.2.2}", "extra_hosts",
         ["a=1.1.1.1", "b=2.2.2.2"]),
        ("logging: {driver: a, options: {x: 1}}", "logging: {options: {y: 2}}", "logging",
         {"driver": "a", "options": {"x": "1", "y": "2"}}),
        ("logging: {driver: a, options: {x: 1}}", "logging: {driver: b, options: {y: 2}}", "logging",
         {"driver": "b", "options": {"y": "2"}}),
        ("ulimits: {nofile: 5, nproc: 6}", "ulimits: {nofile: {soft: 1, hard: 2}}", "ulimits",
         {"nofile": {"soft": 1, "hard": 2}, "nproc": 6}),
        ("cap_add: [A, B]", "cap_add: [B, C]", "cap_add", ["A", "B", "C"]),
        ("expose: [80]", "expose: ['80', '81']", "expose", ["80", "81"]),
        ("env_file: a.env", "env_file: [{path: a.env, required: false}]", "environment", None),
        ("devices: ['/dev/a:/dev/x']", "devices: ['/dev/b:/dev/x:r']", "devices",
         [{"source": "/dev/b", "target": "/dev/x", "permissions": "r"}]),
        ("security_opt: [a]", "security_opt: [b]", "security_opt", ["a", "b"]),
        ("build: {labels: [a=1]}", "build: {labels: {a: 2, b: 3}}", "build",
         {"context": "/p", "dockerfile": "Dockerfile", "labels": {"a": "2", "b": "3"}}),
        ("build: {additional_contexts: [a=./x, c=./z]}", "build: {additional_contexts: {a: ./y}}", "build",
         {"context": "/p", "dockerfile": "Dockerfile", "additional_contexts": {"a": "/p/y", "c": "/p/z"}}),
        ("build: {tags: ['a:1']}", "build: {tags: ['a:1', 'b:2']}", "build",
         {"context": "/p", "dockerfile": "Dockerfile", "tags": ["a:1", "b:2"]}),
        ("dns_search: a", "dns_search: [b, a]", "dns_search", ["a", "b"]),
        ("dns_opt: [a]", "dns_opt: [a, b]", "dns_opt", ["a", "b"]),
        ("cap_drop: [A]", "cap_drop: [A, B]", "cap_drop", ["A", "B"]),
        ("external_links: [a]", "external_links: [a, b]", "external_links", ["a", "b"]),
        ("deploy: {labels: [a=1]}", "deploy: {labels: {b: 2}, replicas: 2}", "deploy",
         {"replicas": 2, "labels": {"a": "1", "b": "2"}}),
    ],
)  # fmt: skip
def test_attribute(left: str, right: str, key: str, expected: object) -> None:
    assert both(left, right).get(key) == expected


@pytest.mark.parametrize(("left", "right", "key", "expected"), MERGES)
def test_two_files(left: str, right: str, key: str, expected: object) -> None:
    image = "" if "build:" in left else "image: x\n    "
    project = load_texts(
        f"services:\n  s:\n    {image}{left}{AROUND}",
        f"services:\n  s:\n    {right}\n",
        files=FILES,
        profiles=["*"],
    )
    assert json.loads(render_json(project))["services"]["s"].get(key) == expected


@pytest.mark.parametrize(
    ("left", "right", "key", "expected"),
    [
        ("cap_drop: [A]", "cap_drop: [A]", "cap_drop", ["A"]),
        ("group_add: [a, b]", "group_add: [b, c]", "group_add", ["a", "b", "c"]),
        ("device_cgroup_rules: ['c 1:1 r']", "device_cgroup_rules: ['c 1:1 r']", "device_cgroup_rules", ["c 1:1 r"]),
        ("security_opt: [a]", "security_opt: [a, b]", "security_opt", ["a", "b"]),
        ("tmpfs: ['/b:size=1m']", "tmpfs: [/b]", "tmpfs", ["/b"]),
        ("logging: {driver: x}", "logging: null", "logging", {"driver": "x"}),
        ("labels: [a=1, b=2]", "labels: {a: !reset null}", "labels", {"b": "2"}),
        ("ports: [{target: 80, published: '80', mode: host}]", "ports: ['80:80']", "ports",
         [{"mode": "ingress", "target": 80, "published": "80", "protocol": "tcp"}]),
    ],
)  # fmt: skip
def test_where_docker_compose_refuses_or_says_things_twice(left: str, right: str, key: str, expected: object) -> None:
    assert both(left, right).get(key) == expected


def test_ports_are_appended_and_the_same_ones_dropped() -> None:
    ports = both("ports: ['80:80', 81]", "ports: ['80:80', '8080:80', {target: 81}]")["ports"]
    assert [(port.get("published"), port["target"]) for port in ports] == [
        ("80", 80),
        (None, 81),
        ("8080", 80),
    ]


def test_volumes_merge_by_target() -> None:
    left, right = "volumes: ['./a:/x', './b:/y']", "volumes: ['./c:/x:ro']"
    assert [(v["source"], v["target"]) for v in both(left, right)["volumes"]] == [("/p/c", "/x"), ("/p/b", "/y")]


def test_secrets_and_configs_merge_by_target() -> None:
    tail = "\nsecrets: {a: {file: a}, b: {file: b}}\nconfigs: {a: {file: a}, b: {file: b}}"
    found = service(
        "services: {s: {image: x, secrets: [a], configs: [a]}}" + tail,
        "services: {s: {secrets: [{source: b, target: /run/secrets/a}], configs: [{source: b, target: /a}]}}",
    )
    assert [item["source"] for item in found["secrets"] + found["configs"]] == ["b", "b"]


def test_lists_and_mappings_of_dependencies_merge() -> None:
    others = "a: {image: x}, b: {image: x}"
    found = service(
        f"services: {{s: {{image: x, depends_on: [a]}}, {others}}}",
        "services: {s: {depends_on: {a: {condition: service_healthy}, b: {condition: service_started}}}}",
    )
    assert {key: how["condition"] for key, how in found["depends_on"].items()} == {
        "a": "service_healthy",
        "b": "service_started",
    }


def test_labels_of_networks_and_volumes_merge_by_key() -> None:
    text = (
        "services: {{s: {{image: x, networks: [n], volumes: ['v:/v']}}}}\nnetworks: {{n: {0}}}\nvolumes: {{v: {0}}}"
    )
    found = model(text.format("{labels: [a=1, b=2]}"), text.format("{labels: {a: 3}}"))
    assert found["networks"]["n"]["labels"] == found["volumes"]["v"]["labels"] == {"a": "3", "b": "2"}


def test_lists_and_mappings_of_networks_merge() -> None:
    tail = "\nnetworks: {n: {}, m: {}}"
    found = service(
        "services: {s: {image: x, networks: [n]}}" + tail,
        "services: {s: {networks: {n: {aliases: [q]}, m: }}}",
    )
    assert found["networks"] == {"n": {"aliases": ["q"]}, "m": None}


def test_ipam_pools_merge_by_subnet() -> None:
    head = "services: {s: {image: x, networks: [n]}}\n"
    left = head + "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/24}, {subnet: 10.1.0.0/24}]}}}"
    right = "networks: {n: {ipam: {config: [{subnet: 10.0.0.0/24, gateway: 10.0.0.9}]}}}"
    assert model(left, right)["networks"]["n"]["ipam"]["config"] == [
        {"subnet": "10.0.0.0/24", "gateway": "10.0.0.9"},
        {"subnet": "10.1.0.0/24"},
    ]


@pytest.mark.parametrize(
    ("left", "right", "key", "expected"),
    [
        ("ports: ['80:80']", "ports: !reset []", "ports", None),
        ("environment: {A: 1, B: 2}", "environment: {A: !reset null}", "environment", {"B": "2"}),
        ("command: [a]", "command: !reset null", "command", None),
        ("labels: {a: 1}", "labels: !override {b: 2}", "labels", {"b": "2"}),
        ("cap_add: [A]", "cap_add: !override [B]", "cap_add", ["B"]),
        ("deploy: {replicas: 2}", "deploy: !reset {}", "deploy", None),
    ],
)
def test_reset_and_override(left: str, right: str, key: str, expected: object) -> None:
    assert both(left, right).get(key) == expected


def test_reset_in_a_single_file_takes_the_attribute_away() -> None:
    assert "ports" not in service("services: {s: {image: x, ports: !reset ['80:80'], labels: !override {a: b}}}")


def test_a_third_file_may_set_again_what_the_second_reset() -> None:
    found = service(
        "services: {s: {image: x, cap_add: [A]}}",
        "services: {s: {cap_add: !reset []}}",
        "services: {s: {cap_add: [C]}}",
    )
    assert found["cap_add"] == ["C"]


def test_documents_of_one_file_are_merged_in_order() -> None:
    text = "services: {s: {image: a, hostname: h}}\n---\nservices: {s: {image: b}}\n"
    assert service(text) == {"image": "b", "hostname": "h"}


NAMES = st.sampled_from(["A", "B", "C"])
SERVICES = st.fixed_dictionaries(
    {},
    optional={
        "hostname": NAMES,
        "command": st.lists(NAMES, max_size=2),
        "environment": st.dictionaries(NAMES, NAMES, max_size=3),
        "labels": st.lists(NAMES.map(lambda name: f"{name}=1"), unique=True, max_size=3),
        "cap_add": st.lists(NAMES, unique=True, max_size=3),
        "dns": st.lists(NAMES, max_size=2),
        "ports": st.lists(st.sampled_from(["80", "81:81", "82:82/udp"]), unique=True, max_size=3),
        "volumes": st.lists(st.sampled_from(["./a:/x", "./b:/x", "./c:/y"]), unique_by=lambda v: v[-1], max_size=2),
        "depends_on": st.lists(NAMES, unique=True, max_size=2),
        "ulimits": st.dictionaries(st.sampled_from(["nofile", "nproc"]), st.integers(1, 3), max_size=2),
    },
)


def canonical(value: dict[str, Any]) -> Map:
    from buildtool.stacks.emit import to_yaml

    (document,) = parse(to_yaml({"services": {"s": {"image": "x"} | value}}), "f")
    checked = FILE.check(document, At(None))
    assert isinstance(checked, Map)
    return checked


@given(SERVICES, SERVICES, SERVICES)
def test_merging_is_associative(a: dict[str, Any], b: dict[str, Any], c: dict[str, Any]) -> None:
    """merge(merge(a, b), c) == merge(a, merge(b, c)): it does not matter how files are grouped."""
    left = merge(merge(canonical(a), canonical(b)), canonical(c))
    right = merge(canonical(a), merge(canonical(b), canonical(c)))
    assert plain(settle(left)) == plain(settle(right))


@given(SERVICES)
def test_merging_with_itself_or_with_nothing_changes_nothing(a: dict[str, Any]) -> None:
    """merge(a, a) == merge(a, {}) == a, when no list of a has the same item twice."""
    a.pop("dns", None)
    assert plain(merge(canonical(a), canonical(a))) == plain(canonical(a))
    assert plain(merge(canonical(a), Map())) == plain(canonical(a))
