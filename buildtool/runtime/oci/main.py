"""The command line of `buildtool-oci`, which is runc's: podman, conmon, containerd and crictl know it."""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from typing import Any

import buildtool
from buildtool.runtime.oci import operations
from buildtool.runtime.oci.records import VERSION, Records, state_document
from buildtool.runtime.process import StartError

Options = argparse.Namespace


def main(arguments: list[str] | None = None) -> int:
    """Run one command; its exit code."""
    options = _parser().parse_args(arguments)
    if options.version or options.command == "version":
        print(f"buildtool-oci version {buildtool.__version__}\nspec: {VERSION}")
        return 0
    if not options.command:
        _parser().print_help()
        return 1
    try:
        code: int = options.run(options, Records(options.root or _default_root()))
        return code
    except StartError as error:
        return _complain(options, str(error))
    except OSError as error:
        what = f"{error.filename}: " if error.filename else ""
        return _complain(options, f"{what}{error.strerror or error}")


def _default_root() -> str:
    if os.geteuid() == 0:
        return "/run/buildtool-oci"
    return f"{os.environ.get('XDG_RUNTIME_DIR') or f'/tmp/buildtool-oci-{os.geteuid()}'}/buildtool-oci"


def _complain(options: Options, text: str) -> int:
    """Tell it on stderr, and in the caller's log when it named one."""
    print(f"buildtool-oci: {text}", file=sys.stderr)
    if options.log:
        moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        line = f'time="{moment}" level=error msg={json.dumps(text)}'
        if options.log_format == "json":
            line = json.dumps({"level": "error", "msg": text, "time": moment})
        try:
            with open(options.log, "a", encoding="utf-8") as log:
                log.write(line + "\n")
        except OSError:
            pass
    return 1


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="buildtool-oci", description="Run OCI bundles with buildtool's runtime.")
    parser.add_argument("--root", default="", help="where the state of containers is kept")
    parser.add_argument("--log", default="", help="file for error messages")
    parser.add_argument("--log-format", default="text", choices=("text", "json"))
    parser.add_argument("--debug", action="store_true", help="accepted, changes nothing")
    parser.add_argument("--systemd-cgroup", action="store_true", help="refused: control groups are named by paths")
    parser.add_argument("--rootless", default="", help="accepted, changes nothing")
    parser.add_argument("-v", "--version", action="store_true", help="show the version")
    parser.set_defaults(command="")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")

    def add(name: str, run: Any, text: str, *, identity: bool = True) -> argparse.ArgumentParser:
        command = commands.add_parser(name, help=text, description=text)
        command.set_defaults(run=run)
        if identity:
            command.add_argument("id")
        return command

    for name, run, text in (
        ("create", _create, "make a container up to its start"),
        ("run", _run, "create, start, and wait unless detached"),
    ):
        command = add(name, run, text)
        command.add_argument("-b", "--bundle", default=".")
        command.add_argument("--console-socket", default="")
        command.add_argument("--pid-file", default="")
        command.add_argument("--no-pivot", action="store_true")
        command.add_argument("--no-new-keyring", action="store_true")
        command.add_argument("--preserve-fds", type=int, default=0)
        command.add_argument("-d", "--detach", action="store_true")
    add("start", _start, "execute a created container's program")
    add("state", _state, "show the state")
    command = add("kill", _kill, "send a signal")
    command.add_argument("signal", nargs="?", default="TERM")
    command.add_argument("-a", "--all", action="store_true")
    command = add("delete", _delete, "remove a stopped container")
    command.add_argument("-f", "--force", action="store_true")
    command = add("exec", _exec, "run a further process")
    command.add_argument("args", nargs=argparse.REMAINDER)
    command.add_argument("-p", "--process", default="", help="file with the process as in config.json")
    command.add_argument("--console-socket", default="")
    command.add_argument("--pid-file", default="")
    command.add_argument("--preserve-fds", type=int, default=0)
    command.add_argument("--cgroup", default="")
    command.add_argument("-d", "--detach", action="store_true")
    command.add_argument("-t", "--tty", action="store_true")
    command.add_argument("-e", "--env", action="append", default=[])
    command.add_argument("--cwd", default="")
    command.add_argument("-u", "--user", default="")
    add("pause", _pause, "stop all processes")
    add("resume", _resume, "let them go on")
    command = add("update", _update, "set other limits")
    command.add_argument("-r", "--resources", default="-", help="file with linux.resources, - for STDIN")
    command = add("ps", _ps, "list the processes")
    command.add_argument("-f", "--format", default="table", choices=("table", "json"))
    command = add("list", _list, "list the containers", identity=False)
    command.add_argument("-f", "--format", default="table", choices=("table", "json"))
    command.add_argument("-q", "--quiet", action="store_true")
    command = add("events", _events, "tell what it uses, and that it ran out of memory, as JSON lines")
    command.add_argument("--interval", default="5s", help="how often (5s, 500ms)")
    command.add_argument("--stats", action="store_true", help="once only")
    add("features", _features, "show what this runtime can", identity=False)
    add("version", None, "show the version", identity=False)
    return parser


