"""`WWW-Authenticate`: what a registry asks for. Pure.

Source: RFC 9110, section 11; the token authentication specification of the distribution project.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

_TOKEN = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_TOKEN})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"\s*,?\s*({_TOKEN})(?:\s+|$)")


@dataclass(frozen=True)
class Challenge:
    """One challenge: scheme in lower case, parameters by lower-case name."""

    scheme: str
    parameters: dict[str, str] = field(default_factory=dict)


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """All challenges of the headers, in order; what is malformed is passed over."""
    return [challenge for header in headers for challenge in _parse(header)]


def _parse(header: str) -> Iterator[Challenge]:
    position = 0
    while position < len(header):
        scheme = _SCHEME.match(header, position)
        if scheme is None:
            return
        position = scheme.end()
        parameters: dict[str, str] = {}
        while (found := _PARAMETER.match(header, position)) is not None:
            name, quoted, plain = found.groups()
            value = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else plain
            parameters[name.lower()] = value
            position = found.end()
        yield Challenge(scheme[1].lower(), parameters)


def scope(repository: str, *actions: str) -> str:
    """The scope of a token for a repository: `repository:library/busybox:pull,push`."""
    return f"repository:{repository}:{','.join(actions)}"


def merge_scopes(scopes: Sequence[str], asked: str) -> tuple[str, ...]:
    """Our scopes and those the challenge names, one a resource with all actions, sorted."""
    actions: dict[str, set[str]] = {}
    for text in (*scopes, *asked.split()):
        resource, _, names = text.rpartition(":")
        actions.setdefault(resource or text, set()).update(names.split(",") if resource else ())
    return tuple(
        sorted(f"{resource}:{','.join(sorted(names))}" if names else resource for resource, names in actions.items())
    )
