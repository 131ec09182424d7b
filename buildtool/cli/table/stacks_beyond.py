"""What can be done with a stack besides running it: telling, drawing, exporting."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.stacks_project import RECREATE, SCALE, SERVICES, with_project

COMMANDS = {
    "compose bridge": Command(
        "stack_export:bridge",
        "[OPTIONS] convert",
        "Write the stack as manifests of Kubernetes into a folder (stack export does more)",
        (
            Flag("output", "o", "string", "The folder", default="out"),
            Flag("templates", "", "string", "Not offered", hidden=True),
            Flag("transformation", "t", "list", "Not offered", hidden=True),
        ),
        minimum=1,
    ),
    "compose alpha": Command(
        "stack_export:alpha",
        "COMMAND",
        "Docker's experiments, which have other names here",
        interspersed=False,
        minimum=1,
    ),
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
}
for _command in COMMANDS.values():
    _command.flags = with_project(_command.flags)
