"""`pull`, `push`, `login`, `logout`, `search`: the daemon talks to registries, the client shows how it goes."""

from __future__ import annotations

import os
import sys

from buildtool.cli import credentials
from buildtool.cli.progress import show_json_stream
from buildtool.client import EngineError, quote_path
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TextIO

    from buildtool.cli.call import Call
    from buildtool.client import Client


def pull(call: Call) -> int:
    """Download an image, or all tags of a repository."""
    name, quiet = call.arguments[0], call.switch("quiet")
    repository, tag = split_name(name)
    if call.switch("all-tags"):
        if tag:
            raise InvalidInput("tag can't be used with --all-tags/-a")
        pull_image(call.client, name, call.text("platform"), quiet=quiet, out=sys.stdout, all_tags=True)
        print(full_name(name))
        return 0
    if not tag:
        name = f"{repository}:latest"
        if not quiet:
            print("Using default tag: latest")
    pull_image(call.client, name, call.text("platform"), quiet=quiet, out=sys.stdout)
    print(full_name(name))
    return 0


def pull_image(client: Client, name: str, platform: str, *, quiet: bool, out: TextIO, all_tags: bool = False) -> None:
    """POST /images/create with the login of the image's registry, progress on `out`. Raises EngineError."""
    repository, tag = split_name(name)
    query = {
        "fromImage": repository,
        "tag": None if all_tags else tag or "latest",
        "platform": platform or None,
    }
    headers = credentials.auth_headers(name)
    show_json_stream(client.call("POST", "/images/create", query, body=b"", headers=headers), out, quiet=quiet)


def push(call: Call) -> int:
    """Upload an image, or all tags of a repository."""
    name, quiet = call.arguments[0], call.switch("quiet")
    repository, tag = split_name(name)
    query: dict[str, object] = {}
    if call.switch("all-tags"):
        if tag:
            raise InvalidInput("tag can't be used with --all-tags/-a")
    else:
        if tag.startswith("sha256:"):
            raise InvalidInput("cannot push a digest reference")
        if not tag:
            tag, name = "latest", f"{name}:latest"
            if not quiet:
                print("Using default tag: latest")
        query["tag"] = tag
    if call.text("platform"):
        query["platform"] = call.text("platform")
    if call.text("compression"):
        query["compression"] = call.text("compression")
    sys.stdout.flush()
    path = f"/images/{quote_path(repository)}/push"
    response = call.client.call("POST", path, query, body=b"", headers=credentials.auth_headers(name))
    show_json_stream(response, sys.stdout, quiet=quiet)
    if quiet:
        print(full_name(name))
    return 0


def login(call: Call) -> int:
    """Check credentials with the registry, by the daemon, and keep them in config.json or a helper."""
    server = call.arguments[0] if call.arguments else credentials.HUB
    username, password = call.text("username"), call.text("password")
    if call.given("password"):
        print("WARNING! Using --password via the CLI is insecure. Use --password-stdin.", file=sys.stderr)
        if call.switch("password-stdin"):
            raise InvalidInput("--password and --password-stdin are mutually exclusive")
    if call.switch("password-stdin"):
        if not username:
            raise InvalidInput("Must provide --username with --password-stdin")
        password = sys.stdin.read().rstrip("\r\n")
    key = credentials.server_key(server)
    if not username and not password:
        known = credentials.find(server)
        if known:
            print("Authenticating with existing credentials...", flush=True)
            try:
                return _check(call, key, known)
            except EngineError as error:
                print(f"Login did not succeed, error: {error}", file=sys.stderr)
                username = known.get("username", "")
    username, password = _ask(username, password)
    return _check(call, key, {"username": username, "password": password, "serveraddress": key})


def _check(call: Call, key: str, auth: dict[str, str]) -> int:
    answer = call.client.post("/auth", document=auth)
    token = answer.get("IdentityToken") or ""
    if token:
        auth = {**auth, "password": "", "identitytoken": token}
    if credentials.store(key, auth):
        print(
            f"\nWARNING! Your credentials are stored unencrypted in '{credentials.config_path()}'.\n"
            "Configure a credential helper to remove this warning. See\n"
            "https://docs.docker.com/go/credential-store/\n",
            file=sys.stderr,
        )
    print(answer.get("Status") or "Login Succeeded")
    return 0


def _ask(username: str, password: str) -> tuple[str, str]:
    """What is missing, from the terminal."""
    if username and password:
        return username, password
    if not os.isatty(0):
        raise InvalidInput("Cannot perform an interactive login from a non TTY device")
    import getpass

    if not username:
        username = input("Username: ").strip()
        if not username:
            raise InvalidInput("username is required")
    if not password:
        password = getpass.getpass("Password: ")
        if not password:
            raise InvalidInput("password is required")
    return username, password


def logout(call: Call) -> int:
    """Forget a login."""
    key = credentials.server_key(call.arguments[0] if call.arguments else "")
    print(f"Removing login credentials for {key}")
    try:
        credentials.erase(key)
    except BuildtoolError as error:
        print(f"WARNING: could not erase credentials: {error}", file=sys.stderr)
    return 0


def search(call: Call) -> int:
    """Search Docker Hub, or a registry's catalog."""
    from buildtool.cli.human import ellipsis
    from buildtool.cli.listing import print_rows
    from buildtool.cli.values import filters_document

    term = call.arguments[0]
    limit = call.number("limit") or 0
    if not 1 <= limit <= 100:
        raise InvalidInput(f"--limit {limit} is outside of the range of [1, 100]")
    first = term.partition("/")[0] if "/" in term else ""
    domain = first if "." in first or ":" in first or first == "localhost" else "docker.io"
    query = {"term": term, "limit": limit, "filters": filters_document(call.texts("filter")) or None}
    found = call.client.call("GET", "/images/search", query, headers=credentials.auth_headers(f"{domain}/x")).json()
    rows = (
        {
            "Name": one["name"],
            "Description": one["description"] if call.switch("no-trunc") else ellipsis(one["description"], 45),
            "StarCount": str(one["star_count"]),
            "IsOfficial": "[OK]" if one["is_official"] else "",
        }
        for one in found
    )
    headers = {"Name": "NAME", "Description": "DESCRIPTION", "StarCount": "STARS", "IsOfficial": "OFFICIAL"}
    print_rows(
        rows,
        call.text("format"),
        ["Name", "Description", "StarCount", "IsOfficial"],
        headers,
        kind="registry.searchContext",
    )
    return 0


def split_name(name: str) -> tuple[str, str]:
    """Repository, and tag or digest ("" when there is none); of `name:tag@digest` the digest counts."""
    repository, at, digest = name.partition("@")
    head, colon, last = repository.rpartition(":")
    if colon and "/" not in last:
        return head, digest if at else last
    return repository, digest


def full_name(name: str) -> str:
    """The name with its registry, as Docker prints it at the end of a pull."""
    if credentials.domain_of(name) != "docker.io" or name.startswith("docker.io/"):
        return name
    return f"docker.io/{name}" if "/" in name else f"docker.io/library/{name}"
