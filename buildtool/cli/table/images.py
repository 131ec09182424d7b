"""Commands about images: building, listing, moving in and out."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.shared import FILTER, FORCE_YES, FORMAT, FORMAT_F, NO_TRUNC

_CHANGE = Flag("change", "c", "list", "Apply a Buildfile instruction to the image")
_PLATFORM = Flag("platform", "", "string", "Platform of the image (os/arch)")
_TRUST = Flag("disable-content-trust", "", "bool", "Skip the check of signatures", default=True)


def _absent(name: str, short: str, what: str) -> Flag:
    return Flag(name, short, "absent", what, hidden=True)


_ABSENT_FROM_BUILD = (
    _absent("attest", "", "no attestations are made"),
    _absent("builder", "", "the daemon itself is the only builder"),
    _absent("squash", "", "layers are kept as they are"),
    Flag("provenance", "", "string", "Accepted for Docker's sake: none is made", hidden=True),
    Flag("sbom", "", "string", "Accepted for Docker's sake: none is made", hidden=True),
)

COMMANDS = {
    "build": Command(
        "build_call:build",
        "[OPTIONS] PATH | URL | -",
        "Build an image from a Buildfile",
        (
            Flag("add-host", "", "list", "Add a line to /etc/hosts of the RUN steps (host:ip)"),
            Flag("annotation", "", "list", "Annotation of the image's manifest (KEY=VALUE)"),
            Flag("allow", "", "list", "Allow RUN steps more (security.insecure|network.host|device|device=NAME)"),
            Flag(
                "build-context",
                "",
                "list",
                "A further context (NAME=PATH|URL|docker-image://IMAGE|oci-layout://PATH|target:STAGE)",
            ),
            Flag("build-arg", "", "list", "Value of an ARG (NAME=value, or NAME to pass this environment's on)"),
            Flag(
                "call",
                "",
                "string",
                "Tell of the Buildfile instead of building (check|outline|targets[,format=json])",
                default="build",
                choices=("build", "check", "outline", "targets"),
            ),
            Flag(
                "cache-from", "", "list", "Take results from a cache (IMAGE, type=registry,ref=…, type=local,src=…)"
            ),
            Flag("cache-to", "", "list", "Give results to a cache (type=registry|inline|local,mode=min|max,…)"),
            Flag("cgroup-parent", "", "string", "Parent cgroup of the RUN steps"),
            Flag("check", "", "bool", "The same as --call=check: run the build checks"),
            Flag("cpu-period", "", "int", "Period of the CPU quota, in microseconds"),
            Flag("cpu-quota", "", "int", "CPU time a period, in microseconds"),
            Flag("cpu-shares", "c", "int", "Relative weight in CPU time"),
            Flag("cpuset-cpus", "", "string", "CPUs to run on (0-3, 0,1)"),
            Flag("cpuset-mems", "", "string", "Memory nodes to use (0-3, 0,1)"),
            Flag(
                "context-mode",
                "",
                "string",
                "Modes of the context's files: keep, or git (0644 and 0755 whatever the umask was)",
                default="keep",
                choices=("keep", "git"),
            ),
            Flag(
                "cutoff-ignore",
                "",
                "list",
                "Files that do not count when a RUN gave the same tree as before (pattern)",
            ),
            Flag("debug", "", "bool", "Open a shell in the tree of a RUN that fails"),
            Flag("debug-at", "", "list", "Open a shell before the step on this line, or the first of this stage"),
            Flag("explain", "", "bool", "Say for each step why the cache did not have it"),
            Flag("file", "f", "string", "The Buildfile (PATH/Buildfile, else PATH/Dockerfile; - for STDIN)"),
            Flag("force-rm", "", "bool", "Accepted for Docker's sake: nothing is left behind anyway", hidden=True),
            Flag("graph", "", "string", "Draw the steps, their times and the critical path (FILE.svg|html|dot|mmd)"),
            Flag("iidfile", "", "string", "Write the image's id to this file"),
            Flag("jobs", "j", "int", "Run at most so many steps at a time"),
            Flag("label", "", "list", "Set a label of the image"),
            Flag("load", "", "bool", "Keep the image in the daemon, also with other outputs"),
            Flag("memory", "m", "bytes", "Memory limit of the RUN steps"),
            Flag("memory-swap", "", "bytes-or-unlimited", "Limit of memory and swap together; -1 = unlimited swap"),
            Flag("metadata-file", "", "string", "Write digests and names of the result to this file"),
            Flag("network", "", "string", "Network of the RUN steps (none|host|default)", default="default"),
            Flag("no-cache", "", "bool", "Do not use the cache"),
            Flag("no-cache-filter", "", "list", "Do not use the cache for the RUN steps of these stages"),
            Flag(
                "output",
                "o",
                "list",
                "Where it goes (type=image|registry|docker|oci|local|tar|cacheonly,dest=…; or DIR, -)",
            ),
            _PLATFORM,
            Flag(
                "progress",
                "",
                "string",
                "How progress is shown (auto|plain|tty|quiet|rawjson)",
                default="auto",
                choices=("auto", "plain", "tty", "quiet", "rawjson"),
            ),
            Flag("push", "", "bool", "Push the image to its registry afterwards (--output type=registry)"),
            Flag("pull", "", "bool", "Always ask the registry for newer base images"),
            Flag("quiet", "q", "bool", "Print only the image's id"),
            Flag(
                "rm",
                "",
                "bool",
                "Accepted for Docker's sake: nothing is left behind anyway",
                hidden=True,
                default=True,
            ),
            Flag("resource", "", "list", "Limits as buildx names them (memory=1g,cpu-quota=50000,cpuset-cpus=0-1)"),
            Flag("secret", "", "list", "Secret for RUN --mount=type=secret (id=NAME[,src=FILE|,env=VARIABLE])"),
            Flag("shm-size", "", "bytes", "Size of /dev/shm of the RUN steps"),
            Flag("ssh", "", "list", "Agent for RUN --mount=type=ssh (default, NAME=SOCKET or NAME=KEY[,KEY])"),
            Flag("tag", "t", "list", "Name of the image (name:tag)"),
            Flag("target", "", "string", "Stage to build"),
            Flag("ulimit", "", "ulimit", "Resource limit of the RUN steps (name=soft[:hard])"),
            Flag("var", "", "list", "Variable of a Buildfile that is a template (NAME=value)"),
            Flag("var-file", "", "list", "YAML file with variables of a template"),
            *_ABSENT_FROM_BUILD,
        ),
        minimum=1,
        maximum=1,
    ),
    "images": Command(
        "images:images",
        "[OPTIONS] [REPOSITORY[:TAG]]",
        "List images",
        (
            Flag("all", "a", "bool", "Show all images, intermediate ones too"),
            Flag("digests", "", "bool", "Show digests"),
            FILTER,
            FORMAT,
            NO_TRUNC,
            Flag("quiet", "q", "bool", "Show only ids"),
        ),
        maximum=1,
    ),
    "tag": Command(
        "image_ops:tag",
        "SOURCE_IMAGE[:TAG] TARGET_IMAGE[:TAG]",
        "Give an image a further name",
        minimum=2,
        maximum=2,
    ),
    "rmi": Command(
        "image_ops:rmi",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Remove one or more images",
        (
            Flag("force", "f", "bool", "Remove it even if it is in use or has several names"),
            Flag("no-prune", "", "bool", "Keep untagged parents"),
            Flag("platform", "", "string", "Remove only this platform", hidden=True),
        ),
        minimum=1,
    ),
    "history": Command(
        "history:history",
        "[OPTIONS] IMAGE",
        "Show how an image was made",
        (
            FORMAT,
            Flag("human", "H", "bool", "Print sizes and times for human eyes", default=True),
            NO_TRUNC,
            Flag("quiet", "q", "bool", "Show only ids"),
        ),
        minimum=1,
        maximum=1,
    ),
    "image inspect": Command(
        "inspect:inspect_image",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Show all that is known of one or more images",
        (FORMAT_F, _PLATFORM, Flag("remote", "", "bool", "Ask the image's registry, without pulling")),
        minimum=1,
    ),
    "image copy": Command(
        "remote:copy",
        "[OPTIONS] SOURCE DESTINATION",
        "Copy an image between registries, OCI layouts, archives and folders "
        "(docker://NAME, oci:DIR[:NAME], oci-archive:FILE[:NAME], docker-archive:FILE[:NAME], dir:DIR)",
        (
            Flag("all-tags", "a", "bool", "Copy every tag (or named image)"),
            Flag("platform", "", "string", "Of an image for several platforms only this one (default: all)"),
            Flag("quiet", "q", "bool", "Do not show progress"),
            Flag("referrers", "", "bool", "Copy signatures, SBOMs and whatever else refers to the image, too"),
        ),
        minimum=2,
        maximum=2,
    ),
    "image tags": Command("remote:tags", "REPOSITORY", "List the tags of a repository", minimum=1, maximum=1),
    "save": Command(
        "image_ops:save",
        "[OPTIONS] IMAGE [IMAGE...]",
        "Write images to a tar archive",
        (Flag("output", "o", "string", "Write to a file instead of STDOUT"), _PLATFORM),
        minimum=1,
    ),
    "load": Command(
        "image_ops:load",
        "[OPTIONS]",
        "Read images from a tar archive",
        (
            Flag("input", "i", "string", "Read from a file instead of STDIN"),
            Flag("quiet", "q", "bool", "Do not show progress"),
            _PLATFORM,
        ),
        maximum=0,
    ),
    "import": Command(
        "image_ops:import_",
        "[OPTIONS] FILE|- [REPOSITORY[:TAG]]",
        "Make an image of the tar archive of a file system",
        (_CHANGE, Flag("message", "m", "string", "Message in the image's history"), _PLATFORM),
        minimum=1,
        maximum=2,
    ),
    "image prune": Command(
        "prune:images",
        "[OPTIONS]",
        "Remove unused images",
        (
            Flag("all", "a", "bool", "Remove all images that no container uses, not only untagged ones"),
            Flag("filter", "", "filter", "Only what fulfils the condition (until=…, label=…)"),
            FORCE_YES,
        ),
        maximum=0,
    ),
    "image bootstrap": Command(
        "bootstrap:bootstrap",
        "[OPTIONS] busybox|debian:SUITE",
        "Make a base image from Debian's packages",
        (
            Flag("host-ca", "", "bool", "Put this machine's own CA certificates in"),
            Flag("include", "", "list", "Further package (may be repeated; commas separate too)"),
            Flag("tag", "t", "string", "Name of the image (the base's own by default)"),
        ),
        minimum=1,
        maximum=1,
    ),
    "pull": Command(
        "registry:pull",
        "[OPTIONS] NAME[:TAG|@DIGEST]",
        "Download an image from a registry",
        (
            Flag("all-tags", "a", "bool", "Download all tags of the repository"),
            _TRUST,
            _PLATFORM,
            Flag("quiet", "q", "bool", "Do not show progress"),
        ),
        minimum=1,
        maximum=1,
    ),
    "push": Command(
        "registry:push",
        "[OPTIONS] NAME[:TAG]",
        "Upload an image to a registry",
        (
            Flag("all-tags", "a", "bool", "Upload all tags of the repository"),
            Flag(
                "compression",
                "",
                "string",
                "Compress all layers with gzip or zstd (default: as they are, new ones with gzip)",
                choices=("", "gzip", "zstd"),
            ),
            _TRUST,
            _PLATFORM,
            Flag("quiet", "q", "bool", "Do not show progress"),
        ),
        minimum=1,
        maximum=1,
    ),
    "login": Command(
        "registry:login",
        "[OPTIONS] [SERVER]",
        "Log in to a registry",
        (
            Flag("password", "p", "string", "Password"),
            Flag("password-stdin", "", "bool", "Read the password from STDIN"),
            Flag("username", "u", "string", "User name"),
        ),
        maximum=1,
    ),
    "logout": Command("registry:logout", "[SERVER]", "Log out from a registry", maximum=1),
    "search": Command(
        "registry:search",
        "[OPTIONS] TERM",
        "Search Docker Hub for images, or another registry's catalog (HOST/TERM)",
        (
            Flag("filter", "f", "filter", "Only what fulfils the condition (is-official=true, stars=3)"),
            FORMAT,
            Flag("limit", "", "int", "Show at most so many", default=25),
            NO_TRUNC,
        ),
        minimum=1,
        maximum=1,
    ),
}
