"""The entry: global flags, the verb, its handler, and what an error looks like.

Nothing is imported before the verb is known but the parser and the table's index; see
docs/decisions/0001-cli-table.md.
"""

from __future__ import annotations

import os
import sys

from buildtool.cli import table
from buildtool.cli.parse import ArgumentCountError, Flag, HelpAsked, UsageError, check_count, parse_flags, suggestion
from buildtool.errors import BuildtoolError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.parse import Command, Parsed

PROGRAM = "buildtool"
GLOBAL_FLAGS = (
    Flag("config", "", "string", "Folder of the client's configuration", hidden=True),
    Flag("context", "c", "string", "Docker context that names the daemon"),
    Flag("debug", "D", "bool", "Show where in the program an error came from"),
    Flag("host", "H", "string", "Daemon to talk to (unix:///path, tcp://host:port or ssh://user@host)"),
    Flag("log-level", "l", "string", "Accepted for Docker's sake", hidden=True),
    Flag("root", "", "string", "Data root of the daemon"),
    Flag("tls", "", "bool", "Use TLS for tcp://; implied by --tlsverify"),
    Flag("tlscacert", "", "string", "Trust only certificates signed by this authority"),
    Flag("tlscert", "", "string", "Certificate to show"),
    Flag("tlskey", "", "string", "Key of the certificate"),
    Flag("tlsverify", "", "bool", "Use TLS and verify the daemon's certificate"),
    Flag("version", "v", "bool", "Show the version and end"),
)


def main() -> None:
    """The console script: run the command line and end the process with its exit code.

    The interpreter's own clean-up is skipped: there is nothing to clean, and it takes a tenth of a hot command's
    time.
    """
    if sys.getfilesystemencoding() != "utf-8":
        from buildtool.encoding import ensure_utf8

        ensure_utf8()
    code = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except BrokenPipeError:
        code = code or 141
    except OSError as error:
        code = code or 1
        os.write(2, f"{PROGRAM}: cannot write the output: {error.strerror}\n".encode())
    os._exit(code)


