"""`-v`, `--mount` and `--tmpfs`: from their text to Volumes, Binds, Mounts and Tmpfs of the API."""

from __future__ import annotations

import os

from buildtool.cli.values import parse_boolean, parse_size
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TYPES = ("bind", "cluster", "image", "npipe", "tmpfs", "volume")


def mounts(volumes: list[str], specs: list[str], tmpfs: list[str]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Config.Volumes, and the part of HostConfig that is about mounts."""
    anonymous: dict[str, Any] = {}
    binds: list[str] = []
    for volume in volumes:
        if ":" in volume:
            binds.append(_bind(volume))
        else:
            anonymous[volume] = {}
    host: dict[str, Any] = {"Binds": binds}
    if specs:
        host["Mounts"] = [parse_mount(spec) for spec in specs]
    if tmpfs:
        host["Tmpfs"] = {path: options for path, _, options in (item.partition(":") for item in tmpfs)}
    return anonymous, host


def _bind(volume: str) -> str:
    """`source:target[:options]` with a relative source (`./x`, `../x`, `.`) made absolute."""
    source, _, rest = volume.partition(":")
    return f"{os.path.abspath(source) if source.startswith('.') else source}:{rest}"


def parse_mount(text: str) -> dict[str, Any]:
    """One `--mount`, CSV of key=value. Raises InvalidInput with Docker's words."""
    mount: dict[str, Any] = {"Type": "volume"}
    for field in csv_fields(text):
        key, separator, value = field.partition("=")
        key = key.lower().strip()
        if not separator and key not in ("readonly", "ro", "volume-nocopy", "bind-nonrecursive"):
            raise InvalidInput(
                f'invalid argument "{text}" for "--mount" flag: invalid field \'{field}\' must be a key=value pair'
            )
        if not _set_common(mount, key, value, separator) and not _set_special(mount, key, value, separator, text):
            raise InvalidInput(
                f"invalid argument \"{text}\" for \"--mount\" flag: unexpected key '{key}' in '{field}'"
            )
    _check(mount, text)
    return mount


def _check(mount: dict[str, Any], text: str) -> None:
    def refuse(problem: str) -> InvalidInput:
        return InvalidInput(f'invalid argument "{text}" for "--mount" flag: {problem}')

    if mount["Type"] not in _TYPES:
        raise refuse(f"mount type unknown: {mount['Type']!r}; choose from bind, image, tmpfs and volume")
    if not mount.get("Target"):
        raise refuse("target is required")
    for kind, options in (("volume", "VolumeOptions"), ("bind", "BindOptions"), ("tmpfs", "TmpfsOptions")):
        if options in mount and mount["Type"] != kind:
            raise refuse(f"cannot mix '{kind}-*' options with mount type '{mount['Type']}'")
    if mount["Type"] == "bind" and not mount.get("Source"):
        raise refuse("source is required for a mount of type bind")
    if mount["Type"] == "bind" and mount["Source"].startswith("."):
        mount["Source"] = os.path.abspath(mount["Source"])


def _set_common(mount: dict[str, Any], key: str, value: str, separator: str) -> bool:
    if key == "type":
        mount["Type"] = value.lower()
    elif key in ("source", "src"):
        mount["Source"] = value
    elif key in ("target", "dst", "destination"):
        mount["Target"] = value
    elif key in ("readonly", "ro"):
        mount["ReadOnly"] = _switch(value, separator)
    elif key == "consistency":
        mount["Consistency"] = value.lower()
    else:
        return False
    return True


def _set_special(mount: dict[str, Any], key: str, value: str, separator: str, text: str) -> bool:
    kind, _, name = key.partition("-")
    if kind == "bind" and name == "propagation":
        mount.setdefault("BindOptions", {})["Propagation"] = value.lower()
    elif key == "bind-nonrecursive":
        mount.setdefault("BindOptions", {})["NonRecursive"] = _switch(value, separator)
    elif key == "bind-recursive":
        _set_recursive(mount.setdefault("BindOptions", {}), value)
    elif key == "volume-nocopy":
        mount.setdefault("VolumeOptions", {})["NoCopy"] = _switch(value, separator)
    elif key == "volume-subpath":
        mount.setdefault("VolumeOptions", {})["Subpath"] = value
    elif key == "volume-label":
        name, _, content = value.partition("=")
        mount.setdefault("VolumeOptions", {}).setdefault("Labels", {})[name] = content
    elif key == "volume-driver":
        mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})["Name"] = value
    elif key == "volume-opt":
        name, _, content = value.partition("=")
        driver = mount.setdefault("VolumeOptions", {}).setdefault("DriverConfig", {})
        driver.setdefault("Options", {})[name] = content
    elif key == "image-subpath":
        mount.setdefault("ImageOptions", {})["Subpath"] = value
    elif key in ("tmpfs-size", "tmpfs-mode"):
        try:
            number = parse_size(value) if key == "tmpfs-size" else int(value, 8)
        except ValueError:
            raise InvalidInput(
                f'invalid argument "{text}" for "--mount" flag: invalid value for {key}: {value}'
            ) from None
        mount.setdefault("TmpfsOptions", {})["SizeBytes" if key == "tmpfs-size" else "Mode"] = number
    else:
        return False
    return True


def _set_recursive(options: dict[str, Any], value: str) -> None:
    if value in ("enabled", ""):
        return
    known = {"disabled": "NonRecursive", "writable": "ReadOnlyNonRecursive", "readonly": "ReadOnlyForceRecursive"}
    if value not in known:
        raise InvalidInput(
            f"invalid value for bind-recursive: {value} (must be enabled, disabled, writable, readonly)"
        )
    options[known[value]] = True


def _switch(value: str, separator: str) -> bool:
    try:
        return parse_boolean(value) if separator else True
    except ValueError as error:
        raise InvalidInput(f"invalid value in --mount: {error}") from None


def csv_fields(text: str) -> list[str]:
    """One line of CSV: commas within double quotes do not separate, doubled quotes stand for one."""
    fields, current, quoted, position = [], "", False, 0
    while position < len(text):
        char = text[position]
        if char == '"' and quoted and text[position + 1 : position + 2] == '"':
            current += '"'
            position += 1
        elif char == '"':
            quoted = not quoted
        elif char == "," and not quoted:
            fields.append(current)
            current = ""
        else:
            current += char
        position += 1
    return [*fields, current]
