"""`manifest`: look at manifests in registries, put lists for several platforms together and push them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from buildtool.cli.credentials import config_path
from buildtool.cli.handlers.remote import login_of, with_transport
from buildtool.errors import Conflict, InvalidInput, NotFound
from buildtool.oci import Reference, media_types, parse_reference
from buildtool.registry.copying import CopyOptions, copy, open_place, parse_location
from buildtool.registry.manifest_lists import Listed, ManifestLists, listed_manifests
from buildtool.registry.repository import Repository
from buildtool.registry.transport import Transport

if TYPE_CHECKING:
    from buildtool.cli.call import Call

_CHANGES = {"arch": "architecture", "os": "os", "variant": "variant", "os-version": "os_version"}


def _lists() -> ManifestLists:
    return ManifestLists(Path(os.path.dirname(config_path())) / "manifests")


async def _open(transport: Transport, reference: Reference) -> Repository:
    return Repository(await transport.connect(reference.domain, login_of(reference.domain)), reference.path)


def inspect(call: Call) -> int:
    """Print a manifest as it is; with --verbose each manifest with its descriptor."""
    lists = _lists()
    name = call.arguments[-1]
    entries: list[Listed] | None = None
    if len(call.arguments) == 2:
        wanted = str(parse_reference(name).with_default_tag())
        entries = [one for one in lists.entries(call.arguments[0]) if wanted == one.ref]
        if not entries:
            raise NotFound(f"No such manifest: {name} in {call.arguments[0]}")
    elif lists.exists(name):
        entries = lists.entries(name)
        if not call.switch("verbose"):
            return _print(json.loads(lists.document(name).data))
    if entries is not None:
        if len(call.arguments) == 2 and not call.switch("verbose"):
            return _print(json.loads(entries[0].raw))
        return _print_verbose(entries, single=len(call.arguments) == 2)
    reference = parse_reference(name).with_default_tag()

    async def work(transport: Transport) -> int:
        repository = await _open(transport, reference)
        top = await repository.wanted_manifest(reference.digest or reference.tag)
        if not call.switch("verbose"):
            return _print(json.loads(top.data))
        found = await listed_manifests(repository, reference)
        return _print_verbose(found, single=top.media_type not in media_types.INDEXES)

    return with_transport(work, insecure=call.switch("insecure"))


def _print_verbose(entries: list[Listed], *, single: bool) -> int:
    documents = []
    for one in entries:
        oci = one.descriptor.media_type == media_types.MANIFEST
        documents.append(
            {
                "Ref": one.ref,
                "Descriptor": msgspec.to_builtins(one.descriptor),
                "OCIManifest" if oci else "SchemaV2Manifest": json.loads(one.raw),
            }
        )
    return _print(documents[0] if single else documents)


def _print(document: Any) -> int:
    print(json.dumps(document, indent=3, ensure_ascii=False))
    return 0


def create(call: Call) -> int:
    """Begin a list, or add to it with --amend."""
    name, *manifests = call.arguments
    target = parse_reference(name).with_default_tag()
    if target.digest:
        raise InvalidInput(f"{name}: a list is named by a tag, not by a digest")
    lists = _lists()
    if lists.exists(name) and not call.switch("amend"):
        raise Conflict("refusing to amend an existing manifest list with no --amend flag")

    async def work(transport: Transport) -> list[Listed]:
        found = []
        for one in manifests:
            reference = parse_reference(one).with_default_tag()
            found += await listed_manifests(await _open(transport, reference), reference)
        return found

    for listed in with_transport(work, insecure=call.switch("insecure")):
        lists.add(name, listed)
    print(f"Created manifest list {target}")
    return 0


def annotate(call: Call) -> int:
    """Say for which platform a manifest is."""
    changes: dict[str, Any] = {field: call.text(flag) for flag, field in _CHANGES.items() if call.given(flag)}
    if call.given("os-features"):
        changes["os_features"] = call.texts("os-features")
    if not changes:
        raise InvalidInput("nothing to change", hint="say what: --arch, --os, --variant, --os-version, --os-features")
    _lists().annotate(call.arguments[0], call.arguments[1], changes)
    return 0


def push(call: Call) -> int:
    """Bring the manifests to the list's repository, then push the list; its digest is printed."""
    name = call.arguments[0]
    lists = _lists()
    target = parse_reference(name).with_default_tag()
    document, entries = lists.document(name), lists.entries(name)

    async def work(transport: Transport) -> None:
        login = login_of(target.domain)
        goal = await open_place(parse_location(f"docker://{target}"), transport, login, write=True)
        try:
            for listed in entries:
                source = listed.reference
                if source.repository == target.repository:
                    continue
                at = f"docker://{source.repository}@{listed.descriptor.digest}"
                origin = await open_place(parse_location(at), transport, login_of(source.domain))
                try:
                    digest = listed.descriptor.digest
                    await copy(origin, digest, goal, digest, lambda _: None, CopyOptions())
                finally:
                    await origin.close()
            await goal.put_manifest(target.tag, document)
        finally:
            await goal.close()

    with_transport(work, insecure=call.switch("insecure"))
    print(document.digest)
    if call.switch("purge"):
        lists.remove(name)
    return 0


def rm(call: Call) -> int:
    """Forget lists."""
    lists = _lists()
    for name in call.arguments:
        lists.remove(name)
    return 0
