"""From a service to the body of POST /containers/create.

Source: Docker Engine API, "Create a container"; Compose specification for what each attribute means.
"""

from __future__ import annotations

import json
from typing import Any

from buildtool.errors import InvalidInput
from buildtool.stacks.body_limits import limits
from buildtool.stacks.body_mounts import mounts
from buildtool.stacks.durations import nanoseconds
from buildtool.stacks.model import Project
from buildtool.stacks.names import container_name, image_name
from buildtool.stacks.paths import absolute

Service = dict[str, Any]


class References:
    """What a body refers to: the containers of other services, by service."""

    def __init__(self, containers: dict[str, list[tuple[str, str]]] | None = None) -> None:
        self._containers = containers or {}

    def container(self, service: str, whose: str) -> str:
        """The id of the service's first container. Raises InvalidInput when there is none yet."""
        found = self._containers.get(service)
        if not found:
            raise InvalidInput(f"cannot share with service {service!r}: it has no container ({whose} needs one)")
        return found[0][0]

    def names(self, service: str) -> list[str]:
        """The names of the service's containers."""
        return [name for _, name in self._containers.get(service, ())]

    def namespace(self, value: str | None, whose: str) -> str:
        """`service:x` as `container:ID`; everything else as it is."""
        if value and value.startswith("service:"):
            return f"container:{self.container(value.removeprefix('service:'), whose)}"
        return value or ""


