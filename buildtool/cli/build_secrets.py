"""`--secret`: values read here, for RUN --mount=type=secret.

Source: Docker CLI reference, "docker buildx build", --secret.
"""

from __future__ import annotations

import base64
import csv
import os

from buildtool.errors import InvalidInput, NotFound

_LARGEST = 500 * 1024


def read_secrets(items: list[str]) -> dict[str, str]:
    """The values by id, in base64. Raises InvalidInput (malformed or too large) and NotFound."""
    secrets: dict[str, str] = {}
    for item in items:
        fields = _fields(item)
        identity = fields.get("id") or os.path.basename(fields.get("src", ""))
        if not identity:
            raise _malformed(item, "it has no id")
        if identity in secrets:
            raise InvalidInput(f"secret {identity} is given twice")
        value = _value(identity, fields, item)
        if len(value) > _LARGEST:
            raise InvalidInput(f"secret {identity} is too big: {len(value)} bytes, the most are {_LARGEST}")
        secrets[identity] = base64.b64encode(value).decode()
    return secrets


def _fields(item: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for part in next(csv.reader([item]), []):
        key, separator, value = part.partition("=")
        key = {"source": "src"}.get(key.lower(), key.lower())
        if not separator:
            raise _malformed(item, f"{part!r} is no key=value pair")
        if key not in ("id", "src", "env", "type"):
            raise _malformed(item, f"unexpected key {key!r}")
        fields[key] = value
    kind = fields.get("type", "")
    if kind not in ("", "file", "env"):
        raise _malformed(item, f"unsupported secret type {kind!r}")
    if kind == "env" and "src" in fields:
        fields.setdefault("env", fields.pop("src"))
    if "env" in fields and ("src" in fields or kind == "file"):
        raise _malformed(item, "it is a file or a variable, not both")
    return fields


def _value(identity: str, fields: dict[str, str], item: str) -> bytes:
    kind, variable, path = fields.get("type", ""), fields.get("env", ""), fields.get("src", "")
    if not variable and not path:
        if kind == "env" or (not kind and identity in os.environ):
            variable = identity
        else:
            path = identity
    if variable:
        value = os.environ.get(variable)
        if value is None:
            raise NotFound(f"secret {identity}: the environment variable {variable} is not set")
        return os.fsencode(value)
    try:
        with open(os.path.expanduser(path), "rb") as file:
            return file.read(_LARGEST + 1)
    except OSError as error:
        hint = f"write --secret id={identity},src=FILE or --secret id={identity},env=VARIABLE"
        raise NotFound(f"secret {identity}: {path}: {error.strerror}", hint=hint) from None


def _malformed(item: str, problem: str) -> InvalidInput:
    return InvalidInput(
        f"invalid --secret {item!r}: {problem}", hint="write id=NAME,src=FILE or id=NAME,env=VARIABLE"
    )
