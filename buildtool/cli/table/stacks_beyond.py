"""What can be done with a stack besides running it: telling, drawing, publishing, exporting."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.stacks import INDEX, RECREATE, SCALE, SERVICES, YES, with_project

COMMANDS = {
    "stack diff": Command(
        "stack_look:diff",
        SERVICES,
        "Show what `up` would change, and why",
        (
            Flag("exit-code", "", "bool", "End with 1 when something would change"),
            RECREATE,
            Flag("format", "", "string", "table or json", default="table"),
            SCALE,
        ),
    ),
    "stack graph": Command(
        "stack_look:graph",
        SERVICES,
        "Draw the stack: services, networks, volumes and dependencies",
        (
            Flag(
                "format", "", "string", "mermaid, svg or json", default="mermaid", choices=("mermaid", "svg", "json")
            ),
            Flag("output", "o", "string", "Write to a file instead of STDOUT"),
        ),
    ),
    "compose commit": Command(
        "stack_exec:commit",
        "[OPTIONS] SERVICE [REPOSITORY[:TAG]]",
        "Make an image of the changes in a service's container",
        (
            Flag("author", "a", "string", "Author"),
            Flag("change", "c", "list", "Apply a Buildfile instruction to the image"),
            INDEX,
            Flag("message", "m", "string", "Message of the commit"),
            Flag("pause", "p", "bool", "Pause the container meanwhile", default=True),
        ),
        minimum=1,
        maximum=2,
    ),
    "compose export": Command(
        "stack_exec:export",
        "[OPTIONS] SERVICE",
        "Write the file system of a service's container as a tar archive",
        (INDEX, Flag("output", "o", "string", "Write to a file instead of STDOUT")),
        minimum=1,
        maximum=1,
    ),
    "stack export": Command(
        "stack_export:export",
        SERVICES,
        "Write the stack as manifests of Kubernetes",
        (
            Flag("kustomize", "", "bool", "Write a folder with a file an object and a kustomization"),
            Flag("output", "o", "string", "Write to a file (with --kustomize: a folder) instead of STDOUT"),
            Flag("resolve-image-digests", "", "bool", "Pin images to their digests"),
            Flag("to", "", "string", "kubernetes", default="kubernetes", choices=("kubernetes",)),
        ),
    ),
    "compose publish": Command(
        "stack_publish:publish",
        "[OPTIONS] REPOSITORY[:TAG]",
        "Put the stack's files into a registry, for -f oci://REPOSITORY[:TAG]",
        (
            Flag("app", "", "absent", "images are where their names say; they are not copied", hidden=True),
            Flag("oci-version", "", "string", "1.1, or 1.0 for registries that know no artifact types"),
            Flag("resolve-image-digests", "", "bool", "Pin images to their digests"),
            Flag("with-env", "", "bool", "Publish environment variables and env files too"),
            YES,
        ),
        minimum=1,
        maximum=1,
    ),
}
for _command in COMMANDS.values():
    _command.flags = with_project(_command.flags)
