"""Templates and includes: what they become, where their lines say they come from, what is refused."""

from __future__ import annotations

import hashlib
import posixpath

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildtool.buildfile import parse
from buildtool.buildfile.analysis import check
from buildtool.buildfile.formatter import format_text
from buildtool.buildfile.include import Included
from buildtool.buildfile.instructions import Instruction
from buildtool.buildfile.preprocess import included, preprocess
from buildtool.buildfile.sourcemap import Line, MappedSpan, SourceMap
from buildtool.buildfile.template import render
from buildtool.errors import InvalidInput, NotFound
from tests.unit.buildfile.test_properties import texts


def compose(files: dict[str, str], variables: dict[str, object] | None = None, main: str = "main") -> str:
    """The plain text of files[main]."""
    variables = variables or {}

    def load(path: str, includer: str) -> Included:
        name = posixpath.normpath(posixpath.join(posixpath.dirname(includer), path))
        if name not in files:
            raise NotFound(f"{name}: no such file", hint="write it")
        return included(name, name, files[name].encode(), files[name], variables)

    return preprocess(files[main], main, main, variables, load)


def refused(files: dict[str, str], variables: dict[str, object] | None = None, main: str = "main") -> InvalidInput:
    with pytest.raises(InvalidInput) as caught:
        parse(compose(files, variables, main), main)
    assert caught.value.where is not None
    return caught.value


def places(text: str) -> list[str]:
    instructions: list[Instruction] = []
    buildfile = parse(text, "main")
    instructions += buildfile.global_args
    for stage in buildfile.stages:
        instructions += [stage.from_, *stage.instructions]
    return [f"{each.keyword} {each.span.file}:{each.span.line}" for each in instructions]


