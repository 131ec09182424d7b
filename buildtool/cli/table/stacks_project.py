"""Flags that say which stack is meant, and those that several commands about stacks have."""

from __future__ import annotations

from buildtool.cli.parse import Flag

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
# Flags that only stand before the verb: what docker compose still takes of its predecessor.
GROUP_FLAGS = (
    Flag("no-ansi", "", "bool", "Accepted for Docker's sake", hidden=True),
    Flag("verbose", "", "bool", "Accepted for Docker's sake", hidden=True),
    Flag("version", "v", "bool", "Show the version", hidden=True),
    Flag("workdir", "", "string", "Another word for --project-directory", hidden=True),
)
PROJECT_FLAGS = (_FILE, _NAME, *_REST, _COMPATIBILITY)


def with_project(flags: tuple[Flag, ...]) -> tuple[Flag, ...]:
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


SERVICES = "[OPTIONS] [SERVICE...]"
TIMEOUT = Flag("timeout", "t", "int", "Seconds to wait before killing")
BUILD = Flag("build", "", "bool", "Build images before starting containers")
PULL = Flag("pull", "", "string", 'Pull images before ("always"|"missing"|"never"|"build")', default="policy")
ORPHANS = Flag("remove-orphans", "", "bool", "Remove containers of services that the stack does not have")
QUIET_PULL = Flag("quiet-pull", "", "bool", "Pull without showing progress")
QUIET_BUILD = Flag("quiet-build", "", "bool", "Build without showing progress")
INDEX = Flag("index", "", "int", "Which of the service's containers (1, 2, …)")
RECREATE = Flag("force-recreate", "", "bool", "Recreate containers even if nothing has changed")
NO_RECREATE = Flag("no-recreate", "", "bool", "Leave existing containers as they are")
NO_BUILD = Flag("no-build", "", "bool", "Do not build an image, even if it is missing")
SCALE = Flag("scale", "", "list", "Run NUM containers of SERVICE (SERVICE=NUM)")
NO_COLOR = Flag("no-color", "", "bool", "No colours")
NO_LOG_PREFIX = Flag("no-log-prefix", "", "bool", "No service names before the lines")
YES = Flag("yes", "y", "bool", "Answer every question with yes")
NO_DEPS = Flag("no-deps", "", "bool", "Do not start the services that it depends on")
