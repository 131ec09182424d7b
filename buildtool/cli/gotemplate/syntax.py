"""From a template's text to its syntax: Lark's parser over our tokens, and Go's words for what is wrong.

Source: Go, text/template/parse (what is refused, with which words, and what a node's position and text are).
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice, pairwise
from typing import Any

from lark import Token, Tree
from lark.exceptions import UnexpectedInput
from lark.lexer import Lexer

from buildtool.cli.gotemplate.lexer import Item, LexicalError, lex
from buildtool.cli.gotemplate.printing import quote
from buildtool.grammar import load

_CONTEXTS = {
    "IF": "if",
    "WITH": "with",
    "RANGE": "range",
    "TEMPLATE": "template clause",
    "BLOCK": "block clause",
    "DEFINE": "define clause",
    "_END": "end",
    "ELSE": "else",
    "BREAK": "{{break}}",
    "CONTINUE": "{{continue}}",
}
_KEYWORDS = frozenset(_CONTEXTS) | {"DOT", "NIL"}


class SyntaxProblem(Exception):
    """What Go would say about a text that is no template, without its place; `line` is the line it names."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class _Tokens(Lexer):
    """Lark's door to our lexer: the text that it is given is a _Watched."""

    __future_interface__ = 1

    def __init__(self, _configuration: Any) -> None:
        pass

    def lex(self, state: Any, _parser: Any) -> Iterator[Token]:
        watched: _Watched = state.text
        for item in watched.items():
            yield Token(item.kind, item.value, start_pos=item.position, line=item.line)


class _Watched:
    """A text, and what was read of it before something went wrong."""

    def __init__(self, text: str, functions: frozenset[str]) -> None:
        self.text = text
        self.seen: list[Item] = []
        self._functions = functions

    def items(self) -> Iterator[Item]:
        for item in lex(self.text):
            if self.seen and self.seen[-1].kind == "IDENTIFIER":
                self._check(self.seen[-1])
            self.seen.append(item)
            yield item

    def next(self) -> Item | None:
        """What would come next. Raises SyntaxProblem for what is no token."""
        try:
            return next(islice(lex(self.text), len(self.seen), None), None)
        except LexicalError as error:
            raise SyntaxProblem(str(error), error.line) from None

    def _check(self, item: Item) -> None:
        if item.value not in self._functions:
            raise LexicalError(f"function {quote(item.value)} not defined", item.line)

    def __len__(self) -> int:
        return len(self.text)


def parse(text: str, functions: frozenset[str]) -> Tree[Token]:
    """The syntax tree. Raises SyntaxProblem."""
    watched = _Watched(text, functions)
    try:
        parser = load("gotemplate", lexer=_Tokens)
        return parser.parse(watched, start="start")
    except LexicalError as error:
        seen = watched.seen
        if seen and seen[-1].kind == "IDENTIFIER" and seen[-1].value not in functions:
            raise SyntaxProblem(f"function {quote(seen[-1].value)} not defined", seen[-1].line) from None
        raise SyntaxProblem(str(error), error.line) from None
    except UnexpectedInput as error:
        token: Token = error.token  # type: ignore[attr-defined]
        line = token.line or text.count("\n") + 1
        raise SyntaxProblem(_complaint(token, watched), line) from None


def _complaint(token: Token, watched: _Watched) -> str:
    if token.type == "$END":
        return "unexpected EOF"
    before = watched.seen[:-1]
    start = max((index for index, item in enumerate(before) if item.kind == "_LEFT"), default=-1)
    inside = before[start + 1 :]
    first = inside[0].kind if inside else ""
    if token.type in ("_END", "ELSE") and not inside:
        word = "end" if token.type == "_END" else "else"
        after = watched.next()
        if after is not None and after.kind != "_RIGHT" and not (word == "else" and after.kind in ("IF", "WITH")):
            return f"unexpected {_shown(after)} in {word}"
        return _misplaced(word, _open_blocks(before[:start]))
    context = _CONTEXTS.get(first, "command")
    rest = inside[1:] if first in _CONTEXTS else inside
    if first == "ELSE" and rest and rest[0].kind in ("IF", "WITH"):
        context, rest = _CONTEXTS[rest[0].kind], rest[1:]
    commands: list[list[Item]] = [[]]
    for item in rest:
        if item.kind == "LPAR":
            commands.append([])
        elif item.kind == "_RPAR":
            commands.pop()
            commands[-1].append(item)
        elif item.kind not in ("DECLARE", "ASSIGN", "_COMMA"):
            commands[-1].append(item)
        else:
            commands[-1].clear()
    depth, here = len(commands) - 1, commands[-1]
    if first == "ELSE" and token.type in ("IF", "WITH"):
        return f"unexpected {_shown(token)} in input"
    if first in ("_END", "DEFINE", "BREAK", "CONTINUE") or context == "else":
        return f"unexpected {_shown(token)} in {context}"
    if first in ("TEMPLATE", "BLOCK") and not rest:
        return f"unexpected {_shown(token)} in {context}"
    if depth:
        context = "parenthesized pipeline"
    variables = [item for item in rest if item.kind == "VARIABLE"]
    if token.type == "_COMMA" and variables and here and here[-1].kind == "VARIABLE" and len(here) == 1:
        return f"too many declarations in {context}"
    if context == "range" and inside[-1].kind == "_COMMA" and token.type not in ("_RIGHT", "_RPAR"):
        return "range can only initialize variables"
    if token.type in ("_RIGHT", "_RPAR"):
        return f"missing value for {context}"
    if here and here[-1].kind != "_PIPE":
        return f"unexpected {_shown(token)} in operand"
    return f"unexpected {_shown(token)} in {context}"


def _open_blocks(items: list[Item]) -> list[str]:
    """The keywords of what is open, `else` after the keyword of what it belongs to."""
    opened: list[str] = []
    for before, item in pairwise(items):
        if before.kind != "_LEFT":
            continue
        if item.kind in ("IF", "WITH", "RANGE", "BLOCK", "DEFINE"):
            opened.append(item.kind)
        elif item.kind == "ELSE":
            opened.append("ELSE")
        elif item.kind == "_END":
            while opened and opened.pop() == "ELSE":
                pass
    return opened


def _misplaced(word: str, opened: list[str]) -> str:
    if not opened:
        return f"unexpected {{{{{word}}}}}"
    if opened[-1] in ("BLOCK", "DEFINE"):
        return f"unexpected {{{{{word}}}}} in {_CONTEXTS[opened[-1]]}"
    return f"expected end; found {{{{{word}}}}}"


def _shown(token: Token | Item) -> str:
    kind, text = (token.kind, token.value) if isinstance(token, Item) else (token.type, str(token))
    if kind in _KEYWORDS:
        return f"<{text}>"
    return quote(text[:10]) + "..." if len(text.encode()) > 10 else quote(text)
