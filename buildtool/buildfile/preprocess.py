"""Templates and includes made into one plain Buildfile, which knows where its lines come from.

A file that uses neither comes back as it was.
"""

from __future__ import annotations

from collections.abc import Mapping

from buildtool.buildfile.include import Included, Load, expand_includes, mentions_include
from buildtool.buildfile.scanner import scan
from buildtool.buildfile.sourcemap import Line, SourceMap
from buildtool.buildfile.template import is_template, render


def needs_preprocessing(text: str, file: str) -> bool:
    """Whether the file may be more than a plain Buildfile. Cheap."""
    return mentions_include(text) or is_template(text, file)


def preprocess(text: str, file: str, identity: str, variables: Mapping[str, object], load: Load) -> str:
    """The plain Buildfile that a file stands for, with a source map; the text itself when it is plain.

    `identity` is what `load` would call this file. Raises InvalidInput with a place in the file that is wrong.
    """
    if not needs_preprocessing(text, file):
        return text
    lines = source_lines(text, file, variables)
    expanded = expand_includes(lines, file, identity, load) if _mentions(lines) else lines
    if expanded == lines and not is_template(text, file):
        return text
    text = "".join(f"{line.text}\n" for line in expanded)
    head = len(scan(text, file, origins=SourceMap.of(expanded)).directives)
    start = 1 if expanded and expanded[0].text.startswith("#!") else 0
    head += start
    place = Line("", file, expanded[head - 1].number if head else 1)
    composed = [*expanded[start:head], place, *expanded[head:]]
    composed[head - start] = place._replace(text=f"# sourcemap={SourceMap.of(composed)}")
    return "".join(f"{line.text}\n" for line in composed)


def source_lines(text: str, file: str, variables: Mapping[str, object]) -> list[Line]:
    """The lines of one file, rendered when it is a template."""
    if is_template(text, file):
        return render(text, file, variables)
    lines = text.removeprefix("\ufeff").split("\n")
    if lines[-1] == "":
        lines.pop()
    return [Line(line, file, number) for number, line in enumerate(lines, 1)]


def included(name: str, identity: str, data: bytes, text: str, variables: Mapping[str, object]) -> Included:
    """A file that a loader has read."""
    return Included(name, identity, source_lines(text, name, variables), data)


def _mentions(lines: list[Line]) -> bool:
    return mentions_include("\n".join(line.text for line in lines))
