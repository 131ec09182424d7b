"""How RUN steps are connected: the default bridge network, another one, the host's network, or none.

Steps in the default network use connected namespaces one after another; one that may administer its network
(`--security=insecure`) has one of its own.
"""

from __future__ import annotations

import secrets
from contextlib import AsyncExitStack
from dataclasses import dataclass

from buildtool.errors import BuildtoolError, InvalidInput, StepFailed
from buildtool.graph import Exec, Node
from buildtool.networks import EndpointRequest, Networks, Sandbox
from buildtool.networks.hostdns import ResolvConf
from buildtool.networks.model import BRIDGE, HOST, NONE

DEFAULT = "default"
_SYSCTLS = {"net.ipv4.ip_unprivileged_port_start": "0", "net.ipv6.conf.default.disable_ipv6": "1"}


@dataclass(frozen=True)
class Connection:
    """A step's place in a network; `namespace` is the path of one that is connected, "" for the step's own, which
    `RunNetworks.plug` connects.
    """

    sandbox: Sandbox
    namespace: str = ""


class RunNetworks:
    """Connects RUN steps. Without bridge networks (a plain user's daemon) the default is the host's network."""

    def __init__(self, networks: Networks | None) -> None:
        self._networks = networks

    def check(self, mode: str) -> None:
        """Raises InvalidInput or NotFound for a network mode that builds cannot have."""
        if mode in ("", DEFAULT, BRIDGE, HOST, NONE):
            return
        if self._networks is None or mode.startswith("container:"):
            raise InvalidInput(
                f"network mode {mode!r} is not supported for builds",
                hint="use default, host, none or a network's name",
            )
        self._networks.get(mode)

    async def join(self, step: Exec, node: Node, stack: AsyncExitStack) -> Connection | None:
        """The step's place in its network until the stack closes; None in the host's network, or none."""
        networks, mode = self._networks, step.network
        if mode in (HOST, NONE) or networks is None or networks.refusal:
            return None
        name = BRIDGE if mode == DEFAULT else mode
        container = "build-" + secrets.token_hex(8)
        try:
            if name == BRIDGE and step.security != "insecure":
                spare = await networks.lend(container, "build", _SYSCTLS)
                stack.callback(networks.take_back, spare)
                return Connection(spare.sandbox, spare.path)
            sandbox = await networks.join(container, "build", [EndpointRequest(name)])
        except BuildtoolError as error:
            raise StepFailed(error.message, where=node.span, hint=error.hint) from error
        stack.push_async_callback(networks.leave, sandbox)
        return Connection(sandbox)

    async def plug(self, connection: Connection | None, pid: int, node: Node) -> None:
        """Connect the step's process before its program runs."""
        if connection is not None and not connection.namespace and self._networks is not None:
            try:
                await self._networks.plug(connection.sandbox, pid)
            except BuildtoolError as error:
                raise StepFailed(error.message, where=node.span, hint=error.hint) from error

    def resolv_conf(self, mode: str, connection: Connection | None) -> str:
        """The step's /etc/resolv.conf."""
        if mode == NONE:
            return ""
        host = ResolvConf.of_host()
        if connection is None:
            return host.text()
        sandbox = connection.sandbox
        host = host.replaced(sandbox.servers, sandbox.search, sandbox.options)
        if self._networks is not None and self._networks.has_names(sandbox):
            return host.embedded().text()
        if sandbox.servers:
            return host.text()
        return host.reachable(ipv6=any(endpoint.address6 for endpoint in sandbox.endpoints)).text()


def gateway(connection: Connection | None) -> str:
    """The host's address as the step sees it."""
    if connection is None:
        return "127.0.0.1"
    endpoint = connection.sandbox.gateway_endpoint()
    return connection.sandbox.host or (endpoint.gateway if endpoint is not None else "127.0.0.1")


def namespace(mode: str, connection: Connection | None) -> tuple[str, dict[str, str]]:
    """The runtime's network mode and kernel parameters for the step."""
    if connection is None:
        return (NONE, {}) if mode == NONE else (HOST, {})
    return (connection.namespace, {}) if connection.namespace else (NONE, dict(_SYSCTLS))
