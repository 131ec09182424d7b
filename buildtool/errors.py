"""One exception tree for everything buildtool refuses or fails at.

Each class carries the HTTP status the daemon answers with and the exit code the CLI ends with.
A message says what failed, on which thing, why, and what to do about it.
"""

from __future__ import annotations


class Span:
    """A place in a source text: 1-based line and column, and what stands there.

    `line_text` is the whole source line, `length` the number of characters the caret underlines. Immutable and
    hashable; written out by hand because importing `dataclasses` costs the CLI more than all else it imports.
    """

    __slots__ = ("column", "file", "length", "line", "line_text")
    __match_args__ = ("file", "line", "column", "length", "line_text")

    file: str
    line: int
    column: int
    length: int
    line_text: str

    def __init__(self, file: str, line: int, column: int = 1, length: int = 1, line_text: str = "") -> None:
        set_field = object.__setattr__
        set_field(self, "file", file)
        set_field(self, "line", line)
        set_field(self, "column", column)
        set_field(self, "length", length)
        set_field(self, "line_text", line_text)

    def _values(self) -> tuple[str, int, int, int, str]:
        return (self.file, self.line, self.column, self.length, self.line_text)

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"cannot assign to field {name!r}")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"cannot delete field {name!r}")

    def __eq__(self, other: object) -> bool:
        return self._values() == other._values() if isinstance(other, Span) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._values())

    def __reduce__(self) -> tuple[type[Span], tuple[str, int, int, int, str]]:
        return (Span, self._values())

    def __repr__(self) -> str:
        return "Span(file={!r}, line={!r}, column={!r}, length={!r}, line_text={!r})".format(*self._values())

    def __str__(self) -> str:
        return f"{self.file}:{self.line}:{self.column}"

    def excerpt(self) -> str:
        """The source line with a caret line below it, or all lines of a span that has several; empty when unknown."""
        if not self.line_text:
            return ""
        if "\n" in self.line_text:
            numbered = enumerate(self.line_text.split("\n"), self.line)
            return "\n".join(f"{number:>3} | {text}" for number, text in numbered)
        gutter = f"{self.line:>3} | "
        pad = "".join("\t" if c == "\t" else " " for c in self.line_text[: self.column - 1])
        carets = "^" * max(1, min(self.length, len(self.line_text) - self.column + 1))
        return f"{gutter}{self.line_text}\n{' ' * (len(gutter) - 2)}| {pad}{carets}"


class BuildtoolError(Exception):
    """Root of the tree. `hint` is what the user can do; it is part of `str(error)`."""

    http_status = 500
    exit_code = 1

    def __init__(self, message: str, *, where: Span | None = None, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.hint = hint

    def __str__(self) -> str:
        text = f"{self.where}: {self.message}" if self.where else self.message
        excerpt = self.where.excerpt() if self.where else ""
        return "\n".join(part for part in (text, excerpt, self.hint) if part)


class InvalidInput(BuildtoolError):
    """The caller's input is malformed: a Buildfile, a flag, a request body, an archive."""

    http_status = 400


class NotFound(BuildtoolError):
    """The named thing does not exist."""

    http_status = 404


class Conflict(BuildtoolError):
    """The thing exists but its state or another user of it forbids the operation."""

    http_status = 409


class NotModified(BuildtoolError):
    """The thing already is in the wanted state (start of a running container)."""

    http_status = 304


class Forbidden(BuildtoolError):
    """The caller may not do this."""

    http_status = 403


class Unavailable(BuildtoolError):
    """A feature this daemon does not have, or a service it needs that does not answer."""

    http_status = 501


class Corrupt(BuildtoolError):
    """Stored or received bytes do not match their digest or format."""


class StoreFull(BuildtoolError):
    """The file system that holds the data root is full (ENOSPC or EDQUOT)."""

    http_status = 507


class StoreLocked(BuildtoolError):
    """Another process has this data root open."""

    http_status = 409


class StepFailed(BuildtoolError):
    """A step of a build did not succeed.

    `exit_code_of_step` is the command's own exit code (128 + n for signal n) or None when it never ran;
    `oom_killed` tells that the kernel killed it for memory.
    """

    def __init__(
        self,
        message: str,
        *,
        exit_code_of_step: int | None = None,
        oom_killed: bool = False,
        where: Span | None = None,
        hint: str = "",
    ) -> None:
        super().__init__(message, where=where, hint=hint)
        self.exit_code_of_step = exit_code_of_step
        self.oom_killed = oom_killed


class CommandNotExecutable(BuildtoolError):
    """The container's command exists but cannot be executed (CLI exit code 126)."""

    http_status = 400
    exit_code = 126


class CommandNotFound(BuildtoolError):
    """The container's command does not exist (CLI exit code 127)."""

    http_status = 400
    exit_code = 127


class DaemonUnreachable(BuildtoolError):
    """No daemon answers on the configured address."""

    http_status = 503
