"""From the flags of `run` and `create` to the body of POST /containers/create.

Source: Docker Engine API, "Create a container"; docker CLI 28.2 for what each flag means.
"""

from __future__ import annotations

from buildtool.cli import ports, values
from buildtool.cli.container_networks import endpoints, network_name
from buildtool.cli.container_resources import host_resources, restart_policy
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call


def container_body(call: Call, *, detach: bool = False) -> dict[str, Any]:
    """The whole request body: Config, HostConfig and NetworkingConfig.

    Raises InvalidInput, in Docker's words, for flags that contradict each other or whose value is malformed.
    """
    image, command = call.arguments[0], call.arguments[1:]
    body: dict[str, Any] = {"Image": image, "Cmd": command or None}
    body |= _streams(call, detach)
    body["Env"] = values.environment(call.texts("env-file"), call.texts("env"))
    body["Labels"] = values.labels(call.texts("label-file"), call.texts("label"))
    for field, flag in (
        ("Hostname", "hostname"),
        ("Domainname", "domainname"),
        ("User", "user"),
        ("WorkingDir", "workdir"),
        ("MacAddress", "mac-address"),
        ("StopSignal", "stop-signal"),
    ):
        if call.given(flag):
            body[field] = call.text(flag)
    if call.given("stop-timeout"):
        body["StopTimeout"] = call.number("stop-timeout")
    if call.given("entrypoint"):
        body["Entrypoint"] = [call.text("entrypoint")]
    health = _healthcheck(call)
    if health is not None:
        body["Healthcheck"] = health
    bindings = ports.published(call.texts("publish"))
    body["ExposedPorts"] = ports.exposed(call.texts("expose")) | {port: {} for port in bindings}
    host = _host_config(call, bindings)
    if call.texts("volume") or call.texts("mount") or call.texts("tmpfs"):
        from buildtool.cli.container_mounts import mounts

        body["Volumes"], more = mounts(call.texts("volume"), call.texts("mount"), call.texts("tmpfs"))
        host |= more
    body["HostConfig"] = host
    body["NetworkingConfig"] = {"EndpointsConfig": endpoints(call, _networks(call), host["NetworkMode"])}
    return body


def _streams(call: Call, detach: bool) -> dict[str, bool]:
    attach = [name.lower() for name in call.texts("attach")]
    for name in attach:
        if name not in ("stdin", "stdout", "stderr"):
            raise InvalidInput(
                f"invalid argument {name!r} for -a, --attach: valid streams are STDIN, STDOUT and STDERR"
            )
    interactive = call.switch("interactive")
    if detach:
        attached = {"AttachStdin": False, "AttachStdout": False, "AttachStderr": False}
    elif attach:
        attached = {f"Attach{name.title()}": name in attach for name in ("stdin", "stdout", "stderr")}
    else:
        attached = {"AttachStdin": interactive, "AttachStdout": True, "AttachStderr": True}
    once = interactive and attached["AttachStdin"]
    return attached | {"Tty": call.switch("tty"), "OpenStdin": interactive, "StdinOnce": once}


def _healthcheck(call: Call) -> dict[str, Any] | None:
    flags = ("health-cmd", "health-interval", "health-timeout", "health-start-period", "health-start-interval")
    given = [flag for flag in (*flags, "health-retries") if call.given(flag)]
    if call.switch("no-healthcheck"):
        if given:
            raise InvalidInput("--no-healthcheck conflicts with --health-* options")
        return {"Test": ["NONE"]}
    if not given:
        return None
    for flag in flags[1:]:
        if (call.number(flag) or 0) < 0:
            raise InvalidInput(f"--{flag} cannot be negative")
    if (call.number("health-retries") or 0) < 0:
        raise InvalidInput("--health-retries cannot be negative")
    return {
        "Test": ["CMD-SHELL", call.text("health-cmd")] if call.text("health-cmd") else [],
        "Interval": call.number("health-interval") or 0,
        "Timeout": call.number("health-timeout") or 0,
        "StartPeriod": call.number("health-start-period") or 0,
        "StartInterval": call.number("health-start-interval") or 0,
        "Retries": call.number("health-retries") or 0,
    }


