"""Commands about containers."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.create import CREATE_FLAGS, DETACH_KEYS, RESOURCE_FLAGS, RUN_FLAGS, SIG_PROXY
from buildtool.cli.table.shared import FILTER, FORCE_YES, FORMAT, FORMAT_F, NO_TRUNC

_MANY = "CONTAINER [CONTAINER...]"

COMMANDS = {
    "run": Command(
        "run:run",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create and run a new container from an image",
        RUN_FLAGS,
        minimum=1,
        interspersed=False,
    ),
    "create": Command(
        "run:create",
        "[OPTIONS] IMAGE [COMMAND] [ARG...]",
        "Create a new container",
        CREATE_FLAGS,
        minimum=1,
        interspersed=False,
    ),
    "exec": Command(
        "exec:execute",
        "[OPTIONS] CONTAINER COMMAND [ARG...]",
        "Run a command in a running container",
        (
            Flag("detach", "d", "bool", "Run the command in the background"),
            DETACH_KEYS,
            Flag("env", "e", "list", "Set an environment variable"),
            Flag("env-file", "", "list", "Read environment variables from a file"),
            Flag("interactive", "i", "bool", "Keep STDIN open even if not attached"),
            Flag("privileged", "", "bool", "Give the command all privileges"),
            Flag("tty", "t", "bool", "Allocate a pseudo-TTY"),
            Flag("user", "u", "string", "User (name|uid[:group|gid])"),
            Flag("workdir", "w", "string", "Working directory"),
        ),
        minimum=2,
        interspersed=False,
    ),
    "ps": Command(
        "ps:ps",
        "[OPTIONS]",
        "List containers",
        (
            Flag("all", "a", "bool", "Show all containers, not only those that run"),
            FILTER,
            FORMAT,
            Flag("last", "n", "int", "Show the n containers created last, in whatever state", default=-1),
            Flag("latest", "l", "bool", "Show the container created last, in whatever state"),
            NO_TRUNC,
            Flag("quiet", "q", "bool", "Show only ids"),
            Flag("size", "s", "bool", "Show sizes on disk"),
        ),
        maximum=0,
    ),
    "start": Command(
        "start:start",
        f"[OPTIONS] {_MANY}",
        "Start one or more stopped containers",
        (
            Flag("attach", "a", "bool", "Attach STDOUT and STDERR and pass signals on"),
            DETACH_KEYS,
            Flag("interactive", "i", "bool", "Attach STDIN"),
        ),
        minimum=1,
    ),
    "stop": Command(
        "lifecycle:stop",
        f"[OPTIONS] {_MANY}",
        "Stop one or more running containers",
        (
            Flag("signal", "s", "string", "Signal to send"),
            Flag("timeout", "t", "int", "Seconds to wait before killing"),
            Flag("time", "", "int", "Seconds to wait before killing", hidden=True),
        ),
        minimum=1,
    ),
    "restart": Command(
        "lifecycle:restart",
        f"[OPTIONS] {_MANY}",
        "Restart one or more containers",
        (
            Flag("signal", "s", "string", "Signal to send"),
            Flag("timeout", "t", "int", "Seconds to wait before killing"),
            Flag("time", "", "int", "Seconds to wait before killing", hidden=True),
        ),
        minimum=1,
    ),
    "kill": Command(
        "lifecycle:kill",
        f"[OPTIONS] {_MANY}",
        "Kill one or more running containers",
        (Flag("signal", "s", "string", "Signal to send"),),
        minimum=1,
    ),
    "rm": Command(
        "lifecycle:rm",
        f"[OPTIONS] {_MANY}",
        "Remove one or more containers",
        (
            Flag("force", "f", "bool", "Remove also what runs (with SIGKILL)"),
            Flag("link", "l", "bool", "Remove the named link"),
            Flag("volumes", "v", "bool", "Remove the container's anonymous volumes"),
        ),
        minimum=1,
    ),
    "pause": Command("lifecycle:pause", _MANY, "Pause all processes of one or more containers", minimum=1),
    "unpause": Command("lifecycle:unpause", _MANY, "Let paused containers go on", minimum=1),
    "rename": Command("lifecycle:rename", "CONTAINER NEW_NAME", "Rename a container", minimum=2, maximum=2),
    "wait": Command("lifecycle:wait", _MANY, "Wait until containers stop, then print their exit codes", minimum=1),
    "update": Command(
        "lifecycle:update",
        f"[OPTIONS] {_MANY}",
        "Change the limits of one or more containers",
        (*RESOURCE_FLAGS, Flag("restart", "", "string", "Restart policy")),
        minimum=1,
    ),
    "attach": Command(
        "attach:attach",
        "[OPTIONS] CONTAINER",
        "Attach the terminal's input and output to a running container",
        (DETACH_KEYS, Flag("no-stdin", "", "bool", "Do not attach STDIN"), SIG_PROXY),
        minimum=1,
        maximum=1,
    ),
    "logs": Command(
        "logs:logs",
        "[OPTIONS] CONTAINER",
        "Show the output of a container",
        (
            Flag("details", "", "bool", "Show the log's extra attributes"),
            Flag("follow", "f", "bool", "Go on with what comes"),
            Flag("since", "", "string", "Begin at this time (RFC 3339, or 42m for 42 minutes ago)"),
            Flag("tail", "n", "string", "Number of lines from the end", default="all"),
            Flag("timestamps", "t", "bool", "Show the time of each line"),
            Flag("until", "", "string", "End at this time (RFC 3339, or 42m for 42 minutes ago)"),
        ),
        minimum=1,
        maximum=1,
    ),
    "inspect": Command(
        "inspect:inspect",
        "[OPTIONS] NAME|ID [NAME|ID...]",
        "Show all that is known of containers, images, volumes or networks",
        (
            FORMAT_F,
            Flag("size", "s", "bool", "Show sizes on disk (containers)"),
            Flag("type", "", "string", "Look only for this type of object"),
        ),
        minimum=1,
    ),
    "container inspect": Command(
        "inspect:inspect_container",
        f"[OPTIONS] {_MANY}",
        "Show all that is known of one or more containers",
        (FORMAT_F, Flag("size", "s", "bool", "Show sizes on disk")),
        minimum=1,
    ),
    "top": Command(
        "views:top",
        "CONTAINER [ps OPTIONS]",
        "Show the processes of a container",
        minimum=1,
        interspersed=False,
    ),
    "port": Command(
        "views:port", "CONTAINER [PRIVATE_PORT[/PROTO]]", "Show a container's published ports", minimum=1, maximum=2
    ),
    "diff": Command("views:diff", "CONTAINER", "Show what changed in a container's files", minimum=1, maximum=1),
    "stats": Command(
        "stats:stats",
        "[OPTIONS] [CONTAINER...]",
        "Show what containers use, continuously",
        (
            Flag("all", "a", "bool", "Show all containers, not only those that run"),
            FORMAT,
            Flag("no-stream", "", "bool", "Show once and end"),
            NO_TRUNC,
        ),
    ),
    "cp": Command(
        "cp:cp",
        "[OPTIONS] CONTAINER:SRC_PATH DEST_PATH|- | SRC_PATH|- CONTAINER:DEST_PATH",
        "Copy files between a container and this machine",
        (
            Flag("archive", "a", "bool", "Keep the owners' ids"),
            Flag("follow-link", "L", "bool", "Follow a symbolic link in SRC_PATH"),
            Flag("quiet", "q", "bool", "Do not show progress"),
        ),
        minimum=2,
        maximum=2,
    ),
    "commit": Command(
        "commit:commit",
        "[OPTIONS] CONTAINER [REPOSITORY[:TAG]]",
        "Make an image of a container's changes",
        (
            Flag("author", "a", "string", "Author"),
            Flag("change", "c", "list", "Apply a Buildfile instruction to the image"),
            Flag("message", "m", "string", "Message of the commit"),
            Flag("pause", "p", "bool", "Pause the container meanwhile", default=True),
        ),
        minimum=1,
        maximum=2,
    ),
    "export": Command(
        "commit:export",
        "[OPTIONS] CONTAINER",
        "Write a container's file system as a tar archive",
        (Flag("output", "o", "string", "Write to a file instead of STDOUT"),),
        minimum=1,
        maximum=1,
    ),
    "container prune": Command(
        "prune:containers",
        "[OPTIONS]",
        "Remove all stopped containers",
        (Flag("filter", "", "filter", "Only what fulfils the condition (until=…, label=…)"), FORCE_YES),
        maximum=0,
    ),
}
