"""What the program does: the operations of the OCI runtime specification, and those that callers use besides.

Source: OCI runtime-spec v1.2, runtime.md; the command line is runc's.
"""

from __future__ import annotations

import json
import os
import signal
import time
from typing import Any

from buildtool.runtime import syscalls as sc
from buildtool.runtime.cgroups import Cgroup, Hierarchies
from buildtool.runtime.oci import hooks, launch
from buildtool.runtime.oci.records import (
    SOCKET,
    Record,
    Records,
    alive,
    group_of,
    process_state,
    state_document,
)
from buildtool.runtime.process import OTHER, StartError

Spec = dict[str, Any]
_KILL_SECONDS = 10.0
_FREEZE_SECONDS = 2.0


def create(records: Records, identity: str, bundle: str, *, console: str = "", pid_file: str = "") -> Record:
    """Make the container up to its start. Raises StartError, OSError; nothing is left then."""
    bundle = os.path.abspath(bundle)
    spec = load_spec(bundle)
    if spec["process"].get("terminal") and not console:
        raise StartError(OTHER, "a terminal needs --console-socket")
    directory = records.claim(identity)
    cgroup: Cgroup | None = None
    try:
        linux = spec.get("linux") or {}
        path = linux.get("cgroupsPath") or f"/buildtool-oci/{identity}"
        if not path.startswith("/"):
            raise StartError(
                OTHER, f"cgroupsPath {path!r} is not an absolute path: systemd's control groups are not supported"
            )
        hierarchies = Hierarchies.find()
        cgroup = Cgroup.create(hierarchies, path, linux.get("resources") or {})
        rootfs = os.path.join(bundle, spec["root"]["path"])
        record = Record(
            id=identity,
            bundle=bundle,
            pid=0,
            ticks=0,
            created=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
            cgroup=path,
            directories=cgroup.directories,
            annotations=spec.get("annotations") or {},
        )

        def created(pid: int) -> Spec:
            record.pid, record.ticks = pid, process_state(pid)[1]
            document = state_document(record, "creating")
            hooks.run(spec, ("prestart", "createRuntime"), document)
            return document

        launch.launch_init(spec, rootfs, f"{directory}/{SOCKET}", cgroup, hierarchies, console, created)
        records.save(record)
        if pid_file:
            _write_pid(pid_file, record.pid)
        return record
    except BaseException:
        if cgroup is not None:
            _empty(cgroup)
        records.remove(identity)
        raise


def load_spec(bundle: str) -> Spec:
    """The bundle's config.json. Raises StartError."""
    path = f"{bundle}/config.json"
    try:
        with open(path, encoding="utf-8") as file:
            spec: Spec = json.load(file)
    except OSError as error:
        raise StartError(OTHER, f"cannot read {path}: {error.strerror}") from None
    except ValueError as error:
        raise StartError(OTHER, f"{path}: not a JSON document: {error}") from None
    process, root = spec.get("process") or {}, spec.get("root") or {}
    if not process.get("args") or not root.get("path"):
        raise StartError(OTHER, f"{path}: process.args and root.path are needed")
    hooks.check(spec, path)
    return spec


def start(records: Records, identity: str) -> None:
    """Execute the container's program."""
    record = records.load(identity)
    launch.start(f"{records.directory(identity)}/{SOCKET}")
    spec = load_spec(record.bundle)
    if hooks.has(spec, "poststart"):
        hooks.run(spec, ("poststart",), state_document(record, "running"))


def state(records: Records, identity: str) -> Spec:
    """The state document."""
    record = records.load(identity)
    return state_document(record, records.status(record))


def kill(records: Records, identity: str, text: str, *, everyone: bool = False) -> None:
    """Send a signal to the first process, or to all."""
    record = records.load(identity)
    number = signal_number(text)
    if everyone:
        group_of(record).kill(number)
        return
    if not alive(record):
        raise StartError(OTHER, f"container not running: {identity}")
    os.kill(record.pid, number)
    if number == signal.SIGKILL:
        group = group_of(record)
        if group.frozen():
            group.freeze(False)


