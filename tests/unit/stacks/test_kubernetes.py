"""Stacks as manifests of Kubernetes: what every set of manifests must keep to, and what becomes of each attribute."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from typing import Any

import pytest

from buildtool.stacks.discover import find_request
from buildtool.stacks.kubernetes import export_stack
from buildtool.stacks.load import load
from buildtool.stacks.reading import FileSystem
from buildtool.stacks.tree import StackError
from tests.unit.stacks.conftest import load_texts

Document = dict[str, Any]
EXAMPLE = Path(__file__).parents[3] / "examples/stack/compose.yaml"
EVERYTHING = """
name: k
services:
  a:
    image: x
    command: [a, "$$(b)"]
    entrypoint: [e]
    environment: {A: "$$(X)", B: null}
    ports: ["8080:80", "53:53/udp", "9000-9001:9000-9001", "1000-1005:7"]
    expose: ["99"]
    volumes: ["v:/v", "w:/w:ro", /anon, "./b:/b", {type: tmpfs, target: /t, tmpfs: {size: 1m}},
      {type: image, source: img, target: /i}, "ext:/e"]
    tmpfs: [/tmp2:size=1m]
    shm_size: 64m
    user: "1000:1000"
    group_add: ["5", wheel]
    cap_add: [NET_ADMIN]
    cap_drop: [ALL]
    read_only: true
    privileged: false
    security_opt: ["no-new-privileges:true"]
    sysctls: {net.core.somaxconn: 1}
    dns: [1.1.1.1]
    dns_opt: ["ndots:2", debug]
    dns_search: [x.y]
    extra_hosts: ["h=1.2.3.4", "g=host-gateway"]
    hostname: hh
    platform: linux/arm64
    stop_grace_period: 1m
    post_start: [{command: [x]}, {command: [y]}]
    pre_stop: [{command: [x], user: root}]
    pre_start: [{command: [x], user: "0"}]
    healthcheck: {test: "exit 0", interval: 500ms, start_period: 10s}
    deploy:
      replicas: 3
      labels: {a: b}
      update_config: {order: start-first, parallelism: 2, delay: 5s}
      placement:
        constraints: ["node.labels.disk == ssd", "node.role == manager"]
        preferences: [{spread: node.labels.zone}]
        max_replicas_per_node: 1
      resources:
        limits: {cpus: "0.5", memory: 100m, pids: 5}
        reservations: {cpus: "0.1", memory: 50m, devices: [{capabilities: [gpu], count: 2}]}
    annotations: {x: y}
    labels: {l: m}
    ulimits: {nofile: 5}
    init: true
    logging: {driver: none}
    links: [b]
    networks: {n1: {aliases: [q]}, n2: }
    x-kubernetes: {service: NodePort, ingress: a.example}
    stdin_open: true
    tty: true
    working_dir: /w
    configs: [{source: c, target: /c, mode: 0440, uid: "5"}]
    secrets: [s]
    depends_on: {b: {condition: service_healthy}, job: {condition: service_completed_successfully}}
  b: {image: y, networks: [n1], expose: [1], healthcheck: {test: [CMD, x]}, volumes: ["w:/w"], deploy: {mode: global}}
  job: {image: z, restart: on-failure, networks: [n2], volumes: ["j:/j"],
    deploy: {restart_policy: {condition: on-failure, max_attempts: 3}}}
  once: {image: z, network_mode: host, pid: host, ipc: host, restart: "no", pull_policy: always}
volumes: {v: {x-kubernetes: {size: 5Gi, class: fast}}, w: , j: , ext: {external: true, name: e_e}}
networks: {n1: {internal: true}, n2: }
configs: {c: {content: hi}}
secrets: {s: {environment: SEC}}
"""


def documents(text: str, **options: Any) -> dict[str, Document]:
    """By `Kind/name`."""
    found = export_stack(load_texts(text, **options)).documents
    return {f"{item['kind']}/{item['metadata']['name']}": item for item in found}


def pod(document: Document) -> Document:
    spec: Document = document["spec"]["template"]["spec"]
    return spec


def service(text: str) -> tuple[Document, list[tuple[str, str]]]:
    """The pod of `s` and what is told, for a service's attributes in flow style."""
    found = export_stack(load_texts(f"services: {{s: {{image: x, {text}}}}}"))
    workload = next(item for item in found.documents if "template" in item.get("spec", ()))
    return pod(workload), found.notes


