"""Flags that several commands have."""

from __future__ import annotations

from buildtool.cli.parse import Flag

FORMAT = Flag("format", "", "string", "Print with a Go template ('json', 'table TEMPLATE', 'TEMPLATE')")
FORMAT_F = Flag("format", "f", "string", "Print with a Go template ('json', 'TEMPLATE')")
FILTER = Flag("filter", "f", "filter", "Show only what fulfils the condition (name=value)")
NO_TRUNC = Flag("no-trunc", "", "bool", "Do not shorten anything")
FORCE_YES = Flag("force", "f", "bool", "Do not ask")
