"""The CI's own logins, for as long as a build runs."""

from __future__ import annotations

import json
import os
import tempfile
from base64 import b64encode
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from buildtool.cli import credentials


@contextmanager
def logged_in(logins: Mapping[str, tuple[str, str]]) -> Iterator[None]:
    """Have these logins (user and password by registry), but for registries that one is logged in to already.

    They are in a folder of their own, which is gone afterwards; the user's config.json is not touched.
    """
    missing = {server: login for server, login in logins.items() if not credentials.find(server)}
    if not missing:
        yield
        return
    document = {key: value for key, value in credentials.read_config().items() if key not in ("credsStore", "auths")}
    auths = {**credentials.find_all()}
    entries = {name: _entry(auth.get("username", ""), auth.get("password", "")) for name, auth in auths.items()}
    entries |= {credentials.server_key(server): _entry(*login) for server, login in missing.items()}
    before = os.environ.get("DOCKER_CONFIG")
    with tempfile.TemporaryDirectory(prefix="buildtool-ci-") as folder:
        descriptor = os.open(f"{folder}/config.json", os.O_WRONLY | os.O_CREAT, 0o600)
        with open(descriptor, "w", encoding="utf-8") as file:
            json.dump({**document, "auths": entries}, file)
        os.environ["DOCKER_CONFIG"] = folder
        try:
            yield
        finally:
            if before is None:
                del os.environ["DOCKER_CONFIG"]
            else:
                os.environ["DOCKER_CONFIG"] = before


def _entry(user: str, password: str) -> dict[str, str]:
    return {"auth": b64encode(f"{user}:{password}".encode()).decode()}
