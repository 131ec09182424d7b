"""`compose up`, `create`, `scale`: bring the stack to what its files say."""

from __future__ import annotations

import time

from buildtool.cli.parse import UsageError
from buildtool.cli.stack_project import load_project

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call

_TOGETHER = (
    ("force-recreate", "no-recreate"),
    ("build", "no-build"),
    ("always-recreate-deps", "no-recreate"),
    ("detach", "abort-on-container-exit"),
    ("detach", "abort-on-container-failure"),
    ("detach", "exit-code-from"),
    ("wait", "abort-on-container-exit"),
    ("wait", "watch"),
    ("detach", "watch"),
    ("attach", "attach-dependencies"),
)


def up(call: Call) -> int:
    """Create and start; attached, show the output until the containers end or Ctrl-C stops them."""
    for first, second in _TOGETHER:
        if call.given(first) and call.given(second):
            raise UsageError(f"--{first} and --{second} are incompatible")
    from buildtool.cli.stack_settled import remember, settled

    if settled(call):
        return 0
    from buildtool.cli.stack_session import Session
    from buildtool.stacks.reading import FileSystem

    reader = FileSystem()
    project = load_project(call, call.arguments, reader)
    session = Session(call, project)
    session.no_deps = call.switch("no-deps")
    session.options.recreate_deps = call.switch("always-recreate-deps")
    session.options.renew_anonymous = call.switch("renew-anon-volumes")
    session.options.start = not call.switch("no-start")
    session.options.rerun = call.given("exit-code-from") or call.switch("abort-on-container-exit")
    session.timeout = call.number("timeout")
    session.waits = call.switch("wait") and session.options.start
    begun = time.time()
    run = session.bring_up(remove_orphans=call.switch("remove-orphans"))
    if run is None or not session.options.start:
        return 0
    if not call.arguments and not session.no_deps:
        remember(call, project, session.order, reader, run.containers, session.watched_builds())
    if call.switch("wait"):
        return session.wait(run, call.number("wait-timeout"))
    if call.switch("watch"):
        from buildtool.cli.handlers.stack_watch import watch_beside

        watch_beside(call, project, session.engine, list(session.order))
    if call.switch("detach"):
        return 0
    from buildtool.cli.stack_attached import follow_up

    return follow_up(call, project, session.engine, run, session.attached(), begun, session.timeout)


def create(call: Call) -> int:
    """Create containers without starting them."""
    from buildtool.cli.stack_session import Session

    project = load_project(call, call.arguments)
    session = Session(call, project)
    session.options.start = False
    session.bring_up(remove_orphans=call.switch("remove-orphans"))
    return 0


def scale(call: Call) -> int:
    """Start or remove containers until services have the given numbers of them."""
    from buildtool.cli.stack_session import Session, parse_scale

    numbers = parse_scale(call.arguments)
    project = load_project(call, list(numbers))
    session = Session(call, project, services=list(numbers), scale=numbers)
    session.no_deps = call.switch("no-deps")
    session.options.no_recreate = True
    session.bring_up(remove_orphans=False)
    return 0
