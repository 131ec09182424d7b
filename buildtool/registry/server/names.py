"""Paths of the API, taken apart and checked: nothing else of them is used anywhere.

Source: OCI distribution-spec v1.1, "Pulling manifests" (grammar of names and references), "Endpoints",
"Listing Tags" (order).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from buildtool.registry.server.errors import ApiError

_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_NAME = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha512:[a-f0-9]{128}")
_MAX_NAME = 255
_PATH = re.compile(
    r"/v2/(?P<name>.+)/(?:"
    r"(?P<uploads>blobs/uploads)/(?P<upload>[^/]*)"
    r"|(?P<blobs>blobs)/(?P<blob>[^/]+)"
    r"|(?P<manifests>manifests)/(?P<manifest>[^/]+)"
    r"|(?P<tags>tags/list)"
    r"|(?P<referrers>referrers)/(?P<subject>[^/]+))",
    re.DOTALL,
)
_KINDS = {"uploads": "upload", "blobs": "blob", "manifests": "manifest", "tags": "", "referrers": "subject"}


@dataclass(frozen=True)
class Target:
    """What a request is about. `kind`: base, catalog, uploads, blobs, manifests, tags, referrers.

    `name` is a valid repository name (empty for base and catalog). `reference` is what stands last in the path; only
    `check_*` say that it is well-formed.
    """

    kind: str
    name: str = ""
    reference: str = ""


def parse_path(path: str) -> Target | None:
    """The target of a decoded path, None for a path that is not of this API. Raises ApiError NAME_INVALID."""
    if path in ("/v2", "/v2/"):
        return Target("base")
    if path == "/v2/_catalog":
        return Target("catalog")
    if path.endswith("/blobs/uploads"):
        path += "/"
    match = _PATH.fullmatch(path)
    if match is None:
        return None
    for kind, group in _KINDS.items():
        if match[kind] is not None:
            return Target(kind, check_name(match["name"]), match[group] if group else "")
    return None


def check_name(name: str) -> str:
    """A repository's name. Raises ApiError."""
    if not is_name(name):
        raise ApiError("NAME_INVALID", "invalid repository name", {"name": name[:300]})
    return name


def is_name(text: str) -> bool:
    """Whether this may be a repository's name."""
    return len(text) <= _MAX_NAME and _NAME.fullmatch(text) is not None


def check_digest(text: str) -> str:
    """A sha256 or sha512 digest. Raises ApiError."""
    if not _DIGEST.fullmatch(text):
        raise ApiError("DIGEST_INVALID", "provided digest is malformed", {"digest": text[:200]})
    return text


def is_digest(text: str) -> bool:
    """Whether this is a sha256 or sha512 digest."""
    return _DIGEST.fullmatch(text) is not None


def is_tag(text: str) -> bool:
    """Whether this may be a tag."""
    return _TAG.fullmatch(text) is not None


def tag_order(tag: str) -> tuple[str, str]:
    """What tags are sorted by: "lexical order (i.e. case-insensitive alphanumeric order)", and then by case."""
    return tag.lower(), tag
