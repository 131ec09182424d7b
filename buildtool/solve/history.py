"""The history of builds: a record of each in state.db, and its full log on disk.

The log is `<root>/builds/<id>.log`: a line of JSON about the request, one for each event with the seconds since the
beginning (`t`), a last one with the end. It is written as things happen, so a killed daemon leaves what was said
until then; the next one finds a log without a record and makes it: status `interrupted`.
"""

from __future__ import annotations

import base64
import os
import secrets
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from buildtool.cache import Store
from buildtool.errors import BuildtoolError, Conflict, InvalidInput, NotFound, StepFailed, StoreFull
from buildtool.solve import events
from buildtool.solve.redaction import Redaction, redaction_of
from buildtool.solve.request import BuildRequest, BuildWarning, StepRecord

_KIND = "builds"
_ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyz"
KEEP_BUILDS = 1000
"""How many finished builds are remembered; older ones go with their logs."""
KEEP_BYTES = 4 << 30
"""How much their logs may take together; the newest build's is kept in any case."""


class BuildRecord(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One build. `status` is `running`, `completed`, `failed`, `canceled` or `interrupted` (the daemon died).

    `build_args` have `***` for the value of what is called like a secret.
    Times are seconds since 1970, `phases` names with begin and length in seconds since the build's beginning.
    """

    id: str
    status: str
    file: str
    began: float
    context: str = ""
    target: str = ""
    platform: str = ""
    tags: list[str] = []
    build_args: dict[str, str | None] = {}
    no_cache: bool = False
    image: str = ""
    seconds: float = 0.0
    error: str = ""
    exit_code: int | None = None
    steps: list[StepRecord] = []
    warnings: list[str] = []
    phases: list[tuple[str, float, float]] = []

    @property
    def cached(self) -> int:
        """How many steps were found in the cache."""
        return sum(step.cached for step in self.steps)


class Recording:
    """A build that goes on: every event is in its log before the next one comes. Thread-safe; never fails a build.

    What `hide` knows as secret is not told; of what commands write that is taken out before it comes here.
    """

    def __init__(self, history: BuildHistory, record: BuildRecord, hide: Redaction) -> None:
        self.record = record
        self._hide = hide
        self.clock = time.monotonic()
        self._lock = threading.Lock()
        self._fd = -1
        try:
            path = history.log_path(record.id)
            path.parent.mkdir(mode=0o700, exist_ok=True)
            self._fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        except OSError:
            return  # a full disk: the build itself will tell
        self._write({"event": "begin", **msgspec.to_builtins(record)})

    def tell(self, event: events.Event) -> None:
        """Log an event, but for how far a download is."""
        if isinstance(event, events.BasePull) and event.total:
            return
        document = events.to_document(event)
        if not isinstance(event, events.StepOutput):
            document = self._hide.everywhere(document) if self._hide else document
            if isinstance(event, events.Warning) and isinstance(where := document.get("span"), dict):
                where["line_text"] = self._hide.buildfile(where["line_text"])
        self._write(document)

    def phase(self, name: str, began: float) -> None:
        """Note a phase that ends now; `began` is a monotonic time."""
        self.record.phases.append((name, began - self.clock, time.monotonic() - began))

    def end(
        self,
        *,
        error: BaseException | None = None,
        image: str = "",
        steps: Sequence[StepRecord] = (),
        warnings: Sequence[BuildWarning] = (),
    ) -> None:
        """Complete the record, as the log's last line too. `BuildHistory.keep` is to follow."""
        self.record.status = _status(error)
        self.record.seconds = time.monotonic() - self.clock
        self.record.image = image
        self.record.steps = list(steps)
        self.record.warnings = [self._hide.text(str(warning)) for warning in warnings]
        if isinstance(error, BuildtoolError):
            self.record.error = self._hide.buildfile(str(error))
            self.record.exit_code = error.exit_code_of_step if isinstance(error, StepFailed) else None
        elif error is not None and self.record.status == "failed":
            self.record.error = f"{type(error).__name__}: {error}"
        self._write({"event": "end", "record": msgspec.to_builtins(self.record)})
        with self._lock:
            if self._fd >= 0:
                os.close(self._fd)
                self._fd = -1

    def _write(self, document: dict[str, Any]) -> None:
        seconds = round(time.monotonic() - self.clock, 4)
        line = msgspec.json.encode({"t": seconds, **document}) + b"\n"
        with self._lock:
            if self._fd < 0:
                return
            try:
                while line:
                    line = line[os.write(self._fd, line) :]
            except OSError:
                os.close(self._fd)  # no space left: the log ends here
                self._fd = -1


class BuildHistory:
    """All builds of one store. Thread-safe."""

    def __init__(self, store: Store, keep: int = KEEP_BUILDS, keep_bytes: int = KEEP_BYTES) -> None:
        self.directory = store.root / "builds"
        self._documents = store.state.documents(_KIND)
        self._keep = keep
        self._keep_bytes = keep_bytes
        self._running: dict[str, Recording] = {}
        self._recover()

    def begin(self, request: BuildRequest, tags: Sequence[str]) -> Recording:
        """A build begins."""
        hide = redaction_of(request.secrets, request.build_args)
        record = BuildRecord(
            id=new_id(),
            status="running",
            file=request.dockerfile_name,
            began=time.time(),
            context=hide.url(request.context_key or str(request.context or "")),
            target=request.target,
            platform=request.platform,
            tags=list(tags),
            build_args={name: value and hide.variable(name, value) for name, value in request.build_args.items()},
            no_cache=request.no_cache,
        )
        recording = Recording(self, record, hide)
        self._running[record.id] = recording
        return recording

    def keep(self, record: BuildRecord) -> None:
        """Remember a build that has ended. Blocking. On a full disk it is remembered as long as the daemon lives."""
        try:
            self._documents.put(record.id, msgspec.to_builtins(record))
        except StoreFull:
            return
        self._running.pop(record.id, None)
        for old in self._beyond():
            self._delete(old)

    def _beyond(self) -> list[str]:
        """The oldest builds that are too many or whose logs are too much."""
        names = self._documents.keys()
        sizes = {path.stem: path.stat().st_size for path in self.directory.glob("*.log")}
        gone, left = names[: -self._keep], names[-self._keep :]
        total = sum(sizes.get(name, 0) for name in left)
        while len(left) > 1 and total > self._keep_bytes:
            total -= sizes.get(left[0], 0)
            gone.append(left.pop(0))
        return gone

    def all(self) -> list[BuildRecord]:
        """Every build, the newest first."""
        running = [recording.record for recording in list(self._running.values())]
        known = {record.id for record in running}
        ended = [_record(key, document) for key, document in self._documents.items() if key not in known]
        return sorted([*running, *ended], key=lambda record: record.id, reverse=True)

    def find(self, name: str) -> BuildRecord:
        """A build by its id, the beginning of it, or `^N`: the Nth before the last one (also "": the last one).

        Raises NotFound, InvalidInput for a beginning of several.
        """
        if name in ("", "latest"):
            name = "^0"
        if name.startswith("^"):
            if not name[1:].isdecimal():
                raise InvalidInput(f"invalid build {name!r}: ^N takes a number")
            names = self._ids()
            if int(name[1:]) >= len(names):
                raise NotFound(f"there are only {len(names)} builds in the history" if names else "no build yet")
            return self._get(names[-1 - int(name[1:])])
        found = [each for each in self._ids() if each.startswith(name)]
        if len(found) > 1 and name not in found:
            raise InvalidInput(f"build {name!r} is ambiguous: {', '.join(found[:5])}")
        if not found:
            raise NotFound(f"no such build: {name}", hint="`buildtool history ls` lists them")
        return self._get(name if name in found else found[0])

    def running(self, id: str) -> bool:
        """Whether the build goes on."""
        recording = self._running.get(id)
        return recording is not None and recording.record.status == "running"

    def remove(self, id: str) -> None:
        """Forget a build and its log. Raises Conflict while it goes on."""
        if self.running(id):
            raise Conflict(f"build {id} is still running")
        self._delete(id)

    def log_path(self, id: str) -> Path:
        """Where a build's log lies."""
        return self.directory / f"{id}.log"

    def log(self, id: str) -> Iterator[dict[str, Any]]:
        """The lines of a build's log, as far as it was written."""
        try:
            file = self.log_path(id).open("rb")
        except FileNotFoundError:
            return
        with file:
            yield from decode_lines(file.readlines())

    def _ids(self) -> list[str]:
        return sorted({*self._documents.keys(), *self._running})

    def _get(self, id: str) -> BuildRecord:
        recording = self._running.get(id)
        if recording is not None:
            return recording.record
        document = self._documents.get(id)
        if document is None:
            raise NotFound(f"no such build: {id}")
        return _record(id, document)

    def _delete(self, id: str) -> None:
        self._documents.delete(id)
        self.log_path(id).unlink(missing_ok=True)

    def _recover(self) -> None:
        """Make records of the logs that a killed daemon left."""
        if not self.directory.is_dir():
            return
        known = set(self._documents.keys())
        for path in self.directory.glob("*.log"):
            if path.stem in known:
                continue
            record = _recovered(list(self.log(path.stem)))
            if record is None:
                path.unlink()
            else:
                self.keep(record)


def new_id() -> str:
    """A fresh id: 12 characters, later ones sort behind earlier ones."""
    number = int(time.time() * 1000) * 36**4 + secrets.randbelow(36**4)
    text = ""
    while number:
        number, digit = divmod(number, 36)
        text = _ALPHABET[digit] + text
    return text


def decode_lines(lines: Sequence[bytes]) -> Iterator[dict[str, Any]]:
    """The documents of a log's lines; a half-written last one is left out."""
    for line in lines:
        try:
            document = msgspec.json.decode(line)
        except msgspec.DecodeError:
            return
        if "bytes" in document:
            document["data"] = base64.b64decode(document.pop("bytes")).decode(errors="replace")
        yield document


def _record(key: str, document: dict[str, Any]) -> BuildRecord:
    try:
        return msgspec.convert(document, BuildRecord)
    except msgspec.ValidationError:  # an older buildtool wrote it
        return BuildRecord(id=key, status="completed", file=str(document.get("file", "")), began=0.0)


def _recovered(lines: Sequence[dict[str, Any]]) -> BuildRecord | None:
    try:
        if lines[-1]["event"] == "end":
            return msgspec.convert(lines[-1]["record"], BuildRecord)
        record = msgspec.convert(lines[0], BuildRecord)
    except (IndexError, KeyError, msgspec.ValidationError):
        return None
    record.status, record.seconds = "interrupted", float(lines[-1].get("t", 0.0))
    record.error = "the daemon ended in the middle of the build"
    return record


def _status(error: BaseException | None) -> str:
    if error is None:
        return "completed"
    return "failed" if isinstance(error, Exception) else "canceled"
