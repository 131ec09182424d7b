"""Files that commands about stacks leave for the next one. Nothing goes wrong without them."""

from __future__ import annotations

import os

from buildtool.client.quickjson import dumps, loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def cache_folder(name: str) -> str:
    """The user's folder of that name, "" when there is nowhere to have one."""
    home = os.environ.get("HOME", "")
    base = os.environ.get("XDG_CACHE_HOME") or (f"{home}/.cache" if home else "")
    return f"{base}/buildtool/{name}" if base.startswith("/") else ""


def digest(data: bytes) -> str:
    """SHA-256 in hexadecimal digits."""
    for name in ("_sha256", "_sha2"):  # `hashlib` and OpenSSL behind it cost more than all else here
        try:
            found: str = __import__(name).sha256(data).hexdigest()
            return found
        except ImportError:
            continue
    import hashlib

    return hashlib.sha256(data).hexdigest()


def read_own(path: str) -> Any:
    """The value in a file that this user has written. Raises OSError, ValueError, and PermissionError for others'."""
    with open(path, "rb") as file:
        if os.fstat(file.fileno()).st_uid != os.geteuid():
            raise PermissionError(f"{path} is somebody else's")
        return loads(file.read())


def write_own(path: str, value: object, most: int) -> None:
    """Keep a value for this user alone, and only the `most` latest files of the folder. No error if it cannot be."""
    folder = os.path.dirname(path)
    temporary = f"{path}.{os.getpid()}"
    try:
        os.makedirs(folder, mode=0o700, exist_ok=True)
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with open(descriptor, "wb") as file:
            file.write(dumps(value).encode())
        os.replace(temporary, path)
        names = os.listdir(folder)
        if len(names) > most:
            paths = sorted((f"{folder}/{name}" for name in names), key=lambda item: os.stat(item).st_mtime_ns)
            for old in paths[: len(names) - most]:
                os.unlink(old)
    except OSError:
        return
