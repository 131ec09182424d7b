"""From a Go template's syntax to Jinja2's, one template of Jinja2 for the text and for each `define`.

What Go's actions are in Jinja2: a value printed is an Output of `shown`, `if` and `with` an If, `range` a For over
`ranged`, variables attributes of a namespace. Fields and functions are calls, so that the sandbox sees each, of the
functions in `buildtool.cli.gotemplate.evaluation`, which know Go's values; each call carries the number of its site:
the place and the text that an error names.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from jinja2 import nodes
from lark import Token, Tree

from buildtool.cli.gotemplate.functions import SIGNATURES
from buildtool.cli.gotemplate.nodes import Command, Operand, Pipeline, Scope, pipeline_of, unquote
from buildtool.cli.gotemplate.printing import quote
from buildtool.cli.gotemplate.syntax import SyntaxProblem

_VARIABLES = "variables"


class Site(NamedTuple):
    """Where an error is: line from 1, bytes before it in that line, and what stands there."""

    line: int
    column: int
    text: str


class Translated(NamedTuple):
    """Templates by name, "" the text itself, and the sites they name."""

    templates: dict[str, nodes.Template]
    sites: list[Site]


def translate(tree: Tree[Token], text: str) -> Translated:
    """Raises SyntaxProblem for what the grammar takes but Go does not."""
    made = _Translator(text)
    body = made.body(tree.children, "dot")
    templates = {name: made.template(found) for name, found in made.defined.items()}
    templates[""] = made.template(body)
    return Translated(templates, made.sites)


class _Translator:
    def __init__(self, text: str) -> None:
        self.text = text
        self.sites: list[Site] = []
        self.defined: dict[str, list[nodes.Node]] = {}
        self._scope = Scope()
        self._dots = 0

    def template(self, body: list[nodes.Node]) -> nodes.Template:
        start = nodes.Assign(_store(_VARIABLES), nodes.Call(_load("namespace"), [], [], None, None))
        root = nodes.Assign(nodes.NSRef(_VARIABLES, "root"), _load("dot"))
        return nodes.Template([start, root, *body])

    def body(self, children: list[Any], dot: str) -> list[nodes.Node]:
        made: list[nodes.Node] = []
        for child in children:
            keyworded = child.data not in ("text", "action")
            inner = Tree(child.data, child.children[1:]) if keyworded else child
            made += getattr(self, f"_{child.data.rstrip('_')}")(inner, dot)
        return made

    def _site(self, position: int, text: str) -> nodes.Const:
        before = self.text[:position]
        column = len(before[before.rfind("\n") + 1 :].encode("utf-8", "surrogateescape"))
        self.sites.append(Site(before.count("\n") + 1, column, text))
        return nodes.Const(len(self.sites) - 1)

    def _text(self, tree: Tree[Token], _dot: str) -> list[nodes.Node]:
        return [nodes.Output([nodes.TemplateData(str(tree.children[0]))])]

    def _action(self, tree: Tree[Token], dot: str) -> list[nodes.Node]:
        pipeline = self._pipeline(tree.children[0], "command")
        value = self._value(pipeline, dot)
        if pipeline.cells:
            return [nodes.Assign(nodes.NSRef(_VARIABLES, pipeline.cells[0]), value)]
        return [nodes.Output([_call("shown", value, self._site(pipeline.position, f"{{{{{pipeline.text}}}}}"))])]

    def _if(self, tree: Tree[Token], dot: str) -> list[nodes.Node]:
        self._scope.push()
        pipeline = self._pipeline(tree.children[0], "if")
        value = self._value(pipeline, dot)
        made: list[nodes.Node] = []
        if pipeline.cells:
            made.append(nodes.Assign(nodes.NSRef(_VARIABLES, pipeline.cells[0]), value))
            value = _cell(pipeline.cells[0])
        then, otherwise = _parts(tree.children[1:])
        body = self._scoped(then, dot)
        rest = self._otherwise(otherwise, dot, self._if)
        self._scope.pop()
        return [*made, nodes.If(value, body or [_nothing()], [], rest)]

    def _with(self, tree: Tree[Token], dot: str) -> list[nodes.Node]:
        self._scope.push()
        pipeline = self._pipeline(tree.children[0], "with")
        self._dots += 1
        inner = f"dot{self._dots}"
        made: list[nodes.Node] = [nodes.Assign(_store(inner), self._value(pipeline, dot))]
        made += [nodes.Assign(nodes.NSRef(_VARIABLES, cell), _load(inner)) for cell in pipeline.cells]
        then, otherwise = _parts(tree.children[1:])
        body = self._scoped(then, inner)
        rest = self._otherwise(otherwise, dot, self._with)
        self._scope.pop()
        return [*made, nodes.If(_load(inner), body or [_nothing()], [], rest)]

    def _otherwise(self, children: list[Any], dot: str, control: Any) -> list[nodes.Node]:
        if children and isinstance(children[0], Token):
            return list(control(Tree("", children[1:]), dot))
        return self._scoped(children, dot)

    def _range(self, tree: Tree[Token], dot: str) -> list[nodes.Node]:
        self._scope.push()
        pipeline = self._pipeline(tree.children[0], "range")
        then, otherwise = _parts(tree.children[1:])
        self._dots += 1
        key, item = f"key{self._dots}", f"dot{self._dots}"
        targets = [item] if len(pipeline.cells) == 1 else [key, item]
        body: list[nodes.Node] = [
            nodes.Assign(nodes.NSRef(_VARIABLES, cell), _load(name))
            for cell, name in zip(pipeline.cells, targets, strict=False)
        ]
        self._scope.loops += 1
        body += self._scoped(then, item)
        self._scope.loops -= 1
        rest = self._scoped(otherwise, dot)
        self._scope.pop()
        site = self._last_site(pipeline)
        target = nodes.Tuple([_store(key), _store(item)], "store")
        found = _call("ranged", self._value(pipeline, dot), site, nodes.Const(len(pipeline.cells)))
        return [nodes.For(target, found, body or [_nothing()], rest, None, False)]

    def _last_site(self, pipeline: Pipeline) -> nodes.Const:
        """The node that Go looked at last when a pipeline has its value."""
        operand = pipeline.commands[-1].operands[-1]
        if operand.kind in ("pipeline", "chain"):
            return self._last_site(operand.value)
        return self._site(operand.position, operand.text)

    def _template(self, tree: Tree[Token], dot: str) -> list[nodes.Node]:
        name, *rest = tree.children
        assert isinstance(name, Token)
        called = unquote(name)
        if not rest:
            site = self._site(name.start_pos or 0, f"{{{{template {quote(called)}}}}}")
            return [nodes.Output([_call("rendered", nodes.Const(called), nodes.Const(None), site)])]
        pipeline = self._pipeline(rest[0], "template clause")
        return self._include(name, called, pipeline, dot)

    def _include(self, name: Token, called: str, pipeline: Pipeline, dot: str) -> list[nodes.Node]:
        site = self._site(name.start_pos or 0, f"{{{{template {quote(called)} {pipeline.text}}}}}")
        value = self._value(pipeline, dot)
        made: list[nodes.Node] = []
        if pipeline.cells:
            made.append(nodes.Assign(nodes.NSRef(_VARIABLES, pipeline.cells[0]), value))
            value = _cell(pipeline.cells[0])
        return [*made, nodes.Output([_call("rendered", nodes.Const(called), value, site)])]

    def _block(self, tree: Tree[Token], dot: str) -> list[nodes.Node]:
        name, pipeline, *body = tree.children
        assert isinstance(name, Token)
        called = unquote(name)
        made = self._include(name, called, self._pipeline(pipeline, "block clause"), dot)
        self._define_as(called, body, name)
        return made

    def _define(self, tree: Tree[Token], _dot: str) -> list[nodes.Node]:
        name, *body = tree.children
        assert isinstance(name, Token)
        self._define_as(unquote(name), body, name)
        return []

    def _define_as(self, name: str, children: list[Any], token: Token) -> None:
        outer, self._scope = self._scope, Scope()
        body = self.body(children, "dot")
        self._scope = outer
        if name in self.defined and self.defined[name] and not _is_blank(children):
            raise SyntaxProblem(f"template: multiple definition of template {quote(name)}", token.line or 1)
        if name not in self.defined or not _is_blank(children):
            self.defined[name] = [] if _is_blank(children) else body

    def _break(self, _tree: Tree[Token], _dot: str) -> list[nodes.Node]:
        self._check_loop("break")
        return [nodes.Break()]

    def _continue(self, _tree: Tree[Token], _dot: str) -> list[nodes.Node]:
        self._check_loop("continue")
        return [nodes.Continue()]

    def _check_loop(self, word: str) -> None:
        if not self._scope.loops:
            raise SyntaxProblem(f"{{{{{word}}}}} outside {{{{range}}}}", 1)

    def _scoped(self, children: list[Any], dot: str) -> list[nodes.Node]:
        self._scope.push()
        made = self.body(children, dot)
        self._scope.pop()
        return made

    def _pipeline(self, tree: Any, context: str) -> Pipeline:
        return pipeline_of(tree, self._scope, context)

    def _value(self, pipeline: Pipeline, dot: str) -> nodes.Expr:
        value: nodes.Expr | None = None
        for command in pipeline.commands:
            value = self._command(command, dot, value)
        assert value is not None
        if pipeline.unknown:
            return _call("failed", nodes.Const(f"undefined variable: {pipeline.unknown}"), self._last_site(pipeline))
        return value

    def _command(self, command: Command, dot: str, piped: nodes.Expr | None) -> nodes.Expr:
        first, *rest = command.operands
        site = self._site(first.position, first.text)
        if first.kind == "function":
            return self._function(first, rest, command, dot, piped)
        if first.fields:
            arguments = [self._operand(operand, dot) for operand in rest]
            given = [*arguments, *([piped] if piped is not None else [])]
            return self._fields(first, dot, site, given)
        if rest or piped is not None:
            if first.kind == "pipeline":
                site = self._site(command.position, command.text)
            return self._failed(f"can't give argument to non-function {first.text}", site, piped)
        if first.kind == "nil":
            return _call("failed", nodes.Const("nil is not a command"), site)
        return self._operand(first, dot)

    def _fields(self, operand: Operand, dot: str, site: nodes.Const, given: list[nodes.Expr]) -> nodes.Expr:
        if operand.kind == "field":
            start: nodes.Expr = _load(dot)
        elif operand.kind == "variable":
            start = _cell(operand.value)
        else:
            start = self._value(operand.value, dot)
            site = self._last_site(operand.value)
        return _call("fields", start, nodes.Const(operand.fields), site, *given)

    def _operand(self, operand: Operand, dot: str) -> nodes.Expr:
        """A value as an argument without a type."""
        if operand.fields:
            return self._fields(operand, dot, self._site(operand.position, operand.text), [])
        if operand.kind == "dot":
            return _load(dot)
        if operand.kind == "nil":
            return nodes.Const(None)
        if operand.kind == "variable":
            return _cell(operand.value)
        if operand.kind == "pipeline":
            return self._value(operand.value, dot)
        if operand.kind == "function":
            bare = Command([operand], operand.position, operand.text)
            return self._function(operand, [], bare, dot, None)
        if isinstance(operand.value, int) and not -(2**63) <= operand.value < 2**63:
            site = self._site(operand.position, operand.text)
            return _call("failed", nodes.Const(f"{operand.text} overflows int"), site)
        return nodes.Const(operand.value)

    def _function(
        self, function: Operand, rest: list[Operand], command: Command, dot: str, piped: nodes.Expr | None
    ) -> nodes.Expr:
        name = function.value
        site = self._site(function.position, function.text)
        types, many = SIGNATURES[name]
        count = len(rest) + (piped is not None)
        if many and count < len(types):
            problem = f"wrong number of args for {name}: want at least {len(types)} got {len(rest)}"
            return self._failed(problem, site, piped)
        if not many and count != len(types):
            return self._failed(f"wrong number of args for {name}: want {len(types)} got {count}", site, piped)
        arguments: list[nodes.Expr] = []
        for index, operand in enumerate(rest):
            type_name = types[index] if index < len(types) else many
            here = self._site(operand.position, operand.text)
            arguments.append(self._argument(operand, type_name, here, dot))
        if piped is not None:
            type_name = types[count - 1] if count <= len(types) else many
            last = self._last_site(Pipeline([], "", [command], 0, ""))
            arguments.append(_call("argument", piped, nodes.Const(type_name), last) if type_name else piped)
        if name in ("and", "or"):
            joined = arguments[0]
            for argument in arguments[1:]:
                joined = nodes.And(joined, argument) if name == "and" else nodes.Or(joined, argument)
            return joined
        whole = self._site(command.position, command.text)
        return _call("invoke", nodes.Const(name), whole, *arguments)

    def _failed(self, message: str, site: nodes.Const, piped: nodes.Expr | None) -> nodes.Expr:
        """A mistake that shows when execution comes here, after what is piped."""
        return _call("failed", nodes.Const(message), site, *([piped] if piped is not None else []))

    def _argument(self, operand: Operand, type_name: str, site: nodes.Const, dot: str) -> nodes.Expr:
        if not type_name or type_name == "any":
            return self._operand(operand, dot)
        if operand.kind == "literal":
            wanted: dict[str, Any] = {"string": str, "int": int}
            fits = isinstance(operand.value, wanted.get(type_name, ())) and not isinstance(operand.value, bool)
            if type_name in wanted and not fits:
                found = {"string": "string", "int": "integer"}[type_name]
                return _call("failed", nodes.Const(f"expected {found}; found {operand.text}"), site)
            if type_name not in wanted:
                return _call("failed", nodes.Const(f"can't handle {operand.text} for arg of type {type_name}"), site)
            return nodes.Const(operand.value)
        if operand.kind == "nil":
            if type_name in ("string", "int"):
                return _call("failed", nodes.Const(f"cannot assign nil to {type_name}"), site)
            return nodes.Const(None)
        if operand.kind in ("pipeline", "chain"):
            site = self._last_site(operand.value)
        return _call("argument", self._operand(operand, dot), nodes.Const(type_name), site)


def _load(name: str) -> nodes.Name:
    return nodes.Name(name, "load")


def _store(name: str) -> nodes.Name:
    return nodes.Name(name, "store")


def _cell(name: str) -> nodes.Expr:
    return nodes.Getattr(_load(_VARIABLES), name, "load")


def _call(name: str, *arguments: nodes.Expr) -> nodes.Call:
    return nodes.Call(_load(name), list(arguments), [], None, None)


def _nothing() -> nodes.Node:
    return nodes.Output([nodes.TemplateData("")])


def _is_blank(children: list[Any]) -> bool:
    return all(
        child.data == "define" or (child.data == "text" and not str(child.children[0]).strip()) for child in children
    )


def _parts(children: list[Any]) -> tuple[list[Any], list[Any]]:
    """What is before `else` and what is after it; `else if` keeps its `if` in front."""
    for index, child in enumerate(children):
        if isinstance(child, Token) and child.type == "ELSE":
            return children[:index], children[index + 1 :]
    return children, []
