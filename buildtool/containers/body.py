"""The body of a create request: decoded, checked, and merged with the image's config.

Everything here is a function of values; nothing is stored before all of it has passed.
"""

from __future__ import annotations

import json
import posixpath
from dataclasses import dataclass
from typing import Any

from buildtool.containers import limits, links, logdrivers, ports, runtimes
from buildtool.containers.device_requests import requested
from buildtool.containers.model import Config, HostConfig, PortBinding, decode
from buildtool.containers.restart import check_policy
from buildtool.containers.signals import parse_signal
from buildtool.errors import InvalidInput
from buildtool.oci import ContainerConfig, HealthConfig
from buildtool.runtime.spec import capability_set

_MILLISECOND = 1_000_000


@dataclass
class CreateBody:
    """A decoded create request; `endpoints` are the `NetworkingConfig.EndpointsConfig` members."""

    config: Config
    host: HostConfig
    endpoints: dict[str, dict[str, Any]]


def decode_body(body: Any) -> CreateBody:
    """Decode and check what can be checked without the image. Raises InvalidInput, Unavailable."""
    if not isinstance(body, dict):
        raise InvalidInput("config cannot be empty in order to create a container")
    if not any(key not in ("HostConfig", "NetworkingConfig") for key in body):
        raise InvalidInput("config cannot be empty in order to create a container")
    raw_host = body.get("HostConfig") or {}
    networking = body.get("NetworkingConfig") or {}
    if not isinstance(raw_host, dict) or not isinstance(networking, dict):
        raise InvalidInput("invalid create request: HostConfig and NetworkingConfig are objects")
    own = {key: value for key, value in body.items() if key not in ("HostConfig", "NetworkingConfig")}
    for key in ("Cmd", "Entrypoint"):
        if isinstance(own.get(key), str):
            own[key] = [own[key]]
    host_text = {key: value for key, value in raw_host.items() if key != "PortBindings"}
    parsed = CreateBody(
        config=decode(own, Config, "container config"),
        host=decode(host_text, HostConfig, "HostConfig"),
        endpoints=_endpoints(networking.get("EndpointsConfig")),
    )
    parsed.host.port_bindings = _port_bindings(raw_host.get("PortBindings"))
    _check_config(parsed.config)
    _check_host(parsed.config, parsed.host)
    return parsed


def merge(config: Config, image: ContainerConfig | None) -> None:
    """Fill in from the image's config what the request leaves open. Source: Docker's create, `merge`."""
    image = image or ContainerConfig()
    config.user = config.user or image.user
    exposed = {**(config.exposed_ports or {}), **(image.exposed_ports or {})}
    config.exposed_ports = {ports.canonical(port): {} for port in exposed} or None
    set_by_user = {entry.partition("=")[0] for entry in config.env or ()}
    inherited = [e for e in image.env or () if e.partition("=")[0] not in set_by_user]
    config.env = (config.env or []) + inherited if config.env is not None or inherited else None
    config.labels = {**(image.labels or {}), **(config.labels or {})}
    if not config.entrypoint:
        if not config.cmd:
            config.cmd = list(image.cmd) if image.cmd else None
            config.args_escaped = image.args_escaped
        if config.entrypoint is None and image.entrypoint:
            config.entrypoint = list(image.entrypoint)
    config.healthcheck = _merge_health(config.healthcheck, image.healthcheck)
    config.working_dir = config.working_dir or image.working_dir
    volumes: dict[str, dict[str, Any]] = {
        posixpath.normpath(path): {} for path in (*(config.volumes or ()), *(image.volumes or ()))
    }
    config.volumes = volumes or None
    config.stop_signal = config.stop_signal or image.stop_signal
    if config.stop_timeout is None:
        config.stop_timeout = image.stop_timeout
    config.shell = config.shell or image.shell
    config.on_build = config.on_build or (list(image.on_build) if image.on_build else None)
    if config.entrypoint == [""] or config.entrypoint == []:
        config.entrypoint = None
    if not config.entrypoint and not config.cmd:
        raise InvalidInput("no command specified")
    _check_health(config.healthcheck)


