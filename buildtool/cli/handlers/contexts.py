"""`context …`: docker's named daemons; and `system dial-stdio`, the far end of ssh://."""

from __future__ import annotations

import os
import sys

from buildtool.cli.credentials import read_config, write_config
from buildtool.cli.handlers.many import for_each
from buildtool.cli.listing import print_rows
from buildtool.client import contexts
from buildtool.client.address import current_context, parse_host
from buildtool.errors import Conflict, InvalidInput
from buildtool.places import default_socket

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_HEADERS = {
    "Name": "NAME",
    "Description": "DESCRIPTION",
    "DockerEndpoint": "DOCKER ENDPOINT",
    "Current": "CURRENT",
    "Error": "ERROR",
}
_DEFAULT_TEXT = "buildtool's own daemon, or what the environment names"
_KEYS = ("host", "ca", "cert", "key", "skip-tls-verify")


def _documents() -> list[dict[str, Any]]:
    host = os.environ.get("BUILDTOOL_HOST") or os.environ.get("DOCKER_HOST") or f"unix://{default_socket()}"
    own = {
        "Name": contexts.DEFAULT,
        "Metadata": {"Description": _DEFAULT_TEXT},
        "Endpoints": {"docker": {"Host": host, "SkipTLSVerify": False}},
    }
    return [own, *map(contexts.load, contexts.names())]


def list_(call: Call) -> int:
    """List contexts; a star marks the current one."""
    current = _current()
    rows = []
    for document in _documents():
        chosen = document["Name"] == current
        rows.append(
            {
                "Current": chosen,
                "Description": document.get("Metadata", {}).get("Description", ""),
                "DockerEndpoint": document["Endpoints"]["docker"]["Host"],
                "Error": "",
                "Name": document["Name"] + (" *" if chosen and call.text("format") in ("", "table") else ""),
            }
        )
    if call.switch("quiet"):
        for row in rows:
            print(str(row["Name"]).removesuffix(" *"))
        return 0
    print_rows(
        rows,
        call.text("format"),
        ("Name", "Description", "DockerEndpoint", "Error"),
        _HEADERS,
        kind="formatter.clientContextContext",
    )
    return 0


def _current() -> str:
    if any(os.environ.get(name) for name in ("BUILDTOOL_HOST", "BUILDTOOL_ROOT", "DOCKER_HOST")):
        return contexts.DEFAULT
    return current_context() or contexts.DEFAULT


def show(call: Call) -> int:
    """Print the current context's name."""
    print(_current())
    return 0


def use(call: Call) -> int:
    """Write the current context into config.json."""
    name = call.arguments[0]
    config = read_config()
    if name == contexts.DEFAULT:
        config.pop("currentContext", None)
    else:
        contexts.load(name)
        config["currentContext"] = name
    write_config(config)
    print(name)
    for variable in ("BUILDTOOL_HOST", "BUILDTOOL_ROOT", "DOCKER_HOST"):
        if os.environ.get(variable) and name != contexts.DEFAULT:
            print(f"Warning: {variable} is set and overrides the current context.", file=sys.stderr)
    return 0


def inspect(call: Call) -> int:
    """Show contexts as they are stored."""
    known = {document["Name"]: document for document in _documents()}
    found = []
    for name in call.arguments or [_current()]:
        document = known.get(name) or contexts.load(name)
        files = [os.path.basename(path) for path in contexts.tls_files(name) if path and name != contexts.DEFAULT]
        found.append({**document, "TLSMaterial": {"docker": files} if files else {}})
    if call.text("format"):
        return _by_template(found, call.text("format"))
    import json

    print(json.dumps(found, indent=4))
    return 0


