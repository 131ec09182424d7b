"""Every instruction and flag of table 1.2: accepted and refused."""

from __future__ import annotations

import pytest

from buildtool.buildfile import parse, parse_instruction
from buildtool.buildfile.instructions import (
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Execution,
    Expose,
    HealthCheck,
    Label,
    Maintainer,
    OnBuild,
    Run,
    Shell,
    StopSignal,
    User,
    Volume,
    Workdir,
)  # fmt: skip
from buildtool.errors import InvalidInput
from tests.unit.buildfile.helpers import one, refused, texts


def test_from_in_all_forms() -> None:
    text = "ARG V=1\nFROM --platform=$P a:$V@sha256:0 AS Build-1.x_y\nfrom scratch\nFROM b as c\n"
    buildfile = parse(text)
    first, second, third = buildfile.stages
    assert (first.from_.image.text, first.name) == ("a:$V@sha256:0", "build-1.x_y")
    assert first.from_.platform and first.from_.platform.text == "$P"
    assert (second.from_.image.text, second.name, second.from_.keyword) == ("scratch", None, "FROM")
    assert (third.index, third.name) == (2, "c")
    assert buildfile.global_args[0].pairs[0][0].text == "V"


def test_descriptions_come_from_comments() -> None:
    text = "# V is the version\nARG V=1 W\n# build makes it\nFROM a AS build\n# x y\nARG x\n"
    buildfile = parse(text)
    assert buildfile.global_args[0].descriptions == ("is the version", "")
    assert buildfile.stages[0].from_.description == "makes it"
    arg = buildfile.stages[0].instructions[0]
    assert isinstance(arg, Arg) and arg.descriptions == ("y",)


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("ARG a", [("a", None)]),
        ("ARG a=", [("a", "")]),
        ("ARG a=1 b c='x y'", [("a", "1"), ("b", None), ("c", "'x y'")]),
        ('ARG a="$b c"', [("a", '"$b c"')]),
        ("ARG a=b=c", [("a", "b=c")]),
        ("ARG a=x\\ y b", [("a", "x\\ y"), ("b", None)]),
        ("ARG $a=1", [("$a", "1")]),
    ],
)
def test_arg(text: str, pairs: list[tuple[str, str | None]]) -> None:
    assert [(key.text, value.text if value else None) for key, value in one(text, Arg).pairs] == pairs


@pytest.mark.parametrize(
    ("text", "pairs"),
    [
        ("a=1", [("a", "1")]),
        ("a=", [("a", "")]),
        ('a=1 b="x y" c=d\\ e', [("a", "1"), ("b", '"x y"'), ("c", "d\\ e")]),
        ("a=1   \t b='x=y'", [("a", "1"), ("b", "'x=y'")]),
        ("a=b=c", [("a", "b=c")]),
        ('"a b"=c', [('"a b"', "c")]),
        ("a.b-c/d=1", [("a.b-c/d", "1")]),
        ('a="x\\"y" b=\'\\\'', [("a", '"x\\"y"'), ("b", "'\\'")]),
        ("a=$b:${c:-d}", [("a", "$b:${c:-d}")]),
        ("a=é", [("a", "é")]),
        ("a b", [("a", "b")]),
        ("a b=c  d", [("a", "b=c  d")]),
        ("a\tb 'c'", [("a", "b 'c'")]),
        ('a "b c"', [("a", '"b c"')]),
    ],
)
def test_env_and_label(text: str, pairs: list[tuple[str, str]]) -> None:
    env, label = one(f"ENV {text}", Env), one(f"LABEL {text}", Label)
    assert [(key.text, value.text) for key, value in env.pairs] == pairs
    assert label.pairs[0][1].text == env.pairs[0][1].text
    assert env.legacy == (not text.split()[0].count("=") and not text.startswith('"'))


def test_a_continued_env_keeps_the_place_of_each_pair() -> None:
    env = one("ENV a=1 \\\n    b=2\n", Env)
    assert [(k.span.line, k.span.column, v.span.column) for k, v in env.pairs] == [(2, 5, 7), (3, 5, 7)]


