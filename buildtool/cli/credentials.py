"""Docker's config.json: who is logged in where, in the file itself or in a credential helper's keeping.

The folder is DOCKER_CONFIG, else ~/.docker: logins made with docker work here and the other way round.
"""

from __future__ import annotations

import os

from buildtool.client.quickjson import dumps, loads
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    Auth = dict[str, str]

HUB = "https://index.docker.io/v1/"
_NOT_FOUND = ("credentials not found in native keychain", "no credentials server url", "no credentials username")


def config_path() -> str:
    """Where config.json is or would be."""
    folder = os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
    return os.path.join(folder, "config.json")


def read_config() -> dict[str, Any]:
    """The whole document, {} when there is none. Raises InvalidInput when it is malformed."""
    path = config_path()
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except (FileNotFoundError, NotADirectoryError):
        return {}
    try:
        document = loads(text) if text.strip() else {}
    except ValueError as error:
        raise InvalidInput(f"{path}: not a JSON document: {error}") from None
    if not isinstance(document, dict):
        raise InvalidInput(f"{path}: not a JSON object")
    return document


def write_config(document: dict[str, Any]) -> None:
    """Replace config.json as a whole, readable by its owner only; a symlink stays one."""
    import json

    path = os.path.realpath(config_path())
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    temporary = f"{path}.{os.getpid()}.tmp"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            json.dump(document, file, indent="\t", ensure_ascii=False)
        os.rename(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise


def server_key(server: str) -> str:
    """How config.json names a registry: Docker Hub by its old address, others by `host[:port]`."""
    domain = server.removeprefix("https://").removeprefix("http://").partition("/")[0]
    return HUB if domain in ("", "docker.io", "index.docker.io", "registry-1.docker.io") else domain


def domain_of(image: str) -> str:
    """The registry of an image's name, by Docker's rule."""
    first, slash, _ = image.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost" or first.lower() != first):
        return first
    return "docker.io"


def find(server: str) -> Auth:
    """What is known of a registry: `username`, `password`, `identitytoken`, `serveraddress`; {} when nothing is."""
    config, key = read_config(), server_key(server)
    helper = _helper(config, key)
    if helper:
        return _get(helper, key)
    auths = config.get("auths") or {}
    for name, entry in auths.items():
        if (name == key or server_key(name) == key) and isinstance(entry, dict):
            return _decode(entry, key)
    return {}


def find_all() -> dict[str, Auth]:
    """All logins, for a build whose base images may come from anywhere."""
    config = read_config()
    found: dict[str, Auth] = {}
    for name, entry in (config.get("auths") or {}).items():
        if isinstance(entry, dict) and (entry.get("auth") or entry.get("identitytoken")):
            found[name] = _decode(entry, server_key(name))
    store = config.get("credsStore")
    if store:
        for name in _run_helper(str(store), "list", "") or {}:
            found[name] = _get(str(store), name)
    for name, helper in (config.get("credHelpers") or {}).items():
        entry = _get(str(helper), name)
        if entry:
            found[name] = entry
    return {name: entry for name, entry in found.items() if entry}


def store(server: str, auth: Auth) -> bool:
    """Keep a login; True when it went into the file, where everybody who reads it can use it."""
    config, key = read_config(), server_key(server)
    helper = _helper(config, key)
    username, token = auth.get("username", ""), auth.get("identitytoken", "")
    auths = config.setdefault("auths", {})
    if helper:
        secret = {"ServerURL": key, "Username": "<token>" if token else username}
        _run_helper(helper, "store", dumps(secret | {"Secret": token or auth.get("password", "")}))
        auths[key] = {}
    else:
        from base64 import b64encode

        password = "" if token else auth.get("password", "")
        auths[key] = {"auth": b64encode(f"{username}:{password}".encode()).decode()}
        if token:
            auths[key]["identitytoken"] = token
    write_config(config)
    return not helper


def erase(server: str) -> None:
    """Forget a login, under whatever name the file has it."""
    config, key = read_config(), server_key(server)
    helper = _helper(config, key)
    if helper:
        _run_helper(helper, "erase", key)
    auths = config.get("auths") or {}
    names = [name for name in auths if name == key or server_key(name) == key]
    for name in names:
        del auths[name]
    if names:
        write_config(config)


def auth_headers(image: str) -> dict[str, str]:
    """The X-Registry-Auth header for calls about this image."""
    return {"X-Registry-Auth": encode_header(find(domain_of(image)))}


def config_headers() -> dict[str, str]:
    """The X-Registry-Config header with all logins; {} when there is none."""
    if not os.path.exists(config_path()):
        return {}
    found = find_all()
    return {"X-Registry-Config": encode_header(found)} if found else {}


def encode_header(document: object) -> str:
    """JSON in base64 with the URL alphabet."""
    from base64 import urlsafe_b64encode

    return urlsafe_b64encode(dumps(document).encode()).decode()


def _helper(config: dict[str, Any], key: str) -> str:
    helpers = config.get("credHelpers") or {}
    return str(helpers.get(key) or (helpers.get("docker.io") if key == HUB else "") or config.get("credsStore") or "")


def _get(helper: str, key: str) -> Auth:
    found = _run_helper(helper, "get", key)
    if not found:
        return {}
    if found.get("Username") == "<token>":
        return {"identitytoken": str(found.get("Secret", "")), "serveraddress": key}
    return {
        "username": str(found.get("Username", "")),
        "password": str(found.get("Secret", "")),
        "serveraddress": key,
    }


def _run_helper(helper: str, verb: str, text: str) -> dict[str, Any]:
    """One call of a credential helper. Raises BuildtoolError with its words; {} when it does not know the server."""
    import subprocess

    program = f"docker-credential-{helper}"
    if "/" in helper:
        raise InvalidInput(f"{config_path()}: {helper!r} is no name of a credential helper")
    try:
        done = subprocess.run([program, verb], input=text, capture_output=True, text=True, timeout=60, check=False)
    except FileNotFoundError:
        raise BuildtoolError(
            f"error getting credentials - err: exec: {program!r}: executable file not found in $PATH",
            hint=f"{config_path()} names this helper: install it, or take it out of there",
        ) from None
    except subprocess.TimeoutExpired:
        raise BuildtoolError(f"{program} {verb} does not answer") from None
    output = done.stdout.strip()
    if done.returncode != 0:
        if any(words in output.lower() for words in _NOT_FOUND):
            return {}
        raise BuildtoolError(f"error of {program} {verb}: {output or done.stderr.strip()}")
    try:
        document = loads(output) if output else {}
    except ValueError:
        document = {}
    return document if isinstance(document, dict) else {}


def _decode(entry: dict[str, Any], key: str) -> Auth:
    auth: Auth = {"serveraddress": key}
    if isinstance(entry.get("auth"), str) and entry["auth"]:
        from base64 import b64decode

        try:
            username, _, password = b64decode(entry["auth"]).decode().partition(":")
        except ValueError:  # binascii.Error and UnicodeDecodeError are both
            raise InvalidInput(f"{config_path()}: the auth of {key} is malformed") from None
        auth |= {"username": username, "password": password.rstrip("\0")}
    for name in ("username", "password", "identitytoken", "registrytoken"):
        if isinstance(entry.get(name), str) and entry[name]:
            auth[name] = entry[name]
    return auth if len(auth) > 1 else {}
