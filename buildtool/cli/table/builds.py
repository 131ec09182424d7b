"""Commands about builds that were: their history, and the cache they left."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.shared import FILTER, FORCE_YES, FORMAT, FORMAT_F, NO_TRUNC

_FILTER = "Only what fulfils the condition (type, id, description, file, line, inuse, shared, protected, unused-for)"
_ORDERS = ("used", "size", "created", "hits")
_OUTPUT = Flag("output", "o", "string", "Write to a file instead of STDOUT")

COMMANDS = {
    "history ls": Command(
        "builds:ls",
        "[OPTIONS]",
        "List builds, the newest first",
        (FILTER, FORMAT, NO_TRUNC, Flag("quiet", "q", "bool", "Show only ids")),
        maximum=0,
    ),
    "history inspect": Command(
        "builds:inspect",
        "[OPTIONS] [BUILD...]",
        "Show all that is known of builds (the last one by default)",
        (FORMAT_F,),
    ),
    "history logs": Command(
        "builds:logs",
        "[OPTIONS] [BUILD]",
        "Show the whole log of a build",
        (
            Flag("follow", "f", "bool", "Go on while the build runs"),
            Flag(
                "progress",
                "",
                "string",
                "Form of the log (plain|rawjson)",
                default="plain",
                choices=("plain", "rawjson"),
            ),
        ),
        maximum=1,
    ),
    "history explain": Command(
        "builds:explain",
        "[OPTIONS] [BUILD]",
        "Say for each step of a build whether the cache had it, and what differed otherwise",
        (Flag("format", "", "string", "text or json", default="text", choices=("text", "json")),),
        maximum=1,
    ),
    "history trace": Command(
        "builds:trace",
        "[OPTIONS] [BUILD]",
        "Write a build as a Chrome trace (chrome://tracing, Perfetto)",
        (_OUTPUT,),
        maximum=1,
    ),
    "history export": Command(
        "builds:export",
        "[OPTIONS] [BUILD]",
        "Write all that is known of a build as a gzipped tar",
        (_OUTPUT,),
        maximum=1,
    ),
    "history rm": Command(
        "builds:rm",
        "[OPTIONS] [BUILD...]",
        "Forget builds and their logs",
        (Flag("all", "a", "bool", "All that are not running"),),
    ),
    "cache ls": Command(
        "cache:ls",
        "[OPTIONS]",
        "List what the build cache holds, the last used first",
        (
            Flag("filter", "f", "filter", _FILTER),
            FORMAT,
            NO_TRUNC,
            Flag("quiet", "q", "bool", "Show only ids"),
            Flag("sort", "", "string", "used, size, created or hits", default="used", choices=_ORDERS),
        ),
        maximum=0,
    ),
    "cache du": Command(
        "cache:du",
        "[OPTIONS]",
        "Show how much room the build cache takes",
        (
            Flag("filter", "f", "filter", _FILTER),
            Flag("format", "", "string", "text or json", default="text", choices=("text", "json")),
        ),
        maximum=0,
    ),
    "cache inspect": Command(
        "cache:inspect",
        "[OPTIONS] ENTRY [ENTRY...]",
        "Show all that is known of entries, and what their keys were made of",
        (FORMAT_F,),
        minimum=1,
    ),
    "cache prune": Command(
        "cache:prune",
        "[OPTIONS]",
        "Remove entries by age, size, count or filter; without any, all that no image needs",
        (
            Flag("all", "a", "bool", "Forget the results of steps that images need, too"),
            Flag("dry-run", "n", "bool", "Only show what would be removed"),
            Flag("filter", "", "filter", _FILTER),
            FORCE_YES,
            Flag("keep", "", "int", "Keep so many entries, the last used ones"),
            Flag("max-used-space", "", "bytes", "Remove until the cache takes no more"),
            Flag("min-free-space", "", "bytes", "Remove until so much of the disk is free"),
            Flag("mounts", "", "bool", "Cache mounts as well, after all layers"),
            Flag("reserved-space", "", "bytes", "Never go below this size"),
            Flag("unused-for", "", "string", "What was not used for so long (36h, 7d, 2w)"),
        ),
        maximum=0,
    ),
    "cache protect": Command(
        "cache:protect",
        "[OPTIONS] ENTRY [ENTRY...]",
        "Keep entries, and the layers they stand on, from prune and garbage collection",
        (Flag("remove", "", "bool", "Protect them no longer"),),
        minimum=1,
    ),
    "cache export": Command(
        "cache:export",
        "[OPTIONS] MOUNT",
        "Write the contents of a cache mount as a tar archive",
        (_OUTPUT,),
        minimum=1,
        maximum=1,
    ),
    "cache import": Command(
        "cache:import_",
        "[OPTIONS] ID [FILE|-]",
        "Make a tar archive the contents of the cache mount with this id",
        minimum=1,
        maximum=2,
    ),
}