@pytest.fixture(params=["everything", "example"])
def exported(request: pytest.FixtureRequest) -> list[Document]:
    if request.param == "example":
        project = load(find_request(files=[str(EXAMPLE)], environment={}), FileSystem())
        return export_stack(project).documents
    return export_stack(load_texts(EVERYTHING, env={"SEC": "x"})).documents


def test_names_are_labels_of_dns_and_no_object_is_twice(exported: list[Document]) -> None:
    names = [(item["kind"], item["metadata"]["name"]) for item in exported]
    assert len(names) == len(set(names))
    assert all(re.fullmatch(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", name) for _, name in names)


def test_every_reference_has_what_it_names(exported: list[Document]) -> None:
    by_kind: dict[str, set[str]] = {}
    for item in exported:
        by_kind.setdefault(item["kind"], set()).add(item["metadata"]["name"])
    for item in (item for item in exported if "template" in item.get("spec", ())):
        template, spec = item["spec"]["template"], pod(item)
        if "selector" in item["spec"]:
            assert item["spec"]["selector"]["matchLabels"].items() <= template["metadata"]["labels"].items()
        claims = {claim["metadata"]["name"] for claim in item["spec"].get("volumeClaimTemplates", [])}
        volumes = [volume["name"] for volume in spec.get("volumes", [])]
        assert len(volumes) == len(set(volumes))
        for container in [*spec["containers"], *spec.get("initContainers", [])]:
            assert {mount["name"] for mount in container.get("volumeMounts", [])} <= {*volumes, *claims}
        for volume in spec.get("volumes", []):
            assert volume.get("secret", {}).get("secretName", "") in {"", *by_kind.get("Secret", ())}
            assert volume.get("configMap", {}).get("name", "") in {"", *by_kind.get("ConfigMap", ())}
            claim = volume.get("persistentVolumeClaim", {}).get("claimName", "")
            assert claim in {"", "e-e", *by_kind.get("PersistentVolumeClaim", ())}


def test_the_manifests_keep_to_the_schema(exported: list[Document]) -> None:
    """Against the published schemas where they are installed, and the least of them elsewhere."""
    assert all({"apiVersion", "kind", "metadata"} <= item.keys() for item in exported)
    if importlib.util.find_spec("kubernetes_validate") is not None:
        validate: Any = importlib.import_module("kubernetes_validate").validate
        for item in exported:
            validate(item, "1.32", strict=True)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("restart: always", "Deployment"),
        ("deploy: {mode: global}", "DaemonSet"),
        ("deploy: {mode: replicated-job}", "Job"),
        ("restart: 'no'", "Job"),
        ("volumes: ['v:/v']", "StatefulSet"),
    ],
)
def test_the_kind_of_a_service(text: str, kind: str) -> None:
    assert f"{kind}/s" in documents(f"services: {{s: {{image: x, {text}}}}}\nvolumes: {{v: }}")


def test_what_others_wait_to_end_is_a_job() -> None:
    found = documents(
        "services: {a: {image: x, depends_on: {j: {condition: service_completed_successfully}}}, j: {image: x}}"
    )
    assert {"Deployment/a", "Job/j"} <= found.keys() and "Service/j" not in found