def run(argv: list[str]) -> int:
    """Run one command line and return its exit code; everything that goes wrong is told on stderr."""
    if "_BUILDTOOL_COMPLETE" in os.environ or (argv and argv[0] in ("--install-completion", "--show-completion")):
        return _typer(argv)
    debug = False
    try:
        options = parse_flags(GLOBAL_FLAGS, argv, interspersed=False)
        debug = bool(options.values.get("debug"))
        if options.values.get("config"):
            os.environ["DOCKER_CONFIG"] = str(options.values["config"])
        _choose_daemon(options.values)
        words = options.arguments
        if options.values.get("version"):
            from buildtool import __version__

            print(f"buildtool version {__version__}")
            return 0
        if not words or words[0] == "help":
            return _typer([*words[1:], "--help"])
        return _dispatch(words, options.values)
    except HelpAsked:
        return _typer(["--help"])
    except UsageError as error:
        return _usage_error(error, PROGRAM, "[OPTIONS] COMMAND [ARG...]")
    except BuildtoolError as error:
        if debug:
            raise
        _complain(error)
        return error.exit_code
    except BrokenPipeError:
        _silence_stdout()
        return 141
    except OSError as error:
        if debug:
            raise
        print(f"{PROGRAM}: {_describe(error)}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _choose_daemon(values: dict[str, object]) -> None:
    """Flags about the daemon that are not its address go where the client looks for them: into the environment."""
    for flag, variable in (
        ("tls", "DOCKER_TLS"),
        ("tlsverify", "DOCKER_TLS_VERIFY"),
        ("tlscacert", "BUILDTOOL_TLS_CACERT"),
        ("tlscert", "BUILDTOOL_TLS_CERT"),
        ("tlskey", "BUILDTOOL_TLS_KEY"),
    ):
        value = values.get(flag)
        if value is not None:
            os.environ[variable] = ("1" if value else "") if isinstance(value, bool) else str(value)
    if values.get("context"):
        if values.get("host"):
            raise BuildtoolError("conflicting options: cannot specify both --host and --context")
        for name in ("BUILDTOOL_HOST", "BUILDTOOL_ROOT", "DOCKER_HOST"):
            os.environ.pop(name, None)
        os.environ["DOCKER_CONTEXT"] = str(values["context"])


def _dispatch(words: list[str], options: dict[str, object]) -> int:
    before, words = _group_flags(words)
    name, rest, shown = _find(words)
    if not name:
        return _typer([*shown.split()[1:], "--help"])
    command = table.load(name)
    try:
        parsed = parse_flags(command.flags, rest, interspersed=command.interspersed)
        parsed.values = before | parsed.values
        check_count(command, shown, len(parsed.arguments))
    except HelpAsked:
        return _typer([*shown.split()[1:], "--help"])
    except UsageError as error:
        return _usage_error(error, shown, command.usage)
    return handle(shown, command, parsed, host=str(options.get("host", "")), root=str(options.get("root", "")))


def handle(name: str, command: Command, parsed: Parsed, *, host: str = "", root: str = "") -> int:
    """Call the command's handler and return its exit code. `name` is how the command was called."""
    from buildtool.cli.call import Call

    call = Call(name, command, parsed, host=host, root=root)
    module, _, function = command.handler.partition(":")
    handler = getattr(table.import_module(f"buildtool.cli.handlers.{module}"), function)
    try:
        code: int = handler(call)
        sys.stdout.flush()
        return code
    except UsageError as error:
        return _usage_error(error, name, command.usage)


def _group_flags(words: list[str]) -> tuple[dict[str, object], list[str]]:
    """The values of flags between a group and its verb, and the words without them."""
    flags = table.group_flags(words[0]) if len(words) > 1 and words[1].startswith("-") else ()
    if not flags:
        return {}, words
    try:
        parsed = parse_flags(flags, words[1:], interspersed=False)
    except HelpAsked:
        return {}, words[:1]
    except UsageError as error:
        raise BuildtoolError(str(error), hint=f"Run '{PROGRAM} {words[0]} --help' for more information") from None
    values = parsed.values
    if "workdir" in values:
        values.setdefault("project-directory", values.pop("workdir"))
    if values.pop("no-ansi", False):
        values["ansi"] = "never"
    return values, [words[0], *(["version"] if values.pop("version", False) else parsed.arguments)]


def _find(words: list[str]) -> tuple[str, list[str], str]:
    """The command's canonical name ("" for a bare group), the words after it, and its name as it was called."""
    verb = words[0]
    group = table.GROUPS.get(verb)
    if verb in table.TOP_LEVEL and (group is None or (len(words) > 1 and words[1] not in group)):
        return table.TOP_LEVEL[verb], words[1:], f"{PROGRAM} {verb}"
    if group is None:
        known = [*table.TOP_LEVEL, *table.GROUPS]
        raise _unknown(f"{PROGRAM} {verb}", PROGRAM, suggestion(verb, known, f"{PROGRAM} "))
    if len(words) == 1 or words[1] in ("--help", "-h", "help"):
        return "", [], f"{PROGRAM} {verb}"
    if words[1] not in group:
        hint = suggestion(words[1], list(group), f"{PROGRAM} {verb} ")
        raise _unknown(f"{PROGRAM} {verb} {words[1]}", f"{PROGRAM} {verb}", hint)
    return group[words[1]], words[2:], f"{PROGRAM} {verb} {words[1]}"


def _unknown(what: str, where: str, hint: str) -> BuildtoolError:
    help_hint = f"Run '{where} --help' for more information"
    return BuildtoolError(f"unknown command: {what}", hint=f"{hint}\n\n{help_hint}" if hint else f"\n{help_hint}")


def _usage_error(error: UsageError, name: str, usage: str) -> int:
    message = f"{PROGRAM}: {error}" if isinstance(error, ArgumentCountError) else str(error)
    more = f"Run '{name} --help' for more information"
    print(f"{message}\n\nUsage:  {name} {usage}\n\n{more}", file=sys.stderr)
    return error.exit_code


def _complain(error: BuildtoolError) -> None:
    from buildtool.client import EngineError

    sys.stdout.flush()
    own = getattr(error, "prefix", f"{PROGRAM}: ")
    prefix = "Error response from daemon: " if isinstance(error, EngineError) else own
    print(f"{prefix}{error}", file=sys.stderr)


def _describe(error: OSError) -> str:
    """What the operating system refused, and on which file."""
    reason = error.strerror or str(error)
    return f"{error.filename}: {reason}" if error.filename else reason


def _silence_stdout() -> None:
    """Nobody reads stdout any more: keep the interpreter from complaining of it at the end."""
    devnull = os.open(os.devnull, os.O_WRONLY)
    os.dup2(devnull, 1)
    os.close(devnull)


def _typer(argv: list[str]) -> int:
    """Help and completion: the Typer app generated from the same table."""
    from buildtool.cli.typer_app import run_typer

    return run_typer(argv)
