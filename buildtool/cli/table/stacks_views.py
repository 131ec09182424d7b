"""Looking at stacks: their files, containers, output and events."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.stacks_project import INDEX, NO_COLOR, NO_LOG_PREFIX, SERVICES, with_project

COMMANDS = {
    "compose config": Command(
        "stack_config:config",
        SERVICES,
        "Check the stack and print it in its canonical form",
        (
            Flag("environment", "", "bool", "Print the variables that interpolation sees"),
            Flag("explain", "", "list", "Tell where the value of a variable comes from"),
            Flag("format", "", "string", "yaml or json", choices=("yaml", "json")),
            Flag("hash", "", "string", "Print the configuration hashes of services (* for all)"),
            Flag("images", "", "bool", "Print the names of images"),
            Flag("lock-image-digests", "", "bool", "Print an override file with the images' digests"),
            Flag("models", "", "bool", "Print the names of models"),
            Flag("networks", "", "bool", "Print the names of networks"),
            Flag("no-consistency", "", "bool", "Do not check that the parts fit together"),
            Flag("no-env-resolution", "", "bool", "Do not read env files"),
            Flag("no-interpolate", "", "bool", "Do not replace variables"),
            Flag("no-normalize", "", "bool", "Do not fill in what is left unsaid"),
            Flag("no-path-resolution", "", "bool", "Leave paths relative"),
            Flag("output", "o", "string", "Write to a file instead of STDOUT"),
            Flag("profiles", "", "bool", "Print the names of profiles"),
            Flag("quiet", "q", "bool", "Only check, print nothing"),
            Flag("resolve-image-digests", "", "bool", "Print images with their digests"),
            Flag("services", "", "bool", "Print the names of services"),
            Flag("variables", "", "bool", "Print the variables that the files use, with their defaults"),
            Flag("volumes", "", "bool", "Print the names of volumes"),
        ),
    ),
    "compose ps": Command(
        "stack_list:ps",
        SERVICES,
        "List the stack's containers",
        (
            Flag("all", "a", "bool", "Show also those that do not run, and those of `run`"),
            Flag("filter", "", "filter", "Only what fulfils the condition (status=…)"),
            Flag("format", "", "string", "Print with a Go template ('json', 'table TEMPLATE', 'TEMPLATE')"),
            Flag("no-trunc", "", "bool", "Do not shorten anything"),
            Flag("orphans", "", "bool", "Show containers of services that the stack does not have", default=True),
            Flag("quiet", "q", "bool", "Show only ids"),
            Flag("services", "", "bool", "Show only the names of services"),
            Flag("status", "", "list", "Only containers in this state"),
        ),
    ),
    "compose ls": Command(
        "stack_list:ls",
        "[OPTIONS]",
        "List the stacks that run",
        (
            Flag("all", "a", "bool", "Show also stopped ones"),
            Flag("filter", "", "filter", "Only what fulfils the condition (name=…)"),
            Flag("format", "", "string", "table or json", default="table"),
            Flag("quiet", "q", "bool", "Show only names"),
        ),
        maximum=0,
    ),
    "compose images": Command(
        "stack_list:images",
        SERVICES,
        "List the images of the stack's containers",
        (
            Flag("format", "", "string", "table or json", default="table"),
            Flag("quiet", "q", "bool", "Show only ids"),
        ),
    ),
    "compose top": Command("stack_list:top", "[SERVICE...]", "Show the processes of the stack's containers"),
    "compose port": Command(
        "stack_list:port",
        "[OPTIONS] SERVICE PRIVATE_PORT",
        "Show where a port is published",
        (INDEX, Flag("protocol", "", "string", "tcp or udp", default="tcp")),
        minimum=2,
        maximum=2,
    ),
    "compose volumes": Command(
        "stack_list:volumes",
        SERVICES,
        "List the stack's volumes",
        (
            Flag("format", "", "string", "Print with a Go template ('json', 'table TEMPLATE', 'TEMPLATE')"),
            Flag("quiet", "q", "bool", "Show only names"),
        ),
    ),
    "compose stats": Command(
        "stack_list:stats",
        "[OPTIONS] [SERVICE]",
        "Show what the stack's containers use, continuously",
        (
            Flag("all", "a", "bool", "Show also those that do not run"),
            Flag("format", "", "string", "Print with a Go template ('json', 'table TEMPLATE', 'TEMPLATE')"),
            Flag("no-stream", "", "bool", "Show once and end"),
            Flag("no-trunc", "", "bool", "Do not shorten anything"),
        ),
    ),
    "compose logs": Command(
        "stack_logs:logs",
        SERVICES,
        "Show the output of the stack's containers",
        (
            Flag("follow", "f", "bool", "Go on with what comes"),
            INDEX,
            NO_COLOR,
            NO_LOG_PREFIX,
            Flag("since", "", "string", "Begin at this time (RFC 3339, or 42m for 42 minutes ago)"),
            Flag("tail", "n", "string", "Number of lines from the end of each container's", default="all"),
            Flag("timestamps", "t", "bool", "Show the time of each line"),
            Flag("until", "", "string", "End at this time (RFC 3339, or 42m for 42 minutes ago)"),
        ),
    ),
    "compose events": Command(
        "stack_look:events",
        SERVICES,
        "Show what happens to the stack's containers",
        (
            Flag("json", "", "bool", "Print JSON lines"),
            Flag("since", "", "string", "Begin at this time"),
            Flag("until", "", "string", "End at this time"),
        ),
    ),
    "compose version": Command(
        "stack_look:version",
        "[OPTIONS]",
        "Show the version",
        (
            Flag("format", "f", "string", "pretty or json", default="pretty"),
            Flag("short", "", "bool", "Only the number"),
        ),
        maximum=0,
    ),
}
for _command in COMMANDS.values():
    _command.flags = with_project(_command.flags)