class TestIncludes:
    def test_instructions_are_put_where_the_include_stands(self) -> None:
        files = {
            "main": "FROM a\nINCLUDE parts/env\n# after\nRUN x\n",
            "parts/env": "# syntax=x\n# about\nENV a=1\n\ninclude ../more\nENV c=3",
            "more": "ENV b=<<E\nCOPY <<E /\nINCLUDE nothing\nE\n",
        }
        text = compose(files)
        assert [line for line in text.split("\n") if "sourcemap" not in line] == [
            "FROM a", "# about", "ENV a=1", "", "ENV b=<<E", "COPY <<E /", "INCLUDE nothing", "E", "ENV c=3",
            "# after", "RUN x", "",
        ]  # fmt: skip
        assert places(text) == [
            "FROM main:1", "ENV parts/env:3", "ENV more:1", "COPY more:2", "ENV parts/env:6", "RUN main:4"
        ]  # fmt: skip

    def test_a_library_of_stages(self) -> None:
        files = {
            "main": "ARG v=1\nINCLUDE lib\nINCLUDE lib2\nFROM build AS x\nRUN y\n",
            "lib": "FROM a:$v AS base\nRUN b\n",
            "lib2": "FROM base AS build\n",
        }
        stages = parse(compose(files)).stages
        assert [stage.name for stage in stages] == ["base", "build", "x"]

    def test_what_follows_a_library_begins_a_stage(self) -> None:
        error = refused({"main": "INCLUDE lib\n\nRUN x\nFROM b\n", "lib": "FROM a\n"})
        assert (str(error.where), error.message.partition(":")[0]) == ("main:3:1", "RUN")
        assert "main:1:1 includes stages" in error.hint

    def test_directives_of_the_main_file_stay_first(self) -> None:
        main = "#!/x\n# escape=`\n# check=skip=FromAsCasing\nFROM a as b\nINCLUDE e"
        files = {"main": main, "e": "# escape=`\nRUN a `\nb"}
        text = compose(files)
        assert text.startswith("# escape=`\n# check=skip=FromAsCasing\n# sourcemap=")
        assert parse(text).warnings == () and places(text) == ["FROM main:4", "RUN e:2"]

    @pytest.mark.parametrize(
        ("files", "where", "message"),
        [
            ({"main": "FROM a\nINCLUDE b\n"}, "main:2:9", "INCLUDE: b: no such file"),
            ({"main": "FROM a\nINCLUDE b\n", "b": "INCLUDE main"}, "b:1:9", "INCLUDE: main includes itself"),
            ({"main": "FROM a\nINCLUDE\n"}, "main:2:1", "INCLUDE: takes one path or URL"),
            ({"main": "FROM a\nINCLUDE a b\n"}, "main:2:1", "INCLUDE: takes one path or URL"),
            ({"main": "FROM a\nINCLUDE --x b\n"}, "main:2:1", "INCLUDE: takes one path or URL"),
            ({"main": "FROM a\nINCLUDE b\n", "b": "RUN x \\\n"}, "main:2:9", "ends within a continued instruction"),
            ({"main": "FROM a\nINCLUDE b\n", "b": "# escape=`\nRUN x"}, "main:2:9", "has another escape character"),
            ({"main": "FROM a\nINCLUDE b\n", "b": "\nRNU x"}, "b:2:1", "unknown instruction 'RNU'"),
            ({"main": "FROM a\nINCLUDE b\n", "b": "RUN <<E\n"}, "b:1:5", "unterminated heredoc"),
            ({"main": "FROM a\nONBUILD INCLUDE b\n"}, "main:2:9", "INCLUDE has not been resolved"),
        ],
    )
    def test_refused(self, files: dict[str, str], where: str, message: str) -> None:
        error = refused(files)
        assert str(error.where) == where and message in error.message

    def test_the_checksum(self) -> None:
        body = "RUN x\n"
        good = hashlib.sha256(body.encode()).hexdigest()
        assert "RUN x" in compose({"main": f"FROM a\nINCLUDE --checksum=sha256:{good} b", "b": body})
        error = refused({"main": f"FROM a\nINCLUDE --checksum=sha256:{'0' * 64} b", "b": body})
        assert good in error.message

    def test_skips_hold_in_their_own_file_only(self) -> None:
        files = {"main": "FROM a\n# check=skip=all\nMAINTAINER x\nINCLUDE b", "b": "\n\nMAINTAINER y"}
        assert [str(w.span) for w in check(parse(compose(files), "main"))] == ["b:3:1"]

    def test_an_unresolved_include_is_refused_by_the_parser(self) -> None:
        with pytest.raises(InvalidInput, match="INCLUDE has not been resolved"):
            parse("FROM a\nINCLUDE b")

    def test_formatting_leaves_includes_where_they_are(self) -> None:
        assert format_text("include   b\nfrom  a\nrun x\n") == "INCLUDE b\nFROM a\nRUN x\n"
        with pytest.raises(InvalidInput):
            format_text("INCLUDE b\nRNU x")


