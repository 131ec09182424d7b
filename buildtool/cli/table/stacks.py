"""Commands about stacks: `buildtool up`, `buildtool compose VERB`, `buildtool stack VERB`."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag

_FILE = Flag("file", "f", "list", "Compose configuration files")
_NAME = Flag("project-name", "p", "string", "Project name")
_REST = (
    Flag("all-resources", "", "bool", "Include all resources, even those not used by services"),
    Flag("ansi", "", "string", "Control codes (never, always, auto)", choices=("never", "always", "auto")),
    Flag("dry-run", "", "bool", "Show what would be done, and do nothing"),
    Flag("env-file", "", "list", "Read variables for the files from here instead of .env"),
    Flag("parallel", "", "int", "Do at most so many things at once (-1: no limit)", default=-1),
    Flag("profile", "", "list", "Activate a profile"),
    Flag(
        "progress",
        "",
        "string",
        "How progress is shown (auto, tty, plain, json, quiet)",
        choices=("auto", "tty", "plain", "json", "quiet"),
    ),
    Flag("project-directory", "", "string", "Project directory (default: where the first file is)"),
)
_COMPATIBILITY = Flag("compatibility", "", "bool", "Accepted for Docker's sake", hidden=True)
PROJECT_FLAGS = (_FILE, _NAME, *_REST, _COMPATIBILITY)


def _with_project(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
    """A verb's flags and the project's, which may also follow the verb (without short names that the verb has)."""
    taken, named = {flag.short for flag in flags}, {flag.name for flag in flags}
    more = tuple(
        Flag(
            flag.name,
            "" if flag.short in taken else flag.short,
            flag.kind,
            flag.help,
            default=flag.default,
            choices=flag.choices,
            hidden=True,
        )
        for flag in PROJECT_FLAGS
        if flag.name not in named
    )
    return (*flags, *more)


_SERVICES = "[OPTIONS] [SERVICE...]"
_TIMEOUT = Flag("timeout", "t", "int", "Seconds to wait before killing")
_BUILD = Flag("build", "", "bool", "Build images before starting containers")
_PULL = Flag("pull", "", "string", 'Pull images before ("always"|"missing"|"never"|"build")', default="policy")
_ORPHANS = Flag("remove-orphans", "", "bool", "Remove containers of services that the stack does not have")
_QUIET_PULL = Flag("quiet-pull", "", "bool", "Pull without showing progress")
_QUIET_BUILD = Flag("quiet-build", "", "bool", "Build without showing progress")
_INDEX = Flag("index", "", "int", "Which of the service's containers (1, 2, …)")
_RECREATE = Flag("force-recreate", "", "bool", "Recreate containers even if nothing has changed")
_NO_RECREATE = Flag("no-recreate", "", "bool", "Leave existing containers as they are")
_NO_BUILD = Flag("no-build", "", "bool", "Do not build an image, even if it is missing")
_SCALE = Flag("scale", "", "list", "Run NUM containers of SERVICE (SERVICE=NUM)")
_NO_COLOR = Flag("no-color", "", "bool", "No colours")
_NO_PREFIX = Flag("no-log-prefix", "", "bool", "No service names before the lines")
_YES = Flag("yes", "y", "bool", "Answer every question with yes")
_NO_DEPS = Flag("no-deps", "", "bool", "Do not start the services that it depends on")

_VERBS = {
    "config": Command(
        "stack_config:config",
        _SERVICES,
        "Check the stack and print it in its canonical form",
        (
            Flag("environment", "", "bool", "Print the variables that interpolation sees"),
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
}

COMMANDS: dict[str, Command] = {}


def _add(group: str, verbs: dict[str, Command]) -> None:
    for verb, command in verbs.items():
        command.flags = _with_project(command.flags)
        COMMANDS[f"{group} {verb}"] = command


_add("compose", _VERBS)
