"""`history ls|inspect|logs|trace|explain|rm|export`: the builds of this daemon, and what became of their steps."""

from __future__ import annotations

import json
import sys

from buildtool.cli.build_explanation import print_explanation
from buildtool.cli.human import ago, decimal_size, ellipsis, local_time
from buildtool.cli.listing import print_rows, print_table
from buildtool.cli.values import filters_document
from buildtool.client import EngineError
from buildtool.client.engine import quote
from buildtool.errors import Unavailable

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call

_PATH = "/buildtool/v1/builds"
_HEADERS = {
    "ID": "BUILD ID",
    "Name": "NAME",
    "Status": "STATUS",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Duration": "DURATION",
    "Steps": "CACHED",
    "Image": "IMAGE",
    "File": "FILE",
}


def ls(call: Call) -> int:
    """List builds, the newest first."""
    found = _get(call, _PATH, {"filters": filters_document(call.texts("filter")) or None})
    columns = ("ID", "Name", "Status", "CreatedSince", "Duration", "Steps")
    truncate = not call.switch("no-trunc")
    rows = (_row(record, truncate) for record in found)
    print_rows(rows, call.text("format"), columns, _HEADERS, quiet="ID" if call.switch("quiet") else "")
    return 0


def _row(record: dict[str, Any], truncate: bool) -> dict[str, Any]:
    name = ", ".join(record["tags"]) or record["file"]
    return {
        "ID": record["id"],
        "Name": ellipsis(name, 40) if truncate else name,
        "Status": record["status"],
        "CreatedSince": ago(record["began"]),
        "CreatedAt": local_time(record["began"]),
        "Duration": seconds_text(record["seconds"]),
        "Steps": f"{record['cached']}/{record['total']}",
        "Image": record["image"],
        "File": record["file"],
    }


def inspect(call: Call) -> int:
    """Print all that is known of builds: for people, or with --format json (or a template) for programs."""
    for number, name in enumerate(call.arguments or [""]):
        record = _get(call, f"{_PATH}/{_quoted(name)}")
        form = call.text("format")
        if form == "json":
            print(json.dumps(record, indent=2, ensure_ascii=False))
        elif form:
            from buildtool.cli.gotemplate import Template

            print(Template(form).render(record, strict=True))
        else:
            if number:
                print()
            _describe(record)
    return 0


def _describe(record: dict[str, Any]) -> None:
    print(f"Build:     {record['id']}")
    print(
        f"Status:    {record['status']}" + (f" (exit code {record['exit_code']})" if record.get("exit_code") else "")
    )
    print(f"Buildfile: {record['file']}" + (f", target {record['target']}" if record.get("target") else ""))
    for title, value in (
        ("Context", record.get("context")),
        ("Tags", ", ".join(record["tags"])),
        ("Image", record["image"]),
        ("Platform", record.get("platform")),
        ("Args", " ".join(f"{k}={v}" if v is not None else k for k, v in (record.get("build_args") or {}).items())),
    ):
        if value:
            print(f"{title + ':':<11}{value}")
    print(f"Began:     {local_time(record['began'])}")
    print(f"Duration:  {seconds_text(record['seconds'])}")
    print(f"Log:       {decimal_size(record['log_bytes'])}")
    for warning in record.get("warnings") or ():
        print(f"Warning:   {warning}")
    if record["steps"]:
        print()
        print_table(
            [["STEP", "RESULT", "TIME", "WHERE", "INSTRUCTION"], *(_step(step) for step in record["steps"])], 4
        )
    if record.get("error"):
        print(f"\n{record['error']}")


def _step(step: dict[str, Any]) -> list[str]:
    result = step["status"] + (f" ({step['hit']})" if step.get("hit") else "")
    seconds = seconds_text(step["seconds"]) if step["seconds"] else "-"
    return [f"#{step['index']}", result, seconds, step.get("place") or "-", ellipsis(step["name"], 70)]


def logs(call: Call) -> int:
    """Print a build's log as --progress plain shows it, or as rawjson."""
    name = call.arguments[0] if call.arguments else ""
    path, form = f"{_PATH}/{_quoted(name)}", call.choice("progress")
    record = _get(call, path)
    query = {"follow": call.switch("follow")}
    response = _engine(lambda: call.client.call("GET", f"{path}/logs", query))
    if form == "rawjson":
        from buildtool.cli.build_rawjson import RawJsonDisplay

        raw = RawJsonDisplay(sys.stdout, record["began"])
        for event in response.objects():
            raw.show(event)
        return 0
    from buildtool.cli.build_progress import PlainDisplay

    plain = PlainDisplay(sys.stdout)
    for event in response.objects():
        if event["event"] == "end":
            error = event["record"].get("error")
            if error:
                print(f"ERROR: {error}")
        elif event["event"] not in ("begin", "built"):
            plain.show(event)
    return 0


def explain(call: Call) -> int:
    """Say for each step whether the cache had it, by which key, and what differs otherwise."""
    form = call.choice("format")
    record = _get(call, f"{_PATH}/{_quoted(call.arguments[0] if call.arguments else '')}")
    if form == "json":
        print(json.dumps(record["steps"], indent=2, ensure_ascii=False))
    else:
        print_explanation(record["steps"], sys.stdout)
    return 0


def trace(call: Call) -> int:
    """Write the build in Chrome's trace-event format."""
    name = call.arguments[0] if call.arguments else ""
    document = _get(call, f"{_PATH}/{_quoted(name)}/trace")
    _write(call.text("output"), json.dumps(document).encode() + b"\n")
    return 0


def export(call: Call) -> int:
    """Write all that is known of a build as a gzipped tar."""
    name = call.arguments[0] if call.arguments else ""
    if not call.text("output") and sys.stdout.isatty():
        from buildtool.cli.parse import UsageError

        raise UsageError("cowardly refusing to write an archive to a terminal: use -o FILE or redirect")
    response = _engine(lambda: call.client.call("GET", f"{_PATH}/{_quoted(name)}/export"))
    _write(call.text("output"), response.read())
    return 0


def rm(call: Call) -> int:
    """Forget builds and their logs."""
    names = list(call.arguments)
    if call.switch("all"):
        names = [record["id"] for record in _get(call, _PATH) if record["status"] != "running"]
    elif not names:
        from buildtool.cli.parse import UsageError

        raise UsageError("which build? name some, or say --all")
    code = 0
    for name in names:
        try:
            print(_engine(lambda name=name: call.client.delete(f"{_PATH}/{_quoted(name)}"))["removed"])
        except EngineError as error:
            print(f"Error response from daemon: {error}", file=sys.stderr)
            code = 1
    return code


def seconds_text(seconds: float) -> str:
    """`12ms`, `3.4s`, `2m 5s`."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    if seconds < 60:
        return f"{seconds:.1f}s"
    return f"{int(seconds) // 60}m {int(seconds) % 60}s"


def _quoted(name: str) -> str:
    return quote(name or "^0")


def _write(path: str, data: bytes) -> None:
    if path and path != "-":
        with open(path, "wb") as file:
            file.write(data)
        return
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()


def _get(call: Call, path: str, query: dict[str, Any] | None = None) -> Any:
    return _engine(lambda: call.client.get(path, query))


def _engine(ask: Any) -> Any:
    try:
        return ask()
    except EngineError as error:
        if error.status == 404 and error.message.lower().endswith("page not found"):
            raise Unavailable("this engine keeps no history of builds: it is not buildtool's") from error
        raise
