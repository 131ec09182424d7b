"""A service's pod: its container, those that run before it, and its volumes."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from buildtool.stacks.kubernetes.content import Contents
from buildtool.stacks.kubernetes.names import Notes, object_name, quantity, seconds, selector, without_empty
from buildtool.stacks.model import Project
from buildtool.stacks.names import image_name

Service = dict[str, Any]
_PULL = {"always": "Always", "never": "Never", "missing": "IfNotPresent", "if_not_present": "IfNotPresent"}


def pod_spec(project: Project, name: str, service: Service, contents: Contents, notes: Notes) -> dict[str, Any]:
    """The pod's specification without its restart policy."""
    volumes, mounts = contents.mounts(name, service)
    for index, item in enumerate(service.get("volumes") or []):
        volume, mount = _volume(project, name, index, item, notes)
        volumes += [volume] if volume and volume not in volumes else []
        mounts.append(mount)
    for index, text in enumerate(service.get("tmpfs") or []):
        volumes.append({"name": f"scratch-{index}", "emptyDir": {"medium": "Memory"}})
        mounts.append({"name": f"scratch-{index}", "mountPath": text.partition(":")[0]})
    if service.get("shm_size"):
        memory = {"medium": "Memory", "sizeLimit": quantity(service["shm_size"])}
        volumes.append({"name": "shm", "emptyDir": memory})
        mounts.append({"name": "shm", "mountPath": "/dev/shm"})
    own = _container(project, name, service, mounts, notes)
    before = [
        _before(project, name, service, entry, n, mounts) for n, entry in enumerate(service.get("pre_start") or [], 1)
    ]
    mode = service.get("network_mode") or ""
    return without_empty(
        {
            "initContainers": [*_waits(project, service), *before],
            "containers": [own],
            "volumes": volumes,
            "hostname": service.get("hostname"),
            "hostNetwork": True if mode == "host" else None,
            "hostPID": True if service.get("pid") == "host" else None,
            "hostIPC": True if service.get("ipc") == "host" else None,
            "hostAliases": _aliases(service),
            "dnsConfig": _dns(service),
            "nodeSelector": _nodes(name, service, notes),
            "topologySpreadConstraints": _spread(project, name, service),
            "securityContext": _pod_security(name, service, notes),
            "terminationGracePeriodSeconds": (
                seconds(service["stop_grace_period"], least=0) if service.get("stop_grace_period") else 10
            ),
            "enableServiceLinks": False,
        }
    )


def _container(
    project: Project, name: str, service: Service, mounts: list[dict[str, Any]], notes: Notes
) -> dict[str, Any]:
    return without_empty(
        {
            "name": object_name(name),
            "image": image_name(project, name, service),
            "imagePullPolicy": _PULL.get(service.get("pull_policy") or ""),
            "command": _literal(service["entrypoint"]) if service.get("entrypoint") else None,
            "args": _literal(service["command"]) if service.get("command") else None,
            "workingDir": service.get("working_dir"),
            "env": _environment(service),
            "ports": [_port(item) for item in service_ports(service)],
            "resources": _resources(service),
            "volumeMounts": mounts,
            "stdin": service.get("stdin_open") or None,
            "tty": service.get("tty") or None,
            "securityContext": _security(name, service, notes),
            "lifecycle": _lifecycle(name, service, notes),
            **_probes(service),
        }
    )


def _environment(service: Service) -> list[dict[str, str]]:
    own = {key: str(value) for key, value in (service.get("environment") or {}).items() if value is not None}
    return [{"name": key, "value": value} for key, value in zip(own, _literal(own.values()), strict=True)]


def _literal(words: Iterable[str]) -> list[str]:
    """`$(NAME)` is a reference in Kubernetes; two dollars stand for one."""
    return [word.replace("$(", "$$(") for word in words]


def service_ports(service: Service) -> list[dict[str, Any]]:
    """The ports that it publishes or exposes, each once."""
    found: dict[tuple[int, str], dict[str, Any]] = {}
    for item in service.get("ports") or []:
        found.setdefault((int(item["target"]), item.get("protocol") or "tcp"), item)
    for text in service.get("expose") or []:
        number, _, protocol = str(text).partition("/")
        first, _, last = number.partition("-")
        for port in range(int(first), int(last or first) + 1):
            found.setdefault((port, protocol or "tcp"), {"target": port, "protocol": protocol or "tcp"})
    return list(found.values())


def _port(item: dict[str, Any]) -> dict[str, Any]:
    return {"containerPort": int(item["target"]), "protocol": (item.get("protocol") or "tcp").upper()}


