"""`RUN --mount=…`: from the flag's value to a typed mount.

Source: ../shared/reference/build.md, table 1.3.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NoReturn

from lark import Token, Tree
from lark.exceptions import UnexpectedInput

from buildtool.buildfile.flags import Flag
from buildtool.buildfile.instructions import MountOption, Word
from buildtool.buildfile.suggest import did_you_mean
from buildtool.errors import InvalidInput, Span
from buildtool.grammar import load

TYPES = ("bind", "cache", "secret", "ssh", "tmpfs")
SHARING = ("locked", "private", "shared")
ALIASES = {
    "src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite",
}  # fmt: skip
KEYS = frozenset(
    {"type", "from", "source", "target", "readonly", "readwrite", "required", "size", "id", "sharing", "mode", "uid",
     "gid", "env", *ALIASES}
)  # fmt: skip
_FLAG_KEYS = ("readonly", "readwrite", "required")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_SIZE = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s?([kmgtp])?(i?b)?", re.IGNORECASE)
_VARIABLE = re.compile(r"\$.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Mount:
    """One mount of a RUN step, defaults filled in.

    `source` is a path in `from_` (bind and cache; empty = its root; `from_` empty = the build context), `target` an
    absolute or workdir-relative path, "" only for a secret or ssh mount that has a default one. `size` is in bytes,
    0 = no limit. `mode`, `uid`, `gid` are None when not given. `env` is the variable a secret goes to.
    """

    type: str
    target: str = ""
    source: str = ""
    from_: str = ""
    readonly: bool = True
    id: str = ""
    sharing: str = "shared"
    required: bool = False
    size: int = 0
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    env: str | None = None
    span: Span | None = None


def read_option(flag: Flag) -> MountOption:
    """Split the value of one `--mount` flag. Keys are checked here, values when they are expanded."""
    text = flag.value or ""
    where = flag.line.span(flag.start, flag.end)
    try:
        tree = load("mounts").parse(text)
    except UnexpectedInput as error:
        raise InvalidInput(
            f"RUN: --mount: {_reason(text, error.pos_in_stream)}",
            where=where,
            hint="write comma-separated key=value pairs, as --mount=type=cache,target=/root/.cache",
        ) from None
    options: list[tuple[str, Word | None]] = []
    for node in tree.children:
        assert isinstance(node, Tree)
        key, value, start = _field(node)
        begin = flag.offset(start)
        value_start = start + len(key) + 1
        place = flag.line.span(begin, flag.offset(start + len(key) + (len(value) + 1 if value is not None else 0)))
        key = key.lower()
        if key.strip() not in KEYS:
            raise InvalidInput(
                f"RUN: --mount: unexpected key {key!r}",
                where=place,
                hint=did_you_mean(key, KEYS, otherwise=f"keys are {', '.join(sorted(KEYS - set(ALIASES)))}"),
            )
        word = None
        if value is not None:
            end = flag.offset(min(value_start + len(value), len(text)))
            word = Word(value, flag.line.span(flag.offset(min(value_start, len(text))), end), flag.line.escape)
        if key == "from" and word is not None and _VARIABLE.search(word.text):
            raise InvalidInput(
                "RUN: --mount: from does not expand variables",
                where=word.span,
                hint="give the image a stage of its own (FROM $IMAGE AS name) and write from=name",
            )
        options.append((key, word))
    return MountOption(tuple(options), where)


def _field(tree: Tree[Token]) -> tuple[str, str | None, int]:
    """Key, value and start (in the flag's value) of one option."""
    token = tree.children[0]
    assert isinstance(token, Token)
    start = token.start_pos or 0
    if tree.data == "quoted_option":
        key, equals, value = token[1:-1].replace('""', '"').partition("=")
        return key, value if equals else None, start + 1
    if len(tree.children) == 1:
        return str(token), None, start
    return str(token), str(tree.children[2]) if len(tree.children) > 2 else "", start


def _reason(text: str, position: int | None) -> str:
    if not text:
        return "the value is empty"
    return f"unexpected {text[position]!r}" if position is not None and 0 <= position < len(text) else "it ends early"


def parse_mount(option: MountOption, expand: Callable[[Word], str]) -> Mount:
    """The typed mount of an option, its values expanded by `expand`. Raises InvalidInput at the faulty value."""
    reader = _Reader(option)
    for key, word in option.options:
        reader.read(ALIASES.get(key, key), word, None if word is None else expand(word))
    return reader.finish()


class _Reader:
    """Collects the options of one mount and judges them together."""

    def __init__(self, option: MountOption) -> None:
        self.option = option
        self.type = "bind"
        self.texts: dict[str, str] = {}
        self.numbers: dict[str, int] = {}
        self.places: dict[str, Span] = {}
        self.readonly: bool | None = None
        self.required = False

    def refuse(self, message: str, where: Span | None = None, hint: str = "") -> NoReturn:
        raise InvalidInput(f"RUN: --mount: {message}", where=where or self.option.span, hint=hint)

    def read(self, key: str, word: Word | None, value: str | None) -> None:
        where = word.span if word is not None else self.option.span
        self.places[key] = where
        if value is None:
            if key not in _FLAG_KEYS:
                self.refuse(f"{key!r} needs a value", where, f"write {key}=VALUE")
            value = "true"
        if key == "type":
            self.type = self._one_of("type", value, TYPES, where)
        elif key in ("readonly", "readwrite"):
            self.readonly = self._bool(key, value, where) == (key == "readonly")
        elif key == "required":
            self._only_for(key, ("secret", "ssh"), where)
            self.required = self._bool(key, value, where)
        elif key == "size":
            self._only_for(key, ("tmpfs",), where)
            self.numbers[key] = self._size(value, where)
        elif key == "sharing":
            self.texts[key] = self._one_of("sharing", value, SHARING, where)
        elif key in ("mode", "uid", "gid"):
            self.numbers[key] = self._number(key, value, where)
        else:
            if key == "env":
                self._only_for(key, ("secret",), where)
            self.texts[key] = value

    def finish(self) -> Mount:
        if self.type not in ("cache", "secret", "ssh"):
            for key in ("mode", "uid", "gid"):
                if key in self.numbers:
                    self.refuse(f"{key} is not allowed for a {self.type} mount", self.places[key])
        if "sharing" in self.texts and self.type != "cache":
            self.refuse(f"sharing is not allowed for a {self.type} mount", self.places["sharing"])
        if self.type == "secret":
            self._check_secret()
        elif self.type != "ssh":
            self._check_target()
        readonly = self.readonly if self.readonly is not None else self.type not in ("cache", "tmpfs")
        get, number = self.texts.get, self.numbers.get
        target, source, identity = get("target", ""), get("source", ""), get("id", "")
        if self.type == "secret":
            identity = identity or source or posixpath.basename(target)
            source = ""
            if not target and "env" not in self.texts:
                target = f"/run/secrets/{posixpath.basename(identity)}"
        elif self.type == "ssh":
            identity = identity or "default"
        elif self.type == "cache":
            identity = identity or posixpath.normpath(target)
        return Mount(
            self.type, target, source, get("from", ""), readonly, identity, get("sharing", "shared"), self.required,
            number("size", 0), number("mode"), number("uid"), number("gid"), get("env"), self.option.span,
        )  # fmt: skip

    def _check_secret(self) -> None:
        for key in ("from",):
            if self.texts.get(key):
                self.refuse("a secret mount has no from", self.places[key])
        if not any(self.texts.get(key) for key in ("source", "target", "id")):
            self.refuse("a secret mount needs an id, a source or a target", hint="write type=secret,id=NAME")
        if self.texts.get("source") and self.texts.get("id"):
            self.refuse("source and id of a secret mount are the same thing", self.places["source"], "keep id")

    def _check_target(self) -> None:
        target = self.texts.get("target", "")
        if not target:
            self.refuse(f"a {self.type} mount needs a target", hint="add target=/PATH")
        if posixpath.normpath(target).strip("/") == "":
            self.refuse("the target cannot be /", self.places["target"], "mount it below /, as target=/src")

    def _only_for(self, key: str, types: tuple[str, ...], where: Span) -> None:
        if self.type not in types:
            hint = f"{key} is for {' and '.join(types)} mounts; type= stands before it"
            self.refuse(f"unexpected key {key!r} for mount type {self.type!r}", where, hint)

    def _one_of(self, key: str, value: str, known: tuple[str, ...], where: Span) -> str:
        if value.lower() not in known:
            hint = did_you_mean(value, known, otherwise=f"use one of {', '.join(known)}")
            self.refuse(f"unsupported {'mount type' if key == 'type' else key} {value!r}", where, hint)
        return value.lower()

    def _bool(self, key: str, value: str, where: Span) -> bool:
        if value not in _TRUE and value not in _FALSE:
            self.refuse(f"invalid value for {key}: {value!r}", where, "use true or false")
        return value in _TRUE

    def _number(self, key: str, value: str, where: Span) -> int:
        base, digits = (8, "[0-7]") if key == "mode" else (10, "[0-9]")
        if not re.fullmatch(f"{digits}{{1,12}}", value) or int(value, base) >= 2**32:
            hint = "write it in octal, as 0755" if key == "mode" else "write a number"
            self.refuse(f"invalid value {value!r} for {key}", where, hint)
        return int(value, base)

    def _size(self, value: str, where: Span) -> int:
        match = _SIZE.fullmatch(value)
        if match is None or len(value) > 30:
            self.refuse(f"invalid value for size: {value!r}", where, "write a number with a unit, as 64m or 1g")
        power = " kmgtp".index((match[2] or " ").lower())
        return int(float(match[1]) * 1024**power)
