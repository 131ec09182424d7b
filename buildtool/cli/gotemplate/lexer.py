"""The tokens of a Go template. Lark's parser takes them from here; errors have Go's words.

Source: Go, text/template/parse, "lex" (its rules on delimiters, trimming, and what may follow a word).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

SPACES = " \t\r\n"
KEYWORDS = {
    word: word.upper()
    for word in ("if", "with", "range", "else", "template", "block", "define", "break", "continue", "nil")
} | {"end": "_END"}
# What an operand may begin and end with: a blank between two of these separates them.
OPERANDS = frozenset(
    ("DOT", "NIL", "BOOL", "CHAR", "NUMBER", "STRING", "RAW", "VARIABLE", "FIELD", "IDENTIFIER", "LPAR")
)
_ENDS = (OPERANDS - {"LPAR"}) | {"_RPAR"}
_MARKS = {"|": "_PIPE", ",": "_COMMA", "=": "ASSIGN"}


class LexicalError(Exception):
    """A character sequence that is no token; `line` is where it begins."""

    def __init__(self, message: str, line: int) -> None:
        super().__init__(message)
        self.line = line


class Item(NamedTuple):
    """A token: its terminal, what stands there, where it begins (in characters), and its line from 1."""

    kind: str
    value: str
    position: int
    line: int


def is_word(char: str) -> bool:
    """Whether Go counts it among letters, digits and `_`."""
    return char == "_" or char.isalpha() or char.isdecimal()


def lex(text: str) -> Iterator[Item]:
    """All items, blanks among them only where they part two operands. Raises LexicalError where it comes to it."""
    held: Item | None = None
    before, last = "", ""
    for item in _Lexer(text).items():
        if item.kind == "_SPACE":
            held = item if last in _ENDS and before not in ("TEMPLATE", "BLOCK", "DEFINE") else None
            continue
        if held is not None and item.kind in OPERANDS:
            yield held
        held = None
        before, last = last, item.kind
        yield item


class _Lexer:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.start = 0
        self.depth = 0

    def items(self) -> Iterator[Item]:
        while True:
            left = self.text.find("{{", self.position)
            plain_end = left if left >= 0 else len(self.text)
            trims = left >= 0 and self._trims_left(left + 2)
            plain = self.text[self.position : plain_end]
            plain = plain.rstrip(SPACES) if trims else plain
            if plain:
                yield self._item("TEXT", self.position, self.position + len(plain))
            if left < 0:
                self.start = len(self.text)
                return
            self.start = self.position = left
            begin = left + (4 if trims else 2)
            if self.text.startswith("/*", begin):
                self._comment(begin)
                continue
            yield self._item("_LEFT", left, left + 2)
            self.position = begin
            self.depth = 0
            while True:
                item = self._inside()
                yield item
                if item.kind == "_RIGHT":
                    break

    def _trims_left(self, at: int) -> bool:
        return self.text.startswith("-", at) and self.text[at + 1 : at + 2] in (*SPACES,)

    def _right(self, at: int) -> int:
        """The length of a right delimiter with its trim marker at a place, or 0."""
        if self.text[at : at + 1] in (*SPACES,) and self.text.startswith("-}}", at + 1):
            return 4
        return 2 if self.text.startswith("}}", at) else 0

    def _comment(self, begin: int) -> None:
        end = self.text.find("*/", begin + 2)
        if end < 0:
            raise self._error("unclosed comment")
        length = self._right(end + 2)
        if not length:
            raise self._error("comment ends before closing delimiter")
        self._pass_right(end + 2, length)

    def _pass_right(self, at: int, length: int) -> None:
        self.position = at + length
        if length == 4:
            rest = self.text[self.position :]
            self.position += len(rest) - len(rest.lstrip(SPACES))

    def _inside(self) -> Item:
        text, at = self.text, self.position
        self.start = at
        length = self._right(at)
        if length:
            if self.depth:
                raise self._error("unclosed left paren")
            item = self._item("_RIGHT", at + length - 2, at + length)
            self._pass_right(at, length)
            return item
        char = text[at : at + 1]
        if not char:
            raise self._error("unclosed action")
        if char in SPACES:
            end = at + 1
            while text[end : end + 1] in (*SPACES,):
                end += 1
            if text.startswith("-}}", end):
                end = max(end - 1, at + 1)
            return self._take("_SPACE", end)
        if char in _MARKS:
            return self._take(_MARKS[char], at + 1)
        if char == ":":
            if text[at + 1 : at + 2] != "=":
                raise self._error("expected :=")
            return self._take("DECLARE", at + 2)
        if char in "\"'":
            return self._quoted(char)
        if char == "`":
            end = text.find("`", at + 1)
            if end < 0:
                raise self._error("unterminated raw quoted string")
            return self._take("RAW", end + 1)
        if char in "$." and not (char == "." and text[at + 1 : at + 2] in (*"0123456789",)):
            return self._named("VARIABLE" if char == "$" else "FIELD")
        if char in "+-.0123456789":
            return self._number()
        if is_word(char):
            return self._word()
        if char == "(":
            self.depth += 1
            return self._take("LPAR", at + 1)
        if char == ")":
            self.depth -= 1
            if self.depth < 0:
                raise self._error("unexpected right paren")
            return self._take("_RPAR", at + 1)
        if char.isascii() and char.isprintable():
            return self._take("PUNCTUATION", at + 1)
        raise self._error(f"unrecognized character in action: {code_point(char)}")

    def _quoted(self, quote: str) -> Item:
        at = self.position + 1
        while True:
            char = self.text[at : at + 1]
            if char == "\\":
                at += 1
                char = self.text[at : at + 1]
                if char not in ("", "\n"):
                    at += 1
                    continue
            if char in ("", "\n"):
                what = "quoted string" if quote == '"' else "character constant"
                raise self._error(f"unterminated {what}")
            at += 1
            if char == quote:
                return self._take("STRING" if quote == '"' else "CHAR", at)

    def _named(self, kind: str) -> Item:
        end = self.position + 1
        while is_word(self.text[end : end + 1] or " "):
            end += 1
        self._end_of_word(end)
        return self._take("DOT" if kind == "FIELD" and end == self.position + 1 else kind, end)

    def _word(self) -> Item:
        end = self.position
        while is_word(self.text[end : end + 1] or " "):
            end += 1
        self._end_of_word(end)
        word = self.text[self.position : end]
        return self._take("BOOL" if word in ("true", "false") else KEYWORDS.get(word, "IDENTIFIER"), end)

    def _end_of_word(self, end: int) -> None:
        char = self.text[end : end + 1]
        if char and char not in SPACES + ".,|:)(" and not self.text.startswith("}}", end):
            raise self._error(f"bad character {code_point(char)}")

    def _number(self) -> Item:
        end, good = self._scan_number(self.position)
        if good and self.text[end : end + 1] in ("+", "-"):
            end, good = self._scan_number(end)
            good = good and self.text[end - 1] == "i"
        if not good:
            from buildtool.cli.gotemplate.printing import quote

            raise self._error(f"bad number syntax: {quote(self.text[self.position : end])}")
        return self._take("NUMBER", end)

    def _scan_number(self, at: int) -> tuple[int, bool]:
        text = self.text

        def run(at: int, accepted: str) -> int:
            while text[at : at + 1] and text[at] in accepted:
                at += 1
            return at

        at += text[at : at + 1] in ("+", "-")
        digits = "0123456789_"
        if text[at : at + 1] == "0":
            at += 1
            digits = {"x": "0123456789abcdefABCDEF_", "o": "01234567_", "b": "01_"}.get(
                text[at : at + 1].lower(), digits
            )
            at += digits != "0123456789_"
        at = run(at, digits)
        if text[at : at + 1] == ".":
            at = run(at + 1, digits)
        exponent = {"0123456789_": "eE"}.get(digits, "pP" if len(digits) == 23 else "")
        if exponent and text[at : at + 1] and text[at] in exponent:
            at += 1
            at = run(at + (text[at : at + 1] in ("+", "-")), "0123456789_")
        at += text[at : at + 1] == "i"
        if is_word(text[at : at + 1] or " "):
            return at + 1, False
        return at, True

    def _take(self, kind: str, end: int) -> Item:
        item = self._item(kind, self.position, end)
        self.position = end
        return item

    def _item(self, kind: str, start: int, end: int) -> Item:
        return Item(kind, self.text[start:end], start, 1 + self.text.count("\n", 0, start))

    def _error(self, message: str) -> LexicalError:
        return LexicalError(message, 1 + self.text.count("\n", 0, self.start))


def code_point(char: str) -> str:
    """`U+0041 'A'`, as Go's %#U."""
    return f"U+{ord(char):04X}" + (f" '{char}'" if char.isprintable() else "")
