"""`registry token`, `verify`, `passwd`: looking after a registry on this machine."""

from __future__ import annotations

import json
import os
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from buildtool.cache import Store
from buildtool.cli.human import decimal_size
from buildtool.errors import InvalidInput, NotFound
from buildtool.registry.server.options import parse_pair, root_of
from buildtool.registry.server.signing import Grant, Keys, Signer, parse_scope
from buildtool.registry.server.verify import Report
from buildtool.registry.server.verify import verify as verify_store

if TYPE_CHECKING:
    from buildtool.cli.call import Call

_UNITS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}


def token(call: Call) -> int:
    """Sign a token with the key of the registry's root and print it."""
    from buildtool.registry.server.assembly import KEYS

    grants: list[Grant] = []
    for text in call.texts("scope"):
        grant = parse_scope(text)
        if grant is None or not grant.actions:
            raise InvalidInput(
                f"--scope {text!r} allows nothing",
                hint="write repository:NAME:ACTIONS, like repository:team/**:pull,push",
            )
        grants.append(grant)
    if not grants:
        raise InvalidInput(
            "a token that allows nothing is of no use", hint="say what: --scope repository:team/app:pull"
        )
    root = root_of(call.text("root"))
    if not root.is_dir():
        raise NotFound(f"there is no registry at {root}", hint="name its folder: --root DIR")
    signer = Signer(Keys(root / KEYS), call.text("service"))
    print(signer.sign(call.text("user") or "token", grants, _seconds(call.text("expires"))))
    return 0


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)([smhd]?)", text)
    if match is None:
        raise InvalidInput(f"--expires {text!r}: write a number and s, m, h or d")
    return float(int(match[1]) * _UNITS[match[2]])


def verify(call: Call) -> int:
    """Look at everything; exit code 1 when something is wrong."""
    if call.text("bucket"):
        report = _verified_bucket(call)
    else:
        with Store.open(root_of(call.text("root")), readonly=True) as store:
            report = verify_store(store, quarantine=call.switch("quarantine"))
    faults = report.faults or []
    if call.text("format") == "json":
        document = {
            "blobs": report.blobs,
            "bytes": report.bytes,
            "manifests": report.manifests,
            "tags": report.tags,
            "faults": [
                {
                    "kind": one.kind,
                    "repository": one.repository,
                    "subject": one.subject,
                    "message": one.message,
                    "quarantined": one.quarantined,
                }
                for one in faults
            ],
        }
        print(json.dumps(document, indent=2))
        return 1 if faults else 0
    for one in faults:
        where = f"{one.repository}: " if one.repository else ""
        print(f"{one.kind}: {where}{one.subject}: {one.message}{' (quarantined)' if one.quarantined else ''}")
    print(_summary(report))
    return 1 if faults else 0


def _verified_bucket(call: Call) -> Report:
    from buildtool.registry.server.bucket import Bucket
    from buildtool.registry.server.verify_bucket import verify_bucket

    options = dict(parse_pair(text) for text in call.texts("bucket-option"))
    for name in ("redirect", "sessions"):
        options.pop(name, None)
    return verify_bucket(Bucket.open(call.text("bucket"), options), quarantine=call.switch("quarantine"))


def _summary(report: Report) -> str:
    faults = len(report.faults or [])
    what = f"{report.blobs} blobs ({decimal_size(report.bytes)}), {report.manifests} manifests, {report.tags} tags"
    return f"{what}: {f'{faults} faults' if faults else 'all well'}"


def passwd(call: Call) -> int:
    """Change an htpasswd file, which the server reads again by itself."""
    import bcrypt

    path, user = Path(call.arguments[0]), call.arguments[1]
    if not user or ":" in user or user != user.strip():
        raise InvalidInput(f"{user!r} cannot be a user's name: it must not have a colon or be empty")
    lines = path.read_text().splitlines() if path.exists() else []
    kept = [line for line in lines if line.partition(":")[0] != user]
    if call.switch("delete"):
        if len(kept) == len(lines):
            raise NotFound(f"{path} has no user {user}")
    else:
        hashed = bcrypt.hashpw(_password().encode(), bcrypt.gensalt(10)).decode()
        kept.append(f"{user}:{hashed}")
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    mode = path.stat().st_mode & 0o777 if path.exists() else 0o600
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    with os.fdopen(fd, "w") as file:
        file.write("".join(f"{line}\n" for line in kept))
    temporary.rename(path)
    return 0


def _password() -> str:
    if not os.isatty(0):
        found = sys.stdin.readline().rstrip("\r\n")
    else:
        import getpass

        found = getpass.getpass("Password: ")
        if found != getpass.getpass("Again: "):
            raise InvalidInput("the two passwords are not the same")
    if not found or len(found.encode()) > 72:
        raise InvalidInput("a password has from 1 to 72 bytes")
    return found
