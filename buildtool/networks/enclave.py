"""A plain user's bridges: in a network namespace of the daemon's, which pasta or slirp4netns connects to the outside.

No thread that enters the namespace can leave it (the machine's own is not ours to enter): some do nothing else.
A process that sleeps keeps the namespaces (user, mount, network) while containers run, also when the daemon dies: the
next daemon joins them by its pid (`buildtool.runtime.userns`). Source: pasta(1), slirp4netns(1).
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import ipaddress
import os
import re
import shutil
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from concurrent.futures import BrokenExecutor, ThreadPoolExecutor
from contextlib import AbstractContextManager
from pathlib import Path
from typing import ParamSpec, TypeVar

import msgspec

from buildtool.aio import offload
from buildtool.errors import BuildtoolError, Unavailable
from buildtool.networks import kernel
from buildtool.networks.firewall import Firewall
from buildtool.networks.netlink import Netlink
from buildtool.networks.netlink import Network as Subnet
from buildtool.runtime import syscalls as sc
from buildtool.runtime.userns import HOLDER

P = ParamSpec("P")
T = TypeVar("T")
VARIABLE = "BUILDTOOL_ROOTLESS_NETWORK"
PROGRAMS = ("pasta", "slirp4netns")
"""What may lead out; the environment variable chooses, with `host` none of them."""
_TUN = "/dev/net/tun"
_INTERFACE, _ADDRESS, _PREFIX, _GATEWAY = "tap0", "10.0.2.100", "24", "10.0.2.2"
_NETWORK6 = {"pasta": "fd62:7569:6c64:746f::", "slirp4netns": "fd00::"}
"""The subnet of the way out in IPv6: ::100 is ours, ::2 the program's. slirp4netns has always this one."""
_SECONDS = 5.0
_THREADS = 4


class _State(msgspec.Struct):
    """The processes, in the file that a later daemon reads."""

    holder: int
    way_out: int


