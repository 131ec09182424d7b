"""Bringing stacks up and down: `buildtool up`, `buildtool compose VERB`, `buildtool stack VERB`."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.stacks_project import (
    BUILD,
    NO_BUILD,
    NO_COLOR,
    NO_DEPS,
    NO_LOG_PREFIX,
    NO_RECREATE,
    ORPHANS,
    PULL,
    QUIET_BUILD,
    QUIET_PULL,
    RECREATE,
    SCALE,
    SERVICES,
    TIMEOUT,
    YES,
    with_project,
)

COMMANDS = {
    "compose up": Command(
        "stack_up:up",
        SERVICES,
        "Create and start containers",
        (
            Flag("abort-on-container-exit", "", "bool", "Stop all containers when one of them ends"),
            Flag("abort-on-container-failure", "", "bool", "Stop all containers when one of them fails"),
            Flag("always-recreate-deps", "", "bool", "Recreate also the containers that others depend on"),
            Flag("attach", "", "list", "Show the output of these services only"),
            Flag("attach-dependencies", "", "bool", "Show the output of dependencies too"),
            BUILD,
            Flag("detach", "d", "bool", "Leave the containers running in the background"),
            Flag("exit-code-from", "", "string", "End with the exit code of this service's container"),
            RECREATE,
            Flag("menu", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("no-attach", "", "list", "Do not show the output of these services"),
            NO_BUILD,
            NO_COLOR,
            NO_DEPS,
            NO_LOG_PREFIX,
            NO_RECREATE,
            Flag("no-start", "", "bool", "Create containers and do not start them"),
            PULL,
            QUIET_BUILD,
            QUIET_PULL,
            ORPHANS,
            Flag("renew-anon-volumes", "V", "bool", "Give recreated containers new anonymous volumes"),
            SCALE,
            TIMEOUT,
            Flag("timestamps", "", "bool", "Show the time of each line"),
            Flag("wait", "", "bool", "Wait until all services run or are healthy; implies --detach"),
            Flag("wait-timeout", "", "int", "Seconds to wait at most"),
            Flag("watch", "w", "bool", "Update the containers when files change (develop.watch)"),
            YES,
        ),
    ),
    "compose create": Command(
        "stack_up:create",
        SERVICES,
        "Create containers and do not start them",
        (BUILD, RECREATE, NO_BUILD, NO_RECREATE, PULL, QUIET_PULL, ORPHANS, SCALE, YES),
    ),
    "compose scale": Command(
        "stack_up:scale",
        "[OPTIONS] SERVICE=NUM [SERVICE=NUM...]",
        "Change how many containers services have",
        (NO_DEPS,),
        minimum=1,
    ),
    "compose down": Command(
        "stack_down:down",
        SERVICES,
        "Stop and remove containers and networks",
        (
            ORPHANS,
            Flag("rmi", "", "string", 'Remove images too ("local": only those without a name of their own|"all")'),
            TIMEOUT,
            Flag("volumes", "v", "bool", "Remove the stack's volumes and the containers' anonymous ones too"),
        ),
    ),
    "compose start": Command(
        "stack_down:start",
        SERVICES,
        "Start existing containers",
        (
            Flag("wait", "", "bool", "Wait until they run or are healthy"),
            Flag("wait-timeout", "", "int", "Seconds to wait at most"),
        ),
    ),
    "compose stop": Command("stack_down:stop", SERVICES, "Stop containers", (TIMEOUT,)),
    "compose restart": Command(
        "stack_down:restart",
        SERVICES,
        "Restart containers",
        (Flag("no-deps", "", "bool", "Do not restart services that depend on them"), TIMEOUT),
    ),
    "compose kill": Command(
        "stack_down:kill",
        SERVICES,
        "Kill containers",
        (ORPHANS, Flag("signal", "s", "string", "Signal to send", default="SIGKILL")),
    ),
    "compose rm": Command(
        "stack_down:rm",
        SERVICES,
        "Remove stopped containers",
        (
            Flag("force", "f", "bool", "Do not ask"),
            Flag("stop", "s", "bool", "Stop the containers first"),
            Flag("volumes", "v", "bool", "Remove their anonymous volumes"),
        ),
    ),
    "compose pause": Command("stack_down:pause", SERVICES, "Freeze containers"),
    "compose unpause": Command("stack_down:unpause", SERVICES, "Let frozen containers go on"),
    "compose watch": Command(
        "stack_watch:watch",
        SERVICES,
        "Update the containers when files change (develop.watch)",
        (
            Flag("no-up", "", "bool", "Do not build and start the services before"),
            Flag("prune", "", "bool", "Remove images that a rebuild has replaced", default=True),
            Flag("quiet", "", "bool", "Do not show builds"),
        ),
    ),
    "compose wait": Command(
        "stack_look:wait",
        "[OPTIONS] SERVICE [SERVICE...]",
        "Wait until the first of the services' containers stops",
        (Flag("down-project", "", "bool", "Take the stack down then"),),
        minimum=1,
    ),
}
for _command in COMMANDS.values():
    _command.flags = with_project(_command.flags)