def _create(options: Options, records: Records) -> int:
    _check(options)
    operations.create(records, options.id, options.bundle, console=options.console_socket, pid_file=options.pid_file)
    return 0


def _check(options: Options) -> None:
    if options.systemd_cgroup:
        raise StartError(
            "other",
            "--systemd-cgroup is not supported: name control groups by paths (podman --cgroup-manager cgroupfs)",
        )
    if options.preserve_fds:
        raise StartError("other", "--preserve-fds is not supported")


def _run(options: Options, records: Records) -> int:
    _check(options)
    if not options.detach:
        operations.become_reaper()
    record = operations.create(
        records, options.id, options.bundle, console=options.console_socket, pid_file=options.pid_file
    )
    try:
        operations.start(records, options.id)
    except StartError:
        operations.delete(records, options.id, force=True)
        raise
    if options.detach:
        return 0
    code = operations.exit_code(record.pid)
    operations.delete(records, options.id, force=True)
    return code


def _start(options: Options, records: Records) -> int:
    operations.start(records, options.id)
    return 0


def _state(options: Options, records: Records) -> int:
    print(json.dumps(operations.state(records, options.id), indent=2))
    return 0


def _kill(options: Options, records: Records) -> int:
    operations.kill(records, options.id, options.signal, everyone=options.all)
    return 0


def _delete(options: Options, records: Records) -> int:
    operations.delete(records, options.id, force=options.force)
    return 0


def _exec(options: Options, records: Records) -> int:
    options.no_pivot = False
    if options.preserve_fds:
        raise StartError("other", "--preserve-fds is not supported")
    if options.process:
        with open(options.process, encoding="utf-8") as file:
            process = json.load(file)
        process["terminal"] = options.tty or bool(process.get("terminal"))
    else:
        process = operations.further_process(
            records, options.id, options.args, env=options.env, cwd=options.cwd, user=options.user, tty=options.tty
        )
    if not process.get("args"):
        raise StartError("other", "exec needs a command")
    if not options.detach:
        operations.become_reaper()
    pid = operations.execute(records, options.id, process, console=options.console_socket, pid_file=options.pid_file)
    return 0 if options.detach else operations.exit_code(pid)


def _pause(options: Options, records: Records) -> int:
    operations.freeze(records, options.id, True)
    return 0


def _resume(options: Options, records: Records) -> int:
    operations.freeze(records, options.id, False)
    return 0


def _update(options: Options, records: Records) -> int:
    if options.resources == "-":
        resources = json.load(sys.stdin)
    else:
        with open(options.resources, encoding="utf-8") as file:
            resources = json.load(file)
    operations.update(records, options.id, resources)
    return 0


def _ps(options: Options, records: Records) -> int:
    found = operations.pids(records, options.id)
    print(json.dumps(found) if options.format == "json" else "\n".join(["PID", *map(str, found)]))
    return 0


def _list(options: Options, records: Records) -> int:
    found = [state_document(record, records.status(record)) for record in records.all()]
    if options.quiet:
        print("\n".join(document["id"] for document in found))
    elif options.format == "json":
        print(json.dumps(found))
    else:
        for document in found:
            print("\t".join(str(document.get(key, 0)) for key in ("id", "pid", "status", "bundle", "created")))
    return 0


def _events(options: Options, records: Records) -> int:
    from buildtool.runtime.oci import events

    record = records.load(options.id)
    if records.status(record) == "stopped":
        raise StartError("other", f"container with id {options.id} is not running")
    if options.stats:
        print(json.dumps(events.usage(record)))
        return 0
    for event in events.watch(records, record, _seconds(options.interval)):
        print(json.dumps(event), flush=True)
    return 0


def _seconds(text: str) -> float:
    """A duration as Go writes it, one number and one unit. Raises StartError."""
    units = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
    number = text.rstrip("mhs")
    try:
        seconds = float(number) * units[text[len(number) :]]
    except (ValueError, KeyError):
        raise StartError("other", f"invalid duration {text!r}: write 5s or 500ms") from None
    if seconds <= 0:
        raise StartError("other", f"duration interval must be greater than 0: {text}")
    return seconds


def _features(options: Options, records: Records) -> int:
    from buildtool.runtime.oci.features import features

    print(json.dumps(features(), indent=2))
    return 0
