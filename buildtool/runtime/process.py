# ruff: noqa: PTH103, PTH109, PTH112, PTH116, PTH123
"""The last steps of a forked child before it becomes the container's program: identity, limits, filter, exec.

Shared by the init process and by exec. Source: OCI runtime-spec v1.2, config.md, "Process"; capabilities(7).
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat
from collections.abc import Callable
from typing import Any

from buildtool.runtime import capabilities as caps
from buildtool.runtime import syscalls as sc

Spec = dict[str, Any]
NOT_FOUND, NOT_EXECUTABLE, OTHER = "not_found", "not_executable", "other"


class StartError(Exception):
    """The program cannot be started; `kind` decides between the exit codes 127, 126 and 125."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Identity:
    """What the spawner finds out once for all children: its capabilities, whether it is in a user namespace."""

    def __init__(self) -> None:
        self.permitted = caps.permitted()
        self.last_capability = caps.last()
        with open("/proc/self/uid_map", "rb") as table:
            self.in_user_namespace = table.read().split() != [b"0", b"0", b"4294967295"]


def reset_signals() -> None:
    """Undo what the interpreter and the shim set up: every signal at its default and none blocked.

    The spawner has put all others to their defaults before. Also hides this process from the container's others.
    """
    for number in (signal.SIGINT, signal.SIGCHLD, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    signal.set_wakeup_fd(-1)
    sc.prctl(sc.PR_SET_DUMPABLE, 0)  # the container may not look into this process before it is the program
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def take_stdio(stdin: int, stdout: int, stderr: int, uid: int) -> None:
    """Make these descriptors 0, 1 and 2, owned by the program's user so that it can reopen /dev/stdout."""
    for target, fd in enumerate((stdin, stdout, stderr)):
        if fd == target:
            os.set_inheritable(fd, True)
        else:
            os.dup2(fd, target)
    if uid:
        for fd in (0, 1, 2):
            status = os.fstat(fd)
            if status.st_uid != uid and not (stat.S_ISCHR(status.st_mode) and os.major(status.st_rdev) == 1):
                try:
                    os.fchown(fd, uid, -1)
                except OSError:  # an id that this user namespace does not map: it can still write
                    continue


def set_limits(process: Spec, identity: Identity) -> None:
    """Resource limits, the OOM score and the umask."""
    for limit in process.get("rlimits") or []:
        number = getattr(resource, limit["type"], None)
        if number is None:
            raise StartError(OTHER, f"invalid rlimit type: {limit['type']}")
        soft, hard = _limit(limit["soft"]), _limit(limit["hard"])
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError) as error:
            if not identity.in_user_namespace:
                raise StartError(OTHER, f"error setting rlimit {limit['type']}: {error}") from error
    score = process.get("oomScoreAdj")
    try:
        with open("/proc/self/oom_score_adj", "wb", 0) as file:
            file.write(str(score or 0).encode())
    except OSError as error:
        if score is not None and not identity.in_user_namespace:
            raise StartError(OTHER, f"failed to set oom_score_adj to {score}: {error.strerror}") from error
    os.umask((process.get("user") or {}).get("umask", 0o022))


def _limit(value: int) -> int:
    return resource.RLIM_INFINITY if value >= 2**63 or value < 0 else value


def run(
    process: Spec,
    identity: Identity,
    seccomp: bytes,
    wait_for_start: Callable[[], None],
    *,
    prepare_directory: bool,
    parent_signal: bool = True,
    before_exec: Callable[[list[bytes]], None] | None = None,
) -> None:
    """Become the program; returns only by raising StartError.

    The identity is taken, the command looked up as its user; then `wait_for_start` blocks; then the system call
    filter is loaded and the program executed (after `before_exec`, which may leave that to a child).
    """
    user = process.get("user") or {}
    wanted = process.get("capabilities") or {}
    effective = caps.mask_of(wanted.get("effective")) & identity.permitted
    permitted = (caps.mask_of(wanted.get("permitted")) & identity.permitted) | effective
    inheritable = caps.mask_of(wanted.get("inheritable")) & identity.permitted
    cwd = process.get("cwd") or "/"
    if prepare_directory:
        _make_directory(cwd)
    entered = _enter_directory(cwd)
    _drop_bounding(caps.mask_of(wanted.get("bounding")), identity)
    _take_user(user, identity)
    no_new_privileges = bool(process.get("noNewPrivileges"))
    sc.capset(effective, identity.permitted, inheritable)
    if not entered and not _enter_directory(cwd):
        raise StartError(NOT_EXECUTABLE, f'chdir to cwd ("{cwd}") set in config.json failed: permission denied')
    environment = _environment(process.get("env") or [])
    path = find_executable((process.get("args") or [""])[0], environment.get(b"PATH", b""))
    if parent_signal:
        sc.prctl(sc.PR_SET_PDEATHSIG, signal.SIGKILL)
    wait_for_start()
    if no_new_privileges:
        sc.prctl(sc.PR_SET_NO_NEW_PRIVS, 1)
    elif seccomp:
        sc.capset(effective | (caps.SYS_ADMIN & identity.permitted), identity.permitted, inheritable)
    ambient = caps.mask_of(wanted.get("ambient")) & permitted & inheritable
    _raise_ambient(ambient)
    arguments = [os.fsencode(argument) for argument in process["args"]]
    if seccomp and not no_new_privileges:
        sc.seccomp_filter(seccomp)
        sc.capset(effective, permitted, inheritable)
    else:
        sc.capset(effective, permitted, inheritable)
        if seccomp:
            sc.seccomp_filter(seccomp)
    if process.get("apparmorProfile"):
        _confine(process["apparmorProfile"])
    if before_exec is not None:
        before_exec(arguments)
    try:
        os.execve(path, arguments, environment)
    except OSError as error:
        kind = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        raise StartError(kind, f"exec {os.fsdecode(path)}: {_reason(error)}") from error


