"""`cache_from` and `cache_to` of a build request: which caches that travel it takes from and gives to."""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from buildtool.aio import offload
from buildtool.daemon.bases import lines
from buildtool.daemon.build_contexts import ContextPlace, visible
from buildtool.errors import InvalidInput
from buildtool.oci import Reference, parse_platforms, parse_reference

if TYPE_CHECKING:
    from buildtool.images import LayerSource
    from buildtool.registry import Credentials, Registries
    from buildtool.registry.cache_bucket import CacheBucket
    from buildtool.registry.cache_repository import CacheRepository
    from buildtool.solve.caches.layout import CacheLayout
    from buildtool.solve.caches.options import Caches, CacheTarget
    from buildtool.solve.events import Tell

_FORM = ("compression", "compression-level", "force-compression", "ignore-error", "image-manifest", "mode", "mounts",
         "oci-mediatypes", "timeout")  # fmt: skip
_S3 = ("access_key_id", "blobs_prefix", "bucket", "endpoint_url", "manifests_prefix", "name", "prefix", "region",
       "secret_access_key", "session_token", "use_path_style")  # fmt: skip
_NOT_HERE = {
    "gha": "GitHub's cache service is for one repository and throttled; take a registry: type=registry,ref=ghcr.io/…",
    "azblob": "there is no client for it here; take type=registry, or type=s3 in front of it",
}
_OBSTORE = {
    "access_key_id": "access_key_id",
    "endpoint_url": "endpoint",
    "region": "region",
    "secret_access_key": "secret_access_key",
    "session_token": "session_token",
}
_FROM = {
    "registry": ("ref", "timeout"),
    "local": ("digest", "src", "tag", "timeout"),
    "s3": ("timeout", *_S3),
}
_TO = {
    "registry": ("ref", *_FORM),
    "local": ("dest", "reset", "tag", *_FORM),
    "s3": (*_S3, *_FORM),
    "inline": (),
}
_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class CacheSpec(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """One cache: `attributes` as the flag has them, without `type`; `place` is the directory of a `local` one."""

    type: str
    attributes: dict[str, str] = {}
    place: ContextPlace | None = None


class _Maker:
    def __init__(self, registries: Callable[[], Registries], auth: Any, platform: str) -> None:
        self._registries = registries
        self._auth = auth
        self._platforms = parse_platforms(platform or "local")

    def credentials(self, domain: str) -> Credentials | None:
        from buildtool.registry import find_credentials

        return find_credentials(self._auth, domain) or None

    async def fetch(self, layer: LayerSource, tell: Tell) -> None:
        await self._registries().remote_layers.fetch(layer, lines(tell), self.credentials)

    async def registry(self, reference: Reference, *, write: bool, as_index: bool = False) -> CacheRepository:
        return await self._registries().cache(
            reference,
            credentials=self.credentials(reference.domain),
            write=write,
            as_index=as_index,
            platforms=self._platforms,
        )

    async def layout(self, spec: CacheSpec) -> CacheLayout:
        from buildtool.solve.caches.layout import CacheLayout

        assert spec.place is not None
        directory = await offload(visible, spec.place)
        given = spec.attributes
        reset = _truth(given, "reset", default=False)
        return CacheLayout(
            directory, given.get("tag", ""), given.get("digest", ""), reset=reset, platforms=self._platforms
        )

    async def bucket(self, spec: CacheSpec) -> CacheBucket:
        from buildtool.registry.cache_bucket import CacheBucket

        given = spec.attributes
        options = {_OBSTORE[name]: value for name, value in given.items() if name in _OBSTORE}
        if _truth(given, "use_path_style", default=True):
            options["virtual_hosted_style_request"] = "false"
        place = _place(given)
        opened = await offload(self._registries().remote_layers.buckets.open, place, options)
        names = [name for name in given.get("name", "").split(";") if name] or ["buildtool"]
        blobs, manifests = given.get("blobs_prefix", "blobs/"), given.get("manifests_prefix", "manifests/")
        return CacheBucket(opened, place, names, blobs, manifests)


def caches(
    registries: Callable[[], Registries],
    origins: Sequence[CacheSpec],
    targets: Sequence[CacheSpec],
    *,
    auth: Any,
    platform: str,
    inline: bool = False,
) -> Caches:
    """Nothing is reached yet. Raises InvalidInput for what cannot be meant."""
    from buildtool.solve.caches.options import CacheOrigin, Caches

    maker = _Maker(registries, auth, platform)
    found = []
    for spec in origins:
        _check(spec, "cache-from", _FROM)
        seconds = _seconds(spec, 20.0)
        if spec.type == "registry":
            reference = _reference(spec, "cache-from")
            opener = partial(maker.registry, reference, write=False)
            found.append(CacheOrigin(_name(reference), opener, seconds))
        elif spec.type == "s3":
            found.append(CacheOrigin(_bucket(spec, "cache-from"), partial(maker.bucket, spec), seconds))
        else:
            found.append(CacheOrigin(_directory(spec, "cache-from", "src"), partial(maker.layout, spec), seconds))
    made = [_target(maker, spec) for spec in targets]
    inline = inline or any(spec.type == "inline" for spec in targets)
    return Caches(tuple(found), tuple(each for each in made if each is not None), inline, maker.fetch)


def _target(maker: _Maker, spec: CacheSpec) -> CacheTarget | None:
    from buildtool.images.forms import Compression
    from buildtool.solve.caches.options import CacheTarget

    _check(spec, "cache-to", _TO)
    if spec.type == "inline":
        return None
    given = spec.attributes
    mode: Literal["min", "max"] = "max" if given.get("mode", "min") == "max" else "min"
    if given.get("mode", "min") not in ("min", "max"):
        raise InvalidInput(f"--cache-to: unknown mode {given['mode']!r}", hint="There are min and max.")
    form = Compression.read(
        *(given.get(name, "") for name in ("compression", "compression-level", "force-compression"))
    )
    mounts = tuple(id for id in given.get("mounts", "").split(";") if id)
    ignore, seconds = _truth(given, "ignore-error", default=True), _seconds(spec, 600.0)
    if spec.type == "s3":
        name = _bucket(spec, "cache-to")
        return CacheTarget(name, partial(maker.bucket, spec), mode, form, ignore, seconds, mounts)
    if spec.type == "local":
        name = _directory(spec, "cache-to", "dest")
        return CacheTarget(name, partial(maker.layout, spec), mode, form, ignore, seconds, mounts)
    reference = _reference(spec, "cache-to")
    if reference.digest:
        raise InvalidInput(f"--cache-to: {reference.familiar} is a digest; a cache is written under a tag")
    as_index = not _truth(given, "image-manifest", default=True)
    opener = partial(maker.registry, reference, write=True, as_index=as_index)
    return CacheTarget(_name(reference), opener, mode, form, ignore, seconds, mounts)


def _check(spec: CacheSpec, flag: str, known: Mapping[str, Collection[str]]) -> None:
    names = known.get(spec.type)
    if names is None:
        if spec.type in _NOT_HERE:
            raise InvalidInput(f"--{flag}: type={spec.type} is not possible here", hint=_NOT_HERE[spec.type])
        raise InvalidInput(f"--{flag}: unknown type {spec.type!r}", hint=f"There are {', '.join(sorted(known))}.")
    for name in spec.attributes:
        if name not in names:
            hint = f"It takes {', '.join(sorted(names))}." if names else "It takes nothing else."
            close = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {close[0]!r}? {hint}" if close else hint
            raise InvalidInput(f"--{flag} type={spec.type}: unknown attribute {name!r}", hint=hint)
    for name in ("ignore-error", "image-manifest", "oci-mediatypes", "reset", "use_path_style"):
        _truth(spec.attributes, name, default=False)
    if not _truth(spec.attributes, "oci-mediatypes", default=True):
        raise InvalidInput(
            f"--{flag}: oci-mediatypes=false is not possible",
            hint="What is in a cache has no media type of Docker's.",
        )


def _reference(spec: CacheSpec, flag: str) -> Reference:
    text = spec.attributes.get("ref", "")
    if not text:
        raise InvalidInput(f"--{flag} type=registry: ref is missing", hint="write ref=REGISTRY/REPOSITORY:TAG")
    return parse_reference(text).with_default_tag()


def _name(reference: Reference) -> str:
    return f"registry {reference.familiar}"


def _bucket(spec: CacheSpec, flag: str) -> str:
    if not spec.attributes.get("bucket"):
        raise InvalidInput(f"--{flag} type=s3: bucket is missing", hint="write bucket=NAME,region=REGION")
    return f"s3 {_place(spec.attributes)}"


def _place(given: Mapping[str, str]) -> str:
    return f"{given['bucket']}/{given.get('prefix', '')}".rstrip("/")


def _directory(spec: CacheSpec, flag: str, name: str) -> str:
    if not spec.attributes.get(name) or spec.place is None:
        raise InvalidInput(f"--{flag} type=local: {name} is missing", hint=f"write {name}=DIRECTORY")
    return f"directory {spec.attributes[name]}"


def _truth(given: Mapping[str, str], name: str, *, default: bool) -> bool:
    text = given.get(name, "").lower()
    if text and text not in _TRUTH:
        raise InvalidInput(f"{name} is true or false, not {text!r}")
    return _TRUTH.get(text, default)


def _seconds(spec: CacheSpec, default: float) -> float:
    text = spec.attributes.get("timeout", "")
    if not text:
        return default
    from buildtool.buildfile.durations import parse_duration

    try:
        return parse_duration(text) / 1e9
    except ValueError as error:
        raise InvalidInput(f"timeout: {error}", hint="write a duration: 30s, 5m") from None
