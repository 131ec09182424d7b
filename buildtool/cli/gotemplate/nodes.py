"""The nodes of a template, with position and text as Go tells them in errors; variables are resolved here."""

from __future__ import annotations

import cmath
import re
from typing import Any, NamedTuple

from lark import Token, Tree

from buildtool.cli.gotemplate.printing import quote
from buildtool.cli.gotemplate.syntax import SyntaxProblem

_ESCAPE = re.compile(
    r"\\(?:([abfnrtv\\\"'])|x([0-9a-fA-F]{2})|u([0-9a-fA-F]{4})|U([0-9a-fA-F]{8})|([0-7]{3})|(.|\Z))", re.S
)
_PLAIN = {"a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v"}
_LONGEST_INTEGER = 100  # characters; 64 bits take 66 and underscores at most, but for leading zeros
_INTEGER = re.compile(r"[+-]?(?:0[xX](?:_?[0-9a-fA-F])+|0[bB](?:_?[01])+|0[oO]?(?:_?[0-7])+|[1-9](?:_?[0-9])*|0)")
_FLOAT = re.compile(r"[+-]?(?:\d(?:_?\d)*)?\.?(?:\d(?:_?\d)*)?(?:[eE][+-]?\d+)?")


class Operand(NamedTuple):
    """`kind` is dot, nil, literal, variable, field, function, pipeline or chain. `value` is the literal's value, the
    variable's cell, the function's name or the inner Pipeline; `fields` what is taken from it; `text` Go's String."""

    kind: str
    value: Any
    fields: tuple[str, ...]
    position: int
    text: str


class Command(NamedTuple):
    """Operands, the first of which may be called with the others."""

    operands: list[Operand]
    position: int
    text: str


class Pipeline(NamedTuple):
    """Commands, and the cells that their value goes to; `unknown` is a variable that is assigned to but not declared,
    which is a mistake only where it is run."""

    cells: list[str]
    unknown: str
    commands: list[Command]
    position: int
    text: str


class Scope:
    """The variables that are visible: name to cell. Cells have one name in a whole template."""

    def __init__(self) -> None:
        self._frames: list[dict[str, str]] = [{"$": "root"}]
        self._count = 0
        self.loops = 0

    def push(self) -> None:
        """Begin a block."""
        self._frames.append({})

    def pop(self) -> None:
        """End it: its variables are gone."""
        self._frames.pop()

    def declare(self, name: str) -> str:
        """A new variable's cell."""
        self._count += 1
        cell = f"x{self._count}"
        self._frames[-1][name] = cell
        return cell

    def knows(self, name: str) -> bool:
        """Whether a variable is declared."""
        return any(name in frame for frame in self._frames)

    def find(self, token: Token, name: str) -> str:
        """A variable's cell. Raises SyntaxProblem for one that is not declared."""
        for frame in reversed(self._frames):
            if name in frame:
                return frame[name]
        raise SyntaxProblem(f"undefined variable {quote(name)}", token.line or 1)


def unquote(token: Token) -> str:
    """The text of a string literal. Raises SyntaxProblem."""
    text = str(token)
    if text[0] == "`":
        return text[1:-1].replace("\r", "")

    def plain(match: re.Match[str]) -> str:
        simple, byte, short, long, octal, wrong = match.groups()
        if wrong is not None or simple == ("'" if text[0] == '"' else '"'):
            raise SyntaxProblem("invalid syntax", token.line or 1)
        if simple:
            return _PLAIN.get(simple, simple)
        if octal or byte:
            code = int(octal, 8) if octal else int(byte, 16)
            return bytes([code & 255]).decode("utf-8", "surrogateescape")
        code = int(short or long, 16)
        if code > 0x10FFFF or 0xD800 <= code < 0xE000:
            raise SyntaxProblem("invalid syntax", token.line or 1)
        return chr(code)

    return _ESCAPE.sub(plain, text[1:-1])


def _number(token: Token) -> Any:
    text = str(token)
    if token.type == "CHAR":
        char = unquote(token)
        if not char:
            raise SyntaxProblem("invalid syntax", token.line or 1)
        if len(char) != 1:
            raise SyntaxProblem(f"malformed character constant: {text}", token.line or 1)
        return ord(char)
    if _INTEGER.fullmatch(text):
        digits = text.lstrip("+-")
        base = 8 if len(digits) > 1 and digits[0] == "0" and digits[1] in "01234567_" else 0
        if len(digits) > _LONGEST_INTEGER:
            raise SyntaxProblem(f"integer overflow: {quote(text)}", token.line or 1)
        number = int(digits.replace("_", ""), base)
        if number >= 1 << 64 or (text[0] == "-" and number > 1 << 63):
            raise SyntaxProblem(f"integer overflow: {quote(text)}", token.line or 1)
        return -number if text[0] == "-" else number
    if text.endswith("i"):
        parts = re.fullmatch(r"(.*?)([+-]?[^+-]*(?:[eE][+-]?\d+)?)i", text)
        try:
            assert parts is not None
            return _finite(complex(float(parts[1] or 0), float(parts[2])))
        except (ValueError, AssertionError):
            pass
    elif re.search(r"\d", text) and _FLOAT.fullmatch(text):
        if not re.search(r"[.eE]", text):
            raise SyntaxProblem(f"integer overflow: {quote(text)}", token.line or 1)
        try:
            return _finite(float(text.replace("_", "")))
        except ValueError:
            pass
    elif re.match(r"[+-]?0[xX]", text):
        try:
            return float.fromhex(text.replace("_", ""))
        except (ValueError, OverflowError):
            pass
    raise SyntaxProblem(f"illegal number syntax: {quote(text)}", token.line or 1)


