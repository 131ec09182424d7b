"""`--resource`: limits of RUN steps as buildx names them.

Source: ../shared/reference/build.md, table 1.6.
"""

from __future__ import annotations

from buildtool.cli.parse import UsageError, suggestion
from buildtool.cli.values import parse_integer, parse_memory_swap, parse_size

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_FIELDS: dict[str, tuple[str, Callable[[str], int | str]]] = {
    "memory": ("memory", parse_size),
    "memswap": ("memory_swap", parse_memory_swap),
    "memory-swap": ("memory_swap", parse_memory_swap),
    "cpu-shares": ("cpu_shares", parse_integer),
    "cpu-period": ("cpu_period", parse_integer),
    "cpu-quota": ("cpu_quota", parse_integer),
    "cpuset-cpus": ("cpuset_cpus", str),
    "cpuset-mems": ("cpuset_mems", str),
}


def read_resources(items: list[str]) -> dict[str, int | str]:
    """`NAME=VALUE`, several separated by commas, as fields of the request. Raises UsageError.

    A part without `=` belongs to the value before it: lists of processors have commas too.
    """
    values: dict[str, str] = {}
    for item in items:
        name = ""
        for part in item.split(","):
            key, separator, value = part.partition("=")
            if separator:
                name = key.strip()
                values[name] = value
            elif name.startswith("cpuset-"):
                values[name] += f",{part}"
            else:
                raise UsageError(f'invalid argument "{item}" for "--resource" flag: write NAME=VALUE')
    fields: dict[str, int | str] = {}
    for name, value in values.items():
        if name not in _FIELDS:
            hint = suggestion(name, list(_FIELDS)) or f"Known are {', '.join(_FIELDS)}."
            raise UsageError(f"unknown resource {name!r}", hint=hint)
        field, read = _FIELDS[name]
        try:
            fields[field] = read(value)
        except ValueError as error:
            raise UsageError(f'invalid argument "{name}={value}" for "--resource" flag: {error}') from None
    return fields
