"""All commands as data: which words name them, in which module their flags stand.

Only the module of the command that was called is imported. `GROUPS` are the management forms (`container ls`): the
word within the group, and the command's name in its module's COMMANDS.
"""

from __future__ import annotations

import sys

from buildtool.cli.parse import Command, Flag

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_CONTAINER_VERBS = (
    "attach",
    "commit",
    "cp",
    "create",
    "diff",
    "exec",
    "export",
    "kill",
    "logs",
    "pause",
    "port",
    "rename",
    "restart",
    "rm",
    "run",
    "start",
    "stats",
    "stop",
    "top",
    "unpause",
    "update",
    "wait",
)
_MODULES = {
    "containers": (*_CONTAINER_VERBS, "ps", "inspect", "container inspect", "container prune"),
    "images": (
        "build",
        "history",
        "images",
        "import",
        "load",
        "login",
        "logout",
        "pull",
        "push",
        "rmi",
        "save",
        "search",
        "tag",
    ),
    "buildfiles": ("fmt", "lint"),
    "stacks_beyond": (
        "compose alpha",
        "compose bridge",
        "stack diff",
        "stack graph",
        "stack export",
    ),
    "stacks_images": (
        "compose build",
        "compose pull",
        "compose push",
        "compose publish",
    ),
    "stacks_inside": (
        "compose exec",
        "compose run",
        "compose cp",
        "compose attach",
        "compose commit",
        "compose export",
    ),
    "stacks_views": (
        "compose config",
        "compose ps",
        "compose ls",
        "compose images",
        "compose top",
        "compose port",
        "compose volumes",
        "compose stats",
        "compose logs",
        "compose events",
        "compose version",
    ),
    "system": ("daemon", "events", "info", "version"),
}
_STACK_VERBS = (
    "alpha",
    "attach",
    "bridge",
    "build",
    "commit",
    "config",
    "cp",
    "create",
    "down",
    "events",
    "exec",
    "export",
    "images",
    "kill",
    "logs",
    "ls",
    "pause",
    "port",
    "ps",
    "publish",
    "pull",
    "push",
    "restart",
    "rm",
    "run",
    "scale",
    "start",
    "stats",
    "stop",
    "top",
    "unpause",
    "up",
    "version",
    "volumes",
    "wait",
    "watch",
)
# Those of them that may stand alone, since no other command has the name.
_STACK_TOP_LEVEL = ("config", "down", "scale", "up", "watch")
_GROUP_MODULES = {
    "ci": "ci",
    "compose": "stacks",
    "stack": "stacks",
    "image": "images",
    "system": "system",
    "volume": "system",
    "network": "system",
    "builder": "system",
    "context": "contexts",
    "registry": "registry",
    "manifest": "registry",
    "history": "builds",
    "cache": "builds",
}

TOP_LEVEL = {verb: verb for verbs in _MODULES.values() for verb in verbs if " " not in verb}
TOP_LEVEL |= {verb: f"compose {verb}" for verb in _STACK_TOP_LEVEL} | {"convert": "compose config"}
GROUPS: dict[str, dict[str, str]] = {
    "container": {verb: verb for verb in _CONTAINER_VERBS}
    | {
        "ls": "ps",
        "list": "ps",
        "ps": "ps",
        "remove": "rm",
        "inspect": "container inspect",
        "prune": "container prune",
    },
    "image": {verb: verb for verb in ("build", "history", "import", "load", "pull", "push", "save", "tag")}
    | {"ls": "images", "list": "images", "rm": "rmi", "remove": "rmi", "inspect": "image inspect"}
    | {"prune": "image prune", "bootstrap": "image bootstrap", "copy": "image copy", "tags": "image tags"}
    | {"diff": "image diff", "sbom": "image sbom", "provenance": "image provenance"},
    "system": {
        "df": "system df",
        "prune": "system prune",
        "check": "system check",
        "info": "info",
        "events": "events",
        "dial-stdio": "system dial-stdio",
    },
    "volume": {
        "ls": "volume ls",
        "list": "volume ls",
        "create": "volume create",
        "inspect": "volume inspect",
        "rm": "volume rm",
        "remove": "volume rm",
        "prune": "volume prune",
        "update": "volume update",
        "export": "volume export",
        "import": "volume import",
    },
    "network": {
        "ls": "network ls",
        "list": "network ls",
        "create": "network create",
        "inspect": "network inspect",
        "rm": "network rm",
        "remove": "network rm",
        "connect": "network connect",
        "disconnect": "network disconnect",
        "prune": "network prune",
    },
    "builder": {"build": "build", "prune": "builder prune"},
    "context": {
        verb: f"context {verb}"
        for verb in ("create", "export", "import", "inspect", "ls", "rm", "show", "update", "use")
    }
    | {"list": "context ls", "remove": "context rm"},
    "cache": {
        "ls": "cache ls",
        "list": "cache ls",
        "du": "cache du",
        "inspect": "cache inspect",
        "prune": "cache prune",
        "protect": "cache protect",
        "export": "cache export",
        "import": "cache import",
    },
    "registry": {verb: f"registry {verb}" for verb in ("passwd", "serve", "token", "verify")},
    "manifest": {verb: f"manifest {verb}" for verb in ("annotate", "create", "inspect", "push", "rm")},
    "ci": {"build": "ci build", "init": "ci init"},
    "compose": {verb: f"compose {verb}" for verb in _STACK_VERBS} | {"convert": "compose config"},
    "stack": {verb: f"compose {verb}" for verb in _STACK_VERBS}
    | {"convert": "compose config", "diff": "stack diff", "export": "stack export", "graph": "stack graph"},
    "history": {
        "ls": "history ls",
        "list": "history ls",
        "inspect": "history inspect",
        "logs": "history logs",
        "explain": "history explain",
        "trace": "history trace",
        "export": "history export",
        "rm": "history rm",
        "remove": "history rm",
    },
}
GROUP_HELP = {
    "ci": "Build images in the CI of others",
    "builder": "Manage builds",
    "cache": "Manage the build cache",
    "compose": "Bring up stacks of services, as docker compose does",
    "container": "Manage containers",
    "context": "Name daemons, and choose one",
    "history": "Show how an image was made (history IMAGE), or look at the builds of this daemon (history COMMAND)",
    "image": "Manage images",
    "manifest": "Manage manifests, and lists of them for several platforms",
    "network": "Manage networks",
    "registry": "Run a registry",
    "stack": "Bring up stacks of services, and look into them",
    "system": "Manage buildtool",
    "volume": "Manage volumes",
}
# Groups that take flags before the verb (`compose -f FILE up`), by the module that has them as PROJECT_FLAGS.
GROUP_FLAGS = {"compose": "stacks_project", "stack": "stacks_project"}
# Second words for the same command: not shown in lists of commands.
ALIASES = frozenset(("alpha", "convert", "list", "remove"))


def import_module(name: str) -> Any:
    """The module of this full name. `importlib` has it too, and brings `warnings` along: a millisecond a call."""
    __import__(name)
    return sys.modules[name]


def group_flags(group: str) -> tuple[Flag, ...]:
    """The flags that may stand between a group and its verb."""
    if group not in GROUP_FLAGS:
        return ()
    module = import_module(f"{__name__}.{GROUP_FLAGS[group]}")
    return (*module.PROJECT_FLAGS, *module.GROUP_FLAGS)


def load(name: str) -> Command:
    """The command of this canonical name ("ps", "system df")."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    module = module or _GROUP_MODULES[name.partition(" ")[0]]
    commands: dict[str, Command] = import_module(f"{__name__}.{module}").COMMANDS
    return commands[name]
