"""`--cache-from` and `--cache-to`: what the daemon is told of caches that travel."""

from __future__ import annotations

import os

from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_AWS = ("access_key_id", "endpoint_url", "region", "secret_access_key", "session_token")
_PATHS = {"cache-from": "src", "cache-to": "dest"}


def cache_specs(flag: str, items: list[str]) -> list[dict[str, Any]]:
    """The request's `cache_from` or `cache_to`. A directory to be written is made; one to be read may be missing.

    Raises InvalidInput.
    """
    return [each for item in items if (each := _spec(flag, item)) is not None]


def _spec(flag: str, item: str) -> dict[str, Any] | None:
    attributes = read_attributes(flag, item)
    kind = attributes.pop("type", "registry" if "ref" in attributes else "")
    if not kind:
        raise InvalidInput(f"--{flag} {item}: type is missing", hint="write type=registry,ref=IMAGE or type=local,…")
    spec: dict[str, Any] = {"type": kind, "attributes": attributes}
    for name in _AWS if kind == "s3" else ():
        value = os.environ.get(f"AWS_{name.upper()}", "")
        if value:
            attributes.setdefault(name, value)
    path = attributes.get(_PATHS[flag], "")
    if kind == "local" and path:
        if flag == "cache-to":
            os.makedirs(path, exist_ok=True)
        elif not os.path.isdir(path):
            import sys

            print(f"WARNING: --cache-from: there is no cache in {path}", file=sys.stderr)
            return None
        from buildtool.cli.build_named import place

        spec["place"] = place(os.path.abspath(path))
    return spec


def read_attributes(flag: str, item: str) -> dict[str, str]:
    """`name=value,…` with CSV's quotes; an item without any `=` is a reference. Raises InvalidInput."""
    import csv

    try:
        fields = next(csv.reader([item]), [])
    except csv.Error as error:
        raise InvalidInput(f"--{flag} {item}: {error}") from None
    if len(fields) == 1 and "=" not in fields[0]:
        return {"type": "registry", "ref": fields[0]}
    found: dict[str, str] = {}
    for field in fields:
        name, equals, value = field.partition("=")
        if not equals or not name:
            raise InvalidInput(f"--{flag} {item}: {field!r} is no name=value")
        found[name.strip().lower()] = value
    return found