class Enclave:
    """Nothing exists before the first bridge; everything ends with `close`."""

    def __init__(self, root: Path) -> None:
        self._directory = root / HOLDER.parent
        self._file = root / HOLDER
        self._lock = threading.Lock()
        self._inside: ThreadPoolExecutor | None = None
        self._sockets: ThreadPoolExecutor | None = None
        self._host_subnets: list[Subnet] = []
        self._ipv6 = False
        self.host_address = ""

    @functools.cached_property
    def _program(self) -> str:
        path = f"{os.environ.get('PATH', '')}:/usr/bin:/usr/sbin"
        wanted = os.environ.get(VARIABLE, "")
        found = {name: there for name in PROGRAMS if (there := shutil.which(name, path=path))}
        if wanted:
            return found.get(wanted, "")
        if len(found) == len(PROGRAMS) and not _is_ripe(found["pasta"]):
            return found["slirp4netns"]
        return next(iter(found.values()), "")

    @functools.cached_property
    def _refusal(self) -> str:
        fail = "a plain user's daemon has no bridge networks here"
        wanted = os.environ.get(VARIABLE, "")
        if wanted and not self._program:
            what = "asks for the host's network" if wanted == "host" else f"names {wanted!r}, which is not there"
            return f"{fail}: {VARIABLE} {what}"
        if not self._program:
            return f"{fail}: neither pasta (package passt) nor slirp4netns is installed"
        try:
            os.close(os.open(_TUN, os.O_RDWR | os.O_CLOEXEC))
        except OSError as error:
            return f"{fail}: {_TUN}: {(error.strerror or str(error)).lower()}"
        if not Firewall().available():
            return f"{fail}: nftables is not installed"
        return ""

    def refusal(self) -> str:
        """What is missing for bridges."""
        return self._refusal

    def open(self) -> None:
        """Make the namespace, and the way out of it."""
        with self._lock:
            if self._inside is None and not self._find():
                self._make()

    def resume(self) -> None:
        """Take over the namespace of a daemon before."""
        with self._lock:
            if self._inside is None:
                self._find()

    def close(self) -> None:
        """End the processes; the namespace goes with them."""
        with self._lock:
            state = self._state()
            self._forget()
            if state is not None:
                for pid in (state.way_out, state.holder):
                    if self._ours(pid):
                        _end(pid)
            place = self._directory / "ns"
            with contextlib.suppress(OSError):
                sc.umount(str(place), sc.MNT_DETACH)
            for path in (place, self._file):
                path.unlink(missing_ok=True)

    async def do(self, work: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> T:
        """In a thread that is in the namespace."""
        if self._inside is None:
            return await offload(work, *args, **kwargs)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._inside, functools.partial(work, *args, **kwargs))

    def socket(self, family: socket.AddressFamily, kind: socket.SocketKind) -> socket.socket:
        """A socket that reaches containers."""
        if self._sockets is None:
            return socket.socket(family, kind)
        return self._sockets.submit(socket.socket, family, kind).result()

    def exclusive(self) -> AbstractContextManager[None]:
        """Nobody else is here."""
        return contextlib.nullcontext()

    def foreign_subnets(self) -> list[Subnet]:
        """Those that the machine has routes to."""
        return self._host_subnets

    # Parts

    def _state(self) -> _State | None:
        try:
            return msgspec.json.decode(self._file.read_bytes(), type=_State)
        except (OSError, msgspec.DecodeError):
            return None

    def _ours(self, pid: int) -> bool:
        """Whether that process is one that we started: pids are used again."""
        try:
            return os.fsencode(self._directory) in Path(f"/proc/{pid}/cmdline").read_bytes()
        except OSError:
            return False

    def _find(self) -> bool:
        state = self._state()
        if state is None or not self._ours(state.holder):
            return False
        try:
            self._enter(state.holder)
        except (OSError, BuildtoolError):  # of another user namespace, which could not be joined
            self._forget()
            return False
        self._look_at_host()
        if not self._ours(state.way_out):
            self._lead_out(state.holder)
        return True

    def _make(self) -> None:
        self._directory.mkdir(mode=0o700, exist_ok=True)
        with ThreadPoolExecutor(1) as once:
            holder = once.submit(self._spawn_holder).result()
        try:
            self._enter(holder)
            self._look_at_host()
            self._lead_out(holder)
        except BaseException:
            _end(holder)
            self._forget()
            raise

    def _enter(self, holder: int) -> None:
        namespace = kernel.open_namespace(holder)

        def enter() -> None:
            sc.setns(namespace, sc.CLONE_NEWNET)

        try:
            self._inside = ThreadPoolExecutor(_THREADS, "enclave", initializer=enter)
            self._sockets = ThreadPoolExecutor(1, "enclave-sockets", initializer=enter)
            barrier = threading.Barrier(_THREADS)
            for entered in [self._inside.submit(barrier.wait, _SECONDS) for _ in range(_THREADS)]:
                entered.result()
            self._sockets.submit(os.getpid).result()
        except (BrokenExecutor, threading.BrokenBarrierError) as error:
            raise BuildtoolError("the network namespace of the daemon cannot be entered") from error
        finally:
            os.close(namespace)

    def _forget(self) -> None:
        for pool in (self._inside, self._sockets):
            if pool is not None:
                pool.shutdown(wait=False)
        self._inside = self._sockets = None

    def _spawn_holder(self) -> int:
        sc.unshare(sc.CLONE_NEWNET)  # this thread ends here
        with Netlink() as netlink:
            netlink.set_up(1)
        program = shutil.which("sleep") or "/bin/sleep"
        return _spawn([f"buildtool-network {self._directory}", "infinity"], executable=program).pid

    def _look_at_host(self) -> None:
        self._host_subnets = kernel.taken_subnets()
        own = ipaddress.IPv6Network(f"{self._network6}/64")
        others = (one for one in self._host_subnets if isinstance(one, ipaddress.IPv6Network))
        self._ipv6 = kernel.has_default_route6() and not any(one.overlaps(own) for one in others)
        with socket.socket(type=socket.SOCK_DGRAM) as probe, contextlib.suppress(OSError):
            probe.connect(("192.0.2.254", 9))  # sends nothing: tells the address of the way out
            self.host_address = probe.getsockname()[0]

    def _lead_out(self, holder: int) -> None:
        """Start the program, wait until its interface is there, write down who it is."""
        place = self._directory / "ns"
        place.touch()
        with contextlib.suppress(OSError):
            sc.umount(str(place), sc.MNT_DETACH)
        sc.mount(f"/proc/{holder}/ns/net", str(place), None, sc.MS_BIND)
        log = self._directory / "log"
        with log.open("wb") as output:
            process = _spawn(self._command(str(place)), output=output.fileno())
        self._file.write_bytes(msgspec.json.encode(_State(holder, process.pid)))
        deadline = time.monotonic() + _SECONDS
        assert self._inside is not None
        while not self._inside.submit(_connected).result():
            if time.monotonic() > deadline or process.poll() is not None:
                _end(process.pid)
                self._file.unlink(missing_ok=True)
                words = log.read_text(errors="replace").strip().splitlines()
                raise Unavailable(
                    f"{Path(self._program).name} does not connect containers to the outside: "
                    f"{words[-1] if words else 'no reason given'}",
                    hint="--network host needs it not",
                )
            time.sleep(0.005)
        if self._ipv6:
            self._inside.submit(_configure6, self._network6).result()

    @property
    def _network6(self) -> str:
        return _NETWORK6[Path(self._program).name]

    def _command(self, place: str) -> list[str]:
        if self._program.endswith("slirp4netns"):
            options = ["--configure", "--mtu=65520", "--disable-host-loopback", "--netns-type=path"]
            options += ["--enable-ipv6"] if self._ipv6 else []
            return [self._program, *options, place, _INTERFACE]
        none = [part for flag in ("-t", "-u", "-T", "-U") for part in (flag, "none")]
        address = ["-a", _ADDRESS, "-n", _PREFIX, "-g", _GATEWAY, "-I", _INTERFACE]
        if self._ipv6:
            address += ["-a", f"{self._network6}100", "-g", f"{self._network6}2"]
        else:
            address.append("--ipv4-only")
        plain = ["--config-net", "--no-map-gw", "--foreground", "--quiet", "--netns-only"]
        return [self._program, *plain, *address, *none, "--netns", place]


