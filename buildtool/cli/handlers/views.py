"""`top`, `port`, `diff`: small looks into one container."""

from __future__ import annotations

import sys

from buildtool.cli.listing import print_table

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

_KINDS = {0: "C", 1: "A", 2: "D"}


def top(call: Call) -> int:
    """The processes of a container."""
    name, *arguments = call.arguments
    answer = call.client.get(f"/containers/{name}/top", {"ps_args": " ".join(arguments) or None})
    print_table([answer["Titles"], *answer["Processes"]], minimum=20)
    return 0


def port(call: Call) -> int:
    """The published ports of a container, or where one of them leads."""
    details = call.client.get(f"/containers/{call.arguments[0]}/json")
    bindings = (details.get("NetworkSettings") or {}).get("Ports") or {}
    if len(call.arguments) > 1:
        wanted = call.arguments[1] if "/" in call.arguments[1] else f"{call.arguments[1]}/tcp"
        if not bindings.get(wanted):
            print(f"Error: No public port '{wanted}' published for {call.arguments[0]}", file=sys.stderr)
            return 1
        for binding in bindings[wanted]:
            print(_address(binding))
        return 0
    for inner, outer in sorted(bindings.items(), key=lambda item: (int(item[0].partition("/")[0]), item[0])):
        for binding in outer or ():
            print(f"{inner} -> {_address(binding)}")
    return 0


def _address(binding: dict[str, str]) -> str:
    ip = binding.get("HostIp") or "0.0.0.0"
    return f"[{ip}]:{binding['HostPort']}" if ":" in ip else f"{ip}:{binding['HostPort']}"


def diff(call: Call) -> int:
    """What changed in a container's files: C changed, A added, D deleted."""
    for change in call.client.get(f"/containers/{call.arguments[0]}/changes") or ():
        print(f"{_KINDS[change['Kind']]} {change['Path']}")
    return 0