def _by_template(found: list[dict[str, Any]], form: str) -> int:
    from buildtool.cli.gotemplate import Template, TemplateError
    from buildtool.cli.listing import row_json

    if form == "json":
        print(f"[{','.join(map(row_json, found))}]")
        return 0
    try:
        template = Template(form)
    except TemplateError as error:
        raise error.told("template parsing error", 64) from None
    for document in found:
        try:
            print(template.render(document, "context.contextWithTLSListing"))
        except TemplateError as error:
            print()
            raise error.told("template parsing error") from None
    return 0


def create(call: Call) -> int:
    """Store a new context."""
    before, files = _origin(call.text("from"))
    endpoint, certificates = _endpoint(call, before["Endpoints"]["docker"])
    description = call.text("description") or before["Metadata"].get("Description", "")
    contexts.create(call.arguments[0], description, endpoint, files | certificates)
    print(call.arguments[0])
    print(f'Successfully created context "{call.arguments[0]}"', file=sys.stderr)
    return 0


def _origin(name: str) -> tuple[dict[str, Any], dict[str, str]]:
    """What a new context begins with: another's document and certificates."""
    if not name:
        return {"Metadata": {}, "Endpoints": {"docker": {}}}, {}
    if name == contexts.DEFAULT:
        return {**_documents()[0], "Metadata": {}}, {}
    files = zip(("ca", "cert", "key"), contexts.tls_files(name), strict=True)
    return {"Metadata": {}, **contexts.load(name)}, {kind: path for kind, path in files if path}


def update(call: Call) -> int:
    """Change what is given of a context."""
    name = call.arguments[0]
    before = contexts.load(name)
    endpoint, certificates = _endpoint(call, before["Endpoints"]["docker"])
    description = call.text("description") or before.get("Metadata", {}).get("Description", "")
    contexts.save(name, description, endpoint, certificates)
    print(name)
    print(f'Successfully updated context "{name}"', file=sys.stderr)
    return 0


def _endpoint(call: Call, before: dict[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    values: dict[str, str] = {}
    for text in call.texts("docker"):  # pairs with commas between them, or the flag repeated
        for part in text.split(","):
            key, equals, value = part.partition("=")
            if not equals or key not in _KEYS:
                raise InvalidInput(f"invalid --docker {part!r}: the keys are {', '.join(_KEYS)}")
            values[key] = value
    host = values.get("host") or before.get("Host", "")
    if not host:
        raise InvalidInput("docker endpoint configuration is required", hint="--docker host=ssh://user@machine")
    parse_host(host, foreign=True, source="--docker host")
    skip = values.get("skip-tls-verify", str(before.get("SkipTLSVerify", False))).lower() in ("1", "true", "t")
    certificates = {key: values[key] for key in ("ca", "cert", "key") if values.get(key)}
    if ("cert" in certificates) != ("key" in certificates):
        raise InvalidInput("invalid docker endpoint options: cert and key go together")
    return {"Host": host, "SkipTLSVerify": skip}, certificates


def rm(call: Call) -> int:
    """Remove contexts; the current one only with --force."""
    current, forced = _current(), call.switch("force")

    def remove(name: str) -> None:
        if name == contexts.DEFAULT:
            raise InvalidInput('context "default" cannot be removed')
        if name == current and not forced:
            raise Conflict(f'context "{name}" is in use, set -f flag to force remove')
        contexts.remove(name)
        config = read_config()
        if config.get("currentContext") == name:
            del config["currentContext"]
            write_config(config)

    return for_each(call.arguments, remove)


def dial_stdio(call: Call) -> int:
    """Copy between the standard streams and a connection to the daemon until the daemon's side ends."""
    import socket
    import threading

    dialled = call.client.dial()
    connection = socket.socket(fileno=dialled.sock.detach())

    def forward() -> None:
        while data := os.read(0, 1 << 16):
            try:
                connection.sendall(data)
            except OSError:
                return
        try:
            connection.shutdown(socket.SHUT_WR)
        except OSError:
            return

    threading.Thread(target=forward, daemon=True).start()
    while data := connection.recv(1 << 16):
        view = memoryview(data)
        while view:
            view = view[os.write(1, view) :]
    return 0
