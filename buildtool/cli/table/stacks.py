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
_TIMEOUT = Flag("timeout", "t", "int", "Seconds to wait before killing")
_BUILD = Flag("build", "", "bool", "Build images before starting containers")
_PULL = Flag("pull", "", "string", 'Pull images before ("always"|"missing"|"never"|"build")', default="policy")
_ORPHANS = Flag("remove-orphans", "", "bool", "Remove containers of services that the stack does not have")
_QUIET_PULL = Flag("quiet-pull", "", "bool", "Pull without showing progress")
_QUIET_BUILD = Flag("quiet-build", "", "bool", "Build without showing progress")
INDEX = Flag("index", "", "int", "Which of the service's containers (1, 2, …)")
RECREATE = Flag("force-recreate", "", "bool", "Recreate containers even if nothing has changed")
_NORECREATE = Flag("no-recreate", "", "bool", "Leave existing containers as they are")
_NO_BUILD = Flag("no-build", "", "bool", "Do not build an image, even if it is missing")
SCALE = Flag("scale", "", "list", "Run NUM containers of SERVICE (SERVICE=NUM)")
_NO_COLOR = Flag("no-color", "", "bool", "No colours")
_NO_PREFIX = Flag("no-log-prefix", "", "bool", "No service names before the lines")
YES = Flag("yes", "y", "bool", "Answer every question with yes")
_NO_DEPS = Flag("no-deps", "", "bool", "Do not start the services that it depends on")

