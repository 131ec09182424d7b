"""From parse trees to typed instructions: one function an instruction.

Source: ../shared/reference/build.md, table 1.2.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple, NoReturn

from buildtool.buildfile import instructions as ast
from buildtool.buildfile.arguments import Arguments, Piece
from buildtool.buildfile.durations import parse_duration, shown_duration
from buildtool.buildfile.flags import Flags
from buildtool.buildfile.heredocs import parse_mark
from buildtool.buildfile.instructions import Command, Instruction, Word
from buildtool.buildfile.mounts import read_option
from buildtool.buildfile.scanner import Logical
from buildtool.buildfile.suggest import did_you_mean
from buildtool.errors import InvalidInput, Span

_STAGE_NAME = re.compile(r"[a-z][a-z0-9\-_.]*")
_VARIABLE = re.compile(r"\$.", re.DOTALL)
_MILLISECOND = 1_000_000
_SECOND = 1_000_000_000
_MOST_RETRIES = 100


class Context(NamedTuple):
    """What a builder of an instruction gets: the arguments, and the fields that every instruction has."""

    arguments: Arguments
    base: tuple[Span, str, str]

    @property
    def keyword(self) -> str:
        return self.base[2]

    @property
    def line(self) -> Logical:
        return self.arguments.line

    def refuse(self, message: str, *, where: Span | None = None, hint: str = "") -> NoReturn:
        raise InvalidInput(f"{self.keyword}: {message}", where=where or self.base[0], hint=hint)

    def word(self, piece: Piece) -> Word:
        return self.arguments.word(piece)


def build(context: Context) -> Instruction:
    """The typed instruction of a line. Raises InvalidInput."""
    return _BUILDERS[context.keyword](context)


def _from(context: Context) -> ast.From:
    pieces, flags = context.arguments.atoms()
    usage = "write FROM IMAGE, or FROM IMAGE AS NAME"
    if not pieces:
        context.refuse("the base image is missing", hint=usage)
    if len(pieces) not in (1, 3):
        context.refuse("takes either one argument or three", where=context.arguments.span(pieces[1]), hint=usage)
    name = None
    if len(pieces) == 3:
        if pieces[1].text.upper() != "AS":
            where = context.arguments.span(pieces[1])
            context.refuse(
                f"expected AS before the name of the stage, not {pieces[1].text!r}", where=where, hint=usage
            )
        name = pieces[2].text.lower()
        if not _STAGE_NAME.fullmatch(name):
            context.refuse(
                f"invalid stage name {pieces[2].text!r}",
                where=context.arguments.span(pieces[2]),
                hint="a stage name begins with a letter and holds letters, digits, '-', '_' and '.'",
            )
    description = _description(context.line, name) if name else ""
    return ast.From(*context.base, context.word(pieces[0]), name, flags.word("platform"), description)


def _description(line: Logical, name: str) -> str:
    for comment in line.comments:
        if comment.text.startswith(f"{name} "):
            return comment.text[len(name) + 1 :]
    return ""


def _arg(context: Context) -> ast.Arg:
    pairs = [
        (context.word(key), context.word(value) if value is not None else None)
        for key, value in context.arguments.defaults()
    ]
    if not pairs:
        context.refuse("at least one argument is needed", hint="write ARG NAME or ARG NAME=DEFAULT")
    return ast.Arg(*context.base, tuple(pairs), tuple(_description(context.line, key.text) for key, _ in pairs))


def _pairs(context: Context) -> tuple[tuple[Word, Word], ...]:
    pairs = context.arguments.pairs()
    if not pairs:
        context.refuse("at least one argument is needed", hint=f"write {context.keyword} NAME=VALUE")
    return tuple((context.word(key), context.word(value)) for key, value in pairs)


def _env(context: Context) -> ast.Env:
    return ast.Env(*context.base, _pairs(context), legacy=context.arguments.is_legacy)


def _label(context: Context) -> ast.Label:
    return ast.Label(*context.base, _pairs(context), legacy=context.arguments.is_legacy)


def _run(context: Context) -> ast.Run:
    text, flags = context.arguments.text()
    command = _command(context, text)
    heredocs = tuple(context.line.heredocs)
    mounts = tuple(read_option(flag) for flag in flags.all("mount"))
    for name, allowed in (("network", ("default", "none", "host")), ("security", ("sandbox", "insecure"))):
        word = flags.word(name)
        if word is not None and word.text not in allowed:
            hint = did_you_mean(word.text, allowed, otherwise=f"use one of {', '.join(allowed)}")
            context.refuse(f"unsupported --{name} mode {word.text!r}", where=word.span, hint=hint)
    only = bool(heredocs and command.shell and parse_mark(command.shell))
    return ast.Run(
        *context.base, command, heredocs, mounts, flags.word("network"), flags.word("security"),
        flags.words("device"), only, _execution(context, flags),
    )  # fmt: skip


def _execution(context: Context, flags: Flags) -> ast.Execution:
    """The flags that Dockerfiles do not have."""
    ttl = flags.word("cache-ttl")
    no_cache = bool(flags.is_set("no-cache"))
    if ttl is not None and no_cache:
        hint = "--no-cache runs the step in every build, --cache-ttl only when the result is too old: keep one"
        context.refuse("--cache-ttl and --no-cache exclude each other", where=ttl.span, hint=hint)
    return ast.Execution(
        _least(context, flags, "cache-ttl", _SECOND, "use --no-cache to run the step in every build"),
        no_cache,
        _count(context, flags, "retry", _MOST_RETRIES),
        _least(context, flags, "timeout", _MILLISECOND, "leave the flag out to wait forever"),
    )


def _least(context: Context, flags: Flags, name: str, least: int, hint: str) -> int:
    """A duration of at least `least`; 0 when the flag is not given."""
    word = flags.word(name)
    if word is None:
        return 0
    value = _duration(context, name, word)
    if value < least:
        context.refuse(f"--{name} cannot be less than {shown_duration(least)}", where=word.span, hint=hint)
    return value


def _command(context: Context, piece: Piece | None) -> Command:
    if piece is None:
        context.refuse(
            "a command is missing", hint=f'write {context.keyword} COMMAND or {context.keyword} ["COMMAND"]'
        )
    array = context.arguments.json_array(piece)
    if array is not None:
        return Command(None, tuple(item.text for item in array))
    return Command(piece.text, None)


def _copy(context: Context) -> ast.Copy:
    pieces, flags = context.arguments.atoms()
    array = context.arguments.json_array(context.arguments.rest(pieces[0])) if pieces else None
    if array is not None:
        pieces = array
    keyword = context.keyword
    if len(pieces) < 2:
        context.refuse(
            "at least two arguments are needed: a source and the destination",
            where=context.arguments.span(pieces[0]) if pieces else None,
            hint=f"write {keyword} SOURCE… DESTINATION",
        )
    *sources, destination = pieces
    if array is None and parse_mark(destination.text):
        where = context.arguments.span(destination)
        context.refuse("a heredoc cannot be the destination", where=where, hint=f"write {keyword} <<NAME DESTINATION")
    names = {heredoc.name for heredoc in context.line.heredocs}
    paths = [p for p in sources if array is not None or not ((m := parse_mark(p.text)) and m.name in names)]
    return ast.Copy(
        *context.base,
        sources=tuple(context.word(piece) for piece in paths),
        destination=context.word(destination),
        heredocs=tuple(context.line.heredocs),
        from_=_source_stage(context, flags),
        chown=flags.word("chown"),
        chmod=flags.word("chmod"),
        link=bool(flags.is_set("link")),
        parents=bool(flags.is_set("parents")),
        excludes=flags.words("exclude"),
        checksum=flags.word("checksum"),
        keep_git_dir=bool(flags.is_set("keep-git-dir")),
        unpack=flags.is_set("unpack"),
        if_exists=bool(flags.is_set("if-exists")),
    )


def _source_stage(context: Context, flags: Flags) -> Word | None:
    word = flags.word("from")
    if word is not None and _VARIABLE.search(word.text):
        context.refuse(
            "--from does not expand variables",
            where=word.span,
            hint="give the image a stage of its own (FROM $IMAGE AS name) and write --from=name",
        )
    return word if word is not None and word.text else None  # `--from=` is the build context, as in Docker


def _workdir(context: Context) -> ast.Workdir:
    return ast.Workdir(*context.base, _single(context, "PATH"))


def _user(context: Context) -> ast.User:
    return ast.User(*context.base, _single(context, "NAME[:GROUP]"))


def _stop_signal(context: Context) -> ast.StopSignal:
    return ast.StopSignal(*context.base, _single(context, "SIGNAL"))


def _maintainer(context: Context) -> ast.Maintainer:
    return ast.Maintainer(*context.base, _single(context, "NAME"))


def _single(context: Context, what: str) -> Word:
    piece, _ = context.arguments.text()
    if piece is None:
        context.refuse("exactly one argument is needed", hint=f"write {context.keyword} {what}")
    return context.word(piece)


def _cmd(context: Context) -> ast.Cmd:
    return ast.Cmd(*context.base, _optional_command(context))


def _entrypoint(context: Context) -> ast.Entrypoint:
    return ast.Entrypoint(*context.base, _optional_command(context))


def _optional_command(context: Context) -> Command:
    """CMD and ENTRYPOINT may stand alone: an empty shell command, as in Docker (`[]` clears the inherited one)."""
    piece, _ = context.arguments.text()
    return _command(context, piece) if piece is not None else Command("", None)


def _expose(context: Context) -> ast.Expose:
    pieces, _ = context.arguments.atoms()
    if not pieces:
        context.refuse("at least one port is needed", hint="write EXPOSE PORT[/tcp|/udp]…")
    return ast.Expose(*context.base, tuple(sorted((context.word(p) for p in pieces), key=lambda word: word.text)))


def _volume(context: Context) -> ast.Volume:
    pieces: Sequence[Piece]
    pieces, _ = context.arguments.atoms()
    array = context.arguments.json_array(context.arguments.rest(pieces[0])) if pieces else None
    if array is not None:
        pieces = array
    if not pieces:
        context.refuse("at least one path is needed", hint='write VOLUME PATH… or VOLUME ["PATH"]')
    words = []
    for piece in pieces:
        if not piece.text.strip():
            context.refuse("a path is empty", where=context.arguments.span(piece))
        word = context.word(piece)
        words.append(Word(word.text.strip(), word.span, word.escape))
    return ast.Volume(*context.base, tuple(words))


def _shell(context: Context) -> ast.Shell:
    piece, _ = context.arguments.text()
    hint = 'write it as a JSON array of strings, as SHELL ["/bin/bash", "-c"]'
    if piece is None:
        context.refuse("at least one argument is needed", hint=hint)
    array = context.arguments.json_array(piece)
    if array is None:
        context.refuse("the arguments are not a JSON array", where=context.arguments.span(piece), hint=hint)
    if not array:
        context.refuse("at least one argument is needed", where=context.arguments.span(piece), hint=hint)
    return ast.Shell(*context.base, tuple(item.text for item in array))


def _healthcheck(context: Context) -> ast.HealthCheck:
    kind, rest, flags = context.arguments.check()
    usage = "write HEALTHCHECK [OPTIONS] CMD COMMAND, or HEALTHCHECK NONE"
    if kind is None:
        context.refuse("CMD or NONE is missing", hint=usage)
    word = kind.text.upper()
    if word == "NONE":
        if rest is not None:
            context.refuse("NONE takes no arguments", where=context.arguments.span(rest), hint=usage)
        return ast.HealthCheck(*context.base, None)
    if word != "CMD":
        context.refuse(f"unknown type {kind.text!r}", where=context.arguments.span(kind), hint=usage)
    if rest is None:
        context.refuse("a command is missing after CMD", where=context.arguments.span(kind), hint=usage)
    command = _command(context, rest)
    if command.exec_form == ():
        context.refuse("a command is missing after CMD", where=context.arguments.span(rest), hint=usage)
    return ast.HealthCheck(
        *context.base,
        command,
        interval=_interval(context, flags, "interval"),
        timeout=_interval(context, flags, "timeout"),
        start_period=_interval(context, flags, "start-period"),
        start_interval=_interval(context, flags, "start-interval"),
        retries=_count(context, flags, "retries", 2**31 - 1),
    )


def _interval(context: Context, flags: Flags, name: str) -> int:
    word = flags.word(name)
    if word is None or not word.text:
        return 0
    value = _duration(context, name, word)
    if value and value < _MILLISECOND:
        context.refuse(f"--{name} cannot be less than 1ms", where=word.span, hint="0 means the default")
    return value


def _duration(context: Context, name: str, word: Word) -> int:
    try:
        return parse_duration(word.text)
    except ValueError as error:
        hint = "write a number with a unit: 500ms, 30s, 1m30s, 1h"
        context.refuse(f"--{name}: {error}", where=word.span, hint=hint)


def _count(context: Context, flags: Flags, name: str, most: int) -> int:
    """A number of times; 0 when the flag is not given."""
    word = flags.word(name)
    if word is None or not word.text:
        return 0
    if not re.fullmatch(r"[+-]?[0-9]{1,10}", word.text) or abs(int(word.text)) > most:
        context.refuse(f"--{name}: invalid number {word.text!r}", where=word.span, hint=f"write --{name}=3")
    if int(word.text) < 0:
        context.refuse(f"--{name} cannot be negative ({word.text})", where=word.span)
    return int(word.text)


_BUILDERS: dict[str, Callable[[Context], Instruction]] = {
    "FROM": _from,
    "ARG": _arg,
    "ENV": _env,
    "LABEL": _label,
    "RUN": _run,
    "COPY": _copy,
    "ADD": _copy,
    "WORKDIR": _workdir,
    "USER": _user,
    "CMD": _cmd,
    "ENTRYPOINT": _entrypoint,
    "EXPOSE": _expose,
    "VOLUME": _volume,
    "STOPSIGNAL": _stop_signal,
    "HEALTHCHECK": _healthcheck,
    "SHELL": _shell,
    "MAINTAINER": _maintainer,
}
