"""Versions of the Engine API: which one a request speaks, and whether this daemon does."""

from __future__ import annotations

import re

import buildtool
from buildtool.errors import InvalidInput

API_VERSION = "1.50"
MIN_API_VERSION = "1.24"
BUILDER_VERSION = "1"
SERVER_VERSION = "28.2.2"

_PREFIX = re.compile(r"/v([0-9.]+)(?=/)")

Version = tuple[int, ...]


def parse_version(text: str) -> Version:
    """`1.43` as (1, 43); parts that are empty count as 0."""
    return tuple(int(part or "0") for part in text.split("."))


MAXIMUM = parse_version(API_VERSION)
MINIMUM = parse_version(MIN_API_VERSION)


def split_version(path: str) -> tuple[str, str]:
    """The version text ("" when there is none) and the path without it."""
    match = _PREFIX.match(path)
    if match is None:
        return "", path
    return match[1], path[match.end() :]


def negotiate(text: str) -> Version:
    """The version to answer in; no version means ours.

    Raises InvalidInput with Docker's words for versions above ours and below the oldest one served.
    """
    if not text:
        return MAXIMUM
    version = parse_version(text)
    if version > MAXIMUM:
        raise InvalidInput(f"client version {text} is too new. Maximum supported API version is {API_VERSION}")
    if version < MINIMUM:
        raise InvalidInput(
            f"client version {text} is too old. Minimum supported API version is {MIN_API_VERSION}, "
            "please upgrade your client to a newer version"
        )
    return version


STANDARD_HEADERS = {
    "Api-Version": API_VERSION,
    "Docker-Experimental": "false",
    "Ostype": "linux",
    "Server": f"buildtool/{buildtool.__version__} (linux)",
}
