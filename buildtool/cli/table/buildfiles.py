"""Commands about Buildfiles themselves: nothing is built, no daemon is asked."""

from __future__ import annotations

from buildtool.cli.parse import Command, Flag

COMMANDS = {
    "fmt": Command(
        "fmt:fmt",
        "[OPTIONS] [PATH...|-]",
        "Format Buildfiles",
        (
            Flag("check", "", "bool", "Change nothing; end with 1 when a file is not formatted"),
            Flag("diff", "d", "bool", "Change nothing; show what would change"),
        ),
    ),
    "lint": Command(
        "lint:lint",
        "[OPTIONS] [PATH...|-]",
        "Run the build checks on Buildfiles",
        (
            Flag("fix", "", "bool", "Mend what can be mended safely"),
            Flag(
                "format",
                "",
                "string",
                "How findings are printed (text|json|sarif)",
                default="text",
                choices=("text", "json", "sarif"),
            ),
            Flag("var", "", "list", "Variable of Buildfiles that are templates (NAME=value)"),
            Flag("var-file", "", "list", "YAML file with variables of templates"),
        ),
    ),
}