def create_body(
    project: Project,
    name: str,
    service: Service,
    labels: dict[str, str],
    references: References,
    *,
    number: int = 1,
    aliased: bool = True,
    inherited: dict[str, str] | None = None,
) -> dict[str, Any]:
    """The whole request body.

    `labels` are added to the service's own; `inherited` are volumes by the places where an earlier container had
    them. With `aliased` the container answers to the service's name.
    """
    host = _host_config(project, name, service, references)
    volumes, more = mounts(project, service, inherited or {})
    host |= more
    host |= limits(service)
    variables = service.get("environment") or {}
    body: dict[str, Any] = {
        "Image": image_name(project, name, service),
        "Env": [key if value is None else f"{key}={value}" for key, value in variables.items()],
        "Labels": {**(service.get("labels") or {}), **labels},
        "Tty": bool(service.get("tty")),
        "OpenStdin": bool(service.get("stdin_open")),
        "StdinOnce": False,
        "AttachStdin": False,
        "AttachStdout": True,
        "AttachStderr": True,
        "Volumes": volumes,
        "ExposedPorts": _exposed(service),
        "HostConfig": host,
    }
    for field, key in (
        ("Hostname", "hostname"),
        ("Domainname", "domainname"),
        ("User", "user"),
        ("WorkingDir", "working_dir"),
        ("StopSignal", "stop_signal"),
        ("MacAddress", "mac_address"),
    ):
        if service.get(key):
            body[field] = service[key]
    for field, key in (("Cmd", "command"), ("Entrypoint", "entrypoint")):
        if service.get(key) is not None:
            body[field] = list(service[key]) or ([""] if key == "entrypoint" else [])
    if service.get("stop_grace_period"):
        body["StopTimeout"] = -(-nanoseconds(service["stop_grace_period"]) // 10**9)
    health = _healthcheck(service.get("healthcheck"))
    if health is not None:
        body["Healthcheck"] = health
    first = first_network(project, service)
    if first:
        endpoint = endpoint_settings(project, name, service, first, references, number=number, aliased=aliased)
        network = project.part("networks")[first]["name"]
        body["HostConfig"]["NetworkMode"] = network
        body["NetworkingConfig"] = {"EndpointsConfig": {network: endpoint}}
    return body


def service_networks(service: Service) -> list[str]:
    """The service's networks, the most important first: by priority, then by name."""
    found = service.get("networks") or {}
    return sorted(found, key=lambda key: (-((found[key] or {}).get("priority") or 0), key))


def first_network(project: Project, service: Service) -> str:
    """The network that a container is created in, "" when another mode is asked for."""
    return "" if service.get("network_mode") else next(iter(service_networks(service)), "")


def endpoint_settings(
    project: Project,
    name: str,
    service: Service,
    network: str,
    references: References,
    *,
    number: int,
    aliased: bool = True,
) -> dict[str, Any]:
    """How a container takes part in one network."""
    own = (service.get("networks") or {}).get(network) or {}
    aliases = [container_name(project, name, service, number), name, *(own.get("aliases") or [])] if aliased else []
    settings: dict[str, Any] = {"Aliases": list(dict.fromkeys(aliases))}
    links = _links(service, references)
    if links:
        settings["Links"] = links
    ipam = {
        field: own[key]
        for field, key in (
            ("IPv4Address", "ipv4_address"),
            ("IPv6Address", "ipv6_address"),
            ("LinkLocalIPs", "link_local_ips"),
        )
        if own.get(key)
    }
    if ipam:
        settings["IPAMConfig"] = ipam
    if own.get("mac_address") or service.get("mac_address"):
        settings["MacAddress"] = own.get("mac_address") or service["mac_address"]
    options = dict(own.get("driver_opts") or {})
    if own.get("interface_name"):
        options["com.docker.network.endpoint.ifname"] = own["interface_name"]
    if options:
        settings["DriverOpts"] = options
    if own.get("gw_priority"):
        settings["GwPriority"] = own["gw_priority"]
    return settings


def _links(service: Service, references: References) -> list[str]:
    """`links` and `external_links` as `container:alias`: names that only this container knows others by."""
    found = []
    for link in service.get("links") or []:
        other, _, alias = link.partition(":")
        for container in references.names(other):
            found += [f"{container}:{alias or other}", f"{container}:{container}"]
    for link in service.get("external_links") or []:
        other, _, alias = link.partition(":")
        found.append(f"{other}:{alias or other}")
    return found


def _host_config(project: Project, name: str, service: Service, references: References) -> dict[str, Any]:
    logging = service.get("logging") or {}
    host: dict[str, Any] = {
        "AutoRemove": False,
        "CapAdd": service.get("cap_add") or None,
        "CapDrop": service.get("cap_drop") or None,
        "Dns": service.get("dns") or [],
        "DnsOptions": service.get("dns_opt") or [],
        "DnsSearch": service.get("dns_search") or [],
        "ExtraHosts": [item.replace("=", ":", 1) for item in service.get("extra_hosts") or []],
        "GroupAdd": service.get("group_add") or None,
        "LogConfig": {"Type": logging.get("driver") or "", "Config": dict(logging.get("options") or {})},
        "NetworkMode": references.namespace(service.get("network_mode"), name) or "default",
        "PortBindings": _bindings(service),
        "Privileged": bool(service.get("privileged")),
        "ReadonlyRootfs": bool(service.get("read_only")),
        "RestartPolicy": restart_policy(service),
        "SecurityOpt": [_security(project, option) for option in service.get("security_opt") or []] or None,
        "Sysctls": dict(service.get("sysctls") or {}) or None,
        "StorageOpt": dict(service.get("storage_opt") or {}) or None,
        "Annotations": dict(service.get("annotations") or {}) or None,
        "VolumesFrom": [_volumes_from(item, name, references) for item in service.get("volumes_from") or []] or None,
    }
    for field, key in (("IpcMode", "ipc"), ("PidMode", "pid"), ("UTSMode", "uts")):
        host[field] = references.namespace(service.get(key), name)
    for field, key in (
        ("CgroupnsMode", "cgroup"),
        ("CgroupParent", "cgroup_parent"),
        ("Isolation", "isolation"),
        ("Runtime", "runtime"),
        ("UsernsMode", "userns_mode"),
    ):
        if service.get(key):
            host[field] = service[key]
    if service.get("init") is not None:
        host["Init"] = bool(service["init"])
    return host


def _volumes_from(item: str, name: str, references: References) -> str:
    if item.startswith("container:"):
        return item.removeprefix("container:")
    service, separator, mode = item.partition(":")
    return references.container(service, name) + (f":{mode}" if separator else "")


def _security(project: Project, option: str) -> str:
    """Options as they are, but the profile of `seccomp=FILE`, which is read here."""
    key, separator, value = option.partition("=")
    if not separator:
        key, separator, value = option.partition(":")
    if key != "seccomp" or value in ("unconfined", "builtin", ""):
        return option
    path = absolute(value, project.directory)
    try:
        with open(path, encoding="utf-8") as file:  # noqa: PTH123
            return f"seccomp={json.dumps(json.load(file), separators=(',', ':'))}"
    except (OSError, ValueError) as error:
        raise InvalidInput(f"opening seccomp profile ({path}) failed: {error}") from error


def restart_policy(service: Service) -> dict[str, Any]:
    """`restart`, or what `deploy.restart_policy` says in its words."""
    text = service.get("restart")
    if text:
        name, _, count = text.partition(":")
        return {"Name": name, "MaximumRetryCount": int(count or 0)}
    policy = (service.get("deploy") or {}).get("restart_policy")
    if not policy:
        return {"Name": "no", "MaximumRetryCount": 0}
    names = {"none": "no", "on-failure": "on-failure", "any": "always"}
    name = names[policy.get("condition") or "any"]
    count = policy.get("max_attempts") or 0 if name == "on-failure" else 0
    return {"Name": name, "MaximumRetryCount": count}


def _healthcheck(check: dict[str, Any] | None) -> dict[str, Any] | None:
    if not check:
        return None
    if check.get("disable"):
        return {"Test": ["NONE"]}
    fields = (("Interval", "interval"), ("Timeout", "timeout"), ("StartPeriod", "start_period"))
    health: dict[str, Any] = {"Test": list(check.get("test") or [])}
    for field, key in (*fields, ("StartInterval", "start_interval")):
        if check.get(key):
            health[field] = nanoseconds(check[key])
    if check.get("retries"):
        health["Retries"] = check["retries"]
    return health


def _exposed(service: Service) -> dict[str, dict[str, str]]:
    ports: dict[str, dict[str, str]] = {}
    for item in service.get("expose") or []:
        numbers, _, protocol = item.partition("/")
        first, _, last = numbers.partition("-")
        for port in range(int(first), int(last or first) + 1):
            ports[f"{port}/{protocol or 'tcp'}"] = {}
    for item in service.get("ports") or []:
        ports[f"{item['target']}/{item.get('protocol') or 'tcp'}"] = {}
    return ports


def _bindings(service: Service) -> dict[str, list[dict[str, str]]]:
    bindings: dict[str, list[dict[str, str]]] = {}
    for item in service.get("ports") or []:
        binding = {"HostIp": item.get("host_ip") or "", "HostPort": item.get("published") or ""}
        bindings.setdefault(f"{item['target']}/{item.get('protocol') or 'tcp'}", []).append(binding)
    return bindings
