"""Laws that hold for any input."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from dataclasses import fields, is_dataclass

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from buildtool.buildfile import (
    IgnoreRules,
    expand_text,
    expand_word,
    expand_words,
    go_match,
    match_glob,
    parse,
    parse_instruction,
    parse_mount,
)  # fmt: skip
from buildtool.buildfile.analysis import check
from buildtool.buildfile.arguments import Arguments
from buildtool.buildfile.formatter import format_text
from buildtool.buildfile.instructions import Run, Word
from buildtool.buildfile.meaning import meaning_of_file
from buildtool.buildfile.scanner import scan
from buildtool.encoding import decode_file
from buildtool.errors import BuildtoolError, InvalidInput, Span
from tests.unit.buildfile.realistic import FILES
from tests.unit.buildfile.test_digests import ALL
from tests.unit.buildfile.test_shapes import digest


@st.composite
def mutated(draw: st.DrawFn) -> bytes:
    """A file that somebody wrote, with a few of its bytes replaced, doubled or lost."""
    data = bytearray(draw(st.sampled_from(sorted(FILES.values()))).encode())
    for _ in range(draw(st.integers(1, 4))):
        at = draw(st.integers(0, len(data) - 1))
        piece = draw(
            st.one_of(st.binary(max_size=3), st.sampled_from([b"\\\n", b"\n", b" ", b"$", b"<<E", b"'", b'"', b"="]))
        )
        data[at : at + draw(st.integers(0, 12))] = piece
        if not data:
            break
    return bytes(data)


Term = tuple[str, list[tuple[str, str]]]
PLACE = Span("f", 1)
FRAGMENTS = [
    "FROM", "from", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "CMD", "ENTRYPOINT", "ONBUILD",
    "HEALTHCHECK", "SHELL", "VOLUME", "EXPOSE", "USER", "WORKDIR", "STOPSIGNAL", "MAINTAINER", " ", "  ",
    "\t", "\n", "\n\n", "\r\n", "\\\n", "\\", "`", "`\n", "#", "# escape=`\n", "# check=skip=all\n",
    "# syntax=x\n", "#!x\n", "\ufeff", "alpine", "AS", "build", "=", "a=b", '"', "'", "[", "]", '["a","b"]',
    '["\\ud800"]', ",", "$", "${", "}", "${a:-b}", "${a#*}", "${a/b/c}", "$a", "$1", "<<EOF", "<<-EOF",
    "<<'EOF'", "3<<E", "EOF", "EOF\n", "--from=", "--mount=", "--mount=type=cache,target=/x",
    "--mount=from=$x", "--link", "--", "--interval=1s", "--retries=-1", "CMD", "NONE", "/x", ".", "\x00", "é",
    "\u2028", "\xa0", "\x85", "\x1c", "\x0b", "\x0c",
]  # fmt: skip
texts = st.lists(st.one_of(st.sampled_from(FRAGMENTS), st.text(max_size=3)), max_size=25).map("".join)
words = st.lists(
    st.sampled_from([*"ab${}?#%/'\"\\` ", "${", "${a", ":-", ":+", "$a"]),
    max_size=12,
).map("".join)  # fmt: skip
plain = st.text(st.characters(codec="utf-8", exclude_characters="$'\"\\`"), max_size=12)
values = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=5))


@given(texts)
@settings(max_examples=400)
@example("FROM a\nRUN [" + "[" * 3000)
@example("FROM a\nHEALTHCHECK --retries=" + "9" * 5000 + " CMD x")
@example("FROM " + "${a:-" * 2000 + "}" * 2000)
@example("ARG a=\nFROM ${a:?\\}")
@example("FROM a\nRUN 99999999999999999999<<E\nE\n")
def test_parse_refuses_only_with_invalid_input_that_has_a_place(text: str) -> None:
    """parse(text) returns a Buildfile or raises InvalidInput whose span lies in the text."""
    try:
        buildfile = parse(text)
    except InvalidInput as error:
        assert error.where is not None
        assert error.where.line >= 1 and error.where.column >= 1 and error.where.length >= 1
        assert error.where.line <= text.count("\n") + 1
        assert str(error)
        return
    assert buildfile.stages


@given(st.one_of(st.binary(max_size=200), mutated()))
@settings(max_examples=400)
@example(b"FROM scratch\n# \xe9\xff\nLABEL a=b\n")
@example(b"FROM scratch\nLABEL a=\xe9\n")
@example(b"FROM scratch\nCOPY --from= a b\nRUN --mount=from=,target=/x y\n")
@example(b"\xef\xbb\xbf# escape=`\nFROM a\n")
def test_no_bytes_crash_and_each_rejection_has_a_place(data: bytes) -> None:
    """Bytes become a plan, or an error with a place: decoded, parsed, formatted, checked, planned."""
    try:
        text = decode_file(data, "Buildfile")
    except InvalidInput as error:
        assert error.message.startswith("Buildfile:")
        return
    try:
        buildfile = parse(text)
    except InvalidInput as error:
        assert error.where is not None and error.where.line >= 1
        return
    assert meaning_of_file(parse(format_text(text))) == meaning_of_file(buildfile)
    for warning in check(buildfile):
        assert warning.span.line >= 1
    try:
        digest(text)
    except BuildtoolError as error:
        assert error.where is not None, error


@given(texts)
@settings(max_examples=300)
@example("RUN --mount=type=cache,target=/x --no-cache -x")
@example("COPY --from=a --link b c")
@example("COPY --from= --x b")
@example('ENV a=b c="d e"f g= h="" \n')
@example('LABEL a="b"x="c"')
@example('CMD [ "a" ,"b c", "" ]')
def test_the_short_way_through_flags_leads_where_the_grammar_does(text: str) -> None:
    """What `Arguments` reads without the grammar is what the grammar reads."""
    text = f"FROM a\n{text}"
    try:
        expected: object = meaning_of_file(parse(text))
    except InvalidInput as error:
        expected = (error.message, error.where)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Arguments, "_plain", lambda self: None)
        for name in ("_PLAIN_PAIRS", "_PLAIN_ARRAY"):
            patch.setattr(f"buildtool.buildfile.arguments.{name}", re.compile("(?!)"))
        try:
            found: object = meaning_of_file(parse(text))
        except InvalidInput as error:
            found = (error.message, error.where)
    assert found == expected


def words_of(node: object) -> Iterator[Word]:
    """Every word of an instruction, whatever holds it."""
    if isinstance(node, Word):
        yield node
    elif isinstance(node, tuple):
        for item in node:
            yield from words_of(item)
    elif is_dataclass(node) and not isinstance(node, Span):
        for each in fields(node):
            yield from words_of(getattr(node, each.name))


@given(st.one_of(texts, st.sampled_from(sorted(ALL.values()))))
@settings(max_examples=500)
def test_every_word_stands_where_its_span_says(text: str) -> None:
    """A word begins with what stands at its place, as far as its line goes; quotes of flags and JSON's are gone."""
    try:
        buildfile = parse(text)
    except InvalidInput:
        return
    for stage in buildfile.stages:
        for instruction in (*buildfile.global_args, stage.from_, *stage.instructions):
            for word in words_of(instruction):
                at = word.span.line_text[word.span.column - 1 :][: word.span.length]
                bare = word.text[: len(at)]
                unquoted = "--" in instruction.source and not {*"'\"\\"}.isdisjoint(instruction.source)
                assert at == bare or unquoted or "[" in instruction.source, (word, at)


