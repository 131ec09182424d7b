"""`--use-api-socket`: a container that may use the daemon that runs it, with the user's logins.

Source: docker CLI 28.2, `docker run --use-api-socket`.
"""

from __future__ import annotations

from buildtool.cli.credentials import find, read_config
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_SOCKET = "/var/run/docker.sock"
_FOLDER = "run/secrets/docker"


def lend(call: Call, body: dict[str, Any]) -> bytes:
    """Add the socket to the request; the tar of files that it gets before it starts. Raises InvalidInput."""
    path = call.client.address.path
    if not path:
        raise InvalidInput(f"--use-api-socket needs a daemon on a unix socket, not {call.client.address}")
    mount = {"Type": "bind", "Source": path, "Target": _SOCKET}
    body["HostConfig"].setdefault("Mounts", []).append(mount)
    body["Env"] = [*(body.get("Env") or ()), f"DOCKER_CONFIG=/{_FOLDER}"]
    return _files()


def _files() -> bytes:
    import base64
    import io
    import json
    import tarfile

    config = read_config()
    logins = {}
    for server in {*config.get("auths", {}), *config.get("credHelpers", {})}:
        known = find(server)
        if known.get("username"):
            pair = f"{known['username']}:{known.get('password', '')}"
            logins[server] = {"auth": base64.b64encode(pair.encode()).decode()}
        if known.get("identitytoken"):
            logins.setdefault(server, {})["identitytoken"] = known["identitytoken"]
    data = json.dumps({"auths": logins}).encode()
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name in ("run", "run/secrets", _FOLDER):
            folder = tarfile.TarInfo(name)
            folder.type, folder.mode = tarfile.DIRTYPE, 0o755 if name != _FOLDER else 0o700
            archive.addfile(folder)
        member = tarfile.TarInfo(f"{_FOLDER}/config.json")
        member.size, member.mode = len(data), 0o600
        archive.addfile(member, io.BytesIO(data))
    return out.getvalue()
