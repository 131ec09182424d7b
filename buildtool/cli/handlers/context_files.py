"""`context export`, `context import`: contexts as files that docker's own CLI reads and writes.

A tar of `meta.json` and `tls/docker/{ca,cert,key}.pem`; import takes a zip of these as well. Source: docker CLI,
"docker context export" and "docker context import".
"""

from __future__ import annotations

import io
import json
import lzma
import os
import sys
import tarfile
import tempfile
import zipfile
import zlib

from buildtool.cli.archives import refuse_terminal
from buildtool.client import contexts
from buildtool.client.address import parse_host
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

_LIMIT = 10 << 20
_KINDS = ("ca", "cert", "key")
# What the libraries raise for archives that are damaged, encrypted, or compressed in a way they do not know.
_DAMAGED = (
    *(tarfile.TarError, zipfile.BadZipFile, zlib.error, lzma.LZMAError),
    *(EOFError, OSError, ValueError, NotImplementedError, RuntimeError),
)


def export(call: Call) -> int:
    """Write a context to NAME.dockercontext, to a file that is not there yet, or to STDOUT."""
    name = call.arguments[0]
    document = contexts.load(name)
    path = call.arguments[1] if len(call.arguments) > 1 else f"{name}.dockercontext"
    data = _pack(document, dict(zip(_KINDS, contexts.tls_files(name), strict=True)))
    if path == "-":
        refuse_terminal("a context")
        sys.stdout.buffer.write(data)
        return 0
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise InvalidInput(f"{path}: the file already exists", hint="Choose another name, or remove it.") from None
    with open(descriptor, "wb") as file:
        file.write(data)
    print(f'Written file "{path}"', file=sys.stderr)
    return 0


def _pack(document: object, certificates: dict[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        _add(archive, "meta.json", json.dumps(document, separators=(",", ":")).encode(), 0o644)
        folders = ["tls", "tls/docker"] if any(certificates.values()) else ["tls"]
        for folder in folders:
            entry = tarfile.TarInfo(folder)
            entry.type, entry.mode = tarfile.DIRTYPE, 0o700
            archive.addfile(entry)
        for kind, path in certificates.items():
            if path:
                with open(path, "rb") as file:
                    _add(archive, f"tls/docker/{kind}.pem", file.read(), 0o600)
    return out.getvalue()


def _add(archive: tarfile.TarFile, name: str, data: bytes, mode: int) -> None:
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    archive.addfile(entry, io.BytesIO(data))


def import_(call: Call) -> int:
    """Store a context from a file, or STDIN, under a name that is free."""
    name, path = call.arguments
    contexts.check_name(name)
    if path == "-":
        data = sys.stdin.buffer.read(_LIMIT + 1)
    else:
        with open(path, "rb") as file:
            data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise InvalidInput(f"{path}: it is longer than the {_LIMIT >> 20} MiB that a context may have")
    files = _unpack(data, path)
    endpoint, description = _document(files.pop("meta.json", b""), path)
    with tempfile.TemporaryDirectory() as folder:
        certificates = {}
        for kind in _KINDS:
            found = files.pop(f"tls/docker/{kind}.pem", None)
            if found is not None:
                certificates[kind] = os.path.join(folder, kind)
                with open(certificates[kind], "wb") as file:
                    file.write(found)
        if files:
            raise InvalidInput(f"{path}: unexpected file {min(files)!r} in a context")
        contexts.create(name, description, endpoint, certificates)
    print(name)
    print(f'Successfully imported context "{name}"', file=sys.stderr)
    return 0


def _document(data: bytes, path: str) -> tuple[dict[str, object], str]:
    try:
        document = json.loads(data)
        endpoint = document["Endpoints"]["docker"]
        host, skip = endpoint["Host"], endpoint.get("SkipTLSVerify", False)
        description = (document.get("Metadata") or {}).get("Description", "")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise InvalidInput(f"{path}: its meta.json has no docker endpoint") from None
    if not isinstance(host, str) or not isinstance(description, str):
        raise InvalidInput(f"{path}: its meta.json has no docker endpoint")
    parse_host(host, foreign=True, source=path)
    return {"Host": host, "SkipTLSVerify": bool(skip)}, description


def _unpack(data: bytes, path: str) -> dict[str, bytes]:
    """The files by name. Nothing is written anywhere."""
    found: dict[str, bytes] = {}
    try:
        if data[:4] == b"PK\x03\x04":
            with zipfile.ZipFile(io.BytesIO(data)) as archive:
                for entry in archive.infolist():
                    if not entry.is_dir():
                        _check_size(sum(map(len, found.values())) + entry.file_size, path)
                        found[entry.filename] = archive.read(entry)
            return found
        # docker's own files end without the blocks of zeros that a tar has at its end
        with tarfile.open(fileobj=io.BytesIO(data and data + bytes(10240))) as packed:
            for member in packed:
                if member.isdir():
                    continue
                content = packed.extractfile(member) if member.isreg() else None
                if content is None:
                    raise InvalidInput(f"{path}: {member.name!r} is no plain file")
                _check_size(sum(map(len, found.values())) + member.size, path)
                found[member.name.removeprefix("./")] = content.read()
    except _DAMAGED as error:
        raise InvalidInput(f"{path}: neither a tar nor a zip of a context: {error}") from None
    return found


def _check_size(size: int, path: str) -> None:
    if size > _LIMIT:
        raise InvalidInput(f"{path}: it unpacks to more than the {_LIMIT >> 20} MiB that a context may have")
