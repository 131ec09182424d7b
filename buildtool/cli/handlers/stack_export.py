"""`stack export`: the stack for somebody else's machines."""

from __future__ import annotations

import os
import sys

from buildtool.cli.parse import UsageError
from buildtool.cli.stack_project import load_project
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.stacks.model import Project


def export(call: Call) -> int:
    """Manifests on STDOUT, in a file, or a folder with a kustomization; what they leave out on STDERR."""
    if call.text("to") != "kubernetes":
        raise UsageError(f'unsupported --to "{call.text("to")}": choose kubernetes')
    if call.switch("kustomize") and not call.text("output"):
        raise UsageError("--kustomize writes a folder: name it with --output")
    from buildtool.stacks.emit import to_yaml
    from buildtool.stacks.graph import with_dependencies
    from buildtool.stacks.kubernetes import export_stack

    project = load_project(call, call.arguments)
    if call.arguments:
        _keep(project, with_dependencies(project, call.arguments))
    if call.switch("resolve-image-digests"):
        from buildtool.cli.stack_digests import pin

        pin(call, project)
    found = export_stack(project)
    if call.switch("kustomize"):
        _write_folder(call.text("output"), found.documents)
    else:
        text = "---\n".join(to_yaml(document) for document in found.documents)
        if call.text("output"):
            with open(call.text("output"), "w", encoding="utf-8") as file:
                file.write(text)
        else:
            sys.stdout.write(text)
    _tell(found.notes)
    return 0


def _tell(notes: list[tuple[str, str]]) -> None:
    """What the manifests leave out."""
    width = max((len(where) for where, _ in notes), default=0)
    for where, what in notes:
        print(f"NOTE: {where:{width}}  {what}", file=sys.stderr)


def bridge(call: Call) -> int:
    """docker compose's `bridge convert`, without its transformations: those are programs in images of Docker's."""
    if call.arguments[0] == "transformations":
        raise BuildtoolError("there are no transformations here: manifests are written without images", hint=_ALONE)
    if call.arguments != ["convert"]:
        raise UsageError(f"unknown command: {' '.join(call.arguments)}: only convert is known")
    for flag in ("templates", "transformation"):
        if call.given(flag):
            raise BuildtoolError(
                f"--{flag} is not offered: manifests are written without transformations", hint=_ALONE
            )
    from buildtool.stacks.kubernetes import export_stack

    found = export_stack(load_project(call))
    if call.switch("dry-run"):
        print(f"DRY-RUN MODE - {len(found.documents)} manifests would be written to {call.text('output')}")
        return 0
    _write_folder(call.text("output"), found.documents)
    _tell(found.notes)
    return 0


_ALONE = "See: buildtool stack export --help"
_EXPERIMENTS = {
    "viz": "There is: buildtool stack graph --format mermaid|svg|json",
    "publish": "There is: buildtool compose publish",
    "watch": "There is: buildtool compose watch",
    "generate": "A stack is not made of containers; `buildtool inspect` shows how they were made.",
}


def alpha(call: Call) -> int:
    """Always a refusal that names what does the same."""
    verb = call.arguments[0]
    hint = _EXPERIMENTS.get(verb, "Run 'buildtool compose --help' for what there is.")
    raise BuildtoolError(f"compose alpha {verb} does not exist here", hint=hint)


def _keep(project: Project, names: list[str]) -> None:
    from buildtool.stacks.profiles import prune_resources

    for name in [name for name in project.services if name not in names]:
        project.disabled[name] = project.services.pop(name)
    prune_resources(project)


def _write_folder(folder: str, documents: list[dict[str, Any]]) -> None:
    """One file an object, and the kustomization that names them."""
    from buildtool.stacks.emit import to_yaml

    os.makedirs(folder, exist_ok=True)
    names = []
    for document in documents:
        name = f"{document['metadata']['name']}-{document['kind'].lower()}.yaml"
        names.append(name)
        with open(f"{folder}/{name}", "w", encoding="utf-8") as file:
            file.write(to_yaml(document))
    kustomization = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": names,
    }
    with open(f"{folder}/kustomization.yaml", "w", encoding="utf-8") as file:
        file.write(to_yaml(kustomization))