def test_the_backtick_escapes_words() -> None:
    env = parse('# escape=`\nFROM a\nENV p=C:\\x` y q="a`"b"\n').stages[0].instructions[0]
    assert isinstance(env, Env)
    assert [(k.text, v.text, v.escape) for k, v in env.pairs] == [("p", "C:\\x` y", "`"), ("q", '"a`"b"', "`")]


@pytest.mark.parametrize(
    ("arguments", "shell", "exec_form"),
    [
        ("echo a  b", "echo a  b", None),
        ('["a", "b c"]', None, ("a", "b c")),
        ("[]", None, ()),
        ('[ "a" , "b\\n\\u00e9\\"" ] ', None, ("a", 'b\né"')),
        ("['a', 'b']", "['a', 'b']", None),
        ('["a"', '["a"', None),
        ('["a",]', '["a",]', None),
        ('["a"] x', '["a"] x', None),
        ('["\\x"]', '["\\x"]', None),
        ("[ -f x ] && y", "[ -f x ] && y", None),
        ('["\\ud800x"]', None, ("\ufffdx",)),
        ('["\\ud83d\\ude00"]', None, ("\U0001f600",)),
    ],
)
@pytest.mark.parametrize("keyword", ["RUN", "CMD", "ENTRYPOINT"])
def test_shell_and_exec_form(
    keyword: str, arguments: str, shell: str | None, exec_form: tuple[str, ...] | None
) -> None:
    kind = {"RUN": Run, "CMD": Cmd, "ENTRYPOINT": Entrypoint}[keyword]
    command = one(f"{keyword} {arguments}", kind).command  # type: ignore[attr-defined]
    assert (command.shell, command.exec_form) == (shell, exec_form)


@pytest.mark.parametrize("array", ["[1]", '["a", null]', "[true]", '[["a"]]', '[{"a": [1, "b"]}]', "[-1.5e+3]"])
def test_an_array_of_other_things_is_refused(array: str) -> None:
    error = refused(f"FROM a\nCMD {array}")
    assert "strings" in error.message and error.where and error.where.column == 5


def test_cmd_and_entrypoint_may_be_empty() -> None:
    command = one("CMD", Cmd).command
    assert (command.shell, command.exec_form) == ("", None)
    assert one("ENTRYPOINT []", Entrypoint).command.exec_form == ()


def test_run_flags() -> None:
    mounts = "--mount=type=cache,target=/c --mount=type=tmpfs,dst=/t"
    run = one(f"RUN {mounts} --network=none --security=insecure --device=a,required x", Run)
    assert [[key for key, _ in mount.options] for mount in run.mounts] == [["type", "target"], ["type", "dst"]]
    assert run.network and run.network.text == "none"
    assert run.security and run.security.text == "insecure"
    assert texts(run.devices) == ["a,required"]
    assert run.command.shell == "x"


SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("flags", "execution"),
    [
        ("", Execution()),
        ("--cache-ttl=12h", Execution(cache_ttl=12 * 3600 * SECOND)),
        ("--cache-ttl=1m1.5s", Execution(cache_ttl=61 * SECOND + SECOND // 2)),
        ("--no-cache", Execution(no_cache=True)),
        ("--no-cache=true", Execution(no_cache=True)),
        ("--no-cache=false --cache-ttl=1s", Execution(cache_ttl=SECOND)),
        ("--retry=3 --timeout=500ms", Execution(retry=3, timeout=SECOND // 2)),
        ("--retry=0", Execution()),
        ("--retry=100", Execution(retry=100)),
    ],
)
def test_how_a_run_is_executed(flags: str, execution: Execution) -> None:
    run = one(f"RUN {flags} --network=none x", Run)
    assert (run.execution, run.command.shell) == (execution, "x")


def test_copy_if_exists() -> None:
    assert one("COPY --if-exists --from=x a b/", Copy).if_exists
    assert not one("COPY --if-exists=false a b/", Copy).if_exists
    assert not one("COPY a b/", Copy).if_exists


def test_an_empty_from_is_the_context() -> None:
    assert one("COPY --from= a /b", Copy).from_ is None
    assert one("COPY --from='' a /b", Copy).from_ is None


def test_two_dashes_end_the_flags() -> None:
    assert one("RUN -- --x y", Run).command.shell == "--x y"
    assert texts(one("COPY --link -- --a /b", Copy).sources) == ["--a"]
    assert one("RUN --network=none -- a -- b", Run).command.shell == "a -- b"


def test_copy_with_everything() -> None:
    text = "COPY --from=x --chown=$U:g --chmod=u+x --link --parents --exclude=*.a --exclude=b a b/ /to/"
    copy = one(text, Copy)
    assert texts(copy.sources) == ["a", "b/"] and copy.destination.text == "/to/"
    assert copy.from_ and copy.from_.text == "x"
    assert copy.chown and copy.chown.text == "$U:g" and copy.chmod and copy.chmod.text == "u+x"
    assert (copy.link, copy.parents, texts(copy.excludes), copy.is_add) == (True, True, ["*.a", "b"], False)


def test_add_with_everything() -> None:
    text = "ADD --checksum=sha256:1 --keep-git-dir=true --unpack=false --link=false --chown=1 http://h/x /x"
    add = one(text, Copy)
    assert add.is_add and add.checksum and add.checksum.text == "sha256:1"
    assert (add.keep_git_dir, add.unpack, add.link) == (True, False, False)
    assert one("ADD a b", Copy).unpack is None


@pytest.mark.parametrize(
    ("flag", "value"),
    [
        ("--chown='a b'", "a b"),
        ('--chown="a"b', "ab"),
        ("--chown=a\\ b", "a b"),
        ("--chown=", ""),
        ("--chown='\\'x'", "'x"),
    ],
)
def test_quotes_of_a_flag_are_taken_away(flag: str, value: str) -> None:
    copy = one(f"COPY {flag} a b", Copy)
    assert copy.chown and copy.chown.text == value
    assert texts(copy.sources) == ["a"]


def test_copys_json_form_keeps_blanks_and_places() -> None:
    copy = one('COPY --link ["a b", "c",\\\n "to/"]', Copy)
    assert texts(copy.sources) == ["a b", "c"] and copy.destination.text == "to/"
    assert (copy.destination.span.line, copy.destination.span.column) == (3, 2)


def test_copys_plain_form_does_not_know_quotes() -> None:
    assert texts(one('COPY "a b" c', Copy).sources) == ['"a', 'b"']


@pytest.mark.parametrize(
    ("text", "value"),
    [("WORKDIR /a b", "/a b"), ("WORKDIR  $x/y ", "$x/y"), ("USER u:g", "u:g"), ("STOPSIGNAL SIGTERM", "SIGTERM")],
)
def test_single_arguments_are_the_rest_of_the_line(text: str, value: str) -> None:
    instruction = parse(f"FROM a\n{text}").stages[0].instructions[0]
    match instruction:
        case Workdir(path=word) | User(user=word) | StopSignal(signal=word):
            assert word.text == value
        case _:
            raise AssertionError(instruction)


def test_maintainer() -> None:
    assert one("MAINTAINER A <a@b.c>", Maintainer).name.text == "A <a@b.c>"


def test_expose_is_sorted() -> None:
    assert texts(one("EXPOSE 8080/tcp 53/udp $P 1-3", Expose).ports) == ["$P", "1-3", "53/udp", "8080/tcp"]


def test_volume_in_both_forms() -> None:
    assert texts(one("VOLUME /a $b", Volume).paths) == ["/a", "$b"]
    assert texts(one('VOLUME ["/a b", " /c "]', Volume).paths) == ["/a b", "/c"]
    assert "empty" in refused('FROM a\nVOLUME ["/a", " "]').message


def test_shell() -> None:
    assert one('SHELL ["/bin/bash", "-c"]', Shell).argv == ("/bin/bash", "-c")


def test_healthcheck_with_everything() -> None:
    text = (
        "HEALTHCHECK --interval=1m30s --timeout=1.5s --start-period=500ms --start-interval=1ms --retries=3 cmd curl x"
    )
    check = one(text, HealthCheck)
    assert check.command and check.command.shell == "curl x"
    assert (check.interval, check.timeout, check.start_period) == (90 * SECOND, 3 * SECOND // 2, SECOND // 2)
    assert (check.start_interval, check.retries) == (1_000_000, 3)


def test_healthcheck_in_exec_form_and_none() -> None:
    check = one('HEALTHCHECK CMD ["a"]', HealthCheck)
    assert check.command and check.command.exec_form == ("a",) and check.interval == 0
    assert one("HEALTHCHECK none", HealthCheck).command is None
    assert one("HEALTHCHECK --interval=5s NONE", HealthCheck).interval == 0  # as in Docker, which ignores them
    assert one("HEALTHCHECK --interval=0 CMD x", HealthCheck).interval == 0


@pytest.mark.parametrize("value", ["5", "abc", "1x", "-1s", "0.5ms", "1ns", "999us", "s", "1.s.", ".", "9999999999h"])
def test_bad_durations_are_refused(value: str) -> None:
    error = refused(f"FROM a\nHEALTHCHECK --interval={value} CMD x")
    assert "--interval" in error.message and error.where
    assert (error.where.line, error.where.column) == (2, 24)


@pytest.mark.parametrize("value", ["x", "-1", "1.5", "99999999999", "0x1"])
def test_bad_retries_are_refused(value: str) -> None:
    assert "--retries" in refused(f"FROM a\nHEALTHCHECK --retries={value} CMD x").message


def test_onbuild() -> None:
    onbuild = one("onbuild   copy --from=x $a \\\n  b", OnBuild)
    assert onbuild.trigger == "copy --from=x $a   b"
    inner = onbuild.instruction
    assert isinstance(inner, Copy) and texts(inner.sources) == ["$a"]
    assert (inner.destination.span.line, inner.destination.span.column, inner.keyword) == (3, 3, "COPY")


def test_source_is_the_joined_line() -> None:
    run = one("run  a \\\n  b", Run)
    assert (run.source, run.keyword) == ("run  a   b", "RUN")


def test_a_trigger_is_parsed_alone() -> None:
    trigger = parse_instruction("RUN <<EOF\nx\nEOF")
    assert isinstance(trigger, Run) and trigger.heredocs[0].content == "x\n"
    for text in ("", "# x", "FROM a", "RUN a\nRUN b", "BAD x"):
        with pytest.raises(InvalidInput) as caught:
            parse_instruction(text)
        assert caught.value.where and caught.value.where.file == "<onbuild>"


REFUSED = [
    # text, part of the message, line, column, part of the hint
    ("", "no instructions", 1, 1, "FROM"),
    ("# only a comment\n", "no instructions", 1, 1, "FROM"),
    ("ARG a\nARG b\n", "no FROM", 2, 1, "FROM"),
    ("RUN x\nFROM a\n", "no build stage", 1, 1, "begin with FROM"),
    ("FRMO a\n", "unknown instruction 'FRMO'", 1, 1, "did you mean FROM?"),
    ("FROM a\nCOPYY x y", "unknown instruction", 2, 1, "did you mean COPY?"),
    ("FROM a\n  ECHO x", "unknown instruction", 2, 3, "needs a \\ at its end"),
    ("FROM a\nRUN a\n    && b", "unknown instruction '&&'", 3, 5, "needs a \\ at its end"),
    ("FROM", "base image is missing", 1, 1, "FROM IMAGE"),
    ("FROM a b", "one argument or three", 1, 8, "AS NAME"),
    ("FROM a AS", "one argument or three", 1, 8, "AS NAME"),
    ("FROM a AS b c", "one argument or three", 1, 8, "AS NAME"),
    ("FROM a IS b", "expected AS", 1, 8, "AS NAME"),
    ("FROM a AS 1b", "invalid stage name '1b'", 1, 11, "letter"),
    ("FROM a AS b/c", "invalid stage name", 1, 11, "letter"),
    ("FROM --platfrom=x a", "unknown flag --platfrom", 1, 6, "did you mean --platform?"),
    ("FROM --platform a", "needs a value", 1, 6, "--platform=VALUE"),
    ("FROM a\nCOPY x", "two arguments", 2, 6, "SOURCE"),
    ("FROM a\nCOPY", "two arguments", 2, 1, "SOURCE"),
    ("FROM a\nADD --link", "two arguments", 2, 1, "SOURCE"),
    ('FROM a\nCOPY ["x"]', "two arguments", 2, 7, "SOURCE"),
    ("FROM a\nCOPY --from=$X a b", "does not expand variables", 2, 13, "FROM $IMAGE AS name"),
    ("FROM a\nCOPY --from=x --from=y a b", "given twice", 2, 15, "remove"),
    ("FROM a\nCOPY --link --link=true a b", "given twice", 2, 13, "remove"),
    ("FROM a\nCOPY --link=yes a b", "true or false", 2, 6, "--link=false"),
    ("FROM a\nCOPY --chwon=x a b", "unknown flag --chwon", 2, 6, "did you mean --chown?"),
    ("FROM a\nCOPY --keep-git-dir a b", "unknown flag", 2, 6, "COPY takes"),
    ("FROM a\nADD --from=x a b", "unknown flag --from", 2, 5, "ADD takes"),
    ("FROM a\nENV --x a=b", "unknown flag --x", 2, 5, "no flags"),
    ("FROM a\nCMD --help", "unknown flag --help", 2, 5, "--"),
    ("FROM a\nENV", "at least one argument", 2, 1, "NAME=VALUE"),
    ("FROM a\nENV a", "'a' has no value", 2, 5, "ENV a=VALUE"),
    ("FROM a\nENV a=1 b", "no = in 'b'", 2, 9, "quote"),
    ("FROM a\nENV =1", "blank", 2, 5, "NAME=VALUE"),
    ("FROM a\nENV a=1 =2", "blank", 2, 9, "NAME=VALUE"),
    ("FROM a\nLABEL", "at least one argument", 2, 1, "LABEL NAME=VALUE"),
    ("FROM a\nARG", "at least one argument", 2, 1, "ARG NAME"),
    ("FROM a\nARG =x", "blank", 2, 5, "NAME=VALUE"),
    ("FROM a\nARG a 'b", "quote is not closed", 2, 7, ""),
    ("FROM a\nRUN", "command is missing", 2, 1, "RUN COMMAND"),
    ("FROM a\nRUN --network=hots x", "unsupported --network mode", 2, 15, "did you mean host?"),
    ("FROM a\nRUN --security=x y", "unsupported --security mode", 2, 16, "sandbox"),
    ("FROM a\nRUN --cache-ttl x", "needs a value", 2, 5, "--cache-ttl=VALUE"),
    ("FROM a\nRUN --cache-ttl=x y", "--cache-ttl: invalid duration 'x'", 2, 17, "1h"),
    ("FROM a\nRUN --cache-ttl=12 y", "--cache-ttl: missing unit", 2, 17, "1h"),
    ("FROM a\nRUN --cache-ttl= y", "--cache-ttl: invalid duration", 2, 17, "1h"),
    ("FROM a\nRUN --cache-ttl=0 y", "cannot be less than 1s", 2, 17, "--no-cache"),
    ("FROM a\nRUN --cache-ttl=-1h y", "cannot be less than 1s", 2, 17, "--no-cache"),
    ("FROM a\nRUN --cache-ttl=1h --cache-ttl=2h y", "given twice", 2, 20, "remove"),
    ("FROM a\nRUN --cache-ttl=1h --no-cache y", "exclude each other", 2, 17, "keep one"),
    ("FROM a\nRUN --no-cache=yes y", "true or false", 2, 5, "--no-cache=false"),
    ("FROM a\nRUN --nocache y", "unknown flag", 2, 5, "did you mean --no-cache?"),
    ("FROM a\nRUN --retry=-1 y", "--retry cannot be negative", 2, 13, ""),
    ("FROM a\nRUN --retry=101 y", "--retry: invalid number '101'", 2, 13, "--retry=3"),
    ("FROM a\nRUN --retry=$N y", "--retry: invalid number '$N'", 2, 13, "--retry=3"),
    ("FROM a\nRUN --timeout=0 y", "cannot be less than 1ms", 2, 15, "forever"),
    ("FROM a\nRUN --timeout=5 y", "--timeout: missing unit", 2, 15, "30s"),
    ("FROM a\nADD --if-exists a b", "unknown flag --if-exists", 2, 5, "ADD takes"),
    ("FROM a\nCOPY --if-exist a b", "unknown flag", 2, 6, "did you mean --if-exists?"),
    ("FROM a\nRUN --mount= x", "the value is empty", 2, 5, "key=value"),
    ("FROM a\nRUN --mount=a,,b x", "--mount", 2, 5, "key=value"),
    ("FROM a\nRUN --mount=tpye=cache x", "unexpected key 'tpye'", 2, 13, "did you mean type?"),
    ("FROM a\nRUN --mount=type=bind,from=$x,target=/a x", "from does not expand", 2, 28, "FROM $IMAGE AS name"),
    ("FROM a\nEXPOSE", "at least one port", 2, 1, "EXPOSE PORT"),
    ("FROM a\nVOLUME", "at least one path", 2, 1, "VOLUME PATH"),
    ("FROM a\nVOLUME []", "at least one path", 2, 1, "VOLUME PATH"),
    ("FROM a\nWORKDIR", "exactly one argument", 2, 1, "WORKDIR PATH"),
    ("FROM a\nUSER", "exactly one argument", 2, 1, "USER NAME"),
    ("FROM a\nSTOPSIGNAL", "exactly one argument", 2, 1, "STOPSIGNAL SIGNAL"),
    ("FROM a\nMAINTAINER", "exactly one argument", 2, 1, "MAINTAINER NAME"),
    ("FROM a\nSHELL", "at least one argument", 2, 1, "JSON"),
    ("FROM a\nSHELL []", "at least one argument", 2, 7, "JSON"),
    ("FROM a\nSHELL bash -c", "not a JSON array", 2, 7, "JSON array of strings"),
    ("FROM a\nSHELL ['bash']", "not a JSON array", 2, 7, "JSON array of strings"),
    ("FROM a\nHEALTHCHECK", "CMD or NONE", 2, 1, "HEALTHCHECK NONE"),
    ("FROM a\nHEALTHCHECK CMD", "missing after CMD", 2, 13, "CMD COMMAND"),
    ("FROM a\nHEALTHCHECK CMD []", "missing after CMD", 2, 17, "CMD COMMAND"),
    ("FROM a\nHEALTHCHECK NONE x", "NONE takes no arguments", 2, 18, "HEALTHCHECK NONE"),
    ("FROM a\nHEALTHCHECK curl x", "unknown type 'curl'", 2, 13, "CMD COMMAND"),
    ("FROM a\nONBUILD", "instruction is missing", 2, 1, "ONBUILD INSTRUCTION"),
    ("FROM a\nONBUILD ONBUILD RUN x", "ONBUILD ONBUILD", 2, 9, ""),
    ("FROM a\nONBUILD FROM b", "FROM is not allowed as a trigger", 2, 9, ""),
    ("FROM a\nONBUILD MAINTAINER b", "MAINTAINER is not allowed as a trigger", 2, 9, ""),
    ("FROM a\nONBUILD RNU x", "unknown instruction", 2, 9, "did you mean RUN?"),
]  # fmt: skip


@pytest.mark.parametrize(("text", "message", "line", "column", "hint"), REFUSED)
def test_refused_with_place_and_remedy(text: str, message: str, line: int, column: int, hint: str) -> None:
    error = refused(text, "dir/Buildfile")
    assert message in error.message
    assert error.where and (error.where.file, error.where.line, error.where.column) == ("dir/Buildfile", line, column)
    assert hint in error.hint


def test_an_error_shows_line_caret_and_remedy() -> None:
    error = refused("FROM a\nCOPY --from=a --chwon=1:1 x \\\n y\n", "x/Buildfile")
    assert str(error).splitlines() == [
        "x/Buildfile:2:15: COPY: unknown flag --chwon",
        "  2 | COPY --from=a --chwon=1:1 x \\",
        "    |               ^^^^^^^^^^^",
        "did you mean --chown?",
    ]