@given(texts)
@settings(max_examples=300)
def test_the_source_map_leads_every_character_back_to_itself(text: str) -> None:
    """For each logical line and offset: text[offset] == the character at place(offset) in the file."""
    try:
        scanned = scan(text, "f")
    except InvalidInput:
        return
    for line in scanned.lines:
        for offset, character in enumerate(line.text):
            number, column = line.place(offset)
            assert scanned.source.lines[number - 1][column - 1] == character
            span = line.span(offset, offset + 1)
            assert (span.line, span.column, span.length) == (number, column, 1)


@given(
    st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\n\r\\"), max_size=8), min_size=1, max_size=6)
)
def test_continued_lines_join_without_a_seam(parts: list[str]) -> None:
    """scan(a \\ b \\ c) has the text of a, b and c put together, whatever blanks they hold."""
    parts = [part for part in parts if part.strip() and not part.lstrip().startswith("#")]
    text = "\\\n".join(["RUN x", *parts])
    line = scan(text, "f").lines[0]
    assert (
        line.text
        == ("RUN x" + "".join(parts)).rstrip(
            " \t\v\f\x85\xa0\u1680\u2028\u2029\u202f\u205f\u3000" + "".join(map(chr, range(0x2000, 0x200B)))
        )
        or "<<" in text
    )