def _resources(service: Service) -> dict[str, Any]:
    resources = (service.get("deploy") or {}).get("resources") or {}
    limits, requests = resources.get("limits") or {}, resources.get("reservations") or {}
    devices = [*(requests.get("devices") or []), *(service.get("gpus") or [])]
    graphics = sum(max(1, item.get("count") or len(item.get("device_ids") or [1])) for item in devices)
    found = {
        "limits": without_empty(
            {
                "cpu": _text(limits.get("cpus") or service.get("cpus")),
                "memory": _bytes(limits.get("memory") or service.get("mem_limit")),
                "nvidia.com/gpu": str(graphics) if graphics else None,
            }
        ),
        "requests": without_empty(
            {
                "cpu": _text(requests.get("cpus")),
                "memory": _bytes(requests.get("memory") or service.get("mem_reservation")),
            }
        ),
    }
    return without_empty(found)


def _text(value: Any) -> str | None:
    return None if value in (None, 0) else f"{float(value):g}"


def _bytes(value: Any) -> str | None:
    return None if not value else quantity(value)


def _probes(service: Service) -> dict[str, Any]:
    """The health check as readiness, and as liveness, which begins after the start."""
    check = service.get("healthcheck") or {}
    test = list(check.get("test") or [])
    if check.get("disable") or not test or test[0] == "NONE":
        return {}
    command = test[1:] if test[0] == "CMD" else ["/bin/sh", "-c", *test[1:]]
    interval = seconds(check.get("interval") or "30s")
    probe = {
        "exec": {"command": command},
        "periodSeconds": interval,
        "timeoutSeconds": seconds(check.get("timeout") or "30s"),
        "failureThreshold": int(check.get("retries") or 3),
    }
    found: dict[str, Any] = {"readinessProbe": probe, "livenessProbe": dict(probe)}
    if check.get("start_period"):
        every = seconds(check.get("start_interval") or "5s")
        tries = max(int(check.get("retries") or 3), -(-seconds(check["start_period"]) // every))
        found["startupProbe"] = {**probe, "periodSeconds": every, "failureThreshold": tries}
    return found


def _lifecycle(name: str, service: Service, notes: Notes) -> dict[str, Any]:
    found = {}
    for key, field in (("post_start", "postStart"), ("pre_stop", "preStop")):
        hooks = service.get(key) or []
        if hooks:
            found[field] = {"exec": {"command": list(hooks[0]["command"])}}
        if len(hooks) > 1:
            notes.say(f"services.{name}.{key}", "only the first of several hooks is kept")
        if any(hook.get(field) for hook in hooks for field in ("user", "privileged", "working_dir", "environment")):
            notes.say(
                f"services.{name}.{key}", "runs as the container does: user, environment and folder are not kept"
            )
    return found


def _security(name: str, service: Service, notes: Notes) -> dict[str, Any]:
    options = service.get("security_opt") or []
    user, _, group = str(service.get("user") or "").partition(":")
    for text in (user, group):
        if text and not text.isdecimal():
            notes.say(f"services.{name}.user", f"{text!r} is a name; Kubernetes wants a number")
    return without_empty(
        {
            "privileged": service.get("privileged") or None,
            "readOnlyRootFilesystem": service.get("read_only") or None,
            "runAsUser": int(user) if user.isdecimal() else None,
            "runAsGroup": int(group) if group.isdecimal() else None,
            "allowPrivilegeEscalation": False
            if any(text.startswith("no-new-privileges") for text in options)
            else None,
            "seccompProfile": {"type": "Unconfined"} if "seccomp:unconfined" in options else None,
            "capabilities": without_empty(
                {
                    "add": [item.removeprefix("CAP_") for item in service.get("cap_add") or []],
                    "drop": [item.removeprefix("CAP_") for item in service.get("cap_drop") or []],
                }
            ),
        }
    )


def _pod_security(name: str, service: Service, notes: Notes) -> dict[str, Any]:
    groups = [str(item) for item in service.get("group_add") or []]
    if any(not item.isdecimal() for item in groups):
        notes.say(f"services.{name}.group_add", "only groups given by number are kept")
    sysctls = [{"name": key, "value": str(value)} for key, value in (service.get("sysctls") or {}).items()]
    return without_empty(
        {"supplementalGroups": [int(item) for item in groups if item.isdecimal()], "sysctls": sysctls}
    )


def _aliases(service: Service) -> list[dict[str, Any]]:
    found: dict[str, list[str]] = {}
    for item in service.get("extra_hosts") or []:
        host, _, address = item.partition("=")
        if address != "host-gateway":
            found.setdefault(address, []).append(host)
    return [{"ip": address, "hostnames": hosts} for address, hosts in found.items()]


def _dns(service: Service) -> dict[str, Any]:
    options = [
        dict(zip(("name", "value"), text.split(":", 1), strict=False)) for text in service.get("dns_opt") or []
    ]
    servers, search = list(service.get("dns") or []), list(service.get("dns_search") or [])
    return without_empty({"nameservers": servers, "searches": search, "options": options})


def _nodes(name: str, service: Service, notes: Notes) -> dict[str, str]:
    found = {}
    system, _, machine = (service.get("platform") or "").partition("/")
    if system:
        found["kubernetes.io/os"] = system
    if machine:
        found["kubernetes.io/arch"] = machine.partition("/")[0]
    for text in ((service.get("deploy") or {}).get("placement") or {}).get("constraints") or []:
        key, equal, value = (part.strip() for part in text.partition("=="))
        if equal and key.startswith(("node.labels.", "engine.labels.")):
            found[key.split(".", 2)[2]] = value
        elif equal and key == "node.hostname":
            found["kubernetes.io/hostname"] = value
        else:
            notes.say(f"services.{name}.deploy.placement", f"the constraint {text!r} has no counterpart")
    return found


def _spread(project: Project, name: str, service: Service) -> list[dict[str, Any]]:
    placement = (service.get("deploy") or {}).get("placement") or {}
    keys = [item["spread"].removeprefix("node.labels.") for item in placement.get("preferences") or []]
    rules = [(key, 1, "ScheduleAnyway") for key in keys]
    if placement.get("max_replicas_per_node"):
        rules.append(("kubernetes.io/hostname", int(placement["max_replicas_per_node"]), "DoNotSchedule"))
    return [
        {
            "topologyKey": key,
            "maxSkew": skew,
            "whenUnsatisfiable": otherwise,
            "labelSelector": {"matchLabels": selector(project.name, name)},
        }
        for key, skew, otherwise in rules
    ]


def _waits(project: Project, service: Service) -> list[dict[str, Any]]:
    """A container for each dependency that answers on a port: the pod starts when it does."""
    found = []
    for other, how in sorted((service.get("depends_on") or {}).items()):
        ports = service_ports(project.services.get(other) or {})
        tcp = [item for item in ports if (item.get("protocol") or "tcp") == "tcp"]
        if tcp and how.get("condition") == "service_healthy":
            command = f"until nc -z {object_name(other)} {tcp[0]['target']}; do sleep 1; done"
            found.append(
                {"name": object_name("wait-for", other), "image": "busybox", "command": ["sh", "-c", command]}
            )
    return found


def _before(
    project: Project, name: str, service: Service, entry: dict[str, Any], number: int, mounts: list[dict[str, Any]]
) -> dict[str, Any]:
    own = {**(service.get("environment") or {}), **(entry.get("environment") or {})}
    user = str(entry.get("user") or "").partition(":")[0]
    return without_empty(
        {
            "name": object_name(name, "init", str(number)),
            "image": entry.get("image") or image_name(project, name, service),
            "command": list(entry["command"]),
            "workingDir": entry.get("working_dir") or service.get("working_dir"),
            "env": _environment({"environment": own}),
            "volumeMounts": mounts,
            "securityContext": without_empty(
                {
                    "privileged": entry.get("privileged") or None,
                    "runAsUser": int(user) if user.isdecimal() else None,
                }
            ),
        }
    )


def _volume(
    project: Project, name: str, index: int, item: dict[str, Any], notes: Notes
) -> tuple[dict[str, Any] | None, dict[str, Any]]:
    """The pod's volume (None for one that a claim template makes) and the container's mount."""
    mount = without_empty({"mountPath": item["target"], "readOnly": item.get("read_only") or None})
    kind, source = item["type"], item.get("source")
    if kind == "volume" and source:
        called = object_name(source)
        mount |= without_empty({"name": called, "subPath": (item.get("volume") or {}).get("subpath")})
        claim = object_name(project.part("volumes")[source]["name"])
        return {"name": called, "persistentVolumeClaim": {"claimName": claim}}, mount
    called = f"{kind}-{index}"
    mount = {"name": called, **mount}
    if kind == "bind":
        notes.say(f"services.{name}.volumes[{index}]", f"{source} must be on every node: it becomes a hostPath")
        return {"name": called, "hostPath": {"path": source}}, mount
    if kind == "image":
        return {"name": called, "image": {"reference": source}}, mount
    memory: dict[str, Any] = {}
    if kind == "tmpfs":
        size = (item.get("tmpfs") or {}).get("size")
        memory = without_empty({"medium": "Memory", "sizeLimit": quantity(size) if size else None})
    elif kind != "volume":
        notes.say(f"services.{name}.volumes[{index}]", f"a mount of type {kind} has no counterpart: it becomes empty")
    return {"name": called, "emptyDir": memory}, mount