_VERBS = {
    "config": Command(
        "stack_config:config",
        SERVICES,
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

_VERBS |= {
    "up": Command(
        "stack_up:up",
        SERVICES,
        "Create and start containers",
        (
            Flag("abort-on-container-exit", "", "bool", "Stop all containers when one of them ends"),
            Flag("abort-on-container-failure", "", "bool", "Stop all containers when one of them fails"),
            Flag("always-recreate-deps", "", "bool", "Recreate also the containers that others depend on"),
            Flag("attach", "", "list", "Show the output of these services only"),
            Flag("attach-dependencies", "", "bool", "Show the output of dependencies too"),
            _BUILD,
            Flag("detach", "d", "bool", "Leave the containers running in the background"),
            Flag("exit-code-from", "", "string", "End with the exit code of this service's container"),
            RECREATE,
            Flag("menu", "", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("no-attach", "", "list", "Do not show the output of these services"),
            _NO_BUILD,
            _NO_COLOR,
            _NO_DEPS,
            _NO_PREFIX,
            _NORECREATE,
            Flag("no-start", "", "bool", "Create containers and do not start them"),
            _PULL,
            _QUIET_BUILD,
            _QUIET_PULL,
            _ORPHANS,
            Flag("renew-anon-volumes", "V", "bool", "Give recreated containers new anonymous volumes"),
            SCALE,
            _TIMEOUT,
            Flag("timestamps", "", "bool", "Show the time of each line"),
            Flag("wait", "", "bool", "Wait until all services run or are healthy; implies --detach"),
            Flag("wait-timeout", "", "int", "Seconds to wait at most"),
            Flag("watch", "w", "bool", "Update the containers when files change (develop.watch)"),
            YES,
        ),
    ),
    "create": Command(
        "stack_up:create",
        SERVICES,
        "Create containers and do not start them",
        (_BUILD, RECREATE, _NO_BUILD, _NORECREATE, _PULL, _QUIET_PULL, _ORPHANS, SCALE, YES),
    ),
    "scale": Command(
        "stack_up:scale",
        "[OPTIONS] SERVICE=NUM [SERVICE=NUM...]",
        "Change how many containers services have",
        (_NO_DEPS,),
        minimum=1,
    ),
    "down": Command(
        "stack_down:down",
        SERVICES,
        "Stop and remove containers and networks",
        (
            _ORPHANS,
            Flag("rmi", "", "string", 'Remove images too ("local": only those without a name of their own|"all")'),
            _TIMEOUT,
            Flag("volumes", "v", "bool", "Remove the stack's volumes and the containers' anonymous ones too"),
        ),
    ),
    "start": Command(
        "stack_down:start",
        SERVICES,
        "Start existing containers",
        (
            Flag("wait", "", "bool", "Wait until they run or are healthy"),
            Flag("wait-timeout", "", "int", "Seconds to wait at most"),
        ),
    ),
    "stop": Command("stack_down:stop", SERVICES, "Stop containers", (_TIMEOUT,)),
    "restart": Command(
        "stack_down:restart",
        SERVICES,
        "Restart containers",
        (Flag("no-deps", "", "bool", "Do not restart services that depend on them"), _TIMEOUT),
    ),
    "kill": Command(
        "stack_down:kill",
        SERVICES,
        "Kill containers",
        (_ORPHANS, Flag("signal", "s", "string", "Signal to send", default="SIGKILL")),
    ),
    "rm": Command(
        "stack_down:rm",
        SERVICES,
        "Remove stopped containers",
        (
            Flag("force", "f", "bool", "Do not ask"),
            Flag("stop", "s", "bool", "Stop the containers first"),
            Flag("volumes", "v", "bool", "Remove their anonymous volumes"),
        ),
    ),
    "pause": Command("stack_down:pause", SERVICES, "Freeze containers"),
    "unpause": Command("stack_down:unpause", SERVICES, "Let frozen containers go on"),
    "ps": Command(
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
    "ls": Command(
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
    "images": Command(
        "stack_list:images",
        SERVICES,
        "List the images of the stack's containers",
        (
            Flag("format", "", "string", "table or json", default="table"),
            Flag("quiet", "q", "bool", "Show only ids"),
        ),
    ),
    "top": Command("stack_list:top", "[SERVICE...]", "Show the processes of the stack's containers"),
    "port": Command(
        "stack_list:port",
        "[OPTIONS] SERVICE PRIVATE_PORT",
        "Show where a port is published",
        (INDEX, Flag("protocol", "", "string", "tcp or udp", default="tcp")),
        minimum=2,
        maximum=2,
    ),
    "volumes": Command(
        "stack_list:volumes",
        SERVICES,
        "List the stack's volumes",
        (
            Flag("format", "", "string", "Print with a Go template ('json', 'table TEMPLATE', 'TEMPLATE')"),
            Flag("quiet", "q", "bool", "Show only names"),
        ),
    ),
    "stats": Command(
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
    "logs": Command(
        "stack_logs:logs",
        SERVICES,
        "Show the output of the stack's containers",
        (
            Flag("follow", "f", "bool", "Go on with what comes"),
            INDEX,
            _NO_COLOR,
            _NO_PREFIX,
            Flag("since", "", "string", "Begin at this time (RFC 3339, or 42m for 42 minutes ago)"),
            Flag("tail", "n", "string", "Number of lines from the end of each container's", default="all"),
            Flag("timestamps", "t", "bool", "Show the time of each line"),
            Flag("until", "", "string", "End at this time (RFC 3339, or 42m for 42 minutes ago)"),
        ),
    ),
    "exec": Command(
        "stack_exec:execute",
        "[OPTIONS] SERVICE COMMAND [ARG...]",
        "Run a command in a running container",
        (
            Flag("detach", "d", "bool", "Run the command in the background"),
            Flag("env", "e", "list", "Set an environment variable"),
            INDEX,
            Flag("interactive", "i", "bool", "Keep STDIN open", default=True, hidden=True),
            Flag("no-TTY", "T", "bool", "Do not allocate a pseudo-TTY"),
            Flag("no-tty", "", "bool", "Do not allocate a pseudo-TTY", hidden=True),
            Flag("privileged", "", "bool", "Give the command all privileges"),
            Flag("tty", "t", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("user", "u", "string", "User (name|uid[:group|gid])"),
            Flag("workdir", "w", "string", "Working directory"),
        ),
        minimum=2,
        interspersed=False,
    ),
    "run": Command(
        "stack_run:run",
        "[OPTIONS] SERVICE [COMMAND] [ARG...]",
        "Run a one-off command in a new container of a service",
        (
            _BUILD,
            Flag("cap-add", "", "list", "Add a capability"),
            Flag("cap-drop", "", "list", "Drop a capability"),
            Flag("detach", "d", "bool", "Run in the background and print the container's name"),
            Flag("entrypoint", "", "string", "Another entrypoint"),
            Flag("env", "e", "list", "Set an environment variable"),
            Flag("env-from-file", "", "list", "Read environment variables from a file"),
            Flag("interactive", "i", "bool", "Keep STDIN open", default=True),
            Flag("label", "l", "list", "Add a label"),
            Flag("name", "", "string", "The container's name"),
            Flag("no-TTY", "T", "bool", "Do not allocate a pseudo-TTY"),
            _NO_DEPS,
            Flag("publish", "p", "list", "Publish a port"),
            _PULL,
            Flag("quiet", "q", "bool", "Do not show progress"),
            _QUIET_BUILD,
            _QUIET_PULL,
            _ORPHANS,
            Flag("rm", "", "bool", "Remove the container when it ends"),
            Flag("service-ports", "P", "bool", "Publish the service's ports"),
            Flag("tty", "t", "bool", "Accepted for Docker's sake", hidden=True),
            Flag("use-aliases", "", "bool", "Let others find the container by the service's name"),
            Flag("user", "u", "string", "User (name|uid[:group|gid])"),
            Flag("volume", "v", "list", "Mount a volume"),
            Flag("workdir", "w", "string", "Working directory"),
        ),
        minimum=1,
        interspersed=False,
    ),
    "cp": Command(
        "stack_exec:cp",
        "[OPTIONS] SERVICE:SRC_PATH DEST_PATH|- | SRC_PATH|- SERVICE:DEST_PATH",
        "Copy files between a service's containers and this machine",
        (
            Flag("all", "", "bool", "Copy to all containers of the service"),
            Flag("archive", "a", "bool", "Keep the owners' ids"),
            Flag("follow-link", "L", "bool", "Follow a symbolic link in SRC_PATH"),
            INDEX,
        ),
        minimum=2,
        maximum=2,
    ),
    "attach": Command(
        "stack_exec:attach",
        "[OPTIONS] SERVICE",
        "Attach the terminal's input and output to a service's container",
        (
            Flag("detach-keys", "", "string", "Keys that detach"),
            INDEX,
            Flag("no-stdin", "", "bool", "Do not attach STDIN"),
            Flag("sig-proxy", "", "bool", "Pass signals on", default=True),
        ),
        minimum=1,
        maximum=1,
    ),
    "build": Command(
        "stack_images:build",
        SERVICES,
        "Build the services' images",
        (
            Flag("build-arg", "", "list", "Set a build argument"),
            Flag("builder", "", "string", "Accepted for Docker's sake", hidden=True),
            Flag("check", "", "bool", "Check the Buildfiles and build nothing"),
            Flag("memory", "m", "string", "Accepted for Docker's sake", hidden=True),
            Flag("no-cache", "", "bool", "Build without the cache"),
            Flag("print", "", "bool", "Print the builds as docker-bake JSON and build nothing"),
            Flag("provenance", "", "string", "Add a provenance attestation"),
            Flag("pull", "", "bool", "Look for newer base images"),
            Flag("push", "", "bool", "Push the images afterwards"),
            Flag("quiet", "q", "bool", "Show nothing"),
            Flag("sbom", "", "string", "Add an SBOM attestation"),
            Flag("ssh", "", "string", "SSH agent or keys"),
            Flag("with-dependencies", "", "bool", "Build also what the services depend on"),
        ),
    ),
    "pull": Command(
        "stack_images:pull",
        SERVICES,
        "Pull the services' images",
        (
            Flag("ignore-buildable", "", "bool", "Leave out what can be built"),
            Flag("ignore-pull-failures", "", "bool", "Go on when an image cannot be pulled"),
            Flag("include-deps", "", "bool", "Pull also what the services depend on"),
            Flag("policy", "", "string", '"missing" or "always"'),
            Flag("quiet", "q", "bool", "Show no progress"),
        ),
    ),
    "push": Command(
        "stack_images:push",
        SERVICES,
        "Push the services' images",
        (
            Flag("ignore-push-failures", "", "bool", "Go on when an image cannot be pushed"),
            Flag("include-deps", "", "bool", "Push also what the services depend on"),
            Flag("quiet", "q", "bool", "Show no progress"),
        ),
    ),
    "events": Command(
        "stack_look:events",
        SERVICES,
        "Show what happens to the stack's containers",
        (
            Flag("json", "", "bool", "Print JSON lines"),
            Flag("since", "", "string", "Begin at this time"),
            Flag("until", "", "string", "End at this time"),
        ),
    ),
    "wait": Command(
        "stack_look:wait",
        "[OPTIONS] SERVICE [SERVICE...]",
        "Wait until the first of the services' containers stops",
        (Flag("down-project", "", "bool", "Take the stack down then"),),
        minimum=1,
    ),
    "watch": Command(
        "stack_watch:watch",
        SERVICES,
        "Update the containers when files change (develop.watch)",
        (
            Flag("no-up", "", "bool", "Do not build and start the services before"),
            Flag("prune", "", "bool", "Remove images that a rebuild has replaced", default=True),
            Flag("quiet", "", "bool", "Do not show builds"),
        ),
    ),
    "version": Command(
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

COMMANDS = {f"compose {verb}": command for verb, command in _VERBS.items()}
for _command in COMMANDS.values():
    _command.flags = with_project(_command.flags)
