"""Compiling: Go's template text to code that Jinja2's sandbox runs, remembered for the next start of the CLI."""

from __future__ import annotations

from typing import Any

from jinja2.sandbox import SandboxedEnvironment

from buildtool.cli.gotemplate.evaluation import Evaluation, Failure, failed, ranged, shown
from buildtool.cli.gotemplate.functions import FUNCTIONS, HEADER_FUNCTIONS, ITSELF
from buildtool.cli.gotemplate.store import Store
from buildtool.cli.gotemplate.template import TemplateError

_DEPTH = 100_000


class Compiled:
    """The templates of one text. `render` may be called any number of times."""

    def __init__(self, codes: dict[str, Any], sites: list[tuple[int, int, str]], name: str) -> None:
        self._environment = _environment()
        self._sites = sites
        self._name = name
        self._evaluation = Evaluation(FUNCTIONS)
        variables = {
            "failed": failed,
            "shown": shown,
            "ranged": ranged,
            "argument": self._evaluation.argument,
            "fields": self._evaluation.fields,
            "invoke": self._evaluation.invoke,
            "rendered": self._rendered,
            "namespace": self._environment.globals["namespace"],
        }
        made = self._environment.template_class.from_code
        self._templates = {key: made(self._environment, code, variables) for key, code in codes.items()}

    def render(self, dot: Any, *, strict: bool, headers: bool) -> str:
        """The text for a value. Raises TemplateError."""
        self._evaluation.strict = strict
        self._evaluation.titles = headers
        self._evaluation.functions = HEADER_FUNCTIONS if headers else FUNCTIONS
        try:
            return self._text("", dot)
        except Failure as failure:
            line, column, text = self._sites[failure.site]
            message = str(failure).replace(ITSELF, text.removeprefix("{{").removesuffix("}}").removeprefix("call "))
            place = f'{self._name}:{line}:{column}: executing "{self._name}" at <{text}>'
            raise TemplateError(f"template: {place}: {message}") from None

    def _text(self, name: str, dot: Any) -> str:
        template = self._templates[name]
        return "".join(template.root_render_func(template.new_context({"dot": dot})))

    def _rendered(self, name: str, dot: Any, site: int) -> str:
        if name not in self._templates:
            raise Failure(f'template "{name}" not defined', site)
        try:
            return self._text(name, dot)
        except RecursionError:
            raise Failure(f"exceeded maximum template depth ({_DEPTH})", site) from None


def _environment() -> SandboxedEnvironment:
    made = SandboxedEnvironment(autoescape=False, cache_size=0)
    made.globals = {"namespace": made.globals["namespace"]}
    return made


def compiled(text: str, name: str) -> Compiled:
    """Raises TemplateError for a text that is no template."""
    store = Store()
    found = store.find(text, name)
    if found is None:
        found = _compile(text, name)
        store.keep(text, name, found)
    return Compiled(*found, name)


def _compile(text: str, name: str) -> tuple[dict[str, Any], list[tuple[int, int, str]]]:
    from buildtool.cli.gotemplate.functions import SIGNATURES
    from buildtool.cli.gotemplate.syntax import SyntaxProblem, parse
    from buildtool.cli.gotemplate.translate import translate

    try:
        made = translate(parse(text, frozenset(SIGNATURES)), text)
    except SyntaxProblem as problem:
        raise TemplateError(f"template: {name}:{problem.line}: {problem}") from None
    except RecursionError:
        raise TemplateError(f"template: {name}:1: nested too deeply") from None
    environment = _environment()
    codes = {}
    try:
        for key, template in made.templates.items():
            template.set_environment(environment)
            template.set_lineno(1)
            codes[key] = environment.compile(template, name=key or "template", filename=f"<template {key}>")
    except (RecursionError, SyntaxError):  # Python's blocks and loops nest less deeply than Go's
        raise TemplateError(f"template: {name}:1: nested too deeply") from None
    return codes, [(site.line, site.column, site.text) for site in made.sites]