def signal_number(text: str) -> int:
    """`TERM`, `SIGTERM` or `15`. Raises StartError."""
    if text.isdecimal():
        return int(text)
    try:
        return int(signal.Signals["SIG" + text.upper().removeprefix("SIG")])
    except KeyError:
        raise StartError(OTHER, f"unknown signal {text!r}") from None


def delete(records: Records, identity: str, *, force: bool = False) -> None:
    """Remove what is left of a stopped container; with `force` end it first, and do not mind an absent one."""
    try:
        record = records.load(identity)
    except StartError:
        if force:
            records.remove(identity)
            return
        raise
    status = records.status(record)
    if status not in ("stopped", "created") and not force:
        raise StartError(OTHER, f"cannot delete container {identity} that is not stopped: {status}")
    if status != "stopped":
        os.kill(record.pid, signal.SIGKILL)
    group = group_of(record)
    if group.frozen():
        group.freeze(False)
    _empty(group)
    records.remove(identity)
    _run_hooks_at_the_end(record)


def _empty(group: Cgroup) -> None:
    """End what is in control groups, and remove them."""
    deadline = time.monotonic() + _KILL_SECONDS
    while not group.remove():
        if time.monotonic() > deadline:
            raise StartError(OTHER, f"the control groups do not get empty: {', '.join(group.directories.values())}")
        try:
            group.kill(signal.SIGKILL)
        except OSError:
            pass
        time.sleep(0.005)


def execute(records: Records, identity: str, process: Spec, *, console: str = "", pid_file: str = "") -> int:
    """Run a further process; its pid."""
    record = records.load(identity)
    if records.status(record) not in ("running", "created"):
        raise StartError(OTHER, f"cannot exec in a container that is not running: {identity}")
    if process.get("terminal") and not console:
        raise StartError(OTHER, "a terminal needs --console-socket")
    spec = load_spec(record.bundle)
    pid = launch.launch_exec(process, spec, record.pid, group_of(record), console)
    if pid_file:
        _write_pid(pid_file, pid)
    return pid


def further_process(
    records: Records, identity: str, args: list[str], *, env: list[str], cwd: str, user: str, tty: bool
) -> Spec:
    """The process of `exec ID ARGS`: the container's own, with what is given."""
    process: Spec = dict(load_spec(records.load(identity).bundle)["process"])
    process["args"] = args
    process["env"] = [*(process.get("env") or []), *env]
    process["terminal"] = tty
    if cwd:
        process["cwd"] = cwd
    if user:
        uid, _, gid = user.partition(":")
        if not uid.isdecimal() or (gid and not gid.isdecimal()):
            raise StartError(OTHER, f"invalid user {user!r}: it is UID[:GID], in numbers")
        process["user"] = {"uid": int(uid), "gid": int(gid or 0)}
    return process


def freeze(records: Records, identity: str, frozen: bool) -> None:
    """Pause, or resume."""
    record = records.load(identity)
    group = group_of(record)
    group.freeze(frozen)
    deadline = time.monotonic() + _FREEZE_SECONDS
    while frozen and not group.frozen():
        if time.monotonic() > deadline:
            group.freeze(False)
            raise StartError(OTHER, "the container's processes do not freeze")
        time.sleep(0.005)


def update(records: Records, identity: str, resources: Spec) -> None:
    """Set other limits."""
    record = records.load(identity)
    group = group_of(record)
    group.update(resources)
    record.directories = group.directories
    records.save(record)


def pids(records: Records, identity: str) -> list[int]:
    """The container's processes."""
    return group_of(records.load(identity)).pids()


def become_reaper() -> None:
    """Have the container's processes as children, to wait for them."""
    sc.prctl(sc.PR_SET_CHILD_SUBREAPER, 1)


def exit_code(pid: int) -> int:
    """Wait for a process; 128 + n when signal n ended it."""
    _, status = os.waitpid(pid, 0)
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else 128 - code


def _write_pid(path: str, pid: int) -> None:
    temporary = f"{path}.{os.getpid()}"
    with open(temporary, "w", encoding="ascii") as file:
        file.write(str(pid))
    os.rename(temporary, path)


def _run_hooks_at_the_end(record: Record) -> None:
    """Failures after the end are told by nobody who could mend them."""
    try:
        hooks.run(load_spec(record.bundle), ("poststop",), state_document(record, "stopped"))
    except StartError:
        return
