"""The local driver's options `type`, `o` and `device`: volumes mounted from elsewhere while containers use them.

Source: docker volume create ("Driver-specific options"), mount(8).
"""

from __future__ import annotations

import errno
import ipaddress
import re
import socket
from collections.abc import Mapping
from pathlib import Path

from buildtool.errors import BuildtoolError, InvalidInput, Unavailable
from buildtool.runtime import syscalls as sc
from buildtool.runtime.mounts import Options

_KNOWN = ("type", "o", "device", "size")
_NEEDS = {"type": "device", "device": "type", "o": "device"}
_NETWORK = ("nfs", "nfs4", "cifs", "smb3")
_PASSWORD = re.compile(r"\bpassword=[^,]*")
_ADDRESS = re.compile(r"(?:^|(?<=,))addr=([^,]*)")


def check_options(options: Mapping[str, str]) -> None:
    """Raises InvalidInput for options that the local driver does not know or that miss another one."""
    for name in options:
        if name not in _KNOWN:
            raise InvalidInput(f'invalid option: "{name}"', hint="the local driver knows type, device and o")
    if "size" in options:
        raise InvalidInput(
            "quota size requested but no quota support",
            hint="a size limit: --opt type=tmpfs --opt device=tmpfs --opt o=size=100m",
        )
    for name, other in _NEEDS.items():
        if name in options and not options.get(other):
            raise InvalidInput(f'missing required option: "{other}"')
    text = options.get("o", "")
    if "\0" in text or any(not part.strip() for part in text.split(",")[1:-1]):
        raise InvalidInput(f"invalid mount options {text!r}: an empty option")
    if bound(options) and not options["device"].startswith("/"):
        raise InvalidInput(f"invalid device {options['device']!r}: a bind mount needs an absolute path")


def bound(options: Mapping[str, str]) -> bool:
    """Whether the volume is a directory of the host."""
    parsed = Options(options.get("o", "").split(","))
    return bool(options) and parsed.bind


def mount(options: Mapping[str, str], target: Path) -> None:
    """Mount what the options say (blocking). Raises Unavailable, BuildtoolError with the kernel's words."""
    kind, device, text = options["type"], options["device"], options.get("o", "")
    if kind in _NETWORK:
        text = _with_address(text)
    parsed = Options([part for part in text.split(",") if part])
    flags = _flags(parsed)
    try:
        sc.mount(device, str(target), kind, flags, parsed.data)
        if parsed.bind and parsed.flags:  # a bind mount takes its flags in a second step only
            sc.mount(None, str(target), None, flags | sc.MS_REMOUNT, None)
        if parsed.propagation:
            recursive = sc.MS_REC if parsed.propagation_recursive else 0
            sc.mount(None, str(target), None, parsed.propagation | recursive, None)
    except OSError as error:
        unmount(target)
        raise _refusal(kind, device, target, text, error) from error


def unmount(target: Path) -> None:
    """Unmount it, however often it is mounted there; nothing when it is not."""
    while is_mounted(target):
        try:
            sc.umount(str(target), 0)
        except OSError as error:
            if error.errno != errno.EBUSY:
                raise BuildtoolError(f"cannot unmount the volume at {target}: {error.strerror}") from error
            sc.umount(str(target), sc.MNT_DETACH)


def is_mounted(target: Path) -> bool:
    """Whether something is mounted at exactly that path."""
    wanted = str(target).replace("\\", "\\134").replace(" ", "\\040").replace("\t", "\\011").replace("\n", "\\012")
    with Path("/proc/self/mountinfo").open(encoding="utf-8", errors="surrogateescape") as lines:
        return any(line.split(" ", 5)[4] == wanted for line in lines)


def _with_address(text: str) -> str:
    """`addr=HOST` with the host's address in its place: the kernel knows no names."""
    found = _ADDRESS.search(text)
    if found is None:
        return text
    host = found[1]
    try:
        ipaddress.ip_address(host)
    except ValueError:
        try:
            address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0][4][0]
        except OSError as error:
            raise BuildtoolError(
                f"error resolving passed in network volume address: lookup {host}: {error.strerror or error}"
            ) from error
        return f"{text[: found.start(1)]}{address}{text[found.end(1) :]}"
    return text


def _flags(parsed: Options) -> int:
    """What mount(2) is given besides the file system's own options."""
    return parsed.flags | (sc.MS_BIND | (sc.MS_REC if parsed.recursive else 0) if parsed.bind else 0)


def _refusal(kind: str, device: str, target: Path, text: str, error: OSError) -> BuildtoolError:
    reason = (error.strerror or str(error)).lower()
    parsed = Options([part for part in text.split(",") if part])
    flags = _flags(parsed)
    details = f", flags: {flags:#x}" if flags else ""
    if parsed.data:
        details += f", data: {_PASSWORD.sub('password=********', parsed.data)}"
    message = (
        f"error while mounting volume '{target}': failed to mount local volume: mount {device}:{target}{details}: "
        f"{reason}"
    )
    if error.errno == errno.ENODEV:
        return Unavailable(message, hint=f"this kernel has no file system of type {kind!r}")
    if error.errno in (errno.EPERM, errno.EACCES) and kind in _NETWORK:
        return Unavailable(message, hint=f"mounting {kind} takes root's rights on the machine")
    return BuildtoolError(message)
