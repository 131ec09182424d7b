"""Digests: `algorithm:hex`, here always sha256.

Source: OCI image-spec v1.1, descriptor.md, "Digests".
"""

from __future__ import annotations

import hashlib
import re
from typing import Annotated, NewType, TypeAlias

import msgspec

from buildtool.errors import InvalidInput

Digest = NewType("Digest", str)

_PATTERN = r"sha256:[a-f0-9]{64}"
_DIGEST = re.compile(_PATTERN)

CheckedDigest: TypeAlias = Annotated[Digest, msgspec.Meta(pattern=rf"\A{_PATTERN}\Z")]
"""A Digest as a field of a document: decoding refuses anything malformed, so a digest is always safe in a path."""


def sha256(data: bytes) -> Digest:
    """The digest of these bytes."""
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def parse_digest(text: str) -> Digest:
    """Validate a digest string. Raises InvalidInput when it is not `sha256:` and 64 lower-case hex digits."""
    if not _DIGEST.fullmatch(text):
        raise InvalidInput(f"invalid digest {text!r}", hint="a digest is sha256: followed by 64 hex digits")
    return Digest(text)


def is_digest(text: str) -> bool:
    """Whether the text is a well-formed sha256 digest."""
    return _DIGEST.fullmatch(text) is not None


def hex_of(digest: Digest) -> str:
    """The hex part of a digest."""
    return digest.partition(":")[2]