def _networks(call: Call) -> list[str]:
    return call.texts("network") + call.texts("net")


def _host_config(call: Call, bindings: dict[str, list[dict[str, str]]]) -> dict[str, Any]:
    networks = _networks(call)
    policy = restart_policy(call.text("restart"))
    if call.switch("rm") and policy["Name"] not in ("", "no"):
        raise InvalidInput("conflicting options: cannot specify both --restart and --rm")
    host: dict[str, Any] = {
        "NetworkMode": network_name(networks[0]) if networks else "default",
        "PortBindings": bindings,
        "PublishAllPorts": call.switch("publish-all"),
        "AutoRemove": call.switch("rm"),
        "Privileged": call.switch("privileged"),
        "ReadonlyRootfs": call.switch("read-only"),
        "RestartPolicy": policy,
        "CapAdd": call.texts("cap-add"),
        "CapDrop": call.texts("cap-drop"),
        "Dns": call.texts("dns"),
        "DnsOptions": call.texts("dns-option"),
        "DnsSearch": call.texts("dns-search"),
        "ExtraHosts": [extra_host(item) for item in call.texts("add-host")],
        "GroupAdd": call.texts("group-add"),
        "VolumesFrom": call.texts("volumes-from"),
        "Links": call.texts("link"),
        "LogConfig": {"Type": call.text("log-driver"), "Config": values.key_value_map(call.texts("log-opt"))},
    }
    for field, flag in (
        ("CgroupParent", "cgroup-parent"),
        ("CgroupnsMode", "cgroupns"),
        ("ContainerIDFile", "cidfile"),
        ("IpcMode", "ipc"),
        ("Isolation", "isolation"),
        ("PidMode", "pid"),
        ("Runtime", "runtime"),
        ("UTSMode", "uts"),
        ("UsernsMode", "userns"),
        ("VolumeDriver", "volume-driver"),
    ):
        if call.given(flag):
            host[field] = call.text(flag)
    for field, flag in (("Sysctls", "sysctl"), ("StorageOpt", "storage-opt"), ("Annotations", "annotation")):
        if call.texts(flag):
            host[field] = values.key_value_map(call.texts(flag))
    if call.given("init"):
        host["Init"] = call.switch("init")
    return host | _security(call.texts("security-opt")) | host_resources(call)


def extra_host(text: str) -> str:
    """`host:ip` or `host=ip` as the API has it. Raises InvalidInput."""
    name, separator, address = text.partition("=")
    if not separator:
        name, separator, address = text.partition(":")
    address = address[1:-1] if address.startswith("[") and address.endswith("]") else address
    if not name or not address:
        raise InvalidInput(f'bad format for add-host: "{text}"')
    if address != "host-gateway" and not ports.is_address(address):
        raise InvalidInput(f'invalid IP address in add-host: "{address}"')
    return f"{name}:{address}"


def _security(options: list[str]) -> dict[str, Any]:
    """`--security-opt`; the profile of `seccomp=FILE` is read here, since the file is on this machine."""
    result: list[str] = []
    more: dict[str, Any] = {}
    for option in options:
        name, separator, value = option.partition("=")
        if not separator and name != "no-new-privileges":
            name, separator, value = option.partition(":")
            if not separator:
                raise InvalidInput(f"invalid --security-opt: {option!r}")
        if name == "systempaths" and value == "unconfined":
            more |= {"MaskedPaths": [], "ReadonlyPaths": []}
        elif name == "seccomp" and value not in ("unconfined", "builtin"):
            import json

            try:
                with open(value, encoding="utf-8") as file:
                    profile = json.load(file)
            except (OSError, ValueError) as error:
                raise InvalidInput(f"opening seccomp profile ({value}) failed: {error}") from error
            result.append(f"seccomp={json.dumps(profile, separators=(',', ':'))}")
        else:
            result.append(f"{name}={value}" if value else name)
    return more | {"SecurityOpt": result}
