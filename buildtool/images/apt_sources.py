"""This machine's apt sources for a Debian suite, and the options apt needs to reach them."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from email.utils import parsedate_to_datetime
from pathlib import Path

from buildtool.errors import InvalidInput
from buildtool.oci import Platform

_LISTS = Path("/var/lib/apt/lists")
_COMPONENTS = frozenset({"main", "contrib", "non-free", "non-free-firmware"})
_FIELDS = {"uris": "URIs"}
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^\]]*)\]\s+)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<components>[^#]+)")
_OPTION = re.compile(r'(Acquire::(?:https?|ftp|Retries|ForceIPv[46]|Check-[A-Za-z-]+|Max-FutureTime)\S*) "(.*)";')
_ARCHITECTURES = {
    "386": "i386",
    "amd64": "amd64",
    "arm/v5": "armel",
    "arm/v6": "armel",
    "arm/v7": "armhf",
    "arm64": "arm64",
    "loong64": "loong64",
    "mips64le": "mips64el",
    "mipsle": "mipsel",
    "ppc64le": "ppc64el",
    "riscv64": "riscv64",
    "s390x": "s390x",
}
_CLOCK = re.compile(r"Acquire::(?:Check-Valid-Until|Check-Date|Max-FutureTime) ")


def host_sources(suite: str, etc: Path = Path("/etc/apt")) -> str:
    """The machine's own sources of this Debian suite in deb822 form; empty when it has none.

    Third parties' sources are left out: they are not part of the distribution.
    """
    stanzas: list[dict[str, str] | None] = []
    for path in [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]:
        if path.suffix not in (".list", ".sources") or not path.is_file():
            continue
        text = path.read_text(errors="replace")
        fields = _deb822(text) if path.suffix == ".sources" else _one_line(text)
        stanzas.extend(_only_suite(stanza, suite) for stanza in fields)
    written = ["".join(f"{key}: {value}\n" for key, value in stanza.items()) for stanza in stanzas if stanza]
    return "\n".join(dict.fromkeys(written))


def debian_name(platform: Platform) -> str:
    """What Debian calls the architecture. Raises InvalidInput for a platform that it is not made for."""
    normal = platform.normalized()
    key = f"{normal.architecture}/{normal.variant}" if normal.architecture == "arm" else normal.architecture
    if normal.os != "linux" or key not in _ARCHITECTURES:
        raise InvalidInput(
            f"Debian has no packages for {platform}",
            hint=f"architectures are {', '.join(key for key in _ARCHITECTURES)}",
        )
    return _ARCHITECTURES[key]


def for_architecture(sources: str, name: str) -> str:
    """The same sources (deb822) for this architecture only; without a name for whichever apt is asked for."""
    stanzas = [re.sub(r"(?m)^Architectures:.*\n", "", stanza) for stanza in sources.split("\n\n") if stanza.strip()]
    if name:
        stanzas = [f"{stanza.rstrip()}\nArchitectures: {name}\n" for stanza in stanzas]
    return "\n".join(stanza if stanza.endswith("\n") else f"{stanza}\n" for stanza in stanzas)


def host_suite() -> str:
    """The Debian suite that this machine is of; "" when it is of another distribution or tells none."""
    try:
        lines = Path("/etc/os-release").read_text(errors="replace").splitlines()
    except OSError:
        return ""
    facts = {key: value.strip("\"'") for key, _, value in (line.partition("=") for line in lines)}
    return facts.get("VERSION_CODENAME", "") if facts.get("ID") == "debian" else ""


def _deb822(text: str) -> Iterator[dict[str, str]]:
    for block in re.split(r"\n[ \t]*\n", text):
        stanza: dict[str, str] = {}
        key = ""
        for line in block.splitlines():
            if line.startswith("#") or not line.strip():
                continue
            if line[0] in " \t" and key:
                stanza[key] += f"\n{line}"
                continue
            name, _, value = line.partition(":")
            key = _FIELDS.get(name.strip().lower(), name.strip().title())
            stanza[key] = value.strip()
        if stanza:
            yield stanza


def _one_line(text: str) -> Iterator[dict[str, str]]:
    for line in text.splitlines():
        match = _ONE_LINE.match(line.strip())
        if match is None:
            continue
        stanza = {
            "Types": "deb",
            "URIs": match["uri"],
            "Suites": match["suite"],
            "Components": match["components"].strip(),
        }
        for option in (match["options"] or "").split():
            name, _, value = option.partition("=")
            stanza[{"arch": "Architectures"}.get(name, name.title())] = value.replace(",", " ")
        yield stanza


def _only_suite(stanza: dict[str, str], suite: str) -> dict[str, str] | None:
    """The stanza for this suite and its updates, security and backports; None when it is of something else."""
    if stanza.get("Enabled", "yes").lower() in ("no", "false", "0") or "deb" not in stanza.get("Types", "").split():
        return None
    wanted = {suite, f"{suite}-updates", f"{suite}-security", f"{suite}-backports", f"{suite}/updates"}
    suites = [name for name in stanza.get("Suites", "").split() if name in wanted]
    components = stanza.get("Components", "").split()
    if not suites or not components or not _COMPONENTS.issuperset(components):
        return None
    kept = {key: value for key, value in stanza.items() if key not in ("Enabled", "Types", "Suites")}
    return {"Types": "deb", **kept, "Suites": " ".join(suites)}


def host_options() -> list[str]:
    """apt options (`Acquire::… "…"`) of this machine that say how its sources are reached: proxies, clock checks."""
    try:
        dump = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return []
    found = (_OPTION.fullmatch(line) for line in dump.splitlines())
    return [f'{match[1]} "{match[2]}"' for match in found if match is not None and match[2]]


def clock_options(options: list[str]) -> list[str]:
    """Those of the options that a system with this machine's clock needs too. The others may name private hosts."""
    return [option for option in options if _CLOCK.match(option)]


def release_time(suite: str) -> int | None:
    """The newest Date of the suite's Release files that this machine's apt has fetched."""
    times = []
    for path in _LISTS.glob(f"*_dists_{suite}*_InRelease"):
        match = re.search(r"^Date: (.+)$", path.read_text(errors="replace"), re.MULTILINE)
        if match:
            times.append(int(parsedate_to_datetime(match[1]).timestamp()))
    return max(times, default=None)
