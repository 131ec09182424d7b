"""All commands as data: which words name them, in which module their flags stand.

Only the module of the command that was called is imported. `GROUPS` are the management forms (`container ls`): the
word within the group, and the command's name in its module's COMMANDS.
"""

from __future__ import annotations

from importlib import import_module

from buildtool.cli.parse import Command

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
    "system": ("daemon", "events", "info", "version"),
}
_GROUP_MODULES = {
    "image": "images",
    "system": "system",
    "volume": "system",
    "network": "system",
    "builder": "system",
    "registry": "registry",
}

TOP_LEVEL = {verb: verb for verbs in _MODULES.values() for verb in verbs if " " not in verb}
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
    | {"prune": "image prune", "bootstrap": "image bootstrap"},
    "system": {
        "df": "system df",
        "prune": "system prune",
        "check": "system check",
        "info": "info",
        "events": "events",
    },
    "volume": {
        "ls": "volume ls",
        "list": "volume ls",
        "create": "volume create",
        "inspect": "volume inspect",
        "rm": "volume rm",
        "remove": "volume rm",
        "prune": "volume prune",
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
    "registry": {"serve": "registry serve"},
}
GROUP_HELP = {
    "builder": "Manage builds",
    "container": "Manage containers",
    "image": "Manage images",
    "network": "Manage networks",
    "registry": "Run a registry",
    "system": "Manage buildtool",
    "volume": "Manage volumes",
}
# Second words for the same command: not shown in lists of commands.
ALIASES = frozenset(("list", "remove"))


def load(name: str) -> Command:
    """The command of this canonical name ("ps", "system df")."""
    module = next((module for module, names in _MODULES.items() if name in names), None)
    module = module or _GROUP_MODULES[name.partition(" ")[0]]
    commands: dict[str, Command] = import_module(f"{__name__}.{module}").COMMANDS
    return commands[name]
