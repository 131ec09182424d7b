"""Platforms: operating system, architecture and variant, as Go and the OCI index name them.

Source: OCI image-spec v1.1, image-index.md, "platform"; containerd's normalisation of names.
"""

from __future__ import annotations

import os
import re
from collections.abc import Sequence

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
_ARCHITECTURES = {
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "i386": ("386", ""),
    "armhf": ("arm", "v7"),
    "armel": ("arm", "v6"),
}
_SYSTEMS = {"macos": "darwin"}
_KNOWN_SYSTEMS = frozenset({"darwin", "freebsd", "linux", "netbsd", "openbsd", "windows"})
_KNOWN_ARCHITECTURES = frozenset(
    {"386", "amd64", "arm", "arm64", "loong64", "mips64le", "mipsle", "ppc64le", "riscv64", "s390x", "wasm"}
)
_COMPONENT = re.compile(r"[a-z0-9_.-]+")


class Platform(msgspec.Struct, frozen=True, omit_defaults=True):
    """`os/architecture[/variant]`."""

    architecture: str
    os: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    def normalized(self) -> Platform:
        """The same platform under its usual name: aliases resolved, variants that say nothing dropped."""
        system = self.os.lower()
        architecture, variant = _architecture(self.architecture.lower(), self.variant.lower())
        return Platform(architecture=architecture, os=_SYSTEMS.get(system, system), variant=variant)


def host_platform() -> Platform:
    """The platform of the machine this process runs on."""
    architecture, variant = _MACHINES.get(os.uname().machine, (os.uname().machine, ""))
    return Platform(architecture=architecture, os="linux", variant=variant)


def parse_platform(text: str) -> Platform:
    """Parse `os/arch[/variant]`, `arch` or `os`, with the usual aliases (x86_64, aarch64, armhf, macos).

    Raises InvalidInput on anything else. `arm64/v8` and `arm64` are the same, as are `arm` and `arm/v7`.
    """
    parts = text.strip().lower().split("/")
    if len(parts) > 3 or not all(_COMPONENT.fullmatch(part) for part in parts):
        raise InvalidInput(f"invalid platform {text!r}", hint="use os/architecture[/variant], like linux/amd64")
    if len(parts) == 1:
        (part,) = parts
        system = _SYSTEMS.get(part, part)
        if system in _KNOWN_SYSTEMS:
            return msgspec.structs.replace(host_platform(), os=system)
        architecture, variant = _architecture(part, "")
        if architecture not in _KNOWN_ARCHITECTURES:
            raise InvalidInput(
                f"invalid platform {text!r}: unknown operating system or architecture",
                hint="use os/architecture[/variant], like linux/amd64",
            )
        return Platform(architecture=architecture, os="linux", variant=variant)
    variant = parts[2] if len(parts) == 3 else ""
    return Platform(architecture=parts[1], os=parts[0], variant=variant).normalized()


def parse_platforms(text: str) -> list[Platform]:
    """Parse a list of platforms with commas between them; each is there once. `local` is this machine's.

    Raises InvalidInput.
    """
    parts = [part.strip() for part in text.split(",")]
    found = [host_platform() if part == "local" else parse_platform(part) for part in parts]
    return list(dict.fromkeys(found))


def best_platform(wanted: Platform, offered: Sequence[Platform | None]) -> int | None:
    """The place of the offered platform that suits `wanted` best, or None.

    An equal one wins; else one that runs there: an older arm variant (v7 runs v6), another variant left unsaid.
    """
    want = wanted.normalized()
    best: tuple[int, int] | None = None
    for place, platform in enumerate(offered):
        if platform is None:
            continue
        rank = _suits(want, platform.normalized())
        if rank is not None and (best is None or rank < best[0]):
            best = (rank, place)
    return None if best is None else best[1]


def _suits(want: Platform, have: Platform) -> int | None:
    """0 for an equal platform, more for a worse one that still runs, None for one that does not."""
    if (want.os, want.architecture) != (have.os, have.architecture):
        return None
    if want.variant == have.variant:
        return 0
    wanted, offered = _variant_number(want), _variant_number(have)
    if wanted is None or offered is None or offered > wanted:
        return None
    return wanted - offered


def _variant_number(platform: Platform) -> int | None:
    if not platform.variant:
        return {"amd64": 1, "arm64": 8, "arm": 7}.get(platform.architecture)
    digits = platform.variant.removeprefix("v").partition(".")[0]
    return int(digits) if digits.isascii() and digits.isdigit() else None


def _architecture(architecture: str, variant: str) -> tuple[str, str]:
    architecture, implied = _ARCHITECTURES.get(architecture, (architecture, ""))
    variant = variant or implied
    if variant.isascii() and variant.isdigit():
        variant = f"v{variant}"
    if architecture == "arm" and not variant:
        variant = "v7"
    if (architecture, variant) in (("arm64", "v8"), ("amd64", "v1")):
        variant = ""
    return architecture, variant
