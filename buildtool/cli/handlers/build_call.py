"""`build` with --check or --call: what the Buildfile says, instead of building it.

Nothing here needs a daemon, unless the Buildfile is in a remote context or an archive. One that runs already is asked
for what it knows of base images.
"""

from __future__ import annotations

import sys

from buildtool.cli.parse import UsageError
from buildtool.errors import BuildtoolError, InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.buildfile.evaluation import BaseFacts, Given
    from buildtool.cli.build_input import BuildInput
    from buildtool.cli.call import Call
    from buildtool.oci import Platform

METHODS = ("build", "check", "lint", "outline", "targets")


class CallOptions:
    """`--call=METHOD[,format=text|json][,ignorestatus]`."""

    __slots__ = ("ignore_status", "json", "method")

    def __init__(self, method: str, *, json: bool, ignore_status: bool) -> None:
        self.method = method
        self.json = json
        self.ignore_status = ignore_status


def answer(call: Call) -> int | None:
    """Do what --check or --call ask for; None when that is to build. Refuses flags for what is not here."""
    _check_for_docker(call)
    options = call_options(call)
    if options.method == "build":
        return None
    from buildtool.cli.build_input import read_input
    from buildtool.cli.preprocessing import make_plain

    source = read_input(call.arguments[0], call.text("file"))
    make_plain(call, source)
    if source.elsewhere:
        _fetch_text(call, source)
    tell = {"check": _check, "outline": _outline, "targets": _targets}[options.method]
    return tell(call, source, options)


def _check_for_docker(call: Call) -> None:
    """Refuse what stands for something that is not here, in Docker's words."""
    builder = call.text("builder")
    if builder and builder != "default":
        raise InvalidInput(f'no builder "{builder}" found', hint="The daemon itself is the only one: default.")
    if call.texts("security-opt"):
        raise InvalidInput("The daemon on this platform does not support setting security options on build")


def _fetch_text(call: Call, source: BuildInput) -> None:
    """Let the daemon look into a remote context or an archive."""
    from buildtool.cli.build_context import upload
    from buildtool.cli.build_request import request_document

    document = request_document(call, source)
    path = "/buildtool/v1/buildfile"
    if source.archive is not None:
        body, kind = upload(document, source)
        answer = call.client.call("POST", path, body=body, headers={"Content-Type": kind}).json()
    else:
        answer = call.client.call("POST", path, document=document).json()
    source.text, source.name = answer["dockerfile"], answer["dockerfile_name"]
    source.ignore, source.ignore_name = answer["ignore"], answer["ignore_name"] or ""


def call_options(call: Call) -> CallOptions:
    """Read --check and --call. Raises UsageError for methods and options that do not exist."""
    method, *rest = (call.text("call") or "build").split(",")
    if method.startswith("format="):
        method, rest = "build", [method, *rest]
    if method not in METHODS:
        known = ", ".join(name for name in METHODS if name != "lint")
        raise UsageError(f'invalid argument "{method}" for "--call" flag: the methods are {known}')
    if call.switch("check"):
        if method not in ("build", "check", "lint"):
            raise UsageError(f"--check and --call={method} exclude each other")
        method = "check"
    style, ignore_status = "text", False
    for option in rest:
        name, _, value = option.partition("=")
        if name == "format" and value in ("text", "json"):
            style = value
        elif name == "ignorestatus" and value in ("", "true", "1", "false", "0"):
            ignore_status = value not in ("false", "0")
        else:
            raise UsageError(f'invalid argument "{option}" for "--call" flag: format=text|json or ignorestatus')
    method = "check" if method == "lint" else method
    return CallOptions(method, json=style == "json", ignore_status=ignore_status)


def _check(call: Call, source: BuildInput, options: CallOptions) -> int:
    from buildtool.buildfile import IgnoreRules, parse
    from buildtool.buildfile.analysis import check, first_error
    from buildtool.buildfile.outline import to_json
    from buildtool.buildfile.reports import Report, lint_document, print_lint

    given = _given(call)
    ignore = IgnoreRules.parse(source.ignore, source.ignore_name) if source.ignore is not None else None
    try:
        buildfile = parse(source.text, source.name)
        warnings = check(buildfile, given, ignore)
        report = Report(source.name, source.text, warnings, first_error(buildfile, given))
    except BuildtoolError as error:
        report = Report(source.name, source.text, (), error)
    sys.stdout.write(to_json(lint_document(report)) + "\n" if options.json else print_lint(report))
    if report.error is not None:
        sys.stdout.flush()
        print(f"ERROR: {report.error}", file=sys.stderr)
        return 1
    return 1 if report.warnings and not options.ignore_status else 0


def _outline(call: Call, source: BuildInput, options: CallOptions) -> int:
    from buildtool.buildfile import parse
    from buildtool.buildfile.outline import outline, print_outline, to_json

    document = outline(parse(source.text, source.name), source.text, _given(call))
    sys.stdout.write(to_json(document) + "\n" if options.json else print_outline(document))
    return 0


def _targets(call: Call, source: BuildInput, options: CallOptions) -> int:
    from buildtool.buildfile import parse
    from buildtool.buildfile.outline import print_targets, targets, to_json

    document = targets(parse(source.text, source.name), source.text)
    sys.stdout.write(to_json(document) + "\n" if options.json else print_targets(document))
    return 0


def _given(call: Call) -> Given:
    from buildtool.buildfile.evaluation import Given
    from buildtool.cli.build_request import build_arguments, platforms_of
    from buildtool.oci import parse_platform

    wanted = platforms_of(call)
    return Given(
        build_args=build_arguments(call.texts("build-arg")),
        target=call.text("target"),
        platform=parse_platform(wanted[0]) if wanted else None,
        bases=_Daemon(call).facts,
    )


class _Daemon:
    """What a daemon knows of images. None is started, and one that cannot answer knows nothing."""

    def __init__(self, call: Call) -> None:
        from buildtool.client import Client, resolve_address

        self._client = Client(resolve_address(call.host, call.root), autostart=False)
        self._answers = True

    def facts(self, reference: str, platform: Platform) -> BaseFacts | None:
        from buildtool.buildfile.evaluation import BaseFacts
        from buildtool.client import EngineError, quote_path
        from buildtool.oci import Platform

        if not self._answers:
            return None
        try:
            image = self._client.get(f"/images/{quote_path(reference)}/json")
        except EngineError:
            return None
        except (BuildtoolError, OSError):
            self._answers = False
            return None
        entries = (image.get("Config") or {}).get("Env") or ()
        env = dict(entry.partition("=")[::2] for entry in entries)
        platform = Platform(architecture=image["Architecture"], os=image["Os"])
        return BaseFacts(env, platform, bool((image.get("Config") or {}).get("Shell")))
