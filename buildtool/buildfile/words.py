"""Expansion: quotes, escapes and variables of a word, as the builder's shell lexer does it.

A word is parsed once (the trees are cached) and evaluated with an environment. `$name` that is not in the environment
is empty; `undefined` hears of it.
Source: ../shared/reference/build.md, table 1.1, "Expansion ops".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import lru_cache

from lark import Token, Tree
from lark.exceptions import UnexpectedInput, UnexpectedToken

from buildtool.buildfile.instructions import Word
from buildtool.buildfile.patterns import replace, trim_prefix, trim_suffix
from buildtool.errors import InvalidInput, Span
from buildtool.grammar import load

Undefined = Callable[[str, Span], None]
_SPECIAL = re.compile(r"""[$'"\\`]""")


def expand_word(word: Word, env: Mapping[str, str], *, undefined: Undefined | None = None) -> str:
    """The value of one word: variables replaced, quotes removed, escapes processed. Blanks in it stay.

    Raises InvalidInput at the word for a broken substitution and for `${name?message}`.
    """
    if _SPECIAL.search(word.text) is None:
        return word.text
    return _evaluate(word, env, undefined, "word").text()


def expand_words(word: Word, env: Mapping[str, str], *, undefined: Undefined | None = None) -> list[str]:
    """The same, split at blanks that neither quotes nor escapes protect (blanks out of unquoted variables split too).

    Only EXPOSE splits like this; all other instructions take `expand_word`.
    """
    return _evaluate(word, env, undefined, "word").words()


def expand_name(word: Word, env: Mapping[str, str], *, undefined: Undefined | None = None) -> str:
    """The name of an ENV, LABEL or ARG pair. Raises InvalidInput when it expands to nothing."""
    name = expand_word(word, env, undefined=undefined)
    if not name:
        hint = "give the variables in it a value, or write the name itself"
        raise InvalidInput(f"the name {_shorten(word.text)} expands to nothing", where=word.span, hint=hint)
    return name


def expand_text(
    text: str,
    env: Mapping[str, str],
    escape: str = "\\",
    *,
    where: Span | None = None,
    undefined: Undefined | None = None,
) -> str:
    """The body of a heredoc: variables and escapes as in a word, but quotes are ordinary characters."""
    if "$" not in text and escape not in text:
        return text
    place = where or Span("<heredoc>", 1)
    return _evaluate(Word(text, place, escape), env, undefined, "body").text()


def variables(word: Word) -> frozenset[str]:
    """Names of the variables that a word may use, whatever their values."""
    if "$" not in word.text:
        return frozenset()
    tree = _parsed(word, "word")
    names = set()
    for node in tree.iter_subtrees():
        if node.data in ("variable", "raw_variable"):
            first = str(node.children[0])
            name = str(node.children[1]) if first == "${" else first[1:]
            names.add(name)
    return frozenset(names - {""})


def _evaluate(word: Word, env: Mapping[str, str], undefined: Undefined | None, start: str) -> _Output:
    try:
        output = _Output()
        evaluator = _Evaluator(word, env, undefined)
        evaluator.items(_parsed(word, start), output, raw=False)
        return output
    except RecursionError:
        raise InvalidInput("substitutions are nested too deeply", where=word.span) from None


def _parsed(word: Word, start: str) -> Tree[Token]:
    tree = _parse(word.text, word.escape, start)
    if isinstance(tree, str):
        raise InvalidInput(f"failed to process {_shorten(word.text)!r}: {tree}", where=word.span)
    return tree


@lru_cache(maxsize=4096)
def _parse(text: str, escape: str, start: str) -> Tree[Token] | str:
    """The tree of a word, or what is wrong with it."""
    try:
        return load("words", escape).parse(text, start=start)
    except UnexpectedInput as error:
        return _reason(error, text)


def _shorten(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "…"


def _reason(error: UnexpectedInput, text: str) -> str:
    expected = set(getattr(error, "allowed", ()) or getattr(error, "expected", ()))
    if not isinstance(error, UnexpectedToken) or error.token.type != "$END":
        position = error.pos_in_stream or 0
        if text.startswith("'", position):
            return "unexpected end of statement while looking for matching single-quote"
        if "NAME" in expected:
            return "syntax error: bad substitution"
        modifier = text[position : position + (2 if text[position] == ":" else 1)]
        return f"unsupported modifier ({modifier}) in substitution"
    if expected & {"NAME", "CLOSE"}:
        return "syntax error: missing '}'"
    if "SLASH" in expected:
        return "syntax error: missing '/' in ${}"
    return "unexpected end of statement while looking for matching double-quote"


class _Output:
    """What a word becomes: one text, and where it may be split."""

    __slots__ = ("_parts",)

    def __init__(self) -> None:
        self._parts: list[tuple[str, bool]] = []

    def add(self, text: str, *, splits: bool = False) -> None:
        """Append text; `splits` when blanks in it separate words."""
        self._parts.append((text, splits))

    def text(self) -> str:
        return "".join(part for part, _ in self._parts)

    def words(self) -> list[str]:
        words: list[str] = []
        word = ""
        for text, splits in self._parts:
            if not splits:
                word += text
                continue
            for character in text:
                if not character.isspace():
                    word += character
                elif word:
                    words.append(word)
                    word = ""
        return [*words, word] if word else words


class _Evaluator:
    __slots__ = ("env", "undefined", "word")

    def __init__(self, word: Word, env: Mapping[str, str], undefined: Undefined | None) -> None:
        self.word = word
        self.env = env
        self.undefined = undefined

    def items(self, tree: Tree[Token], output: _Output, *, raw: bool) -> None:
        """Evaluate plain text, quotes and variables in order. `raw` keeps the escape character (patterns read it)."""
        for node in tree.children:
            if isinstance(node, Tree):
                if node.data == "quoted":
                    output.add(self._quoted(node, raw))
                else:
                    output.add(self._variable(node), splits=True)
            elif node.type == "ESCAPED":
                output.add(str(node) if raw else node[1:])
            elif node.type == "LAST_ESCAPE":
                output.add(str(node) if raw else "")
            elif node.type == "QUOTED":
                output.add(node[1:-1])
            else:
                output.add(str(node), splits=True)

    def _operand(self, tree: Tree[Token] | Token, *, raw: bool) -> str:
        assert isinstance(tree, Tree)
        output = _Output()
        self.items(tree, output, raw=raw)
        return output.text()

    def _quoted(self, tree: Tree[Token], raw: bool) -> str:
        parts: list[str] = []
        for node in tree.children[1:-1]:
            if isinstance(node, Tree):
                parts.append(self._variable(node))
            elif node.type == "ESCAPED":
                special = node[1] in ('"', "$", self.word.escape)
                kept = node[1:] if special else str(node)
                parts.append(self.word.escape + kept if raw else kept)
            elif node.type != "LAST_ESCAPE":
                parts.append(str(node))
        return "".join(parts)

    def _variable(self, tree: Tree[Token]) -> str:
        first, *rest = tree.children
        if not rest:
            name = str(first)[1:]
            return self._get(name) if name else "$"
        name = str(rest[0])
        operator = str(rest[1])
        if operator == "}":
            return self._get(name)
        try:
            if operator in ("/", "//"):
                pattern = self._operand(rest[2], raw=True)
                replacement = self._operand(rest[4], raw=True)
                return replace(self._get(name), pattern, replacement, every=operator == "//")
            if operator in ("#", "%"):
                pattern = self._operand(rest[2], raw=True)
                value = self._get(name)
                longest = pattern.startswith(operator)
                pattern = pattern[1:] if longest else pattern
                return (trim_prefix if operator == "#" else trim_suffix)(value, pattern, longest=longest)
        except ValueError as error:
            raise self._error(str(error)) from None
        return self._choose(name, operator, rest[2])

    def _choose(self, name: str, operator: str, operand: Tree[Token] | Token) -> str:
        if operator in (":#", ":%"):
            raise self._error(f"unsupported modifier ({operator}) in substitution")
        word = self._operand(operand, raw=False)
        value = self._lookup(name)
        present = value is not None and (value != "" or operator[0] != ":")
        if operator[-1] == "+":
            return word if present else ""
        if value is not None and present:
            return value
        if operator[-1] == "-":
            return word
        state = "unset" if value is None else "empty"
        raise self._error(f"{name}: {word or f'is not allowed to be {state}'}")

    def _get(self, name: str) -> str:
        return self._lookup(name) or ""

    def _lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        if value is None and self.undefined is not None:
            self.undefined(name, self.word.span)
        return value

    def _error(self, reason: str) -> InvalidInput:
        return InvalidInput(f"failed to process {_shorten(self.word.text)!r}: {reason}", where=self.word.span)
