"""The route table: method and path pattern to handler.

A pattern is a path whose `{name}` stands for one segment and `{name:path}` for any number of them (names of images
have slashes).
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from aiohttp import web

from buildtool.daemon.call import Call

Handler = Callable[[Call], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Route:
    """One entry. `stream`: ends when its client goes away; other handlers run to their end whatever the client
    does."""

    method: str
    pattern: str
    handler: Handler
    stream: bool = False


class Routes:
    """A module's own table, filled by decorating its handlers."""

    def __init__(self) -> None:
        self.entries: list[Route] = []

    def add(self, method: str, pattern: str, *, stream: bool = False) -> Callable[[Handler], Handler]:
        """Declare the decorated function as the handler of this method and pattern."""

        def declare(handler: Handler) -> Handler:
            self.entries.append(Route(method, pattern, handler, stream))
            return handler

        return declare


class Router:
    """All tables together. Literal paths win over patterns, earlier patterns over later ones."""

    def __init__(self, *tables: Routes) -> None:
        self._literal: dict[tuple[str, str], Route] = {}
        self._patterns: dict[tuple[str, str], list[tuple[re.Pattern[str], Route]]] = {}
        for table in tables:
            for route in table.entries:
                if "{" in route.pattern:
                    key = (route.method, _first_segment(route.pattern))
                    self._patterns.setdefault(key, []).append((_compile(route.pattern), route))
                else:
                    self._literal[route.method, route.pattern] = route

    def __iter__(self) -> Iterator[Route]:
        """Every route there is."""
        yield from self._literal.values()
        for patterns in self._patterns.values():
            yield from (route for _, route in patterns)

    def find(self, method: str, path: str) -> tuple[Route, dict[str, str]] | None:
        """The route for a decoded path without version, and the values of its names."""
        literal = self._literal.get((method, path))
        if literal is not None:
            return literal, {}
        for pattern, route in self._patterns.get((method, _first_segment(path)), ()):
            match = pattern.fullmatch(path)
            if match is not None:
                return route, match.groupdict()
        return None


def _first_segment(path: str) -> str:
    return path[1:].partition("/")[0]


def _compile(pattern: str) -> re.Pattern[str]:
    parts = re.split(r"\{(\w+)(:path)?\}", pattern)
    expression = ""
    for literal, name, deep in zip(parts[::3], [*parts[1::3], ""], [*parts[2::3], ""], strict=True):
        expression += re.escape(literal)
        if name:
            expression += f"(?P<{name}>{'.+' if deep else '[^/]+'})"
    return re.compile(expression, re.DOTALL)
