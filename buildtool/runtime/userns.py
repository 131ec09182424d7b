"""A plain user's daemon: become root of a new user namespace.

With /etc/subuid and newuidmap every id of an image can exist; otherwise only one can, and it owns every file.
Source: user_namespaces(7), newuidmap(1), subuid(5).
"""

from __future__ import annotations

import json
import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import NoReturn

from buildtool.errors import BuildtoolError
from buildtool.runtime import syscalls as sc

HOLDER = Path("network/processes.json")
"""Below the data root: which process keeps the namespaces that containers are in."""
_MARK = "BUILDTOOL_IN_USER_NAMESPACE"


def enter_user_namespace(root: Path | None = None) -> None:
    """Execute this very command again as root of a new user namespace; returns at once when already root.

    When containers of the data root `root` still have the namespace of a daemon before, that one is joined.
    Must be called before there are threads. Raises BuildtoolError, with what to do, where the system forbids it.
    """
    if os.geteuid() == 0:
        return
    if os.environ.get(_MARK):
        raise BuildtoolError(
            "the user namespace has no root user",
            hint="see user_namespaces(7); another sandbox may have changed the id mapping",
        )
    if root is None or not _join(root / HOLDER):
        become_namespace_root()
    _execute_again()


def _join(file: Path) -> bool:
    """Enter the user and mount namespaces of the process that keeps them; whether there is one, and it is ours."""
    try:
        pid = int(json.loads(file.read_bytes())["holder"])
        if os.fsencode(file.parent) not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return False
        here = Path.cwd()
        fds = [os.open(f"/proc/{pid}/ns/{kind}", os.O_RDONLY | os.O_CLOEXEC) for kind in ("user", "mnt")]
        for fd, flag in zip(fds, (sc.CLONE_NEWUSER, sc.CLONE_NEWNS), strict=True):
            sc.setns(fd, flag)
            os.close(fd)
        os.chdir(here)
    except (OSError, ValueError, KeyError, TypeError):
        return False
    return True


def become_namespace_root() -> bool:
    """Make a user namespace (and mount namespace) with this process as its root; whether it has more than one id."""
    uid, gid = os.geteuid(), os.getegid()
    ranges = _subordinate_ranges(uid)
    mapped = ranges is not None and _unshare_with_helper(uid, gid, *ranges)
    if ranges is None:
        _unshare()
    if not mapped:
        _map_one_id(uid, gid)
    return mapped


def _execute_again() -> NoReturn:
    os.environ[_MARK] = "1"
    arguments = [sys.executable, *sys.orig_argv[1:]]
    os.execv(sys.executable, arguments)


def _unshare() -> None:
    try:
        sc.unshare(sc.CLONE_NEWUSER | sc.CLONE_NEWNS)
    except OSError as error:
        raise BuildtoolError(
            f"a plain user cannot make user namespaces here: {error.strerror}",
            hint=(
                "run the daemon as root, or allow it: sysctl user.max_user_namespaces, "
                "kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns"
            ),
        ) from error


def _unshare_with_helper(uid: int, gid: int, uids: list[str], gids: list[str]) -> bool:
    """Unshare while a child that stays outside runs newuidmap and newgidmap on this process; whether both worked."""
    pid = os.getpid()
    go_read, go_write = os.pipe()
    helper = os.fork()
    if helper == 0:
        os.close(go_write)
        ok = os.read(go_read, 1) == b"g" and _map_ranges(pid, uid, gid, uids, gids)
        os._exit(0 if ok else 1)
    os.close(go_read)
    try:
        _unshare()
        os.write(go_write, b"g")
    finally:
        os.close(go_write)
        _, status = os.waitpid(helper, 0)
    return status == 0


def _map_ranges(pid: int, uid: int, gid: int, uids: list[str], gids: list[str]) -> bool:
    for tool, own, extra in (("newgidmap", gid, gids), ("newuidmap", uid, uids)):
        command = [tool, str(pid), "0", str(own), "1", "1", *extra]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except (OSError, subprocess.CalledProcessError) as error:
            reason = getattr(error, "stderr", "") or str(error)
            print(f"buildtool: {tool}: {reason.strip()}; going on with a single id", file=sys.stderr)
            return False
    return True


def _map_one_id(uid: int, gid: int) -> None:
    table = Path("/proc/self/uid_map")
    if table.read_text(encoding="ascii").strip():
        raise BuildtoolError("the id mapping of the new user namespace is incomplete", hint="check /etc/subgid")
    try:
        Path("/proc/self/setgroups").write_text("deny", encoding="ascii")
        if not Path("/proc/self/gid_map").read_text(encoding="ascii").strip():
            Path("/proc/self/gid_map").write_text(f"0 {gid} 1", encoding="ascii")
        table.write_text(f"0 {uid} 1", encoding="ascii")
    except OSError as error:
        raise BuildtoolError(f"cannot map this user's id into a user namespace: {error.strerror}") from error


def _subordinate_ranges(uid: int) -> tuple[list[str], list[str]] | None:
    """(start, count) of the subordinate user ids and group ids; None when there are none or no tools for them."""
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return None
    try:
        name = pwd.getpwuid(uid).pw_name
    except KeyError:
        name = ""
    ranges = []
    for file in ("/etc/subuid", "/etc/subgid"):
        found = _range(Path(file), {name, str(uid)} - {""})
        if found is None:
            return None
        ranges.append(found)
    return ranges[0], ranges[1]


def _range(file: Path, owners: set[str]) -> list[str] | None:
    try:
        lines = file.read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    for line in lines:
        owner, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if owner in owners and start.isdigit() and count.isdigit() and int(count) > 0:
            return [start, count]
    return None