def command(config: Config) -> list[str]:
    """Entrypoint and command as one argument vector."""
    return [*(config.entrypoint or ()), *(config.cmd or ())]


def _merge_health(own: HealthConfig | None, image: HealthConfig | None) -> HealthConfig | None:
    if own is None or image is None:
        return own or image
    return HealthConfig(
        test=own.test or image.test,
        interval=own.interval or image.interval,
        timeout=own.timeout or image.timeout,
        start_period=own.start_period or image.start_period,
        start_interval=own.start_interval or image.start_interval,
        retries=own.retries or image.retries,
    )


def _endpoints(raw: Any) -> dict[str, dict[str, Any]]:
    if raw is None:
        return {}
    if not isinstance(raw, dict) or not all(value is None or isinstance(value, dict) for value in raw.values()):
        raise InvalidInput("invalid NetworkingConfig: EndpointsConfig is an object of objects")
    return {name: value or {} for name, value in raw.items()}


def _port_bindings(raw: Any) -> dict[str, list[PortBinding] | None]:
    if raw is None:
        return {}
    found = decode(raw, dict[str, list[PortBinding]], "PortBindings")
    for bindings in found.values():
        for binding in bindings:
            ports.check_host_port(binding.host_port)
            ports.check_host_ip(binding.host_ip)
    return {ports.canonical(port): bindings for port, bindings in found.items()}


def _check_config(config: Config) -> None:
    if config.working_dir and not config.working_dir.startswith("/"):
        raise InvalidInput(
            f"the working directory '{config.working_dir}' is invalid, it needs to be an absolute path"
        )
    for entry in config.env or ():
        if not entry or entry.startswith("=") or "\0" in entry:
            raise InvalidInput(f"invalid environment variable: {entry}")
    for port in config.exposed_ports or ():
        ports.canonical(port)
    for path in config.volumes or ():
        if not path.startswith("/"):
            raise InvalidInput(f"invalid volume specification: '{path}': mount path must be absolute")
        if posixpath.normpath(path) == "/":
            raise InvalidInput(f"invalid volume specification: '{path}': destination can't be '/'")
    if len(config.hostname) > 63 or len(config.domainname) > 63:
        raise InvalidInput(f"invalid hostname or domainname: {config.hostname or config.domainname}: longer than 63")
    if config.stop_timeout is not None and config.stop_timeout < -1:
        raise InvalidInput(f"invalid stop timeout {config.stop_timeout}: it is -1 (wait for ever) or more")
    if config.stop_signal:
        parse_signal(config.stop_signal)
    _check_health(config.healthcheck)


def _check_health(health: HealthConfig | None) -> None:
    if health is None:
        return
    for name, value in (
        ("Interval", health.interval),
        ("Timeout", health.timeout),
        ("StartPeriod", health.start_period),
        ("StartInterval", health.start_interval),
    ):
        if value != 0 and value < _MILLISECOND:
            raise InvalidInput(f"{name} in Healthcheck cannot be less than 1ms")
    if health.retries < 0:
        raise InvalidInput("Retries in Healthcheck cannot be negative")
    if health.test and health.test[0] not in ("", "NONE", "CMD", "CMD-SHELL"):
        raise InvalidInput(f"unknown healthcheck type {health.test[0]!r}: use NONE, CMD or CMD-SHELL")