def _connected() -> bool:
    with Netlink() as netlink:
        link = netlink.link(_INTERFACE)
        return link is not None and link.up and bool(netlink.addresses(link.index))


def _configure6(network: str) -> None:
    """The way out in IPv6: slirp4netns leaves it to advertisements, which a machine that forwards does not heed."""
    kernel.write_sysctl(f"net/ipv6/conf/{_INTERFACE}/accept_ra", "0")
    with Netlink() as netlink:
        netlink.configure(netlink.index(_INTERFACE), [f"{network}100/64"], [f"{network}2"], [])


def _is_ripe(pasta: str) -> bool:
    """Whether this pasta closes connections: those before 2024 (Debian 12 has one) forget one of four."""
    told = subprocess.run([pasta, "--version"], capture_output=True, text=True, check=False).stdout
    date = re.search(r"20\d\d", told.partition("\n")[0])
    return date is not None and int(date[0]) >= 2024


def _spawn(
    arguments: list[str], *, executable: str | None = None, output: int = subprocess.DEVNULL
) -> subprocess.Popen[bytes]:
    """Start a program that outlives the daemon; nobody waits for it but `_end`."""
    process = subprocess.Popen(
        arguments,
        executable=executable,
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        start_new_session=True,
        cwd="/",
    )
    threading.Thread(target=process.wait, name="reaper", daemon=True).start()
    return process


def _end(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        for _ in range(50):
            os.kill(pid, 0)
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
