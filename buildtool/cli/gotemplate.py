"""Go's text/template over JSON values, as `--format` needs it.

Fields and maps, pipelines, variables, if/else if/else, range/else, with/else, comments, white-space trimming, and the
functions Docker adds: json, join, split, lower, upper, title, pad, truncate. `define`, `template` and `block` are
refused. Source: Go text/template; docker CLI, "Format command and log output".
"""

from __future__ import annotations

import re

from buildtool.cli.gofuncs import FUNCTIONS, Missing, is_true, show
from buildtool.errors import InvalidInput

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_TOKEN = re.compile(
    r"""\s*(?:
      (?P<string>"(?:[^"\\\n]|\\.)*"|`[^`]*`)
    | (?P<char>'(?:[^'\\]|\\.)')
    | (?P<number>[+-]?(?:0x[0-9a-fA-F]+|\d+(?:\.\d+)?))
    | (?P<field>(?:\.[A-Za-z_]\w*)+)
    | (?P<variable>\$\w*(?:\.[A-Za-z_]\w*)*)
    | (?P<name>[A-Za-z_]\w*)
    | (?P<dot>\.)
    | (?P<mark>:=|=|\||\(|\)|,)
    )""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4}))")
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}


class TemplateError(InvalidInput):
    """The template cannot be parsed or executed. `exit_code` is 1, or 64 where Docker has it so."""


class _Node:
    """One piece of a template: `kind` is text, action, if, with, range; `body` and `otherwise` are lists of nodes."""

    __slots__ = ("body", "kind", "names", "otherwise", "pipeline", "text")

    def __init__(self, kind: str, text: str = "") -> None:
        self.kind = kind
        self.text = text
        self.names: list[str] = []
        self.pipeline: list[list[Any]] = []
        self.body: list[_Node] = []
        self.otherwise: list[_Node] = []


class Template:
    """A parsed template. Raises TemplateError with Go's words at parsing or rendering."""

    def __init__(self, text: str) -> None:
        self.text = text
        self._parts = _split(text)
        self._position = 0
        self._nodes, end = self._parse_list()
        if end:
            raise _parse_error(f"unexpected {{{{{end}}}}}")

    def render(self, data: Any) -> str:
        """The template's text for this value as `.`."""
        out: list[str] = []
        _run(self._nodes, data, [{"$": data}], out)
        return "".join(out)

    def _parse_list(self) -> tuple[list[_Node], str]:
        """Nodes up to the end, or up to `end`/`else…`, whose words are returned."""
        nodes: list[_Node] = []
        while self._position < len(self._parts):
            is_action, part = self._parts[self._position]
            self._position += 1
            if not is_action:
                if part:
                    nodes.append(_Node("text", part))
                continue
            word = part.split(None, 1)[0] if part else ""
            if word in ("end", "else"):
                return nodes, part
            if word in ("define", "template", "block", "break", "continue"):
                raise _parse_error(f"{{{{{word}}}}} is not supported here")
            nodes.append(self._parse_control(word, part) if word in ("if", "with", "range") else _action(part))
        return nodes, ""

    def _parse_control(self, word: str, part: str) -> _Node:
        node = _Node(word, part)
        node.names, node.pipeline = _pipeline(part[len(word) :], allow_two=word == "range")
        node.body, end = self._parse_list()
        if end.startswith("else"):
            rest = end[len("else") :].strip()
            if rest:
                node.otherwise = [self._parse_control(rest.split(None, 1)[0], rest)]
                return node
            node.otherwise, end = self._parse_list()
        if end != "end":
            raise _parse_error("unexpected EOF")
        return node


def _parse_error(problem: str) -> TemplateError:
    return TemplateError(f"template: :1: {problem}")


def _split(text: str) -> list[tuple[bool, str]]:
    """Texts and actions in turn, with `{{-`, `-}}` and comments worked off."""
    parts: list[tuple[bool, str]] = []
    position, trim = 0, False
    while True:
        start = text.find("{{", position)
        plain = text[position:] if start < 0 else text[position:start]
        plain = plain.lstrip() if trim else plain
        if start < 0:
            parts.append((False, plain))
            return parts
        begin = start + 2
        if text.startswith("-", begin) and text[begin + 1 : begin + 2].isspace():
            plain, begin = plain.rstrip(), begin + 1
        end = _action_end(text, begin)
        inner = text[begin:end]
        trim = len(inner) > 1 and inner[-1] == "-" and inner[-2].isspace()
        inner = (inner[:-1] if trim else inner).strip()
        parts.append((False, plain))
        if not inner.startswith("/*"):
            parts.append((True, inner))
        position = end + 2


def _action_end(text: str, begin: int) -> int:
    position, quote = begin, ""
    while position < len(text):
        char = text[position]
        if quote:
            if char == "\\" and quote == '"':
                position += 1
            elif char == quote:
                quote = ""
        elif char in '"`':
            quote = char
        elif text.startswith("}}", position):
            return position
        position += 1
    raise _parse_error("unterminated quoted string" if quote else "unclosed action")


def _action(part: str) -> _Node:
    node = _Node("action", part)
    if not part:
        raise _parse_error("missing value for command")
    node.names, node.pipeline = _pipeline(part, allow_two=False)
    return node


def _tokens(text: str) -> list[tuple[str, str]]:
    found: list[tuple[str, str]] = []
    position = 0
    text = text.strip()
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None or match.lastgroup is None:
            raise _parse_error(f"unexpected {text[position:].strip()[:1]!r} in operand".replace("'", '"'))
        spaced = text[position : position + 1].isspace() or position == 0
        kind, value = match.lastgroup, match[match.lastgroup]
        if kind == "field" and not spaced and found and found[-1] == ("mark", ")"):
            kind = "chain"
        found.append((kind, value))
        position = match.end()
    return found


def _pipeline(text: str, *, allow_two: bool) -> tuple[list[str], list[list[Any]]]:
    """`$x := a b | c` as (["$x"], [[a, b], [c]])."""
    tokens = _tokens(text)
    names: list[str] = []
    for at, token in enumerate(tokens):
        if token in (("mark", ":="), ("mark", "=")):
            names = [value for kind, value in tokens[:at] if kind == "variable"]
            tokens = tokens[at + 1 :]
            break
    if len(names) > (2 if allow_two else 1):
        raise _parse_error("too many declarations in pipeline")
    commands, rest = _commands(tokens, 0)
    if rest != len(tokens):
        raise _parse_error("unexpected right paren")
    return names, commands


def _commands(tokens: list[tuple[str, str]], position: int) -> tuple[list[list[Any]], int]:
    commands: list[list[Any]] = [[]]
    while position < len(tokens):
        kind, value = tokens[position]
        if (kind, value) == ("mark", ")"):
            break
        position += 1
        if (kind, value) == ("mark", "|"):
            commands.append([])
        elif (kind, value) == ("mark", "("):
            inner, position = _commands(tokens, position)
            if position >= len(tokens):
                raise _parse_error("unclosed left paren")
            position += 1
            operand: tuple[str, Any, str] = ("pipeline", inner, "")
            if position < len(tokens) and tokens[position][0] == "chain":
                operand = ("pipeline", inner, tokens[position][1])
                position += 1
            commands[-1].append(operand)
        elif kind == "mark":
            raise _parse_error(f'unexpected "{value}" in operand')
        else:
            commands[-1].append((kind, _literal(kind, value), value))
    if not all(commands):
        raise _parse_error("missing value for command")
    for command in commands:
        if command[0][0] == "name" and command[0][1] not in (*FUNCTIONS, "true", "false", "nil"):
            raise _parse_error(f'function "{command[0][1]}" not defined')
    return commands, position


def _literal(kind: str, value: str) -> Any:
    if kind == "string":
        return value[1:-1] if value[0] == "`" else _ESCAPE.sub(_unescape, value[1:-1])
    if kind == "char":
        return ord(_ESCAPE.sub(_unescape, value[1:-1]))
    if kind == "number":
        return float(value) if "." in value else int(value, 0)
    return value


def _unescape(match: re.Match[str]) -> str:
    plain, byte, unicode = match.groups()
    return _PLAIN.get(plain, plain) if plain else chr(int(byte or unicode, 16))


def _run(nodes: list[_Node], dot: Any, scopes: list[dict[str, Any]], out: list[str]) -> None:
    for node in nodes:
        if node.kind == "text":
            out.append(node.text)
            continue
        value = _evaluate(node.pipeline, dot, scopes)
        if node.kind == "action":
            if node.names:
                _assign(node, value, scopes)
            elif isinstance(value, Missing):
                raise _missing(node.text, value)
            else:
                out.append(show(value))
        elif node.kind == "range":
            _run_range(node, value, dot, scopes, out)
        elif is_true(value):
            scope = {node.names[0]: value} if node.names else {}
            _run(node.body, value if node.kind == "with" else dot, [*scopes, scope], out)
        else:
            _run(node.otherwise, dot, [*scopes, {}], out)


def _assign(node: _Node, value: Any, scopes: list[dict[str, Any]]) -> None:
    name = node.names[0]
    if ":=" not in node.text:
        for scope in reversed(scopes):
            if name in scope:
                scope[name] = value
                return
        raise _parse_error(f'undefined variable "{name}"')
    scopes[-1][name] = value


def _run_range(node: _Node, value: Any, dot: Any, scopes: list[dict[str, Any]], out: list[str]) -> None:
    if isinstance(value, dict):
        items = sorted(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    elif isinstance(value, int) and not isinstance(value, bool):
        items = [(number, number) for number in range(value)]
    elif value is None or isinstance(value, Missing):
        items = []
    else:
        raise TemplateError(
            f'template: :1: executing "" at <{node.text[5:].strip()}>: range can\'t iterate over {value}'
        )
    if not items:
        _run(node.otherwise, dot, [*scopes, {}], out)
    for key, item in items:
        if len(node.names) == 2:
            scope = {node.names[0]: key, node.names[1]: item}
        else:
            scope = {node.names[0]: item} if node.names else {}
        _run(node.body, item, [*scopes, scope], out)


def _missing(text: str, value: Missing) -> TemplateError:
    return TemplateError(f'template: :1:2: executing "" at <{text}>: {value.problem}')


def _evaluate(pipeline: list[list[Any]], dot: Any, scopes: list[dict[str, Any]]) -> Any:
    value: Any = None
    for index, command in enumerate(pipeline):
        value = _command(command, dot, scopes, [value] if index else [])
    return value


def _command(command: list[Any], dot: Any, scopes: list[dict[str, Any]], piped: list[Any]) -> Any:
    kind, value, text = command[0]
    is_function = kind == "name" and value in FUNCTIONS
    head = FUNCTIONS[value] if is_function else _operand(command[0], dot, scopes)
    arguments = [_operand(operand, dot, scopes) for operand in command[1:]] + piped
    if callable(head):
        try:
            return head(*arguments)
        except (TypeError, ValueError, IndexError, KeyError, AttributeError, OverflowError) as error:
            raise TemplateError(f'template: :1: executing "" at <{value}>: error calling {value}: {error}') from None
    if arguments:
        raise TemplateError(f'template: :1: executing "" at <{text or value}>: can\'t give argument to non-function')
    return head


def _operand(operand: Any, dot: Any, scopes: list[dict[str, Any]]) -> Any:
    kind, value, text = operand
    if kind == "pipeline":
        return _fields(_evaluate(value, dot, scopes), text)
    if kind == "dot":
        return dot
    if kind == "field":
        return _fields(dot, value)
    if kind == "variable":
        name, _, fields = value.partition(".")
        for scope in reversed(scopes):
            if name in scope:
                return _fields(scope[name], f".{fields}" if fields else "")
        raise _parse_error(f'undefined variable "{name}"')
    if kind == "name":
        if value in FUNCTIONS:
            return _command([operand], dot, scopes, [])
        return {"true": True, "false": False}.get(value)
    return value


def _fields(value: Any, path: str) -> Any:
    for name in path.split(".")[1:] if path else ():
        if isinstance(value, Missing):
            raise _missing(path, value)
        if isinstance(value, dict):
            value = value[name] if name in value else Missing(f'map has no entry for key "{name}"')
        elif value is None:
            value = Missing(f"nil pointer evaluating {name}")
        else:
            value = Missing(f"can't evaluate field {name} in type {type(value).__name__}")
    return value
