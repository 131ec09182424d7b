"""The Typer app generated from the tables: help, completion, and the same commands for whoever embeds them.

A well-formed call never comes here (see docs/decisions/0001-cli-table.md). Only the command that is asked about gets
its flags; the others are known by name and help text, which is all that a list of commands or a completion needs.
"""

from __future__ import annotations

import inspect
import os
import sys

import typer
from typer.core import TyperCommand

from buildtool.cli import table
from buildtool.cli.parse import REPEATED, Command, Flag, Parsed, set_value

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_SHOWN_KINDS = {"bytes-or-unlimited": "bytes"}
_LISTED = {
    "CONTAINER": "containers",
    "CONTEXT": "contexts",
    "IMAGE": "images",
    "VOLUME": "volumes",
    "NETWORK": "networks",
}


def run_typer(argv: list[str]) -> int:
    """Run the app on this command line and return its exit code."""
    app = build_app(_words_to_complete() if "_BUILDTOOL_COMPLETE" in os.environ else argv)
    try:
        app(argv, prog_name="buildtool", standalone_mode=True)
    except SystemExit as end:
        return end.code if isinstance(end.code, int) else 0
    return 0


def _words_to_complete() -> list[str]:
    """The command line that a shell asks about (bash names it one way, zsh and fish another)."""
    line = os.environ.get("COMP_WORDS") or os.environ.get("_TYPER_COMPLETE_ARGS", "")
    return line.split()[1:]


def build_app(words: list[str] | None = None) -> typer.Typer:
    """The app; with `words`, only the command that they name has its flags, otherwise every command."""
    app = typer.Typer(
        help="Build, run and ship OCI images with Docker's files, commands and API.",
        rich_markup_mode=None,
        no_args_is_help=True,
        context_settings={"max_content_width": 110},
    )
    from buildtool.cli.main import GLOBAL_FLAGS

    app.callback()(_described(GLOBAL_FLAGS))
    named = None if words is None else [word for word in words if not word.startswith("-")][:2]
    for verb, name in sorted(table.TOP_LEVEL.items()):
        if verb not in table.GROUPS:
            _add(app, verb, name, detailed=named is None or named[:1] == [verb])
    for group, verbs in sorted(table.GROUPS.items()):
        sub = typer.Typer(help=table.GROUP_HELP[group], rich_markup_mode=None, no_args_is_help=True)
        if table.group_flags(group):
            sub.callback()(_described(table.group_flags(group)))
        if group in table.TOP_LEVEL:  # a command by itself as well
            sub.callback()(_described(table.load(table.TOP_LEVEL[group]).flags))
        for verb, name in sorted(verbs.items()):
            _add(sub, verb, name, detailed=named is None or named == [group, verb], hidden=verb in table.ALIASES)
        app.add_typer(sub, name=group)
    return app


class _Command(TyperCommand):
    """A command whose usage is the table's: Typer would add the brackets of the argument that stands for all."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:
        """The words after the command's name."""
        return [self.options_metavar or ""]


def _described(flags: tuple[Flag, ...]) -> Callable[..., None]:
    def options(**values: object) -> None:
        """These flags are read before Typer is asked; here they are only described."""

    _give_signature(options, [_option(flag) for flag in flags])
    return options


def _add(app: typer.Typer, verb: str, name: str, *, detailed: bool, hidden: bool = False) -> None:
    command = table.load(name)

    def call(**values: Any) -> None:
        raise typer.Exit(_execute(f"buildtool {name}", command, values))

    if detailed:
        options = [_option(flag) for flag in command.flags if flag.kind != "absent"]
        _give_signature(call, [*options, *_argument(command)])
    else:
        _give_signature(call, [])
    usage = command.usage.removeprefix("[OPTIONS]").strip()
    app.command(
        verb,
        cls=_Command,
        help=command.help,
        hidden=hidden,
        options_metavar=" ".join(["[OPTIONS]", usage]).strip() if command.flags else usage,
        context_settings={"allow_interspersed_args": command.interspersed},
    )(call)


def _execute(name: str, command: Command, values: dict[str, Any]) -> int:
    """Call the handler as the fast path would."""
    from buildtool.cli.main import handle

    parsed = Parsed()
    parsed.arguments = list(values.get("arguments") or ())
    for flag in command.flags:
        value = values.get(_parameter_name(flag))
        if value is None or str(value) == str(flag.default):
            continue
        for item in value if isinstance(value, list) else [str(value)]:
            set_value(flag, item, parsed)
    return handle(name, command, parsed)


def _give_signature(function: Any, parameters: list[inspect.Parameter]) -> None:
    function.__signature__ = inspect.Signature(parameters)
    function.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}


def _parameter_name(flag: Flag) -> str:
    return "flag_" + flag.name.replace("-", "_")


def _option(flag: Flag) -> inspect.Parameter:
    names = [f"--{flag.name}", *([f"-{flag.short}"] if flag.short else [])]
    repeated = flag.kind in REPEATED
    if flag.kind == "bool":
        annotation: Any = bool
        default: Any = bool(flag.default)
    elif repeated:
        annotation, default = list[str], []
    else:
        annotation = str | None
        default = None if flag.default is None else str(flag.default)
    info = typer.Option(
        default,
        *names,
        help=flag.help,
        hidden=flag.hidden,
        metavar=None if flag.kind == "bool" else _SHOWN_KINDS.get(flag.kind, flag.kind),
        show_default=flag.default not in (None, False, ""),
        autocompletion=_choices(flag) if flag.choices else None,
    )
    return inspect.Parameter(
        _parameter_name(flag), inspect.Parameter.KEYWORD_ONLY, default=info, annotation=annotation
    )


def _choices(flag: Flag) -> Callable[[str], list[str]]:
    return lambda incomplete: [choice for choice in flag.choices if choice.startswith(incomplete)]


def _argument(command: Command) -> list[inspect.Parameter]:
    if command.maximum == 0:
        return []
    kind = next((kind for word, kind in _LISTED.items() if word in command.usage), "")
    info = typer.Argument(
        None, hidden=True, show_default=False, metavar="", autocompletion=_names(kind) if kind else None
    )
    return [inspect.Parameter("arguments", inspect.Parameter.KEYWORD_ONLY, default=info, annotation=list[str])]


def _names(kind: str) -> Callable[[str], list[str]]:
    return lambda incomplete: [name for name in known_names(kind) if name.startswith(incomplete)]


def known_names(kind: str) -> list[str]:
    """The names of existing containers, images, volumes or networks; none when no daemon runs (none is started)."""
    from buildtool.client import Client, resolve_address
    from buildtool.errors import BuildtoolError

    if kind == "contexts":
        from buildtool.client.contexts import names

        return ["default", *names()]
    try:
        client = Client(resolve_address(), autostart=False)
        if kind == "containers":
            found = client.get("/containers/json", {"all": True})
            return [name.removeprefix("/") for item in found for name in item["Names"]]
        if kind == "images":
            return [tag for item in client.get("/images/json") for tag in item.get("RepoTags") or ()]
        if kind == "volumes":
            return [item["Name"] for item in client.get("/volumes").get("Volumes") or ()]
        return [item["Name"] for item in client.get("/networks")]
    except BuildtoolError as error:
        print(f"buildtool: no completion of names: {error}", file=sys.stderr)
        return []
