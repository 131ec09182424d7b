"""Log drivers: their options checked as Docker checks them, and what the runtime is to do.

`json-file` and `local` are files of ours; `syslog` and `journald` send lines elsewhere and keep a bounded file as
well, so that `logs` can be answered with every driver but `none`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from buildtool.containers import limits
from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.runtime import LogConfig

if TYPE_CHECKING:
    from buildtool.containers.container import Container
    from buildtool.containers.model import LogConfig as Asked
    from buildtool.containers.model import Record

_FILE = frozenset({"max-size", "max-file", "compress", "mode", "max-buffer-size"})
_ATTRIBUTES = frozenset({"labels", "labels-regex", "env", "env-regex", "tag"})
_TLS = frozenset({"syslog-tls-ca-cert", "syslog-tls-cert", "syslog-tls-key", "syslog-tls-skip-verify"})
_DELIVERY = frozenset({"mode", "max-buffer-size"})
_OPTIONS = {
    "json-file": _FILE | _ATTRIBUTES,
    "local": _FILE,
    "syslog": {"syslog-address", "syslog-facility", "syslog-format"} | _TLS | _ATTRIBUTES | _DELIVERY,
    "journald": _ATTRIBUTES | _DELIVERY,
    "none": _FILE | _ATTRIBUTES,
}
DRIVERS = tuple(_OPTIONS)
_FACILITIES = (
    *("kern", "user", "mail", "daemon", "auth", "syslog", "lpr", "news", "uucp", "cron", "authpriv", "ftp"),
    *("", "", "", "", *(f"local{number}" for number in range(8))),
)
_FORMATS = ("", "rfc3164", "rfc5424", "rfc5424micro")
_SCHEMES = ("udp", "tcp", "tcp+tls", "unix", "unixgram")
_TAG_PART = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")
_TRUE, _FALSE = ("1", "t", "T", "true", "True", "TRUE"), ("0", "f", "F", "false", "False", "FALSE")
_KEPT_SIZE, _KEPT_FILES = 20 << 20, 5


def check(asked: Asked) -> None:
    """Raises InvalidInput for a driver that does not exist, and for options it does not have or cannot take."""
    kind = asked.type or "json-file"
    if kind not in _OPTIONS:
        raise InvalidInput(f"logger: no log driver named '{kind}' is registered")
    options = asked.config
    for name in options:
        if name not in _OPTIONS[kind]:
            raise InvalidInput(f"unknown log opt '{name}' for {kind} log driver")
    limits.parse_size(options.get("max-size", "0"), "max-size")
    limits.parse_size(options.get("max-buffer-size", "0"), "max-buffer-size")
    if options.get("mode", "blocking") not in ("", "blocking", "non-blocking"):
        raise InvalidInput(f"logger: logging mode not supported: {options['mode']}")
    for name in ("labels-regex", "env-regex"):
        try:
            re.compile(options.get(name, ""))
        except re.error as error:
            raise InvalidInput(f"invalid {name}: {error}") from None
    for name in _TAG_PART.findall(options.get("tag", "")):
        if name not in _TAG_VALUES:
            raise InvalidInput(f"invalid log tag: it has no field {name!r}; these are: {', '.join(_TAG_VALUES)}")
    if kind == "syslog":
        _facility(options.get("syslog-facility", ""))
        _address(options.get("syslog-address", ""))
        if options.get("syslog-format", "") not in _FORMATS:
            raise InvalidInput("Invalid syslog format")


def log_config(container: Container) -> LogConfig:
    """What the runtime is to do with the output. Raises InvalidInput, BuildtoolError (no journal here)."""
    settings = container.host.log_config
    options = settings.config
    if settings.type == "none":
        return LogConfig("none")
    if settings.type in ("syslog", "journald"):
        sink = _syslog(container.record) if settings.type == "syslog" else _journald(container.record)
        return LogConfig("json-file", container.log_path, _KEPT_SIZE, _KEPT_FILES, sink)
    size_default, files_default = ("20m", "5") if settings.type == "local" else ("-1", "1")
    size = limits.parse_size(options.get("max-size", size_default), "max-size")
    files = options.get("max-file", files_default)
    if not files.isdecimal() or int(files) < 1:
        raise InvalidInput(f"invalid max-file: {files}: it is 1 or more")
    return LogConfig(
        "json-file",
        container.log_path,
        size if size > 0 else None,
        int(files),
        attributes=said(container.record) if settings.type == "json-file" else None,
        compress=_compressed(options, settings.type, rotated=size > 0 and int(files) > 1),
    )


def _compressed(options: Mapping[str, str], kind: str, *, rotated: bool) -> bool:
    """The option `compress`: the driver local does so unless told otherwise."""
    text = options.get("compress", "")
    if not text:
        return rotated and kind == "local"
    if text not in _TRUE + _FALSE:
        raise InvalidInput(f"invalid compress: {text}: it is true or false")
    if text in _TRUE and not rotated:
        raise InvalidInput("compress cannot be true when max-file is less than 2 or max-size is not set")
    return text in _TRUE


def said(record: Record) -> dict[str, str]:
    """What every record of a json-file says besides its line: `attributes`, and the tag when one is asked for."""
    tag = {"tag": tag_of(record)} if record.host.log_config.config.get("tag") else {}
    return attributes(record) | tag


def attributes(record: Record) -> dict[str, str]:
    """The labels and variables that the options `labels`, `env` and their `-regex` forms choose."""
    options = record.host.log_config.config
    labels = record.config.labels or {}
    variables = dict(entry.partition("=")[::2] for entry in record.config.env or ())
    found: dict[str, str] = {}
    for name, values in (("labels", labels), ("env", variables)):
        found |= {key: values[key] for key in options.get(name, "").split(",") if key in values}
        pattern = options.get(f"{name}-regex", "")
        if pattern:
            found |= {key: value for key, value in values.items() if re.search(pattern, key)}
    return found


_TAG_VALUES: dict[str, Callable[[Record], str]] = {
    "ID": lambda record: record.id[:12],
    "FullID": lambda record: record.id,
    "Name": lambda record: record.name,
    "ImageName": lambda record: record.config.image,
    "ImageID": lambda record: record.image_id.removeprefix("sha256:")[:12],
    "ImageFullID": lambda record: record.image_id,
    "DaemonName": lambda record: "docker",
}


def tag_of(record: Record) -> str:
    """How messages are called: the option `tag` with its fields filled in, else the short id."""
    template = record.host.log_config.config.get("tag", "") or "{{.ID}}"
    return _TAG_PART.sub(lambda match: str(_TAG_VALUES[match[1]](record)), template)


def _syslog(record: Record) -> dict[str, Any]:
    options = record.host.log_config.config
    scheme, place = _address(options.get("syslog-address", ""))
    if not scheme:
        from buildtool.runtime.logsinks import local_syslog

        try:
            scheme, place = local_syslog()
        except OSError as error:
            raise BuildtoolError(f"failed to initialize logging driver: {error}") from None
    return {
        "kind": "syslog",
        "scheme": scheme,
        "place": place,
        "facility": _facility(options.get("syslog-facility", "")),
        "format": options.get("syslog-format", ""),
        "tag": tag_of(record),
        "wait": options.get("mode") != "non-blocking",
        "tls": {
            "ca": options.get("syslog-tls-ca-cert", ""),
            "cert": options.get("syslog-tls-cert", ""),
            "key": options.get("syslog-tls-key", ""),
            "skip_verify": "syslog-tls-skip-verify" in options,
        },
    }


def _facility(text: str) -> int:
    name = text or "daemon"
    if name in _FACILITIES:
        return _FACILITIES.index(name)
    if name.isdecimal() and int(name) < len(_FACILITIES):
        return int(name)
    raise InvalidInput(f"invalid syslog facility: {text}")


def _address(text: str) -> tuple[str, Any]:
    """Scheme and place of an address: a path, or host and port. ("", "") means this machine's own syslog."""
    if not text:
        return "", ""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in _SCHEMES:
        raise InvalidInput(f"syslog-address should be in form proto://address, got {text}")
    if scheme.startswith("unix"):
        if not rest.startswith("/"):
            raise InvalidInput(f"syslog-address should be the absolute path of a socket, got {text}")
        return scheme, rest
    try:
        parts = urlsplit(f"x://{rest}")
        host, port = parts.hostname, parts.port or 514
    except ValueError as error:
        raise InvalidInput(f"syslog-address {text}: {error}") from None
    if not host:
        raise InvalidInput(f"syslog-address should be in form proto://address, got {text}")
    return scheme, (host, port)


def _journald(record: Record) -> dict[str, Any]:
    from buildtool.runtime.logsinks import JOURNAL

    if not Path(JOURNAL).is_socket():
        raise BuildtoolError("failed to initialize logging driver: journald is not enabled on this host")
    fields = {
        "CONTAINER_ID": record.id[:12],
        "CONTAINER_ID_FULL": record.id,
        "CONTAINER_NAME": record.name,
        "CONTAINER_TAG": tag_of(record),
        "IMAGE_NAME": record.config.image,
        "SYSLOG_IDENTIFIER": tag_of(record),
    }
    for key, value in attributes(record).items():
        fields[re.sub(r"[^A-Z0-9]", "_", key.upper()).lstrip("_")] = value
    return {"kind": "journald", "fields": fields}