def _finite(number: Any) -> Any:
    """Raises ValueError for what is too large, as Go's strconv."""
    if not cmath.isfinite(number):
        raise ValueError(number)
    return number


def pipeline_of(tree: Tree[Token], scope: Scope, context: str) -> Pipeline:
    """A pipeline's nodes; what it declares is visible from here on. Raises SyntaxProblem."""
    children = list(tree.children)
    names: list[Token] = []
    assigns, line = False, 1
    while children and isinstance(children[0], Token):
        token = children.pop(0)
        assert isinstance(token, Token)
        line = token.line or 1
        if token.type == "VARIABLE":
            names.append(token)
        else:
            assigns = token.type == "ASSIGN"
    if len(names) > 1 and context != "range":
        raise SyntaxProblem(f"too many declarations in {context}", line)
    commands: list[Command] = []
    # In Go a declared variable is visible in its own pipeline, where it has no value yet.
    unknown = next((str(name) for name in names if assigns and not scope.knows(str(name))), "")
    cells = [
        scope.find(name, str(name)) if assigns and scope.knows(str(name)) else scope.declare(str(name))
        for name in names
    ]
    for child in children:
        assert isinstance(child, Tree)
        command = _command(child, scope)
        if commands and command.operands[0].kind in ("dot", "nil", "literal"):
            raise SyntaxProblem(f"non executable command in pipeline stage {len(commands) + 1}", _line(child))
        commands.append(command)
    text = " | ".join(command.text for command in commands)
    position = commands[0].position
    if names:
        text = f"{', '.join(names)} {'=' if assigns else ':='} {text}"
        position = names[0].start_pos or 0
    return Pipeline(cells, unknown, commands, position, text)


def _line(tree: Tree[Token]) -> int:
    for token in tree.scan_values(lambda value: isinstance(value, Token)):
        return token.line or 1
    return 1


def _command(tree: Tree[Token], scope: Scope) -> Command:
    operands = [_operand(child, scope) for child in tree.children if isinstance(child, Tree)]
    text = " ".join(f"({one.text})" if one.kind == "pipeline" else one.text for one in operands)
    return Command(operands, _first_position(tree), text)


def _first_position(tree: Tree[Token]) -> int:
    return min(
        (token.start_pos or 0 for token in tree.scan_values(lambda value: isinstance(value, Token))), default=0
    )


def _operand(tree: Tree[Token], scope: Scope) -> Operand:
    first, *rest = tree.children
    assert isinstance(first, Token)
    inner: Pipeline | None = None
    if first.type == "LPAR":
        assert isinstance(rest[0], Tree)
        inner = pipeline_of(rest.pop(0), scope, "parenthesized pipeline")  # type: ignore[arg-type]
    added = [token for token in rest if isinstance(token, Token)]
    names = tuple(str(token)[1:] for token in added)
    position = (added[0] if added else first).start_pos or 0
    text = str(first) + "".join(added)
    if inner is not None:
        if not added:
            return Operand("pipeline", inner, (), inner.position, inner.text)
        return Operand("chain", inner, names, position, f"({inner.text}){''.join(added)}")
    if first.type == "FIELD":
        return Operand("field", None, (str(first)[1:], *names), position, text)
    if first.type == "VARIABLE":
        return Operand("variable", scope.find(first, str(first)), names, position, text)
    if first.type == "IDENTIFIER":
        kind = "chain" if added else "function"
        if added:
            bare = Command([Operand("function", str(first), (), first.start_pos or 0, str(first))], 0, str(first))
            return Operand(kind, Pipeline([], "", [bare], first.start_pos or 0, str(first)), names, position, text)
        return Operand(kind, str(first), (), position, text)
    if added:
        raise SyntaxProblem(f"unexpected . after term {quote(str(first))}", added[0].line or 1)
    if first.type in ("DOT", "NIL"):
        return Operand(first.type.lower(), None, (), position, text)
    if first.type == "BOOL":
        return Operand("literal", str(first) == "true", (), position, text)
    value = unquote(first) if first.type in ("STRING", "RAW") else _number(first)
    return Operand("literal", value, (), position, text)
