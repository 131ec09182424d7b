"""What a RUN asks for beyond the sandbox, and whether it was granted.

Source: BuildKit, docs/reference/buildctl.md ("--allow"); ../shared/reference/build.md, table 1.2 (RUN).
"""

from __future__ import annotations

from buildtool.buildfile.instructions import Run, Word
from buildtool.errors import Forbidden, InvalidInput
from buildtool.graph.state import StageState
from buildtool.graph.steps import StepDevice

NETWORK_HOST, SECURITY_INSECURE, DEVICE = "network.host", "security.insecure", "device"
NAMES = (DEVICE, NETWORK_HOST, SECURITY_INSECURE)


def run_network(state: StageState, run: Run, default: str, granted: frozenset[str]) -> str:
    """The step's network: its own flag, else the build's. Raises InvalidInput and Forbidden."""
    if run.network is None:
        return default
    network = state.scope.expand(run.network)
    if network not in ("default", "none", "host"):
        raise InvalidInput(
            f"RUN --network={network}: unsupported network mode",
            where=run.network.span,
            hint="the modes are default, none and host",
        )
    if network == "host" and default != "host":
        _need(NETWORK_HOST, granted, "RUN --network=host", run.network)
    return default if network == "default" else network


def run_security(state: StageState, run: Run, granted: frozenset[str]) -> str:
    """The step's security mode. Raises InvalidInput and Forbidden."""
    if run.security is None:
        return "sandbox"
    mode = state.scope.expand(run.security)
    if mode not in ("sandbox", "insecure"):
        raise InvalidInput(
            f"RUN --security={mode}: unsupported security mode",
            where=run.security.span,
            hint="the modes are sandbox and insecure",
        )
    if mode == "insecure":
        _need(SECURITY_INSECURE, granted, "RUN --security=insecure", run.security)
    return mode


def run_devices(state: StageState, run: Run, granted: frozenset[str]) -> tuple[StepDevice, ...]:
    """The step's devices: `NAME`, `NAME,required` or `name=NAME,required=BOOL`. Raises InvalidInput and Forbidden."""
    devices = []
    for word in run.devices:
        device = _device(state.scope.expand(word), word)
        if DEVICE not in granted and f"{DEVICE}={device.name}" not in granted:
            _need(f"{DEVICE}={device.name}", granted, f"RUN --device={device.name}", word)
        devices.append(device)
    return tuple(devices)


def _device(text: str, word: Word) -> StepDevice:
    name, required = "", False
    for field in text.split(","):
        key, equals, value = field.partition("=")
        if key.lower() == "required":
            if equals and value.lower() not in ("true", "false", "1", "0"):
                raise InvalidInput(f"RUN --device: required is true or false, not {value!r}", where=word.span)
            required = not equals or value.lower() in ("true", "1")
        elif key.lower() == "name" and equals and not name:
            name = value
        elif not name:
            name = field
        else:
            raise InvalidInput(
                f"RUN --device: unexpected {field!r}",
                where=word.span,
                hint="write --device=vendor.com/class=name or --device=/dev/NAME, and ,required after it",
            )
    if not name:
        raise InvalidInput("RUN --device: the device has no name", where=word.span)
    if "/" not in name:
        raise InvalidInput(
            f"RUN --device: {name!r} is neither a path nor a CDI device",
            where=word.span,
            hint="a CDI device is vendor.com/class=name; a path begins with /",
        )
    return StepDevice(name, required)


def _need(entitlement: str, granted: frozenset[str], what: str, word: Word) -> None:
    if entitlement not in granted:
        raise Forbidden(
            f"{what}: {entitlement} is not allowed",
            where=word.span,
            hint=f"grant it with: buildtool build --allow {entitlement}",
        )
