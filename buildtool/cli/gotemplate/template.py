"""A template: parsed by Lark, compiled by Jinja2, run in its sandbox."""

from __future__ import annotations

from typing import Any

from buildtool.errors import InvalidInput


class TemplateError(InvalidInput):
    """A template cannot be parsed or executed, in Go's words (`template: :1:2: executing "" at <.X>: …`)."""

    prefix = ""  # what the CLI writes before it: nothing, as Docker's

    def told(self, words: str, exit_code: int = 1) -> TemplateError:
        """The same, after the words of the command that was given the template."""
        error = TemplateError(f"{words}: {self.message}")
        error.exit_code = exit_code
        return error


class Template:
    """A parsed template. Raises TemplateError at once for one that is malformed, and when executed.

    `name` is what errors call it.
    """

    def __init__(self, text: str, name: str = "") -> None:
        from buildtool.cli.gotemplate.compiled import compiled

        self.text = text
        self.name = name
        self._compiled = compiled(text, name)

    def render(self, data: Any, type_name: str = "", *, strict: bool = False, headers: bool = False) -> str:
        """The template's text for this JSON value as `.`, seen as a Go type (`container.InspectResponse`) when one is
        named; `strict` refuses keys that a map does not have; `headers` leaves the titles of a table alone."""
        from buildtool.cli.gotemplate.values import parse, typed, untyped

        dot = typed(parse(type_name), data) if type_name else untyped(data)
        return self._compiled.render(dot, strict=strict, headers=headers)

    def render_document(self, data: Any, type_name: str) -> str:
        """As `inspect` does: by the document's types, and when that fails once more by what the daemon sent."""
        try:
            return self.render(data, type_name)
        except TemplateError:
            return self.render(data, strict=True)

    def render_row(self, values: dict[str, Any], type_name: str, *, headers: bool = False) -> str:
        """As a list does for each line; functions among the values are methods (`.Label "x"`)."""
        from buildtool.cli.gotemplate.evaluation import Row
        from buildtool.cli.gotemplate.values import Type, Value

        if headers:
            return self.render(values, headers=True)
        row = Value(Type("ptr", f"*{type_name}", Type("struct", type_name)), Row(values))
        return self._compiled.render(row, strict=False, headers=False)
