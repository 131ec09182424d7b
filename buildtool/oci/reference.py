"""Image references, with Docker's short names.

`busybox` means `docker.io/library/busybox:latest`; `host:5000/a/b@sha256:…` stays what it is.
Source: OCI distribution-spec v1.1 (name, tag, digest grammar); Docker's familiar-name rules.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from buildtool.errors import InvalidInput
from buildtool.oci.digest import Digest, is_digest

DEFAULT_DOMAIN = "docker.io"
_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_PATH = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*")
_DOMAIN = re.compile(r"(?:\[[0-9a-fA-F:]+\]|[a-zA-Z0-9](?:[a-zA-Z0-9.-]*[a-zA-Z0-9])?)(?::[0-9]+)?")
_IDENTIFIER = re.compile(r"[a-f0-9]{64}")
_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")


@dataclass(frozen=True, slots=True)
class Reference:
    """A repository, and a tag or a digest or both or neither."""

    domain: str
    path: str
    tag: str = ""
    digest: Digest | None = None

    @property
    def repository(self) -> str:
        """`domain/path`, fully qualified."""
        return f"{self.domain}/{self.path}"

    @property
    def familiar_repository(self) -> str:
        """The repository as Docker prints it: without `docker.io/` and `library/`.

        The short form is used only where it means the same: `docker.io/localhost/a` stays as it is.
        """
        if self.domain != DEFAULT_DOMAIN:
            return self.repository
        first, slash, rest = self.path.partition("/")
        if first == "library" and "/" not in rest and not _IDENTIFIER.fullmatch(rest):
            return rest
        return self.repository if slash and _is_domain(first) else self.path

    @property
    def familiar(self) -> str:
        """The reference as Docker prints it, `busybox:1.37`."""
        return self.familiar_repository + self._suffix()

    def __str__(self) -> str:
        return self.repository + self._suffix()

    def _suffix(self) -> str:
        return (f":{self.tag}" if self.tag else "") + (f"@{self.digest}" if self.digest else "")

    def with_default_tag(self) -> Reference:
        """This reference, with `:latest` where it has neither tag nor digest."""
        return self if self.tag or self.digest else replace(self, tag="latest")


def parse_reference(text: str) -> Reference:
    """Parse and normalise a reference; no default tag is added.

    Raises InvalidInput with Docker's wording ("invalid reference format") when the grammar is violated.
    """
    if _IDENTIFIER.fullmatch(text):
        raise InvalidInput(f"invalid repository name ({text}), cannot specify 64-byte hexadecimal strings")
    rest, at, digest = text.partition("@")
    if at and not is_digest(digest):
        raise InvalidInput(f"invalid reference format: {text!r}: the digest is malformed")
    first, slash, remainder = rest.partition("/")
    if slash and _is_domain(first):
        domain, path = first, remainder
    else:
        domain, path = DEFAULT_DOMAIN, rest
    if domain == "index.docker.io":
        domain = DEFAULT_DOMAIN
    path, colon, tag = path.partition(":")
    if colon and not _TAG.fullmatch(tag):
        raise InvalidInput(f"invalid reference format: {text!r}: the tag is malformed")
    if path.lower() != path:
        raise InvalidInput(f"invalid reference format: repository name ({path}) must be lowercase")
    if not _PATH.fullmatch(path) or not _DOMAIN.fullmatch(domain):
        raise InvalidInput(f"invalid reference format: {text!r}")
    if domain == DEFAULT_DOMAIN and "/" not in path:
        path = f"library/{path}"
    if len(domain) + 1 + len(path) > 255:
        raise InvalidInput(f"invalid reference format: {text!r}: repository name must not be longer than 255")
    return Reference(domain, path, tag, Digest(digest) if digest else None)


def is_host(text: str) -> bool:
    """Whether a text can be the address of a registry: `host`, `host:port`, `[::1]:5000`."""
    return _DOMAIN.fullmatch(text) is not None


def _is_domain(component: str) -> bool:
    """Whether a reference's first component names a registry and not a namespace of the default one."""
    return "." in component or ":" in component or component == "localhost" or component.lower() != component
