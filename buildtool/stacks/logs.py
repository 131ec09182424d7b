"""The output of many containers as one stream of lines, each with the container that it comes from."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from buildtool.client import ConnectionLost, Demultiplexer
from buildtool.errors import BuildtoolError
from buildtool.stacks.engine import Engine

Line = Callable[[str, str, str], None]
"""Called with the container's short name, a line without its end, and `stdout` or `stderr`."""


class LogQuery:
    """`logs` and its flags, as the engine takes them."""

    def __init__(self, *, tail: str = "all", since: str = "", until: str = "", timestamps: bool = False) -> None:
        self.tail = tail
        self.since = since
        self.until = until
        self.timestamps = timestamps

    def document(self, *, follow: bool, since: str = "") -> dict[str, Any]:
        """The query of GET /containers/ID/logs."""
        return {
            "stdout": True,
            "stderr": True,
            "follow": follow,
            "timestamps": self.timestamps,
            "tail": self.tail if not since else None,
            "since": since or self.since or None,
            "until": self.until or None,
        }


def read_lines(engine: Engine, identifier: str, name: str, query: dict[str, Any], line: Line, *, tty: bool) -> None:
    """Hand out the lines of one container until its log ends."""
    response = engine.stream(f"/containers/{identifier}/logs", query)
    demultiplexer = None if tty else Demultiplexer()
    rests = {1: b"", 2: b""}
    try:
        for data in response:
            parts = [(1, data)] if demultiplexer is None else demultiplexer.feed(data)
            for stream, payload in parts:
                stream = 2 if stream >= 2 else 1
                *lines, rests[stream] = (rests[stream] + payload).split(b"\n")
                for one in lines:
                    line(name, one.decode("utf-8", "replace").rstrip("\r"), "stderr" if stream == 2 else "stdout")
    except ConnectionLost:
        pass  # the daemon was stopped: what came is all there is
    finally:
        response.connection.close()
    for stream, rest in rests.items():
        if rest:
            line(name, rest.decode("utf-8", "replace"), "stderr" if stream == 2 else "stdout")


class Follower:
    """Follows containers, each in a thread of its own, over restarts, until they have ended.

    `ended(name, id, exit code)` hears of every end, `problem` of what went wrong.
    """

    def __init__(
        self, engine: Engine, line: Line, ended: Callable[[str, str, int], None], query: LogQuery | None = None
    ) -> None:
        self._engine = engine
        self._line = line
        self._ended = ended
        self._query = query or LogQuery()
        self._threads: list[threading.Thread] = []
        self._known: set[str] = set()
        self._quiet: set[str] = set()
        self.stopping = False

    def add(self, identifier: str, name: str, *, since: str = "", show: bool = True) -> None:
        """Follow one more container, with `since` from then on; without `show` only its end is waited for."""
        if identifier in self._known:
            return
        self._known.add(identifier)
        thread = threading.Thread(target=self._follow, args=(identifier, name, since, show), daemon=True)
        self._threads.append(thread)
        thread.start()

    def forget(self, identifier: str) -> None:
        """Its end is no news: it is replaced."""
        self._quiet.add(identifier)

    def drain(self, seconds: float = 5.0) -> None:
        """Wait until the last lines of containers that have ended are out."""
        deadline = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    @property
    def active(self) -> bool:
        """Whether anything is still followed."""
        return any(thread.is_alive() for thread in self._threads)

    def _follow(self, identifier: str, name: str, since: str, show: bool) -> None:
        try:
            details = self._engine.find(f"/containers/{identifier}/json")
            while details is not None:
                tty = bool(details["Config"].get("Tty"))
                begun = time.time()
                if show:
                    query = self._query.document(follow=True, since=since)
                    read_lines(self._engine, identifier, name, query, self._line, tty=tty)
                else:
                    self._engine.act("POST", f"/containers/{identifier}/wait", missing=True)
                since = f"{begun:.9f}"
                details = self._after_the_end(identifier, name)
        except BuildtoolError as error:
            if not self.stopping:
                self._line(name, f"cannot be followed: {error.message}", "stderr")

    def _after_the_end(self, identifier: str, name: str) -> dict[str, Any] | None:
        """Tell the exit code; the details when the container has been started again, None when it is over."""
        told = False
        while True:
            details: dict[str, Any] | None = self._engine.find(f"/containers/{identifier}/json")
            if details is None:
                return None
            state = details["State"]
            if state["Status"] in ("running", "paused"):
                return details
            if not told and identifier not in self._quiet:
                self._ended(name, identifier, int(state.get("ExitCode") or 0))
                told = True
            if state["Status"] not in ("restarting", "created"):
                return None
            time.sleep(0.1)