@pytest.mark.parametrize(
    ("text", "path", "expected"),
    [
        ("command: [a, '$$(b)']", ("args",), ["a", "$$(b)"]),
        ("entrypoint: [e]", ("command",), ["e"]),
        ("environment: {A: 1, B: }", ("env",), [{"name": "A", "value": "1"}]),
        ("ports: ['8080:80/udp']", ("ports",), [{"containerPort": 80, "protocol": "UDP"}]),
        ("cpus: 0.5", ("resources", "limits", "cpu"), "0.5"),
        ("mem_limit: 100m", ("resources", "limits", "memory"), "100Mi"),
        ("mem_limit: 1000", ("resources", "limits", "memory"), "1000"),
        ("user: '1:2'", ("securityContext",), {"runAsUser": 1, "runAsGroup": 2}),
        ("cap_add: [CAP_NET_RAW]", ("securityContext", "capabilities"), {"add": ["NET_RAW"]}),
        ("pull_policy: always", ("imagePullPolicy",), "Always"),
        ("healthcheck: {test: [CMD, x], interval: 1500ms}", ("readinessProbe", "periodSeconds"), 2),
        ("post_start: [{command: [x]}]", ("lifecycle", "postStart", "exec", "command"), ["x"]),
    ],
)
def test_attribute_of_the_container(text: str, path: tuple[str, ...], expected: object) -> None:
    found: Any = service(text)[0]["containers"][0]
    for key in path:
        found = found[key]
    assert found == expected


def test_disabled_checks_are_no_probes() -> None:
    container = service("healthcheck: {disable: true}")[0]["containers"][0]
    assert not any(key.endswith("Probe") for key in container)


def test_published_ports_are_reachable_from_outside_and_others_are_not() -> None:
    found = documents("services: {a: {image: x, ports: ['8080:80']}, b: {image: x, expose: [90]}, c: {image: x}}")
    assert found["Service/a"]["spec"]["type"] == "LoadBalancer"
    port = found["Service/a"]["spec"]["ports"][0]
    assert (port["port"], port["targetPort"], port["protocol"]) == (8080, 80, "TCP")
    assert found["Service/b"]["spec"]["type"] == "ClusterIP"
    assert found["Service/c"]["spec"]["clusterIP"] == "None"


def test_a_change_of_content_is_another_object() -> None:
    text = "services: {s: {image: x, secrets: [k]}}\nsecrets: {k: {environment: K}}"
    first, second = (documents(text, env={"K": value}) for value in ("1", "2"))
    names = [next(name for name in found if name.startswith("Secret/")) for found in (first, second)]
    assert names[0] != names[1] and "K" not in str(first["Deployment/s"]["spec"]["template"]["spec"]["containers"])


def test_networks_are_policies_when_there_are_several() -> None:
    one = documents("services: {a: {image: x}}")
    two = documents(
        "services: {a: {image: x, networks: [n], ports: ['1:1']}}\nnetworks: {n: {internal: true}, m: }",
        all_resources=True,
    )
    assert not any(name.startswith("NetworkPolicy") for name in one)
    assert {"NetworkPolicy/p-n", "NetworkPolicy/p-m", "NetworkPolicy/a-published"} <= two.keys()
    assert two["NetworkPolicy/p-n"]["spec"]["policyTypes"] == ["Ingress", "Egress"]


@pytest.mark.parametrize("text", ["ulimits: {nofile: 1}", "init: true", "logging: {driver: none}", "links: [s:q]"])
def test_what_is_left_out_is_told(text: str) -> None:
    if "links" in text:
        text = "external_links: [q]"
    _, notes = service(text)
    assert [where for where, _ in notes] == [f"services.s.{text.partition(':')[0]}"]


def test_an_unknown_type_of_service_is_refused_at_its_place() -> None:
    with pytest.raises(StackError, match=r"compose.yaml:1:.*services.s.x-kubernetes: service: 'Magic' is none of"):
        documents("services: {s: {image: x, ports: [1], x-kubernetes: {service: Magic}}}")


def test_update_config_is_the_rolling_update() -> None:
    found = documents("services: {s: {image: x, deploy: {update_config: {order: start-first, parallelism: 2}}}}")
    rolling = found["Deployment/s"]["spec"]["strategy"]["rollingUpdate"]
    assert rolling == {"maxSurge": 2, "maxUnavailable": 0}
