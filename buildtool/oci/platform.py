"""Platforms: operating system, architecture and variant, as Go and the OCI index name them.

Source: OCI image-spec v1.1, image-index.md, "platform".
"""

from __future__ import annotations

import os

import msgspec

from buildtool.errors import InvalidInput

_MACHINES = {
    "x86_64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armv7l": ("arm", "v7"),
    "armv6l": ("arm", "v6"),
    "i686": ("386", ""),
    "ppc64le": ("ppc64le", ""),
    "s390x": ("s390x", ""),
    "riscv64": ("riscv64", ""),
}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64", "i386": "386", "armhf": "arm"}


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """`os/architecture[/variant]`."""

    architecture: str
    os: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)


def host_platform() -> Platform:
    """The platform of the machine this process runs on."""
    architecture, variant = _MACHINES.get(os.uname().machine, (os.uname().machine, ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse_platform(text: str) -> Platform:
    """Parse `os/arch[/variant]`, `arch` or `os`, with the usual aliases (x86_64, aarch64, armhf).

    Raises InvalidInput on anything else. `arm64/v8` and `arm64` are the same.
    """
    parts = text.strip().lower().split("/")
    if not all(parts) or len(parts) > 3:
        raise InvalidInput(f"invalid platform {text!r}", hint="use os/architecture[/variant], like linux/amd64")
    if len(parts) == 1:
        if parts[0] == "linux":
            return host_platform()
        parts.insert(0, "linux")
    variant = parts[2] if len(parts) == 3 else ""
    architecture = _ALIASES.get(parts[1], parts[1])
    if parts[1] == "armhf" or (architecture == "arm" and not variant):
        variant = "v7"
    if architecture == "arm64" and variant in ("8", "v8"):
        variant = ""
    return Platform(architecture=architecture, os=parts[0], variant=variant)
