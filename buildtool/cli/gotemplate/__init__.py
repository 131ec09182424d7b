"""Go's text/template, as `--format` takes it: a Lark grammar, run by Jinja2's sandbox over Go's values."""

from buildtool.cli.gotemplate.template import Template, TemplateError

__all__ = ["Template", "TemplateError"]