@given(words, values)
@settings(max_examples=400)
@example("${a:-" * 3000, {})
@example("${a:-" * 3000 + "}" * 3000, {})
def test_expansion_refuses_only_with_invalid_input(text: str, env: dict[str, str]) -> None:
    """expand_word, expand_words and expand_text return or raise InvalidInput, for both escape characters."""
    for escape in "\\`":
        word = Word(text, PLACE, escape)
        for expand in (expand_word, expand_words):
            try:
                expand(word, env)
            except InvalidInput as error:
                assert error.where == PLACE
        try:
            expand_text(text, env, escape)
        except InvalidInput:
            pass


@given(plain, values)
def test_text_without_special_characters_expands_to_itself(text: str, env: dict[str, str]) -> None:
    assert expand_word(Word(text, PLACE), env) == text
    assert expand_text(text, env) == text


@given(st.text(max_size=12))
def test_single_quotes_keep_everything(text: str) -> None:
    """expand('x') == x for any x without a single quote."""
    text = text.replace("'", "")
    assert expand_word(Word(f"'{text}'", PLACE), {"a": "1"}) == text


@given(st.text(max_size=12))
def test_escaping_every_character_gives_the_text_back(text: str) -> None:
    escaped = "".join("\\" + character for character in text)
    assert expand_word(Word(escaped, PLACE), {}) == text
    assert expand_text(escaped, {}) == text
    ticked = "".join("`" + character for character in text)
    assert expand_word(Word(ticked, PLACE, "`"), {}) == text


@given(st.text(max_size=10), st.text(max_size=10))
def test_a_variables_value_is_not_expanded_again(value: str, default: str) -> None:
    assert expand_word(Word("$a", PLACE), {"a": value}) == value
    assert expand_word(Word('"${a}"', PLACE), {"a": value}) == value
    assert expand_word(Word("${a:-x}", PLACE), {"a": value}) == (value or "x")


@given(words, values)
def test_the_words_of_a_word_are_its_text_without_blanks(text: str, env: dict[str, str]) -> None:
    """Joining expand_words loses only blanks against expand_word."""
    try:
        whole = expand_word(Word(text, PLACE), env)
    except InvalidInput:
        return

    def squeeze(value: str) -> str:
        return "".join(value.split())

    assert squeeze("".join(expand_words(Word(text, PLACE), env))) == squeeze(whole)


@given(st.text(st.sampled_from("abc/."), max_size=8), st.sampled_from(["a*", "*", "?", "a", "*/", "b?c", "*.c"]))
def test_trimming_leaves_an_end_of_the_value(value: str, pattern: str) -> None:
    """${v#p} is a suffix of v and ${v%p} a prefix; the longest match leaves no more than the shortest."""

    def expand(operator: str) -> str:
        return expand_word(Word(f"${{v{operator}{pattern}}}", PLACE), {"v": value})

    assert value.endswith(expand("#")) and value.endswith(expand("##"))
    assert value.startswith(expand("%")) and value.startswith(expand("%%"))
    assert len(expand("##")) <= len(expand("#")) and len(expand("%%")) <= len(expand("%"))


