"""A server made of what its options say."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import msgspec

from buildtool.cache import Store
from buildtool.errors import InvalidInput
from buildtool.registry.config import RegistryConfig
from buildtool.registry.credentials import find_credentials
from buildtool.registry.retry import RetryPolicy
from buildtool.registry.server.access import Access, Guarded, Open
from buildtool.registry.server.app import Server, Settings
from buildtool.registry.server.content import Content
from buildtool.registry.server.htpasswd import Htpasswd
from buildtool.registry.server.options import Options
from buildtool.registry.server.rules import ImmutableTags, RuleSet, RulesFile, everybody_signed_in
from buildtool.registry.server.signing import Keys, Signer

KEYS = "keys"


def assemble(options: Options, store: Store) -> Server:
    """Raises InvalidInput for files that cannot be used, OSError for files that cannot be read."""
    rules = _rules(options)
    settings = Settings(
        access=_access(options, rules),
        upload_idle=options.upload_idle,
        grace=options.grace,
        untagged=options.untagged,
        mirror_keep=options.mirror_keep,
        max_blob=options.max_blob,
        delete=options.delete,
        pages=options.pages,
        immutable=_immutable(options, rules),
    )
    if options.metrics is not None:
        from buildtool.registry.server.metrics import Metrics

        settings.metrics = Metrics()
    if options.audit_log is not None:
        from buildtool.registry.server.audit import Audit

        settings.audit = Audit(options.audit_log)
    if options.rate:
        from buildtool.registry.server.limits import RateLimit

        settings.rate = RateLimit(options.rate)
    if options.mirrors:
        _add_mirror(options, settings)
    if options.bucket:
        return _in_bucket(options, store, settings)
    return Server(store, settings, content=_content(options, store))


def _in_bucket(options: Options, store: Store, settings: Settings) -> Server:
    """The root holds only what is on its way in."""
    from buildtool.registry.server.bucket import Bucket
    from buildtool.registry.server.objects import ObjectRepositories
    from buildtool.registry.server.shared_uploads import SharedUploads
    from buildtool.registry.server.uploads import Uploads

    given = dict(options.bucket_options)
    redirect, sessions = given.pop("redirect", "true"), given.pop("sessions", "shared")
    if redirect not in ("true", "false") or sessions not in ("shared", "local"):
        raise InvalidInput("--bucket-option: redirect is true or false, sessions is shared or local")
    bucket = Bucket.open(options.bucket, given)
    bucket.head("names")  # whether it answers at all
    idle = options.upload_idle
    uploads = SharedUploads(store, bucket, idle=idle) if sessions == "shared" else Uploads(store, idle=idle)
    writable = ObjectRepositories(bucket, settings.immutable, redirect=redirect == "true" and bucket.signs)
    return Server(store, settings, writable=writable, uploads=uploads)


def _content(options: Options, store: Store) -> Content | None:
    if not options.share_store:
        return None
    from buildtool.registry.server.shared import SharedImages

    return SharedImages(store)


def _rules(options: Options) -> Callable[[], RuleSet]:
    if options.rules is not None:
        return RulesFile(options.rules).current
    fixed = everybody_signed_in(anonymous_pull=options.anonymous_pull)
    return lambda: fixed


def _access(options: Options, rules: Callable[[], RuleSet]) -> Access:
    if not options.is_guarded:
        return Open()
    users = Htpasswd(options.htpasswd) if options.htpasswd is not None else None
    signer = Signer(Keys(options.root / KEYS), options.service)
    exchange = options.auth == "token" or (not options.auth and rules().anyone_may_something)
    return Guarded(users, rules, signer, exchange=exchange, external_url=options.external_url)


def _immutable(options: Options, rules: Callable[[], RuleSet]) -> Callable[[], RuleSet]:
    if not options.immutable_tags:
        return rules
    always = ImmutableTags(("**",), options.immutable_tags)

    def current() -> RuleSet:
        found = rules()
        return replace(found, immutable=(*found.immutable, always))

    return current


def _add_mirror(options: Options, settings: Settings) -> None:
    from buildtool.registry.server.mirror import Mirror, Upstream
    from buildtool.registry.transport import Transport

    logins: object = {}
    if options.mirror_login is not None:
        try:
            document = msgspec.json.decode(options.mirror_login.read_bytes())
            logins = document.get("auths", {})
        except (msgspec.DecodeError, AttributeError) as error:
            raise InvalidInput(f"{options.mirror_login}: not a config.json: {error}") from None
    upstreams = [Upstream(prefix, host, find_credentials(logins, host)) for prefix, host in options.mirrors]
    transport = Transport(RegistryConfig.load(), RetryPolicy(attempts=3))
    settings.mirror = Mirror(upstreams, transport, ttl=options.mirror_ttl, metrics=settings.metrics)