class TestTemplates:
    TEXT = (
        "# template=jinja2\n# escape=`\nFROM a:{{ v }}\n{% for p in ps %}\nRUN add {{ p }} `\n  && x\n{% endfor %}\n"
        "{# nothing #}\n{% if v > 1 %}\n  ENV a=b\n{% endif %}\nCMD {{ many }}\nUSER x\n"
    )

    def test_rendered_lines_know_the_templates_lines(self) -> None:
        lines = render(self.TEXT, "f", {"v": 2, "ps": ["a", "b"], "many": '["x"]\nLABEL y=1'})
        assert [(line.number, line.text) for line in lines] == [
            (2, "# escape=`"), (3, "FROM a:2"), (5, "RUN add a `"), (6, "  && x"), (5, "RUN add b `"), (6, "  && x"),
            (10, "  ENV a=b"), (12, 'CMD ["x"]'), (12, "LABEL y=1"), (13, "USER x"),
        ]  # fmt: skip

    def test_templates_and_includes_together(self) -> None:
        files = {
            "main.j2": "FROM a\n{% for n in names %}\nINCLUDE {{ n }}.j2\n{% endfor %}\nRUN {{ last }}\n",
            "x.j2": "ENV {{ last }}=x\n", "y.j2": "\nENV y=1\n",
        }  # fmt: skip
        text = compose(files, {"names": ["x", "y"], "last": "z"}, "main.j2")
        assert places(text) == ["FROM main.j2:1", "ENV x.j2:1", "ENV y.j2:2", "RUN main.j2:5"]

    def test_errors_stand_at_the_templates_line(self) -> None:
        text = "# template=jinja2\n{% for i in range(3) %}\nRUN a{{ i }}\n{% endfor %}\nFROM a\n"
        error = refused({"main": text})
        assert str(error.where) == "main:3:1" and isinstance(error.where, MappedSpan)

    @pytest.mark.parametrize(
        ("text", "line", "message"),
        [
            ("FROM a\nRUN {{ x }}", 2, "'x' is undefined"),
            ("FROM a\n\n{{ x.y }}", 3, "'x' is undefined"),
            ("FROM a\n{% if %}", 2, "Expected an expression"),
            ("FROM a\n{{ 1 / 0 }}", 2, "division by zero"),
            ("{{ ''.__class__ }}", 1, "unsafe"),
            ("{% include 'x' %}", 1, "no loader"),
            ("{{ [1] | random }}", 1, "random"),
            ("{{ lipsum() }}", 1, "'lipsum' is undefined"),
            ("{{ range(1000000) }}", 1, "Range too big"),
            ("{% for i in range(99999) %}{{ 'x' * 1000 }}{% endfor %}", 1, "renders to more than"),
        ],
    )
    def test_refused(self, text: str, line: int, message: str) -> None:
        error = refused({"m.j2": text}, main="m.j2")
        assert message in error.message and error.where is not None
        assert (error.where.file, error.where.line) == ("m.j2", line)

    def test_text_that_a_template_looks_at_is_not_changed_by_the_map(self) -> None:
        text = "{% set x %}\na\nb\n{% endset %}\nFROM a\nRUN {{ x == 'a\\nb\\n' }} {{ x | length }}\nUSER x\n"
        lines = render(text, "f.j2", {})
        assert [(line.number, line.text) for line in lines] == [(5, "FROM a"), (5, "RUN True 4"), (7, "USER x")]

    def test_the_parser_refuses_what_is_not_rendered(self) -> None:
        with pytest.raises(InvalidInput, match="the file is a template"):
            parse("# template=jinja2\nFROM a")
        with pytest.raises(InvalidInput, match="the file is a template"):
            format_text("# template=jinja2\nFROM a")


class TestPlainFiles:
    @pytest.mark.parametrize(
        "text",
        [
            "FROM a\n# INCLUDE b\n", "FROM a\nRUN x \\\nINCLUDE b\n", "FROM a\nCOPY <<E /\nINCLUDE b\nE\n",
            "# template=other\nFROM a", "# c\n# template=jinja2\nFROM a\nRUN {{ x }}", "FROM a\nRUN {{ x }} {% y %}",
            "# template = x\n# escape=`\nFROM a\nRUN a \\\n",
        ],
    )  # fmt: skip
    def test_stay_as_they_are(self, text: str) -> None:
        assert compose({"main": text}) == text

    @given(texts)
    @settings(max_examples=200)
    def test_stay_as_they_are_whatever_is_in_them(self, text: str) -> None:
        """preprocess(x) == x for every x without INCLUDE and template."""
        assert compose({"main": text}) == text

    def test_a_sourcemap_that_is_none_is_a_comment(self) -> None:
        for value in ("x", "[]x", '[["f",0,1]]', '[["f",1]]', "{}", "[[1,1,1]]", "[" * 5000):
            buildfile = parse(f"# sourcemap={value}\n# escape=`\nFROM a\n", "main")
            assert buildfile.escape == "\\" and buildfile.stages[0].from_.span.file == "main"


@given(st.lists(st.tuples(st.sampled_from(["a", "b"]), st.integers(1, 4)), max_size=12))
def test_a_source_map_is_read_back(origins: list[tuple[str, int]]) -> None:
    """For each line: read(str(of(lines))).origin(n) is where line n comes from; beyond them there is nothing."""
    written = SourceMap.of([Line("", file, number) for file, number in origins])
    read = SourceMap.read(str(written))
    assert read is not None
    assert [read.origin(n) for n in range(1, len(origins) + 1)] == origins
    assert read.origin(0) is None and read.origin(len(origins) + 1) is None
