"""Kinds of values that only some attributes have: commands, ulimits, hosts, devices."""

from __future__ import annotations

from typing import Any

from buildtool.stacks import short
from buildtool.stacks.kinds import At, Boolean, Bytes, Decimal, Duration, FileMode, Integer, Kind, Order, Text
from buildtool.stacks.structures import DictOf, ListOf, Pairs, Struct

NAME_PATTERN = r"[a-zA-Z0-9._-]+"

TEXT, NUMBERED, INTEGER, DECIMAL = Text(), Text(numbers=True), Integer(), Decimal()
BOOLEAN, BYTES, DURATION, MODE = Boolean(), Bytes(), Duration(), FileMode()
TEXTS, UNIQUE_TEXTS = ListOf(TEXT), ListOf(TEXT, unique=True)
ONE_OR_MORE = ListOf(TEXT, single=True)
PAIRS, LABELS = Pairs(), Pairs(filled=True)
OPTIONS = DictOf(NUMBERED)


class Command(Kind):
    """A command: text that is split into words, or a list; empty takes the image's away."""

    def canonical(self, value: Any, at: At) -> Any:
        return value if at.leave(value) else TEXTS.canonical(short.command(value, at), at)


class HealthTest(Kind):
    """A health check's command: text for the shell, or a list that begins with NONE, CMD or CMD-SHELL."""

    def canonical(self, value: Any, at: At) -> Any:
        if at.leave(value):
            return value
        words = TEXTS.canonical(short.healthcheck_test(value, at), at)
        if words and words[0] not in ("NONE", "CMD", "CMD-SHELL"):
            raise at.refuse(
                f"healthcheck.test must start either by 'CMD', 'CMD-SHELL' or 'NONE', not {words[0]!r}",
                "Put CMD before the words of a command.",
            )
        return words


class Ulimit(Kind):
    """A limit, or its soft and hard values."""

    def canonical(self, value: Any, at: At) -> Any:
        return _ULIMIT_PAIR.canonical(value, at) if isinstance(value, dict) else INTEGER.canonical(value, at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return _ULIMIT_PAIR.arrange(value, order) if isinstance(value, dict) else value


class DeviceCount(Kind):
    """A number of devices, or `all`."""

    def canonical(self, value: Any, at: At) -> Any:
        return INTEGER.canonical(short.device_count(value, at), at)


class TmpfsMode(Kind):
    """Permissions of a tmpfs, octal text or a number; printed as the number."""

    def canonical(self, value: Any, at: At) -> Any:
        text = MODE.canonical(value, at)
        return text if at.leave(text) else int(text, 8)


class ExtraHosts(Kind):
    """Host names and their addresses."""

    def canonical(self, value: Any, at: At) -> Any:
        return short.extra_hosts(value, at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return sorted(value) if isinstance(value, list) else value


class Ssh(Kind):
    """SSH keys and agents of a build."""

    def canonical(self, value: Any, at: At) -> Any:
        return TEXTS.canonical(short.ssh(value, at), at)


class Gpus(Kind):
    """`all`, or requests for devices."""

    def canonical(self, value: Any, at: At) -> Any:
        return _GPU_LIST.canonical(short.gpus(value, at), at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return _GPU_LIST.arrange(value, order)


class ProviderOptions(Kind):
    """Scalars, or lists of them; printed as lists."""

    def canonical(self, value: Any, at: At) -> Any:
        return _PROVIDER_OPTIONS.canonical(value, at)

    def arrange(self, value: Any, order: Order = None) -> Any:
        return _PROVIDER_OPTIONS.arrange(value, order)


_PROVIDER_OPTIONS = DictOf(ListOf(NUMBERED, single=True))
_ULIMIT_PAIR = Struct({"soft": INTEGER, "hard": INTEGER}, needed=("soft", "hard"), kept=("soft", "hard"))


class Attestation(Kind):
    """`true`, `false` or text."""

    def canonical(self, value: Any, at: At) -> Any:
        if isinstance(value, bool):
            return "true" if value else "false"
        return TEXT.canonical(value, at)


_DEVICE = {
    "capabilities": TEXTS,
    "driver": TEXT,
    "count": DeviceCount(),
    "device_ids": TEXTS,
    "options": LABELS,
}
DEVICE = Struct(_DEVICE, convert=short.device_request)
_GPU_LIST = ListOf(DEVICE)