def _check_host(config: Config, host: HostConfig) -> None:
    policy = host.restart_policy
    check_policy(policy.name, policy.maximum_retry_count)
    if host.auto_remove and policy.name not in ("", "no"):
        raise InvalidInput("can't create 'AutoRemove' container with restart policy")
    for entry in host.extra_hosts or ():
        name, _, address = entry.partition(":")
        if not name or not address:
            raise InvalidInput(f'bad format for add-host: "{entry}"')
    logdrivers.check(host.log_config)
    for link in host.links or ():
        links.parse(link)
    requested(host)
    if host.storage_opt:
        raise InvalidInput(
            "--storage-opt is supported only for overlay over xfs with 'pquota' mount option, which this store is not"
        )
    if host.isolation not in ("", "default"):
        raise InvalidInput(f"invalid isolation '{host.isolation}' on linux")
    if host.userns_mode not in ("", "host"):
        raise InvalidInput("invalid user namespace mode: " + host.userns_mode)
    if runtimes.program(host.runtime) and host.init:
        raise InvalidInput(f"conflicting options: --init is the embedded runtime's, not that of {host.runtime}")
    if host.ipc_mode not in ("", "private", "shareable", "none", "host") and not host.ipc_mode.startswith(
        "container:"
    ):
        raise InvalidInput(f"invalid IPC mode: {host.ipc_mode}")
    if host.pid_mode not in ("", "host") and not host.pid_mode.startswith("container:"):
        raise InvalidInput(f"invalid PID mode: {host.pid_mode}")
    if host.uts_mode not in ("", "host"):
        raise InvalidInput(f"invalid UTS mode: {host.uts_mode}")
    if host.uts_mode == "host" and config.hostname:
        raise InvalidInput("conflicting options: hostname and the UTS mode")
    if host.cgroupns_mode not in ("", "private", "host"):
        raise InvalidInput(f"invalid cgroup namespace mode: {host.cgroupns_mode}")
    if len(host.console_size) != 2:
        raise InvalidInput("invalid HostConfig: ConsoleSize has two members, height and width")
    _check_shared_network(config, host)
    security(host.security_opt)
    capability_set(host.cap_add or (), host.cap_drop or ())
    limits.check(host)


def _check_shared_network(config: Config, host: HostConfig) -> None:
    """What cannot be said of a container in the network of another one."""
    if not host.network_mode.startswith("container:"):
        return
    for what, given in (
        ("hostname and the network mode", config.hostname),
        ("link and the network mode", host.links),
        ("dns and the network mode", host.dns),
        ("custom host-to-IP mapping and the network mode", host.extra_hosts),
        ("mac-address and the network mode", config.mac_address),
        ("port publishing and the container type network mode", host.port_bindings or host.publish_all_ports),
        ("port exposing and the container type network mode", config.exposed_ports),
    ):
        if given:
            raise InvalidInput(f"conflicting options: {what}")


@dataclass
class Security:
    """`HostConfig.SecurityOpt`, parsed. `seccomp` is "default", "unconfined" or a profile document."""

    seccomp: str | dict[str, Any] = "default"
    no_new_privileges: bool = False
    apparmor: str = ""
    unmasked: bool = False


def security(options: list[str] | None) -> Security:
    """Parse security options. Raises InvalidInput for unknown ones and for malformed seccomp profiles."""
    parsed = Security()
    for option in options or ():
        name, found, value = option.partition("=")
        if not found:
            name, found, value = option.partition(":")
        if name == "no-new-privileges" and value in ("", "true", "false"):
            parsed.no_new_privileges = value != "false"
        elif name == "seccomp" and value in ("unconfined", "builtin", "default"):
            parsed.seccomp = "unconfined" if value == "unconfined" else "default"
        elif name == "seccomp" and value:
            parsed.seccomp = _seccomp_profile(value)
        elif name == "apparmor" and value:
            parsed.apparmor = value
        elif name == "systempaths" and value == "unconfined":
            parsed.unmasked = True
        elif name == "label" and value:
            continue
        else:
            raise InvalidInput(f'invalid --security-opt: "{option}"')
    return parsed


def _seccomp_profile(text: str) -> dict[str, Any]:
    try:
        profile = json.loads(text)
    except ValueError as error:
        raise InvalidInput(f"decoding seccomp profile failed: {error}") from None
    if not isinstance(profile, dict):
        raise InvalidInput("decoding seccomp profile failed: it is not a JSON object")
    return profile
