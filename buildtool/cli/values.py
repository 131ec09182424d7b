"""Values of flags: sizes, durations, CPUs, key=value pairs, as Docker's CLI reads them."""

from __future__ import annotations

import os

from buildtool.errors import InvalidInput

_BYTE_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
_NANOSECONDS = {"ns": 1, "us": 10**3, "µs": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def parse_size(text: str) -> int:
    """`512`, `64m`, `1.5g`, `2GiB`, `10kb`: bytes, units of 1024. Raises ValueError with Docker's words."""
    number, unit = _split_number(text.strip())
    unit = unit.strip().lower().removesuffix("ib") if unit.strip().lower() != "b" else ""
    unit = unit.removesuffix("b") if len(unit) == 2 else unit
    try:
        return int(float(number) * _BYTE_UNITS[unit])
    except (KeyError, ValueError):
        raise ValueError(f"invalid size: '{text}'") from None


def parse_memory_swap(text: str) -> int:
    """A size, or -1 for no limit."""
    return -1 if text == "-1" else parse_size(text)


def _split_number(text: str) -> tuple[str, str]:
    end = 0
    while end < len(text) and (text[end].isdigit() or text[end] == "."):
        end += 1
    return text[:end], text[end:]


def parse_duration(text: str) -> int:
    """Go's duration format, `1m30s`, `300ms`, `1.5h`: nanoseconds. Raises ValueError."""
    rest = text.lstrip("+-")
    total = 0.0
    if rest == "0":
        return 0
    while rest:
        number, rest = _split_number(rest)
        end = 0
        while end < len(rest) and not (rest[end].isdigit() or rest[end] == "."):
            end += 1
        unit, rest = rest[:end], rest[end:]
        if not number or number == ".":
            raise ValueError(f'time: invalid duration "{text}"')
        if unit not in _NANOSECONDS:
            problem = f'unknown unit "{unit}"' if unit else "missing unit"
            raise ValueError(f'time: {problem} in duration "{text}"')
        total += float(number) * _NANOSECONDS[unit]
    if not text.strip("+-"):
        raise ValueError(f'time: invalid duration "{text}"')
    return round(-total if text.startswith("-") else total)


def parse_cpus(text: str) -> int:
    """A decimal number of CPUs in units of 1e-9 (NanoCpus). Raises ValueError."""
    whole, _, fraction = text.partition(".")
    digits = whole.removeprefix("-").removeprefix("+") + fraction
    if not digits.isdecimal():
        raise ValueError(f"failed to parse {text} as a rational number")
    if len(fraction.rstrip("0")) > 9:
        raise ValueError("value is too precise")
    return int((whole or "0") + fraction.rstrip("0").ljust(9, "0"))


def parse_integer(text: str) -> int:
    """A whole number, decimal or 0x. Raises ValueError with pflag's words."""
    try:
        return int(text, 0)
    except ValueError:
        raise ValueError(f'strconv.ParseInt: parsing "{text}": invalid syntax') from None


def parse_boolean(text: str) -> bool:
    """Go's booleans: 1 t T true TRUE True and their opposites. Raises ValueError."""
    if text in ("1", "t", "T", "true", "TRUE", "True"):
        return True
    if text in ("0", "f", "F", "false", "FALSE", "False"):
        return False
    raise ValueError(f'strconv.ParseBool: parsing "{text}": invalid syntax')


def key_value_map(items: list[str]) -> dict[str, str]:
    """`k=v` pairs as a mapping, later ones win; `k` alone has the empty value."""
    pairs = (item.partition("=") for item in items)
    return {key: value for key, _, value in pairs}


def filters_document(items: list[str]) -> dict[str, list[str]]:
    """`--filter name=value` flags in the form of the API's `filters`."""
    document: dict[str, list[str]] = {}
    for item in items:
        name, _, value = item.partition("=")
        document.setdefault(name.strip().lower(), []).append(value.strip())
    return document


def environment(files: list[str], items: list[str]) -> list[str]:
    """`--env-file` and `-e` as the API's Env: files first; a bare name takes this process's value.

    A bare name that is not set here stays bare in `-e` (it removes the image's variable) and is left out in a file.
    """
    result: list[str] = []
    for path in files:
        result += read_pairs_file(path, environment_values=True)
    for item in items:
        name, separator, _ = item.partition("=")
        if not name:
            raise InvalidInput(f"invalid environment variable: {item}")
        value = os.environ.get(name)
        result.append(item if separator or value is None else f"{name}={value}")
    return result


def labels(files: list[str], items: list[str]) -> dict[str, str]:
    """`--label-file` and `--label` as a mapping."""
    collected = [line for path in files for line in read_pairs_file(path, environment_values=False)]
    return key_value_map(collected + items)


def read_pairs_file(path: str, *, environment_values: bool) -> list[str]:
    """The `NAME=value` lines of a file; `#` comments and blank lines are left out.

    Raises InvalidInput naming file and line for a name with white space, an empty name or bytes that are not UTF-8.
    """
    try:
        with open(path, "rb") as file:
            data = file.read()
    except OSError as error:
        raise InvalidInput(f"open {path}: {(error.strerror or str(error)).lower()}") from error
    result = []
    for number, raw in enumerate(data.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        try:
            line = raw.decode().lstrip()
        except UnicodeDecodeError:
            raise InvalidInput(f"{path}:{number}: invalid utf8 bytes in line {raw!r}") from None
        if not line or line.startswith("#"):
            continue
        name, separator, value = line.partition("=")
        if not name:
            raise InvalidInput(f"{path}:{number}: no variable name on line '{line}'")
        if any(c.isspace() for c in name):
            raise InvalidInput(f"{path}:{number}: variable '{name}' contains whitespaces")
        if separator:
            result.append(f"{name}={value}")
        elif not environment_values:
            result.append(name)
        elif name in os.environ:
            result.append(f"{name}={os.environ[name]}")
    return result
