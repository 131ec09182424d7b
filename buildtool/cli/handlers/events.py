"""`events`: what happens in the daemon, as it happens."""

from __future__ import annotations

import time

from buildtool.cli.times import engine_time
from buildtool.cli.values import filters_document

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from buildtool.cli.call import Call
    from buildtool.cli.gotemplate import Template


def events(call: Call) -> int:
    """Print events until the daemon ends the stream (--until) or the user does."""
    form = call.text("format")
    template = None
    if form:
        from buildtool.cli.gotemplate import Template, TemplateError

        try:
            template = Template("{{json .}}" if form == "json" else form)
        except TemplateError as error:
            raise error.told("Error parsing format", 64) from None
    query = {
        "since": engine_time(call.text("since")) or None,
        "until": engine_time(call.text("until")) or None,
        "filters": filters_document(call.texts("filter")) or None,
    }
    for event in call.client.call("GET", "/events", query).objects():
        print(_by(template, event) if template else _line(event), flush=True)
    return 0


def _by(template: Template, event: dict[str, Any]) -> str:
    from buildtool.cli.gotemplate import TemplateError

    try:
        return template.render(event, "*events.Message")
    except TemplateError as error:
        raise error.told("Error parsing format", 64) from None


def _line(event: dict[str, Any]) -> str:
    nanoseconds = event.get("timeNano") or event.get("time", 0) * 10**9
    seconds, fraction = divmod(nanoseconds, 10**9)
    local = time.localtime(seconds)
    offset = time.strftime("%z", local)
    stamp = f"{time.strftime('%Y-%m-%dT%H:%M:%S', local)}.{fraction:09d}{offset[:3]}:{offset[3:]}"
    actor = event.get("Actor") or {}
    attributes = ", ".join(f"{key}={value}" for key, value in sorted((actor.get("Attributes") or {}).items()))
    words = [stamp, event.get("Type", ""), event.get("Action", ""), actor.get("ID", "")]
    return " ".join(words) + (f" ({attributes})" if attributes else "")
