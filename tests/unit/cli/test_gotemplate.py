"""Go templates as `--format` uses them."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.cli.gotemplate import Template, TemplateError

DATA: dict[str, Any] = {
    "Names": "web",
    "Config": {"Env": ["A=1", "B=2"], "Labels": {"com.x": "y"}, "Tty": False, "Cmd": None, "N": 3},
    "List": [{"N": "a"}, {"N": "b"}],
    "Empty": [],
    "Big": 1234567890123,
    "Label": lambda name: f"<{name}>",
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("{{.Names}}", "web"),
        ("{{ .Config.N }}/{{.Config.Tty}}", "3/false"),
        ("{{json .Config.Env}}", '["A=1","B=2"]'),
        ("{{json .Missing}}", "null"),
        ("{{.Config.Env}} {{.Config.Labels}}", "[A=1 B=2] map[com.x:y]"),
        ('{{index .Config.Labels "com.x"}}|{{index .Config.Labels "none"}}', "y|"),
        ("{{index .Config.Env 1}}", "B=2"),
        ("{{(index .List 0).N}}", "a"),
        ("{{range .List}}{{.N}},{{end}}", "a,b,"),
        ("{{range $i, $e := .Config.Env}}{{$i}}={{$e}};{{end}}", "0=A=1;1=B=2;"),
        ("{{range $k, $v := .Config.Labels}}{{$k}}:{{$v}}{{end}}", "com.x:y"),
        ("{{range .Empty}}x{{else}}none{{end}}", "none"),
        ("{{if .Config.Tty}}t{{else if .Config.N}}n{{else}}e{{end}}", "n"),
        ("{{if not .Config.Cmd}}no{{end}}{{if .Config.Nope}}x{{end}}", "no"),
        ("{{with .Config}}{{.N}}{{end}}{{with .Config.Cmd}}x{{else}}y{{end}}", "3y"),
        ("{{range .List}}{{$.Names}}{{end}}", "webweb"),
        ('{{join .Config.Env ", "}}', "A=1, B=2"),
        ('{{.Names | upper | printf "%s-%q"}}', None),
        ('{{.Names | upper}} {{printf "%-5s|%05d|%q" .Names .Config.N "x"}}', 'WEB web  |00003|"x"'),
        ("{{len .List}} {{len .Names}}", "2 3"),
        ('{{eq .Names "x" "web"}} {{ne .Config.N 3}} {{and .Names .Empty}} {{or .Empty "z"}}', "true false [] z"),
        ("{{lt 1 2}}{{ge 1 2}}", "truefalse"),
        ("{{$x := .Names}}{{$x}}{{$x = 1}}{{$x}}", "web1"),
        ("a {{- .Names -}} b", "awebb"),
        ("a{{/* nothing */}}b", "ab"),
        ('{{"a\\tb"}}{{`raw\\t`}}', "a\tbraw\\t"),
        ('{{"}}"}}', "}}"),
        ('{{.Label "k"}}', "<k>"),
        ('{{split "a,b" ","}}{{title "ab cd"}}{{pad "x" 1 2}}{{truncate .Names 2}}', "[a b]Ab Cd x  we"),
        ("{{.Big}}", "1234567890123"),
        ("{{println .Names}}", "web\n"),
        ("{{slice .Names 0 2}}", "we"),
        ("{{print 1 2 .Names}}", "1 2web"),
    ],
)
def test_rendering(text: str, expected: str | None) -> None:
    if expected is None:
        assert Template(text).render(DATA)
        return
    assert Template(text).render(DATA) == expected


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("{{.Foo", "unclosed action"),
        ("{{.Foo}} {{end}}", "unexpected {{end}}"),
        ("{{if .Foo}}x", "unexpected EOF"),
        ("{{frobnicate .X}}", 'function "frobnicate" not defined'),
        ("{{}}", "missing value for command"),
        ("{{.X | }}", "missing value for command"),
        ('{{"x}}', "unterminated quoted string"),
        ("{{(.X}}", "unclosed left paren"),
        ("{{.X)}}", "right paren"),
        ("{{$y}}", 'undefined variable "$y"'),
        ("{{.Nope}}", 'map has no entry for key "Nope"'),
        ("{{.Nope.More}}", 'map has no entry for key "Nope"'),
        ("{{.Names.More}}", "can't evaluate field More"),
        ("{{.Config.Cmd.X}}", "nil pointer evaluating X"),
        ("{{index .Empty 0}}", "index out of range"),
        ("{{range .Names}}{{end}}", "can't iterate over"),
        ('{{template "x"}}', "not supported"),
        ("{{.Names 1}}", "can't give argument to non-function"),
    ],
)
def test_mistakes_are_told_in_gos_words(text: str, problem: str) -> None:
    with pytest.raises(TemplateError) as refused:
        Template(text).render(DATA)
    assert problem in str(refused.value)


@given(st.text(max_size=30))
def test_any_text_renders_or_is_refused(text: str) -> None:
    """No template makes the engine fail in another way than by TemplateError."""
    try:
        Template("{{" + text + "}}").render(DATA)
    except TemplateError:
        pass


@given(st.text(alphabet=st.characters(exclude_characters="{"), max_size=60))
def test_text_without_actions_is_itself(text: str) -> None:
    """What holds no `{{` comes out as it is."""
    assert Template(text).render({}) == text
