"""`compose logs`: what the stack's containers printed."""

from __future__ import annotations

from buildtool.cli.stack_output import make_printer
from buildtool.cli.stack_run import open_engine, service_containers
from buildtool.cli.times import engine_time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def logs(call: Call) -> int:
    """Print the logs, container by container, or with --follow as they come."""
    from buildtool.stacks.logs import Follower, LogQuery, read_lines

    engine = open_engine(call)
    _, found = service_containers(call, engine)
    index = call.number("index")
    if index:
        found = [item for item in found if item.number == index]
    query = LogQuery(
        tail=call.text("tail"),
        since=engine_time(call.text("since")),
        until=engine_time(call.text("until")),
        timestamps=call.switch("timestamps"),
    )
    names = {item.id: short_name(item.name, item.service, item.number) for item in found}
    printer = make_printer(call, list(names.values()))
    if not call.switch("follow"):
        for item in found:
            tty = bool((engine.get(f"/containers/{item.id}/json")["Config"] or {}).get("Tty"))
            read_lines(engine, item.id, names[item.id], query.document(follow=False), printer.line, tty=tty)
        return 0
    follower = Follower(
        engine, printer.line, lambda name, _identifier, code: printer.note(name, f"exited with code {code}"), query
    )
    for item in found:
        follower.add(item.id, names[item.id])
    import time

    while follower.active:
        time.sleep(0.1)
    return 0


def short_name(name: str, service: str, number: int) -> str:
    """`web-1`; a container with a name of its own keeps it."""
    short = f"{service}-{number}"
    return short if name.endswith(short) else name
