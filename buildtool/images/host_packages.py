"""What this machine's Debian package tools tell: changelog times, missing tools, its own CA certificates."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Sequence
from email.utils import parsedate_to_datetime
from pathlib import Path

from buildtool.errors import Unavailable

CA_DIRECTORY = Path("/usr/local/share/ca-certificates")
CA_BUNDLE = Path("/etc/ssl/certs/ca-certificates.crt")
_TRAILER = re.compile(rb"^ -- .*  (\S.*)$", re.MULTILINE)


def require(tool: str, package: str) -> str:
    """The path of a host tool. Raises Unavailable naming the package that has it."""
    path = shutil.which(tool, path="/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/bin")
    if path is None:
        raise Unavailable(f"{tool} is not installed on this machine", hint=f"apt-get install {package}")
    return path


def changelog_time(data: bytes) -> int | None:
    """When the newest entry of a Debian changelog (plain or gzip) was signed off; None when that cannot be read."""
    try:
        text = gzip.decompress(data) if data.startswith(b"\x1f\x8b") else data
        trailer = _TRAILER.search(text)
        return None if trailer is None else int(parsedate_to_datetime(trailer[1].decode()).timestamp())
    except (OSError, EOFError, ValueError, UnicodeError):
        return None


def newest_changelog(paths: Sequence[Path]) -> int | None:
    """The newest time that any of these changelogs has."""
    times = [changelog_time(path.read_bytes()) for path in paths if path.is_file()]
    known = [moment for moment in times if moment is not None]
    return max(known) if known else None


def own_certificates() -> list[tuple[str, bytes]]:
    """The CA certificates this machine's owner added (path below ca-certificates/, content), sorted."""
    if not CA_DIRECTORY.is_dir():
        return []
    found = sorted(path for path in CA_DIRECTORY.rglob("*.crt") if path.is_file())
    return [(str(path.relative_to(CA_DIRECTORY)), path.read_bytes()) for path in found]
