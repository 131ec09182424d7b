"""What `buildtool registry serve` can be told, and reading it from the command line."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from buildtool.errors import InvalidInput
from buildtool.places import default_root
from buildtool.registry.config import is_loopback
from buildtool.registry.server.signing import SERVICE

LEVELS = ("debug", "info", "warn", "error")
_UNITS = {"": 1, "b": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40}


@dataclass(frozen=True)
class Options:
    """What a server is started with. Times in seconds, sizes in bytes; `mirrors` are (prefix, host)."""

    root: Path
    host: str
    port: int
    share_store: bool = False
    htpasswd: Path | None = None
    anonymous_pull: bool = False
    rules: Path | None = None
    auth: str = ""
    service: str = SERVICE
    external_url: str = ""
    tls_cert: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    delete: bool = True
    pages: bool = True
    upload_idle: float = 3600.0
    grace: float = 86400.0
    untagged: float | None = None
    immutable_tags: tuple[str, ...] = ()
    mirrors: tuple[tuple[str, str], ...] = ()
    mirror_ttl: float = 300.0
    mirror_keep: float | None = None
    mirror_login: Path | None = None
    max_blob: int = 1 << 40
    rate: float = 0.0
    audit_log: Path | None = None
    metrics: tuple[str, int] | None = None
    drain_delay: float = 0.0
    drain_timeout: float = 30.0
    log_level: str = "info"
    bucket: str = ""
    bucket_options: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def is_public(self) -> bool:
        """Whether other machines can reach it."""
        return not is_loopback(self.host)

    @property
    def is_guarded(self) -> bool:
        """Whether anybody is asked who they are."""
        return self.htpasswd is not None or self.rules is not None or self.auth != ""


def parser() -> argparse.ArgumentParser:
    """The flags."""
    made = argparse.ArgumentParser(
        prog="buildtool registry serve", description="Serve the OCI distribution API. SIGTERM and SIGINT stop it."
    )
    add = made.add_argument
    add("--root", default="", metavar="DIR", help="where everything is kept (default: the data root's -registry)")
    add("--share-store", action="store_true", help="publish the daemon's images, read-only, without a copy")
    add("--addr", default="127.0.0.1:5000", metavar="HOST:PORT", help="where to listen (default: 127.0.0.1:5000)")
    add("--htpasswd", default="", metavar="FILE", help="users and their bcrypt hashes; without it anybody may push")
    add("--anonymous-pull", action="store_true", help="with --htpasswd: pulling needs no login")
    add("--rules", default="", metavar="FILE", help="who may do what with which repositories (YAML)")
    add("--auth", default="", choices=("", "basic", "token"), help="how clients log in (default: by the rules)")
    add("--service", default=SERVICE, metavar="NAME", help="audience of the tokens that this server signs")
    add("--external-url", default="", metavar="URL", help="how clients reach this server, behind a proxy")
    add("--tls-cert", default="", metavar="FILE", help="certificate chain, PEM; read again when it changes")
    add("--tls-key", default="", metavar="FILE", help="its private key, PEM")
    add("--tls-client-ca", default="", metavar="FILE", help="clients need a certificate of these CAs, PEM")
    add("--no-delete", action="store_true", help="refuse to delete manifests and blobs")
    add("--no-pages", action="store_true", help="no web pages")
    add("--upload-timeout", type=float, default=3600.0, metavar="SECONDS", help="end uploads nobody goes on with")
    add("--gc-grace", type=float, default=86400.0, metavar="SECONDS", help="keep blobs without a manifest so long")
    add(
        "--gc-untagged", type=float, default=None, metavar="SECONDS", help="delete what no tag leads to after so long"
    )
    add("--immutable-tags", action="append", default=[], metavar="PATTERN", help="tags that stay what they are")
    add(
        "--mirror", action="append", default=[], metavar="[PREFIX=]HOST", help="cache another registry's repositories"
    )
    add(
        "--mirror-ttl",
        type=float,
        default=300.0,
        metavar="SECONDS",
        help="ask for a mirrored tag again after so long",
    )
    add("--mirror-keep", type=float, default=None, metavar="SECONDS", help="delete what nobody pulls for so long")
    add("--mirror-login", default="", metavar="FILE", help="config.json with the logins for mirrored registries")
    add("--max-blob", default="1t", metavar="SIZE", help="refuse larger blobs (default: 1t)")
    add("--rate-limit", type=float, default=0.0, metavar="N", help="requests a second of one user or address")
    add("--audit-log", default="", metavar="FILE", help="who did what, one JSON object a line")
    add("--metrics", default="", metavar="HOST:PORT", help="serve figures for Prometheus there (/metrics)")
    add("--drain-delay", type=float, default=0.0, metavar="SECONDS", help="serve on so long after SIGTERM, not ready")
    add("--drain-timeout", type=float, default=30.0, metavar="SECONDS", help="let running requests end for so long")
    add("--log-level", default="info", choices=LEVELS, help="default: info (one line a request)")
    add("--bucket", default="", metavar="URL", help="keep everything there, with other servers (s3://…, file:///…)")
    add(
        "--bucket-option", action="append", default=[], metavar="KEY=VALUE", help="endpoint, region, redirect=false …"
    )
    return made


def parse(arguments: Sequence[str]) -> Options:
    """Read the command line. Ends the process with usage and code 2 for wrong flags; InvalidInput for the rest."""
    given = parser().parse_args(arguments)
    _check(given)
    host, port = address(given.addr)
    return Options(
        root=root_of(given.root, share=given.share_store),
        host=host,
        port=port,
        share_store=given.share_store,
        htpasswd=_path(given.htpasswd),
        anonymous_pull=given.anonymous_pull,
        rules=_path(given.rules),
        auth=given.auth,
        service=given.service,
        external_url=given.external_url,
        tls_cert=_path(given.tls_cert),
        tls_key=_path(given.tls_key),
        tls_client_ca=_path(given.tls_client_ca),
        delete=not given.no_delete,
        pages=not given.no_pages,
        upload_idle=given.upload_timeout,
        grace=given.gc_grace,
        untagged=given.gc_untagged,
        immutable_tags=tuple(given.immutable_tags),
        mirrors=tuple(_mirror(one) for one in given.mirror),
        mirror_ttl=given.mirror_ttl,
        mirror_keep=given.mirror_keep,
        mirror_login=_path(given.mirror_login),
        max_blob=size(given.max_blob),
        rate=given.rate_limit,
        audit_log=_path(given.audit_log),
        metrics=address(given.metrics) if given.metrics else None,
        drain_delay=given.drain_delay,
        drain_timeout=given.drain_timeout,
        log_level=given.log_level,
        bucket=given.bucket,
        bucket_options=tuple(parse_pair(one) for one in given.bucket_option),
    )


def _check(given: argparse.Namespace) -> None:
    """Flags that contradict each other."""
    if bool(given.tls_cert) != bool(given.tls_key):
        raise InvalidInput("--tls-cert and --tls-key go together")
    if given.tls_client_ca and not given.tls_cert:
        raise InvalidInput("--tls-client-ca means nothing without --tls-cert")
    if given.anonymous_pull and not given.htpasswd:
        raise InvalidInput("--anonymous-pull means nothing without --htpasswd")
    if given.anonymous_pull and given.rules:
        raise InvalidInput("with --rules say there what anyone may pull, not with --anonymous-pull")
    if given.share_store and (given.mirror or given.bucket):
        raise InvalidInput("--share-store goes neither with --mirror nor with --bucket: it only reads")
    if given.bucket and given.mirror:
        raise InvalidInput("--mirror keeps what it fetches in a local root: it does not go with --bucket")
    if given.rate_limit < 0:
        raise InvalidInput("--rate-limit must not be negative")
    if given.external_url and not given.external_url.startswith(("http://", "https://")):
        raise InvalidInput(f"--external-url {given.external_url!r} is no URL")


def root_of(given: str, *, share: bool = False) -> Path:
    """Where a registry is kept."""
    if given:
        return Path(given).absolute()
    if share:
        return Path(os.environ.get("BUILDTOOL_ROOT") or default_root()).absolute()
    return Path(f"{default_root()}-registry")


def address(text: str) -> tuple[str, int]:
    """HOST:PORT. Raises InvalidInput."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or int(port) > 65535:
        raise InvalidInput(f"cannot listen on {text!r}: write HOST:PORT, like 127.0.0.1:5000 or :5000")
    return host.strip("[]") or "0.0.0.0", int(port)


def size(text: str) -> int:
    """`10g` as bytes. Raises InvalidInput."""
    lowered = text.lower().removesuffix("ib").removesuffix("b")
    number = lowered.rstrip("kmgt")
    unit = lowered[len(number) :]
    if not number.isdecimal() or unit not in _UNITS:
        raise InvalidInput(f"{text!r} is no size: write a number and k, m, g or t")
    return int(number) * _UNITS[unit]


def _mirror(text: str) -> tuple[str, str]:
    from buildtool.registry.server.names import is_name

    prefix, equals, host = text.rpartition("=")
    if not host or (equals and not is_name(prefix)) or "/" in host:
        raise InvalidInput(f"--mirror {text!r}: write HOST, or PREFIX=HOST for repositories below PREFIX/")
    return prefix, host


def parse_pair(text: str) -> tuple[str, str]:
    """KEY=VALUE. Raises InvalidInput."""
    key, equals, value = text.partition("=")
    if not equals or not key:
        raise InvalidInput(f"--bucket-option {text!r}: write KEY=VALUE")
    return key, value


def _path(text: str) -> Path | None:
    return Path(text) if text else None
