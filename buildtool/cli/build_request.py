"""The flags of `build` as the request of POST /buildtool/v1/build (docs/api.md)."""

from __future__ import annotations

import os

from buildtool.cli.values import key_value_map
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.build_input import BuildInput
    from buildtool.cli.call import Call

_NUMBERS = (
    ("shm_size", "shm-size"),
    ("memory", "memory"),
    ("memory_swap", "memory-swap"),
    ("cpu_shares", "cpu-shares"),
    ("cpu_period", "cpu-period"),
    ("cpu_quota", "cpu-quota"),
    ("jobs", "jobs"),
)
_TEXTS = (
    ("cpuset_cpus", "cpuset-cpus"),
    ("cpuset_mems", "cpuset-mems"),
    ("cgroup_parent", "cgroup-parent"),
    ("context_mode", "context-mode"),
    ("isolation", "isolation"),
)


def request_document(call: Call, source: BuildInput) -> dict[str, Any]:
    """The JSON object; `context` is the directory with its device and inode, or null."""
    document: dict[str, Any] = {
        "context": _context(source.directory) if source.directory else None,
        "dockerfile": None if source.elsewhere else source.text,
        "dockerfile_name": source.name,
        "ignore": source.ignore,
        "tags": call.texts("tag"),
        "build_args": build_arguments(call.texts("build-arg")),
        "target": call.text("target"),
        "no_cache": call.switch("no-cache"),
        "pull": call.switch("pull"),
        "labels": key_value_map(call.texts("label")),
        "network_mode": call.text("network"),
        "epoch": source_date_epoch(),
        "explain": call.switch("explain"),
    }
    if call.texts("add-host"):
        from buildtool.cli.container_config import extra_host

        document["extra_hosts"] = [extra_host(item) for item in call.texts("add-host")]
    if call.texts("ulimit"):
        from buildtool.cli.container_resources import parse_ulimit

        document["ulimits"] = [parse_ulimit(item) for item in call.texts("ulimit")]
    if source.directory and document["epoch"] is None:
        from buildtool.cli.git_commit import commit_time

        document["commit_epoch"] = commit_time(source.directory)
    if call.texts("attest") or call.given("provenance") or call.given("sbom"):
        from buildtool.cli.build_attest import read_attest

        document["attest"] = read_attest(call, source)
    if source.remote:
        document["remote"] = source.remote
    if source.elsewhere:
        from buildtool.cli.preprocessing import template_variables

        document["dockerfile_path"] = source.given
        document["variables"] = template_variables(call, document["build_args"])
    if call.texts("build-context"):
        from buildtool.cli.build_named import named_contexts

        document["contexts"] = named_contexts(call.texts("build-context"))
    if has_outputs(call):
        from buildtool.cli.build_outputs import read_outputs

        outputs = read_outputs(call)
        document |= {"tags": outputs.tags, "annotations": outputs.annotations}
        if outputs.annotate:
            document["annotate"] = outputs.annotate
        if outputs.pushes:
            document["pushes"] = outputs.pushes
    for flag in ("cache-from", "cache-to"):
        if call.texts(flag):
            from buildtool.cli.build_caches import cache_specs

            document[flag.replace("-", "_")] = cache_specs(flag, call.texts(flag))
    if call.texts("no-cache-filter"):
        document["no_cache_filter"] = [name for item in call.texts("no-cache-filter") for name in item.split(",")]
    if call.texts("cutoff-ignore"):
        document["cutoff_ignore"] = call.texts("cutoff-ignore")
    if call.texts("allow"):
        document["entitlements"] = [name.strip() for item in call.texts("allow") for name in item.split(",")]
    if call.texts("secret"):
        from buildtool.cli.build_secrets import read_secrets

        document["secrets"] = read_secrets(call.texts("secret"))
    if call.given("platform"):
        document["platform"] = ",".join(platforms_of(call))
    if call.texts("resource"):
        from buildtool.cli.build_resources import read_resources

        document |= read_resources(call.texts("resource"))
    document |= {field: call.number(flag) for field, flag in _NUMBERS if call.given(flag)}
    return document | {field: call.text(flag) for field, flag in _TEXTS if call.given(flag)}


def platforms_of(call: Call) -> list[str]:
    """The platforms to build for, as they were given; [] for this machine's."""
    return [part.strip() for item in call.texts("platform") for part in item.split(",") if part.strip()]


def has_outputs(call: Call) -> bool:
    """Whether the call asks for anything but the image in the daemon."""
    return any(call.given(flag) for flag in ("annotation", "load", "metadata-file", "output", "push"))


def _context(directory: str) -> dict[str, Any]:
    found = os.stat(directory)
    return {"path": directory, "dev": found.st_dev, "ino": found.st_ino}


def build_arguments(items: list[str]) -> dict[str, str | None]:
    """`--build-arg NAME=value`; a bare NAME takes this environment's value, null when there is none."""
    arguments: dict[str, str | None] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not name:
            raise InvalidInput(f"invalid --build-arg {item!r}: write NAME=value")
        arguments[name] = value if separator else os.environ.get(name)
    return arguments


def source_date_epoch() -> int | None:
    """SOURCE_DATE_EPOCH of the environment, None when it is not set. Raises InvalidInput when it is no number."""
    text = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not text:
        return None
    if not text.isdecimal():
        raise InvalidInput(f"SOURCE_DATE_EPOCH is {text!r}: it must be a number of seconds since 1970")
    return int(text)
