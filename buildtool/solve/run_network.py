"""How RUN steps are connected: the default bridge network, another one, the host's network, or none."""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack

from buildtool.errors import BuildtoolError, InvalidInput, StepFailed
from buildtool.graph import Node
from buildtool.networks import EndpointRequest, Networks, Sandbox
from buildtool.networks.hostdns import ResolvConf

DEFAULT, HOST, NONE = "default", "host", "none"
_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.default.disable_ipv6": "1"}


class RunNetworks:
    """Connects RUN steps. Without bridge networks (a plain user's daemon) the default is the host's network."""

    def __init__(self, networks: Networks | None) -> None:
        self._networks = networks

    def check(self, mode: str) -> None:
        """Raises InvalidInput or NotFound for a network mode that builds cannot have."""
        if mode in ("", DEFAULT, "bridge", HOST, NONE):
            return
        if self._networks is None or mode.startswith("container:"):
            raise InvalidInput(
                f"network mode {mode!r} is not supported for builds",
                hint="use default, host, none or a network's name",
            )
        self._networks.get(mode)

    async def join(self, mode: str, node: Node, stack: AsyncExitStack) -> Sandbox | None:
        """The step's place in its network until the stack closes; None in the host's network, or none."""
        networks = self._networks
        if mode in (HOST, NONE) or networks is None or networks.refusal:
            return None
        name = "bridge" if mode == DEFAULT else mode
        try:
            sandbox = await networks.join("build-" + secrets.token_hex(8), "build", [EndpointRequest(name)])
        except BuildtoolError as error:
            raise StepFailed(error.message, where=node.span, hint=error.hint) from error
        stack.push_async_callback(networks.leave, sandbox)
        return sandbox

    async def plug(self, sandbox: Sandbox | None, pid: int, node: Node) -> None:
        """Connect the step's process before its program runs."""
        if sandbox is not None and self._networks is not None:
            try:
                await self._networks.plug(sandbox, pid)
            except BuildtoolError as error:
                raise StepFailed(error.message, where=node.span, hint=error.hint) from error

    def resolv_conf(self, mode: str, sandbox: Sandbox | None) -> str:
        """The step's /etc/resolv.conf."""
        if mode == NONE:
            return ""
        host = ResolvConf.of_host()
        if sandbox is None:
            return host.text()
        host = host.replaced(sandbox.servers, sandbox.search, sandbox.options)
        if self._networks is not None and self._networks.has_names(sandbox):
            return host.embedded().text()
        if sandbox.servers:
            return host.text()
        return host.reachable(ipv6=any(endpoint.address6 for endpoint in sandbox.endpoints)).text()


def gateway(sandbox: Sandbox | None) -> str:
    """The host's address as the step sees it."""
    if sandbox is not None and sandbox.host:
        return sandbox.host
    endpoint = sandbox.gateway_endpoint() if sandbox is not None else None
    return endpoint.gateway if endpoint is not None else "127.0.0.1"


def namespace(mode: str, sandbox: Sandbox | None) -> tuple[str, dict[str, str]]:
    """The runtime's network mode and kernel parameters for the step."""
    if sandbox is not None:
        return NONE, dict(_SYSCTLS)
    return (NONE, {}) if mode == NONE else (HOST, {})