@given(st.text(st.sampled_from("ab-,=[]\"'type cache\\$x"), max_size=25))
@settings(max_examples=300)
def test_mount_options_refuse_only_with_invalid_input(value: str) -> None:
    try:
        run = parse_instruction(f"RUN --mount={value} x")
        assert isinstance(run, Run)
        for mount in run.mounts:
            parse_mount(mount, lambda word: expand_word(word, {}))
    except InvalidInput as error:
        assert error.where is not None


@given(st.text(st.sampled_from("ab*?[]^-\\/"), max_size=8), st.text(st.sampled_from("ab-/]^\\"), max_size=6))
@settings(max_examples=400)
def test_go_match_agrees_with_a_plain_reading(pattern: str, name: str) -> None:
    """go_match against a recursive matcher written straight from Go's documentation."""
    try:
        expected: bool | None = _match(pattern, name)
    except ValueError:
        expected = None
    if expected is None:
        with pytest.raises(ValueError, match="syntax error"):
            go_match(pattern, name)
    else:
        assert go_match(pattern, name) == expected


def _match(pattern: str, name: str) -> bool:
    """Chunk by chunk: behind a star, a chunk is taken at the first place it fits, the last one at the end."""
    chunks: list[list[Term]] = [[]]
    for term in _terms(pattern):
        if term[0] == "*":
            chunks.append([])
        else:
            chunks[-1].append(term)

    def fits(chunk: list[Term], text: str) -> bool:
        if len(text) < len(chunk):
            return False
        for (kind, ranges), character in zip(chunk, text, strict=False):
            inside = any(low <= character <= high for low, high in ranges)
            if character == "/" if kind == "?" else inside == (kind == "^"):
                return False
        return True

    first, *rest = chunks
    if not fits(first, name):
        return False
    name = name[len(first) :]
    for number, chunk in enumerate(rest, 1):
        stop = name.find("/") if "/" in name else len(name)
        last = number == len(rest)
        for start in range(stop + 1):
            if fits(chunk, name[start:]) and (not last or start + len(chunk) == len(name)):
                name = name[start + len(chunk) :]
                break
        else:
            return False
    return not name


def _terms(pattern: str) -> list[Term]:
    terms: list[Term] = []
    rest = pattern
    while rest:
        character, rest = rest[0], rest[1:]
        if character in "*?":
            terms.append((character, []))
        elif character == "\\":
            if not rest:
                raise ValueError
            terms.append(("[", [(rest[0], rest[0])]))
            rest = rest[1:]
        elif character == "[":
            kind = "["
            if rest.startswith("^"):
                kind, rest = "^", rest[1:]
            ranges: list[tuple[str, str]] = []
            while not (ranges and rest.startswith("]")):
                found = re.match(r"(\\.|[^\\\-\]])(-(\\.|[^\\\-\]]))?", rest, re.DOTALL)
                if not found:
                    raise ValueError
                if rest[found.end() :].startswith("-") and not found[2]:
                    raise ValueError
                ranges.append((found[1][-1], (found[3] or found[1])[-1]))
                rest = rest[found.end() :]
                if not rest:
                    raise ValueError
            terms.append((kind, ranges))
            rest = rest[1:]
        else:
            terms.append(("[", [(character, character)]))
    return terms


@given(
    st.lists(st.sampled_from(["**", "a", "*", "b", "a*", "?"]), min_size=1, max_size=5),
    st.lists(st.sampled_from(["a", "b", "ab", "c"]), min_size=1, max_size=5),
)
def test_deep_patterns_agree_with_brute_force(patterns: list[str], parts: list[str]) -> None:
    def match(index: int, rest: list[str]) -> bool:
        if index == len(patterns):
            return not rest
        if patterns[index] == "**":
            return any(match(index + 1, rest[count:]) for count in range(len(rest) + 1))
        return bool(rest) and go_match(patterns[index], rest[0]) and match(index + 1, rest[1:])

    assert match_glob("/".join(patterns), "/".join(parts)) == match(0, parts)