def _confine(profile: str) -> None:
    """Have AppArmor confine the program from its execution on. Source: AppArmor's kernel interface, attr/exec."""
    for path in ("/proc/thread-self/attr/apparmor/exec", "/proc/thread-self/attr/exec"):
        try:
            with open(path, "wb", 0) as attribute:
                attribute.write(f"exec {profile}".encode())
                return
        except FileNotFoundError:
            continue
        except OSError as error:
            raise StartError(OTHER, f"unable to apply apparmor profile {profile!r}: {_reason(error)}") from error
    raise StartError(OTHER, f"unable to apply apparmor profile {profile!r}: this kernel has no AppArmor")


def find_executable(name: str, search_path: bytes) -> bytes:
    """The file to execute for a command, as Go's exec.LookPath finds it; StartError with its texts."""
    quoted = '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'
    encoded = os.fsencode(name)
    if b"/" in encoded:
        try:
            _check_executable(encoded)
        except FileNotFoundError as error:
            raise StartError(NOT_FOUND, f"exec: {quoted}: stat {name}: no such file or directory") from error
        except NotADirectoryError as error:
            raise StartError(NOT_FOUND, f"exec: {quoted}: stat {name}: not a directory") from error
        except OSError as error:
            raise StartError(NOT_EXECUTABLE, f"exec: {quoted}: {_reason(error)}") from error
        return encoded
    for directory in search_path.split(b":") if name else ():
        candidate = (directory or b".") + b"/" + encoded
        try:
            _check_executable(candidate)
        except OSError:
            continue
        return candidate
    raise StartError(NOT_FOUND, f"exec: {quoted}: executable file not found in $PATH")


def _check_executable(path: bytes) -> None:
    if stat.S_ISDIR(os.stat(path).st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
    if not os.access(path, os.X_OK, effective_ids=True):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))


def _reason(error: OSError) -> str:
    return (error.strerror or str(error)).lower()


def _environment(entries: list[str]) -> dict[bytes, bytes]:
    environment: dict[bytes, bytes] = {}
    for entry in entries:
        name, separator, value = os.fsencode(entry).partition(b"=")
        if separator and name:
            environment[name] = value
    return environment


def _make_directory(cwd: str) -> None:
    if not os.path.isdir(cwd):
        try:
            os.makedirs(cwd, 0o755, exist_ok=True)
        except OSError as error:
            raise StartError(NOT_EXECUTABLE, f"mkdir {cwd}: {_reason(error)}") from error


def _enter_directory(cwd: str) -> bool:
    """Change into `cwd`; False when this user may not (the program's user may: a network file system)."""
    try:
        os.chdir(cwd)
    except PermissionError:
        return False
    except OSError as error:
        kind = NOT_FOUND if error.errno == errno.ENOENT else NOT_EXECUTABLE
        raise StartError(kind, f'chdir to cwd ("{cwd}") set in config.json failed: {_reason(error)}') from error
    try:
        os.getcwd()
    except OSError as error:  # through a descriptor of the host's, which no path of the container leads to
        raise StartError(OTHER, f'the cwd "{cwd}" is outside of the container') from error
    return True


def _drop_bounding(keep: int, identity: Identity) -> None:
    for number in range(identity.last_capability + 1):
        if not keep >> number & 1:
            sc.prctl(sc.PR_CAPBSET_DROP, number)


def _take_user(user: Spec, identity: Identity) -> None:
    uid, gid, groups = user.get("uid", 0), user.get("gid", 0), user.get("additionalGids") or []
    if uid:
        sc.prctl(sc.PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(groups)
    except OSError:
        if not identity.in_user_namespace:  # there setgroups may be denied for good
            raise
    try:
        os.setresgid(gid, gid, gid)
        os.setresuid(uid, uid, uid)
    except OSError as error:
        hint = " (this id is not mapped in the daemon's user namespace)" if identity.in_user_namespace else ""
        raise StartError(OTHER, f"unable to switch to user {uid}:{gid}: {_reason(error)}{hint}") from error


def _raise_ambient(mask: int) -> None:
    sc.prctl(sc.PR_CAP_AMBIENT, sc.PR_CAP_AMBIENT_CLEAR_ALL)
    for number in caps.NUMBERS.values():
        if mask >> number & 1:
            sc.prctl(sc.PR_CAP_AMBIENT, sc.PR_CAP_AMBIENT_RAISE, number)
