"""Commands about docker contexts."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.shared import FORMAT, FORMAT_F

_DESCRIBED = (
    Flag("description", "", "string", "Description of the context"),
    Flag("docker", "", "map", "The daemon: host=ADDRESS, ca=FILE, cert=FILE, key=FILE, skip-tls-verify=BOOL"),
)

COMMANDS = {
    "context ls": Command(
        "contexts:list_",
        "[OPTIONS]",
        "List contexts",
        (FORMAT, Flag("quiet", "q", "bool", "Show only names")),
        maximum=0,
    ),
    "context show": Command("contexts:show", "", "Print the name of the current context", maximum=0),
    "context use": Command("contexts:use", "CONTEXT", "Choose the current context", minimum=1, maximum=1),
    "context inspect": Command(
        "contexts:inspect", "[OPTIONS] [CONTEXT...]", "Show all that is known of contexts", (FORMAT_F,)
    ),
    "context create": Command(
        "contexts:create",
        "[OPTIONS] CONTEXT",
        "Create a context",
        (*_DESCRIBED, Flag("from", "", "string", "Begin with what another context has")),
        minimum=1,
        maximum=1,
    ),
    "context export": Command(
        "context_files:export", "CONTEXT [FILE|-]", "Write a context to a tar file", minimum=1, maximum=2
    ),
    "context import": Command(
        "context_files:import_", "CONTEXT FILE|-", "Store a context from a tar or zip file", minimum=2, maximum=2
    ),
    "context update": Command(
        "contexts:update", "[OPTIONS] CONTEXT", "Change a context", _DESCRIBED, minimum=1, maximum=1
    ),
    "context rm": Command(
        "contexts:rm",
        "[OPTIONS] CONTEXT [CONTEXT...]",
        "Remove one or more contexts",
        (Flag("force", "f", "bool", "Remove also the current one"),),
        minimum=1,
    ),
}
