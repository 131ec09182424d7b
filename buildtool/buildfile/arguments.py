"""The arguments of one instruction, taken out of the parse tree with their offsets.

This is the only place that sees Lark's trees and tokens of instructions; above it there are pieces of text.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from lark import TextSlice, Token, Tree
from lark.exceptions import UnexpectedInput

from buildtool.buildfile.flags import Flag, Flags
from buildtool.buildfile.instructions import Word
from buildtool.buildfile.scanner import Logical
from buildtool.errors import InvalidInput, Span
from buildtool.grammar import load

# Most instructions are of the simplest shape. These read them as the grammar does, in a fifth of its time.
_BEHIND_FLAGS = re.compile(r"[\t-\r ]*(?=[!-,.-~][\t-\r -~]*\Z)")
_PLAIN_FLAG = re.compile(r"[\t-\r ]*(--[a-z]+(?:-[a-z]+)*)(?:=([!#-&(-\[\]-~]+))?(?=[\t-\r ])")
_ATOM = re.compile(r"[^ \t\v\f\r\n]+")
_PAIR = re.compile(r"""[A-Za-z_][A-Za-z0-9_.-]*=(?:[!#-&(-\[\]-_a-~]|"[ !#-&(-\[\]-_a-~]*")*(?=[ \t]|\Z)""")
_PLAIN_PAIRS = re.compile(rf"{_PAIR.pattern}(?:[ \t]+{_PAIR.pattern})*")
_STRING = re.compile(r'"[ !#-\[\]-~]*"')
_PLAIN_ARRAY = re.compile(rf"\[ *{_STRING.pattern}(?: *, *{_STRING.pattern})* *\]")


class Piece(NamedTuple):
    """A stretch of the logical line; `text` differs from it only for decoded JSON strings."""

    text: str
    start: int
    end: int


class Arguments:
    """What stands behind a keyword, from offset `start` to the end of `line`."""

    __slots__ = ("is_legacy", "keyword", "line", "start")

    def __init__(self, line: Logical, keyword: str, start: int) -> None:
        self.line = line
        self.keyword = keyword
        self.start = start
        self.is_legacy = False

    def span(self, piece: Piece) -> Span:
        return self.line.span(piece.start, piece.end)

    def word(self, piece: Piece) -> Word:
        return Word(piece.text, self.span(piece), self.line.escape)

    def rest(self, piece: Piece) -> Piece:
        """From the beginning of `piece` to the end of the line."""
        return Piece(self.line.text[piece.start :], piece.start, len(self.line.text))

    def words(self, start: str) -> list[tuple[str, Piece]]:
        """Everything behind the keyword as it is written, with its kind; flags and pairs are whole.

        Kinds: FLAG, ATOM, PAIR, TEXT and the other terminals of `instructions.lark`.
        """
        words: list[tuple[str, Piece]] = []
        for token in self._tree(start).scan_values(lambda node: isinstance(node, Token)):
            kind, piece = token.type, _piece(token)
            if kind in ("FLAG_VALUE", "VALUE"):
                begin = words.pop()[1].start
                kind = "FLAG" if kind == "FLAG_VALUE" else "PAIR"
                piece = Piece(self.line.text[begin : piece.end], begin, piece.end)
            words.append(("FLAG" if kind == "FLAG_NAME" else kind, piece))
        return words

    def atoms(self) -> tuple[list[Piece], Flags]:
        if plain := self._plain():
            found = _ATOM.finditer(self.line.text, plain[0])
            return [Piece(atom[0], atom.start(), atom.end()) for atom in found], plain[1]
        children, flags = self._parse("atoms")
        return [_piece(token) for token in children if isinstance(token, Token)], flags

    def text(self) -> tuple[Piece | None, Flags]:
        if plain := self._plain():
            start, end = plain[0], len(self.line.text)
            return Piece(self.line.text[start:], start, end), plain[1]
        children, flags = self._parse("text")
        return (_piece(children[0]) if children and isinstance(children[0], Token) else None), flags

    def check(self) -> tuple[Piece | None, Piece | None, Flags]:
        """HEALTHCHECK's: the word, the rest, the flags (none are read with NONE)."""
        children, flags = self._split("check")
        pieces = [_piece(token) for token in children if isinstance(token, Token)]
        if pieces and pieces[0].text.upper() == "NONE":
            flags = []
        read = Flags(self.line, self.keyword, flags)
        return pieces[0] if pieces else None, pieces[1] if len(pieces) > 1 else None, read

    def pairs(self) -> list[tuple[Piece, Piece]]:
        """`name=value …`, or the legacy `name value`; sets `is_legacy`."""
        if _PLAIN_PAIRS.fullmatch(self.line.text, self.start):
            return [_split_pair(atom) for atom in _PAIR.finditer(self.line.text, self.start)]
        children, _ = self._parse("pairs")
        result: list[tuple[Piece, Piece]] = []
        for node in children:
            if not isinstance(node, Tree):
                continue
            key, *value = [_piece(token) for token in node.children if isinstance(token, Token)]
            if node.data == "pair":
                result.append((key, _behind_equals(value[0])))
                continue
            self.is_legacy = True
            if not value:
                raise InvalidInput(
                    f"{self.keyword}: {key.text!r} has no value",
                    where=self.span(key),
                    hint=f"write {self.keyword} {key.text}=VALUE",
                )
            result.append((key, value[0]))
        return result

    def defaults(self) -> list[tuple[Piece, Piece | None]]:
        """ARG's `name` and `name=default`."""
        if _PLAIN_PAIRS.fullmatch(self.line.text, self.start):
            return [_split_pair(atom) for atom in _PAIR.finditer(self.line.text, self.start)]
        children, _ = self._parse("args")
        result: list[tuple[Piece, Piece | None]] = []
        for node in children:
            if isinstance(node, Tree):
                key, value = [_piece(token) for token in node.children if isinstance(token, Token)]
                result.append((key, _behind_equals(value)))
            else:
                result.append((_piece(node), None))
        return result

    def json_array(self, piece: Piece) -> list[Piece] | None:
        """The strings of the exec form, or None when `piece` is no JSON array (then it is the shell form).

        An array that holds anything but strings is refused.
        """
        if not piece.text.startswith("["):
            return None
        if _PLAIN_ARRAY.fullmatch(self.line.text, piece.start, piece.end):
            found = _STRING.finditer(self.line.text, piece.start, piece.end)
            return [Piece(each[0][1:-1], each.start(), each.end()) for each in found]
        try:
            tree = load("instructions", self.line.escape).parse(
                TextSlice(self.line.text, piece.start, piece.end), start="json_array"
            )
        except UnexpectedInput:
            return None
        items: list[Piece] = []
        for node in tree.children:
            if isinstance(node, Tree):
                raise InvalidInput(
                    f"{self.keyword}: the JSON array holds something other than strings",
                    where=self.span(piece),
                    hint='put every item in double quotes, as in ["sleep", "10"]',
                )
            start = node.start_pos or 0
            items.append(Piece(_decode(str(node)), start, start + len(node)))
        return items

    def _plain(self) -> tuple[int, Flags] | None:
        """Where the arguments begin behind flags without quotes; None for what only the grammar can tell."""
        text, at = self.line.text, self.start
        flags: list[Flag] = []
        while found := _PLAIN_FLAG.match(text, at):
            at = found.end()
            value_start = found.start(2) if found[2] is not None else at
            flags.append(Flag(self.line, found[1][2:], found[2], found.start(1), at, value_start))
        behind = _BEHIND_FLAGS.match(text, at)
        return (behind.end(), Flags(self.line, self.keyword, flags)) if behind else None

    def _tree(self, start: str) -> Tree[Token]:
        try:
            return load("instructions", self.line.escape).parse(
                TextSlice(self.line.text, self.start, len(self.line.text)), start=start
            )
        except UnexpectedInput as error:
            raise self._syntax_error(start, error.pos_in_stream) from None

    def _parse(self, start: str) -> tuple[list[Tree[Token] | Token], Flags]:
        children, flags = self._split(start)
        return children, Flags(self.line, self.keyword, flags)

    def _split(self, start: str) -> tuple[list[Tree[Token] | Token], list[Flag]]:
        tree = self._tree(start)
        children: list[Tree[Token] | Token] = []
        flags: list[Flag] = []
        for node in tree.children:
            if isinstance(node, Token) and node.type in ("FLAG_NAME", "FLAG_VALUE", "END_FLAGS"):
                self._add_flag(flags, node)
            else:
                children.append(node)
        return children, flags

    def _add_flag(self, flags: list[Flag], token: Token) -> None:
        begin = token.start_pos or 0
        if token.type == "FLAG_NAME":
            end = begin + len(token)
            flags.append(Flag(self.line, token[2:], None, begin, end, end))
        elif token.type == "FLAG_VALUE":
            name = flags.pop()
            flags.append(Flag(self.line, name.name, token[1:], name.start, begin + len(token), begin + 1))

    def _syntax_error(self, start: str, position: int | None) -> InvalidInput:
        begin = min(position if position is not None and position >= 0 else self.start, len(self.line.text))
        word = self.line.text[begin:].split(None, 1)[0] if self.line.text[begin:].strip() else ""
        where = self.line.span(begin, begin + max(1, len(word)))
        if word.startswith("="):
            return InvalidInput(f"{self.keyword}: a name is blank", where=where, hint="write NAME=VALUE")
        if start == "pairs":
            return InvalidInput(
                f"{self.keyword}: no = in {word!r}",
                where=where,
                hint="write NAME=VALUE pairs, and quote values that hold blanks",
            )
        if "'" in word or '"' in word:
            return InvalidInput(f"{self.keyword}: a quote is not closed", where=where)
        return InvalidInput(f"{self.keyword}: unexpected {word!r}", where=where)


def _piece(token: Tree[Token] | Token) -> Piece:
    assert isinstance(token, Token)
    start = token.start_pos or 0
    return Piece(str(token), start, start + len(token))


def _split_pair(pair: re.Match[str]) -> tuple[Piece, Piece]:
    name, _, value = pair[0].partition("=")
    middle = pair.start() + len(name)
    return Piece(name, pair.start(), middle), Piece(value, middle + 1, pair.end())


def _behind_equals(piece: Piece) -> Piece:
    return Piece(piece.text[1:], piece.start + 1, piece.end)


def _decode(literal: str) -> str:
    """A JSON string's text; halves of surrogate pairs become U+FFFD."""
    text = str(json.loads(literal))
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace") if "\\u" in literal else text
