"""The packet filter: transactions through libnftables, or through the `nft` program where the library is missing."""

from __future__ import annotations

import ctypes
import json
import shutil
import subprocess
import threading
from pathlib import Path

from buildtool.errors import BuildtoolError, Unavailable

_JSON_OUTPUT = 1 << 4
_LIBRARY = "libnftables.so.1"


class _Library:
    """libnftables' functions, with their types."""

    def __init__(self) -> None:
        library = ctypes.CDLL(_LIBRARY)
        self.new = library.nft_ctx_new
        self.free = library.nft_ctx_free
        self.run = library.nft_run_cmd_from_buffer
        self.errors = library.nft_ctx_get_error_buffer
        self.output = library.nft_ctx_get_output_buffer
        self.new.argtypes, self.new.restype = [ctypes.c_uint32], ctypes.c_void_p
        self.free.argtypes, self.free.restype = [ctypes.c_void_p], None
        self.run.argtypes, self.run.restype = [ctypes.c_void_p, ctypes.c_char_p], ctypes.c_int
        self.flags = library.nft_ctx_output_set_flags
        self.flags.argtypes, self.flags.restype = [ctypes.c_void_p, ctypes.c_uint], None
        self.buffer_output, self.buffer_error = library.nft_ctx_buffer_output, library.nft_ctx_buffer_error
        for function in (self.errors, self.output):
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_char_p
        for function in (self.buffer_output, self.buffer_error):
            function.argtypes, function.restype = [ctypes.c_void_p], ctypes.c_int


class _Context:
    """One libnftables context; it belongs to the network namespace of the thread that made it."""

    def __init__(self, library: _Library, flags: int = 0) -> None:
        self._library = library
        self._context = library.new(0)
        if not self._context:
            raise BuildtoolError("libnftables cannot be used: out of memory")
        library.flags(self._context, flags)
        library.buffer_output(self._context)
        library.buffer_error(self._context)

    def run(self, text: str) -> str:
        code = self._library.run(self._context, text.encode())
        output = (self._library.output(self._context) or b"").decode(errors="replace")
        errors = (self._library.errors(self._context) or b"").decode(errors="replace")
        if code != 0:
            raise _refused(errors)
        return output

    def close(self) -> None:
        self._library.free(self._context)


class Firewall:
    """Blocking; from any thread. The library is loaded, or the program looked for, at the first use."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._library: _Library | None = None
        self._context: _Context | None = None
        self._program = ""

    def available(self) -> bool:
        """Whether there is anything that changes the packet filter."""
        try:
            with self._lock:
                self._load()
        except Unavailable:
            return False
        return True

    def apply(self, text: str) -> None:
        """Run commands in this network namespace, all or none. Raises BuildtoolError with the kernel's words."""
        with self._lock:
            library = self._load()
            if library is None:
                _run_program(self._program, text)
                return
            if self._context is None:
                self._context = _Context(library)
            self._context.run(text)

    def apply_here(self, text: str) -> None:
        """The same in the network namespace that the calling thread has entered."""
        with self._lock:
            library = self._load()
            if library is None:
                _run_program(self._program, text)
                return
            context = _Context(library)
            try:
                context.run(text)
            finally:
                context.close()

    def has_table(self, name: str) -> bool:
        """Whether there is a table `inet NAME`."""
        return f"table inet {name}" in self._list("list tables").splitlines()

    def foreign_forward_drops(self) -> list[str]:
        """Chains of others that drop forwarded packets by policy: containers may reach nothing because of them."""
        try:
            found = [
                f"{chain['family']} {chain['table']} {chain['name']}"
                for item in json.loads(self._list("list chains", as_json=True))["nftables"]
                if (chain := item.get("chain")) and chain.get("hook") == "forward" and chain.get("policy") == "drop"
            ]
        except (BuildtoolError, ValueError, KeyError):
            found = []
        return found + _legacy_drops()

    def _list(self, command: str, *, as_json: bool = False) -> str:
        with self._lock:
            library = self._load()
            if library is None:
                return _run_program(self._program, command, *(["-j"] if as_json else []))
            context = _Context(library, _JSON_OUTPUT if as_json else 0)
            try:
                return context.run(command)
            finally:
                context.close()

    def _load(self) -> _Library | None:
        if self._library is None and not self._program:
            try:
                self._library = _Library()
            except (OSError, AttributeError):
                self._program = shutil.which("nft") or shutil.which("nft", path="/usr/sbin:/sbin") or ""
                if not self._program:
                    raise Unavailable(
                        "bridge networks need nftables, and neither libnftables nor the program nft is there",
                        hint="install the package nftables, or use --network host",
                    ) from None
        return self._library


def _run_program(program: str, text: str, *options: str) -> str:
    done = subprocess.run([program, *options, "-f", "-"], input=text, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise _refused(done.stderr)
    return done.stdout


def _refused(errors: str) -> BuildtoolError:
    lines = errors.strip().splitlines() or ["unknown error"]
    what = lines[0].rpartition("Error: ")[2]
    command = f": {lines[1].strip()}" if len(lines) > 1 else ""
    return BuildtoolError(f"the packet filter refused a change: {what}{command}")


def _legacy_drops() -> list[str]:
    """iptables-legacy has tables that nftables does not see."""
    tables = Path("/proc/net/ip_tables_names")
    program = shutil.which("iptables-legacy", path="/usr/sbin:/sbin:/usr/bin")
    try:
        if program is None or "filter" not in tables.read_text().split():
            return []
    except OSError:
        return []
    done = subprocess.run([program, "-S", "FORWARD"], capture_output=True, text=True, check=False)
    return ["iptables-legacy FORWARD"] if "-P FORWARD DROP" in done.stdout else []
