"""Buildfiles that are Jinja2 templates: rendered before anything else, each line knowing where it comes from.

The environment is a sandbox without files, time or chance: the same variables give the same text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

from buildtool.buildfile.sourcemap import Line
from buildtool.errors import InvalidInput, Span

SUFFIX = ".j2"
_DIRECTIVE = re.compile(r"\s*#\s*template\s*=\s*jinja2\s*", re.IGNORECASE)
_COMMENT = re.compile(r"\s*#\s*(?:syntax|escape|check|cache|template)\s*=", re.IGNORECASE)
_LARGEST = 8 << 20
_FAILURES = (ArithmeticError, LookupError, TypeError, ValueError, AttributeError, RuntimeError, AssertionError)


def is_template(text: str, file: str) -> bool:
    """Whether a file is a template: by its suffix, or by the directive `# template=jinja2`."""
    return file.endswith(SUFFIX) or _directive_line(text) is not None


def _directive_line(text: str) -> int | None:
    """The number of the line `# template=jinja2` among the directives."""
    for number, line in enumerate(text.removeprefix("\ufeff").split("\n"), 1):
        if _DIRECTIVE.fullmatch(line):
            return number
        if _COMMENT.match(line) is None and not (number == 1 and line.startswith("#!")):
            return None
    return None


def render(text: str, file: str, variables: Mapping[str, object]) -> list[Line]:
    """The lines of a rendered template, without its `template` directive.

    Raises InvalidInput at the template's line for a syntax error, for a variable that has no value, and for whatever
    an expression fails at.
    """
    text = text.removeprefix("\ufeff")
    directive = _directive_line(text)
    plain = _render(text, file, variables, "")
    mark = next((c for c in map(chr, range(0xE000, 0xF8FF)) if c not in text and c not in plain), "")
    marked = _render(text, file, variables, mark) if mark else ""
    pattern = re.compile(f"{mark}[0-9]+{mark}") if mark else re.compile("(?!)")
    if pattern.sub("", marked) == plain:
        numbers = list(_numbers(marked, re.compile(f"(?:{mark}([0-9]+){mark})+"), mark)) if mark else []
    else:  # the template looks at text that it made itself: only the order is known
        numbers = list(_in_order(plain, text))
    lines = plain.split("\n")
    if lines[-1] == "":
        lines.pop()
    return [
        Line(line, file, number) for line, number in zip(lines, numbers, strict=False)
        if number != directive or _DIRECTIVE.fullmatch(line) is None
    ]  # fmt: skip


def _numbers(marked: str, pattern: re.Pattern[str], mark: str) -> Iterator[int]:
    """The template's line of each rendered line: the last mark before its first visible character."""
    current = 1
    for line in marked.split("\n"):
        head = pattern.match(line.lstrip(" \t"))
        found = [head[1]] if head else re.findall(f"{mark}([0-9]+){mark}", line)[:1]
        current = int(found[0]) if found else current
        yield current


def _in_order(rendered: str, text: str) -> Iterator[int]:
    """Rendered lines that stand in the template too, found again in order; the others are where the last one was."""
    template = text.split("\n")
    current = 0
    for line in rendered.split("\n"):
        place = next((n for n in range(current, len(template)) if template[n] == line), None)
        current = current if place is None else place
        yield current + 1


def _render(text: str, file: str, variables: Mapping[str, object], mark: str) -> str:
    from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, keep_trailing_newline=True
    )  # fmt: skip
    environment.filters.pop("random")
    environment.globals.pop("lipsum")
    if mark:
        environment.add_extension(_marking(mark))
    try:
        code = environment.compile(text, filename=file)
        template = environment.template_class.from_code(environment, code, dict(environment.globals))
        return _limited(template.generate(dict(variables)), file)
    except TemplateSyntaxError as error:
        raise _error(text, file, error.lineno, error.message or "syntax error") from None
    except TemplateError as error:
        raise _error(text, file, _line_of(error, file), error.message or type(error).__name__) from None
    except _FAILURES as error:
        raise _error(text, file, _line_of(error, file), str(error) or type(error).__name__) from None


def _limited(parts: Iterable[str], file: str) -> str:
    rendered: list[str] = []
    size = 0
    for part in parts:
        size += len(part)
        if size > _LARGEST:
            raise InvalidInput(f"the template renders to more than {_LARGEST >> 20} MiB", where=Span(file, 1))
        rendered.append(part)
    return "".join(rendered)


def _line_of(error: BaseException, file: str) -> int:
    line = 1
    trace = error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == file:
            line = trace.tb_lineno
        trace = trace.tb_next
    return line


def _error(text: str, file: str, line: int, reason: str) -> InvalidInput:
    written = next(islice(text.split("\n"), line - 1, line), "").rstrip("\r")
    hint = ""
    if reason.endswith("is undefined"):
        hint = "give it a value with --var NAME=VALUE, --var-file or --build-arg, or write {{ NAME | default('…') }}"
    column = len(written) - len(written.lstrip()) + 1
    span = Span(file, line, column, max(1, len(written.strip())), written)
    return InvalidInput(f"template: {reason}", where=span, hint=hint)


def _marking(mark: str) -> Any:
    """An extension that puts its line number before every piece of literal text and every line in it."""
    from jinja2.ext import Extension
    from jinja2.lexer import Token, TokenStream

    class Marking(Extension):
        def filter_stream(self, stream: TokenStream) -> Iterator[Token]:
            for token in stream:
                if token.type == "data":
                    lines = token.value.split("\n")
                    text = "\n".join(f"{mark}{token.lineno + n}{mark}{line}" for n, line in enumerate(lines))
                    token = Token(token.lineno, token.type, text)
                yield token

    return Marking
