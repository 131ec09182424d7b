"""All manifests of a stack, and what is not in them.

Source: reference/ci-and-scale.md 5.1; Kubernetes API: apps/v1, batch/v1, core/v1, networking/v1.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from buildtool.stacks.kubernetes.content import Contents
from buildtool.stacks.kubernetes.names import Notes, labels, object_name, seconds, selector, without_empty
from buildtool.stacks.kubernetes.pods import pod_spec, service_ports
from buildtool.stacks.model import Project

Service = dict[str, Any]
_STORAGE = "1Gi"
_SERVICE_TYPES = ("ClusterIP", "NodePort", "LoadBalancer")
# What pods, workloads and services are made of; the rest is told.
_USED = frozenset((
    "annotations", "cap_add", "cap_drop", "command", "configs", "cpus", "depends_on", "deploy", "dns",
    "dns_opt", "dns_search", "entrypoint", "environment", "expose", "extra_hosts", "gpus", "group_add",
    "healthcheck", "hostname", "image", "ipc", "labels", "mem_limit", "mem_reservation", "network_mode",
    "networks", "pid", "platform", "ports", "post_start", "pre_start", "pre_stop", "privileged", "profiles",
    "pull_policy", "read_only", "restart", "scale", "secrets", "security_opt", "shm_size", "stdin_open",
    "stop_grace_period", "sysctls", "tmpfs", "tty", "user", "volumes", "working_dir",
))  # fmt: skip
_MEANINGLESS = frozenset(("attach", "container_name", "develop", "env_file", "label_file", "pull_refresh_after"))
_WHY = {
    "build": "build it and push it: compose build --push",
    "init": "add an init to the image",
    "logging": "logs are the cluster's",
    "stop_signal": "it is the image's STOPSIGNAL",
    "links": "services are found by their names",
    "ulimits": "they are the node's",
    "mac_address": "addresses are the cluster's",
}


class Exported:
    """The documents, in an order in which they can be applied, and what is told: `(where, what)`."""

    def __init__(self, documents: list[dict[str, Any]], notes: list[tuple[str, str]]) -> None:
        self.documents = documents
        self.notes = notes


def export_stack(project: Project) -> Exported:
    """The active services with what they need. Raises StackError for what Kubernetes cannot have at all."""
    notes = Notes()
    contents = Contents(project, notes)
    services = {name: item for name, item in project.services.items() if not item.get("provider")}
    apart = _volumes_apart(project, services)
    workloads = [
        document
        for name, service in services.items()
        for document in _service(project, name, service, contents, apart, notes)
    ]
    documents = [
        *contents.documents,
        *(_claim(project, key, users, notes) for key, users in sorted(apart.items()) if users),
        *workloads,
        *_policies(project, notes),
    ]
    for name, service in project.services.items():
        _tell_unused(name, service, notes)
    return Exported(documents, notes.said)


def _service(
    project: Project, name: str, service: Service, contents: Contents, apart: dict[str, int], notes: Notes
) -> Iterator[dict[str, Any]]:
    kind = _kind(project, name, service, apart)
    pod = pod_spec(project, name, service, contents, notes)
    own = _own_volumes(service, apart) if kind == "StatefulSet" else []
    claimed = {object_name(key) for key in own}
    pod["volumes"] = [item for item in pod.get("volumes", []) if item["name"] not in claimed]
    if not pod["volumes"]:
        del pod["volumes"]
    annotations = {str(key): str(value) for key, value in (service.get("annotations") or {}).items()}
    metadata = {"labels": labels(project.name, name) | _network_labels(project, service), "annotations": annotations}
    template = {"metadata": without_empty(metadata), "spec": pod}
    ports = service_ports(service)  # a service without any is still found by its name
    if kind != "Job":
        yield from _network_service(project, name, service, ports, headless=not ports, notes=notes)
    yield {
        "apiVersion": "batch/v1" if kind == "Job" else "apps/v1",
        "kind": kind,
        "metadata": _metadata(project, name, service),
        "spec": _spec(kind, project, name, service, template) | _templates(project, own, kind),
    }


def _kind(project: Project, name: str, service: Service, apart: dict[str, int]) -> str:
    if _ends(project, name, service):
        return "Job"
    if (service.get("deploy") or {}).get("mode") == "global":
        return "DaemonSet"
    return "StatefulSet" if _own_volumes(service, apart) else "Deployment"


def _ends(project: Project, name: str, service: Service) -> bool:
    """Whether it is to run once: it says so, or somebody waits for its end."""
    mode = (service.get("deploy") or {}).get("mode") or ""
    waited = any(
        ((other.get("depends_on") or {}).get(name) or {}).get("condition") == "service_completed_successfully"
        for other in project.services.values()
    )
    return mode.endswith("-job") or waited or (service.get("restart") or "").startswith(("no", "on-failure"))


def _spec(kind: str, project: Project, name: str, service: Service, template: dict[str, Any]) -> dict[str, Any]:
    deploy = service.get("deploy") or {}
    if kind == "Job":
        policy = deploy.get("restart_policy") or {}
        tries = policy.get("max_attempts")
        again = policy.get("condition", "on-failure") != "none" and service.get("restart") != "no"
        template["spec"]["restartPolicy"] = "OnFailure" if again else "Never"
        return without_empty(
            {"template": template, "backoffLimit": int(tries) if tries is not None else 6 if again else 0}
        )
    spec: dict[str, Any] = {"selector": {"matchLabels": selector(project.name, name)}, "template": template}
    if kind != "DaemonSet":
        count = service.get("scale") if service.get("scale") is not None else deploy.get("replicas")
        spec = {"replicas": 1 if count is None else int(count), **spec}
    if kind == "StatefulSet":
        spec["serviceName"] = object_name(name)
    update = deploy.get("update_config") or {}
    if update and kind == "Deployment":
        several = int(update.get("parallelism") or 1)
        first = update.get("order") == "start-first"
        rolling = {"maxSurge": several if first else 0, "maxUnavailable": 0 if first else several}
        spec["strategy"] = {"type": "RollingUpdate", "rollingUpdate": rolling}
    if update.get("delay"):
        spec["minReadySeconds"] = seconds(update["delay"])
    return spec


def _metadata(project: Project, name: str, service: Service) -> dict[str, Any]:
    deploy = (service.get("deploy") or {}).get("labels") or {}
    annotations = {str(key): str(value) for key, value in {**(service.get("labels") or {}), **deploy}.items()}
    return without_empty(
        {"name": object_name(name), "labels": labels(project.name, name), "annotations": annotations}
    )


def _templates(project: Project, own: list[str], kind: str) -> dict[str, Any]:
    if kind != "StatefulSet":
        return {}
    return {
        "volumeClaimTemplates": [
            {"metadata": {"name": object_name(key)}, "spec": _claim_spec(project, key, "ReadWriteOnce")}
            for key in own
        ]
    }


def _named_volumes(service: Service) -> list[str]:
    items = service.get("volumes") or []
    return list(dict.fromkeys(item["source"] for item in items if item["type"] == "volume" and item.get("source")))


def _volumes_apart(project: Project, services: dict[str, Service]) -> dict[str, int]:
    """Volumes that no StatefulSet makes for itself, with how many services have them (0: they exist already)."""
    users: dict[str, int] = {}
    apart: dict[str, int] = {}
    for name, service in services.items():
        lasting = not _ends(project, name, service) and (service.get("deploy") or {}).get("mode") != "global"
        for key in _named_volumes(service):
            users[key] = users.get(key, 0) + 1
            if users[key] > 1 or not lasting:
                apart[key] = users[key]
    external = {key for key, item in project.part("volumes").items() if item.get("external")}
    return {key: 0 if key in external else count for key, count in apart.items()} | dict.fromkeys(external, 0)


def _own_volumes(service: Service, apart: dict[str, int]) -> list[str]:
    return [key for key in _named_volumes(service) if key not in apart]


def _claim(project: Project, key: str, users: int, notes: Notes) -> dict[str, Any]:
    if users > 1:
        notes.say(f"volumes.{key}", "several services share it: the cluster needs storage with ReadWriteMany")
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": object_name(project.part("volumes")[key]["name"]), "labels": labels(project.name)},
        "spec": _claim_spec(project, key, "ReadWriteMany" if users > 1 else "ReadWriteOnce"),
    }


def _claim_spec(project: Project, key: str, access: str) -> dict[str, Any]:
    own = project.part("volumes")[key].get("x-kubernetes") or {}
    return without_empty(
        {
            "accessModes": [access],
            "resources": {"requests": {"storage": str(own.get("size") or _STORAGE)}},
            "storageClassName": own.get("class"),
        }
    )


def _network_service(
    project: Project, name: str, service: Service, ports: list[dict[str, Any]], *, headless: bool, notes: Notes
) -> Iterator[dict[str, Any]]:
    own = service.get("x-kubernetes") or {}
    published = any(item.get("published") for item in ports)
    kind = own.get("service") or ("LoadBalancer" if published else "ClusterIP")
    if kind not in _SERVICE_TYPES:
        raise project.error(
            ("services", name, "x-kubernetes"), f"service: {kind!r} is none of {', '.join(_SERVICE_TYPES)}"
        )
    spec: dict[str, Any] = {"selector": selector(project.name, name)}
    if headless:
        spec["clusterIP"] = "None"
    else:
        spec |= {"type": kind, "ports": [_service_port(item, notes, name) for item in ports]}
    yield {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": object_name(name), "labels": labels(project.name, name)},
        "spec": spec,
    }
    if own.get("ingress") and ports:
        yield _ingress(project, name, str(own["ingress"]), int(ports[0]["target"]))


def _service_port(item: dict[str, Any], notes: Notes, name: str) -> dict[str, Any]:
    target, protocol = int(item["target"]), item.get("protocol") or "tcp"
    published = str(item.get("published") or "")
    if "-" in published:
        notes.say(f"services.{name}.ports", f"of the range {published} the port {target} itself is taken")
    port = int(published) if published.isdecimal() and published != "0" else target
    return {"name": f"{protocol}-{target}", "port": port, "targetPort": target, "protocol": protocol.upper()}


def _ingress(project: Project, name: str, host: str, target: int) -> dict[str, Any]:
    backend = {"service": {"name": object_name(name), "port": {"name": f"tcp-{target}"}}}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": object_name(name), "labels": labels(project.name, name)},
        "spec": {
            "rules": [{"host": host, "http": {"paths": [{"path": "/", "pathType": "Prefix", "backend": backend}]}}]
        },
    }


def _policies(project: Project, notes: Notes) -> Iterator[dict[str, Any]]:
    """A NetworkPolicy for each network, when the stack has more than the one that everybody is on."""
    networks = project.part("networks")
    if set(networks) <= {"default"}:
        return
    for key, network in networks.items():
        label = {_network_label(project, key): "true"}
        internal = bool(network.get("internal"))
        spec: dict[str, Any] = {
            "podSelector": {"matchLabels": label},
            "policyTypes": ["Ingress", "Egress"] if internal else ["Ingress"],
            "ingress": [{"from": [{"podSelector": {"matchLabels": label}}]}],
        }
        if internal:
            names = [{"protocol": protocol, "port": 53} for protocol in ("UDP", "TCP")]
            spec["egress"] = [{"to": [{"podSelector": {"matchLabels": label}}]}, {"ports": names}]
        yield {
            "apiVersion": "networking.k8s.io/v1",
            "kind": "NetworkPolicy",
            "metadata": {"name": object_name(project.name, key), "labels": labels(project.name)},
            "spec": spec,
        }
    for name, service in project.services.items():
        published = [item for item in service.get("ports") or [] if item.get("published")]
        if published:
            allowed = [
                {"protocol": (i.get("protocol") or "tcp").upper(), "port": int(i["target"])} for i in published
            ]
            yield {
                "apiVersion": "networking.k8s.io/v1",
                "kind": "NetworkPolicy",
                "metadata": {"name": object_name(name, "published"), "labels": labels(project.name, name)},
                "spec": {
                    "podSelector": {"matchLabels": selector(project.name, name)},
                    "policyTypes": ["Ingress"],
                    "ingress": [{"ports": allowed}],
                },
            }


def _network_label(project: Project, key: str) -> str:
    return f"network.buildtool/{object_name(project.name, key)}"


def _network_labels(project: Project, service: Service) -> dict[str, str]:
    if set(project.part("networks")) <= {"default"}:
        return {}
    return {_network_label(project, key): "true" for key in service.get("networks") or {}}


def _tell_unused(name: str, service: Service, notes: Notes) -> None:
    for key, value in service.items():
        if key in _USED or key in _MEANINGLESS or key.startswith("x-") or value in (None, "", [], {}, False):
            continue
        notes.say(f"services.{name}.{key}", _WHY.get(key, "has no counterpart"))
    for other, how in (service.get("depends_on") or {}).items():
        if how["condition"] == "service_completed_successfully":
            notes.say(
                f"services.{name}.depends_on.{other}", "the Job is not waited for: the pod must be able to retry"
            )
    for network, own in (service.get("networks") or {}).items():
        for key in own or {}:
            notes.say(f"services.{name}.networks.{network}.{key}", "names and addresses are the cluster's")