ignore_lines = st.lists(
    st.one_of(
        st.builds(
            lambda negate, parts, slash: ("!" if negate else "") + "/".join(parts) + slash,
            st.booleans(),
            st.lists(
                st.sampled_from(["a", "b", "*", "**", "a*", "**b", "?", "[ab]", "a.b", "\\a", "..", "*b*"]),
                min_size=1,
                max_size=3,
            ),
            st.sampled_from(["", "/"]),
        ),
        st.sampled_from(["# x", "", "  a  ", "/a", "!/b", "!  b", ".", "**"]),
    ),
    max_size=6,
)  # fmt: skip
paths = st.lists(st.sampled_from(["a", "b", "ab", "c", "a.b", "xb"]), min_size=1, max_size=4).map("/".join)


@given(ignore_lines, paths)
@settings(max_examples=500)
def test_ignore_rules_agree_with_a_walk_written_from_patternmatcher(lines: list[str], path: str) -> None:
    """excludes(path) == what a walk from the root with a per-rule memory of matched parents says."""
    try:
        rules = IgnoreRules.parse("\n".join(lines))
    except InvalidInput:
        return
    assert rules.excludes(path) == _walk(lines, path)


def _walk(lines: list[str], path: str) -> bool:
    patterns: list[tuple[bool, str]] = []
    for line in lines:
        if line.startswith("#") or not line.strip():
            continue
        text = line.strip()
        negated = text.startswith("!")
        text = posixpath.normpath(text.removeprefix("!").strip())
        patterns.append((negated, text[1:] if len(text) > 1 and text.startswith("/") else text))
    matched = [False] * len(patterns)
    excluded = False
    parts = path.split("/")
    for count in range(1, len(parts) + 1):
        excluded = False
        now = []
        for (negated, pattern), above in zip(patterns, matched, strict=True):
            hit = above
            if not hit and negated == excluded:
                hit = _pattern_matches(pattern, "/".join(parts[:count]))
            now.append(hit)
            if hit:
                excluded = not negated
        matched = now
    return excluded


def _pattern_matches(pattern: str, path: str) -> bool:
    """One pattern of patternmatcher, read as: a leading `**` with nothing else special is a suffix; else a regex."""
    if pattern.startswith("**") and not re.search(r"[*?\[\\]", pattern[2:]):
        suffix = pattern[2:]
        return path.endswith(suffix) or (suffix.startswith("/") and path == suffix[1:])
    regex, rest = "", pattern
    while rest:
        if found := re.match(r"\*\*/?", rest):
            regex += ".*" if found.end() == len(rest) else "(.*/)?"
        elif found := re.match(r"\*", rest):
            regex += "[^/]*"
        elif found := re.match(r"\?", rest):
            regex += "[^/]"
        elif found := re.match(r"\[[^\]]*\]", rest):
            regex += found[0]
        elif found := re.match(r"\\(.)", rest):
            regex += re.escape(found[1])
        else:
            found = re.match(r".", rest)
            assert found
            regex += re.escape(found[0])
        rest = rest[found.end() :]
    return re.fullmatch(regex, path) is not None


@given(ignore_lines, paths)
@settings(max_examples=500)
def test_a_pruned_walk_loses_nothing(lines: list[str], path: str) -> None:
    """A path that is kept is never below a directory of which may_contain_included is False."""
    try:
        rules = IgnoreRules.parse("\n".join(lines))
    except InvalidInput:
        return
    if rules.excludes(path):
        return
    parts = path.split("/")
    for count in range(1, len(parts)):
        assert rules.may_contain_included("/".join(parts[:count]))
