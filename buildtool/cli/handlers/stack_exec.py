"""`compose exec`, `attach`, `cp`: the commands for containers, on a service's container."""

from __future__ import annotations

from buildtool.cli.stack_run import call_other, one_container, open_engine, service_containers
from buildtool.cli.terminal import is_terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from buildtool.cli.call import Call


def execute(call: Call) -> int:
    """Run a command in a service's container, on a terminal when there is one."""
    service, *command = call.arguments
    container = one_container(call, open_engine(call), service)
    words = []
    without = call.switch("no-TTY") or call.switch("no-tty") or not (is_terminal(0) and is_terminal(1))
    if not call.switch("detach"):
        words += ["--interactive"] if call.switch("interactive") else []
        words += [] if without else ["--tty"]
    else:
        words.append("--detach")
    for variable in call.texts("env"):
        words += ["--env", variable]
    words += ["--privileged"] if call.switch("privileged") else []
    for flag in ("user", "workdir"):
        words += [f"--{flag}", call.text(flag)] if call.text(flag) else []
    return call_other(call, "exec", [*words, container.id, *command])


def attach(call: Call) -> int:
    """Attach to a service's container."""
    container = one_container(call, open_engine(call), call.arguments[0])
    words = ["--no-stdin"] if call.switch("no-stdin") else []
    words.append(f"--sig-proxy={'true' if call.switch('sig-proxy') else 'false'}")
    words += ["--detach-keys", call.text("detach-keys")] if call.text("detach-keys") else []
    return call_other(call, "attach", [*words, container.id])


def commit(call: Call) -> int:
    """Make an image of a service's container."""
    container = one_container(call, open_engine(call), call.arguments[0], running=False)
    words = [f"--pause={'true' if call.switch('pause') else 'false'}"]
    for flag in ("author", "message"):
        words += [f"--{flag}", call.text(flag)] if call.text(flag) else []
    words += [word for item in call.texts("change") for word in ("--change", item)]
    return call_other(call, "commit", [*words, container.id, *call.arguments[1:]])


def export(call: Call) -> int:
    """The file system of a service's container as a tar."""
    container = one_container(call, open_engine(call), call.arguments[0], running=False)
    words = ["--output", call.text("output")] if call.text("output") else []
    return call_other(call, "export", [*words, container.id])


def cp(call: Call) -> int:
    """Copy from a service's container, or into all of them (or the one that --index names)."""
    source, target = call.arguments
    engine = open_engine(call)
    words = ["--archive"] if call.switch("archive") else []
    words += ["--follow-link"] if call.switch("follow-link") else []
    if _service(source):
        container = one_container(call, engine, _service(source), running=False)
        return call_other(call, "cp", [*words, f"{container.id}:{source.partition(':')[2]}", target])
    if not _service(target):
        return call_other(call, "cp", [*words, source, target])
    if call.number("index"):
        found = [one_container(call, engine, _service(target), running=False)]
    else:
        first = one_container(call, engine, _service(target), running=False)
        _, found = service_containers(call, engine, services=[_service(target)])
        found = found or [first]
    for container in found:
        code = call_other(call, "cp", [*words, source, f"{container.id}:{target.partition(':')[2]}"])
        if code:
            return code
    return 0


def _service(argument: str) -> str:
    """The service of `service:path`, "" for a path on this machine."""
    name, colon, _ = argument.partition(":")
    return name if colon and not argument.startswith(("/", ".")) else ""
