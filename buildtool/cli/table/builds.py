"""Commands about builds that were: their history, and the cache they left."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag
from buildtool.cli.table.shared import FILTER, FORMAT, FORMAT_F, NO_TRUNC

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
}
