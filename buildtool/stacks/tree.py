"""What a stack's YAML becomes: mappings and sequences that know where they stand in their file.

Containers carry the marks, so that scalars stay plain Python values and a merged model still knows the place of each
of its parts.
"""

from __future__ import annotations

from buildtool.errors import InvalidInput, Span

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any
else:
    Any = object  # `typing` costs an `up` with nothing to do a tenth of its time

Path = tuple[str | int, ...]


class Source:
    """One file's name and text; lines are cut when an error wants one."""

    __slots__ = ("name", "text")

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.text = text

    def span(self, line: int, column: int, length: int = 1) -> Span:
        """The place as errors carry it; `line` and `column` count from 0 as YAML's marks do."""
        lines = self.text.splitlines()
        shown = lines[line] if line < len(lines) else ""
        return Span(self.name, line + 1, column + 1, length, shown)


class Mark:
    """A place in a source, counted from 0."""

    __slots__ = ("column", "line", "source")

    def __init__(self, source: Source, line: int, column: int) -> None:
        self.source = source
        self.line = line
        self.column = column

    def span(self, length: int = 1) -> Span:
        """As errors carry it."""
        return self.source.span(self.line, self.column, length)


class Map(dict[str, Any]):
    """A mapping; `marks` are the places of its keys, `mark` its own."""

    __slots__ = ("mark", "marks")

    def __init__(self, mark: Mark | None = None) -> None:
        super().__init__()
        self.mark = mark
        self.marks: dict[str, Mark | None] = {}

    def put(self, key: str, value: Any, mark: Mark | None = None) -> None:
        """Set a key together with its place."""
        self[key] = value
        if mark is not None:
            self.marks[key] = mark

    def place(self, key: str) -> Mark | None:
        """Where the key stands."""
        return self.marks.get(key) or self.mark


class Seq(list[Any]):
    """A sequence; `marks` are the places of its items (as many as it has), `mark` its own."""

    __slots__ = ("mark", "marks")

    def __init__(self, mark: Mark | None = None) -> None:
        super().__init__()
        self.mark = mark
        self.marks: list[Mark | None] = []

    def add(self, value: Any, mark: Mark | None = None) -> None:
        """Append an item together with its place."""
        self.append(value)
        self.marks.append(mark or self.mark)

    def place(self, index: int) -> Mark | None:
        """Where the item stands."""
        return self.marks[index] if index < len(self.marks) else self.mark


class Reset:
    """`!reset`: the attribute disappears from the merged model."""

    __slots__ = ()


class Override:
    """`!override`: the value replaces what it would be merged with."""

    __slots__ = ("value",)

    def __init__(self, value: Any) -> None:
        self.value = value


class StackError(InvalidInput):
    """A stack's file says something that cannot be; the message begins with the path (`services.web.ports[1]`)."""

    def __init__(self, path: Path, problem: str, mark: Mark | None = None, *, hint: str = "") -> None:
        named = path_text(path)
        where = mark.span() if mark is not None else None
        super().__init__(f"{named}: {problem}" if named else problem, where=where, hint=hint)
        self.path = path
        self.problem = problem


def path_text(path: Path) -> str:
    """`services.web.ports[1]`."""
    out = ""
    for part in path:
        out += f"[{part}]" if isinstance(part, int) else f".{part}" if out else str(part)
    return out


def mark_at(root: Any, path: Path) -> Mark | None:
    """The place of the deepest part of `path` that the tree has."""
    mark: Mark | None = getattr(root, "mark", None)
    node = root
    for part in path:
        held = part in node if isinstance(node, Map) else isinstance(part, int) and part < len(node or ())
        if not isinstance(node, (Map, Seq)) or not held:
            break
        mark, node = node.place(part) or mark, node[part]  # type: ignore[arg-type, index]
    return mark


def plain(value: Any) -> Any:
    """The tree as ordinary dicts and lists."""
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list):
        return [plain(item) for item in value]
    return value
