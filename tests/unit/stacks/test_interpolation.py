"""Variables, one case a rule of the specification (reference/stacks.md 1.5)."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.stacks.interpolation import BadTemplate, MissingVariable, by_grammar, substitute, variables
from buildtool.stacks.tree import StackError
from tests.unit.stacks.conftest import load_texts, service
from tests.unit.stacks.rules import FORMS, VARIABLES


def expand(text: str) -> str:
    return substitute(text, VARIABLES, lambda _name: None)


@pytest.mark.parametrize(
    ("text", "expected"),
    FORMS,
)
def test_form(text: str, expected: str) -> None:
    assert expand(text) == expected


@pytest.mark.parametrize("text", ["${SET/x/y}", "${ SET}", "${}", "${SET!}", "${SET", "${1}", "${SET:}"])
def test_what_is_no_form_is_refused(text: str) -> None:
    with pytest.raises(BadTemplate):
        expand(text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${MISSING?say $SET}", "required variable MISSING is missing a value: say value"),
        ("${EMPTY:?}", "required variable EMPTY is missing a value"),
    ],
)
def test_a_required_variable_is_demanded(text: str, message: str) -> None:
    with pytest.raises(MissingVariable, match="^" + message.replace("$", r"\$") + "$"):
        expand(text)


def test_unset_variables_are_told_once_and_only_when_used() -> None:
    project = load_texts("services: {s: {image: 'i$A', command: ['$A', '${B:-${C:-x}}', '${D-}']}}")
    assert project.warnings == ['The "A" variable is not set. Defaulting to a blank string.']


def test_keys_are_not_interpolated() -> None:
    assert service("services: {s: {image: x, labels: {$K: v}}}", env={"K": "k"})["labels"] == {"$K": "v"}


def test_an_error_names_file_line_column_and_path() -> None:
    with pytest.raises(StackError) as caught:
        load_texts("services:\n  s:\n    image: x\n    ports:\n      - '80'\n      - ${A!}\n")
    assert str(caught.value).startswith("/p/compose.yaml:6:9: services.s.ports[1]: invalid interpolation format")


@pytest.mark.parametrize(
    ("yaml", "expected"),
    [
        ("privileged: ${A:-true}", {"privileged": True}),
        ("init: ${A:-no}", {"init": False}),
        ("scale: ${A:-3}", {"scale": 3}),
        ("cpus: ${A:-0.5}", {"cpus": 0.5}),
        ("mem_limit: ${A:-1k}", {"mem_limit": "1024"}),
        ("ulimits: {nofile: '${A:-5}'}", {"ulimits": {"nofile": 5}}),
        ("healthcheck: {retries: '${A:-7}'}", {"healthcheck": {"retries": 7}}),
    ],
)
def test_values_are_cast_after_substitution(yaml: str, expected: dict[str, object]) -> None:
    found = service(f"services:\n  s:\n    image: x\n    {yaml}\n")
    assert {key: found[key] for key in expected} == expected


def test_the_project_name_is_a_variable() -> None:
    text = "name: mine\nservices: {s: {image: x, hostname: $COMPOSE_PROJECT_NAME}}"
    assert service(text)["hostname"] == "mine"


def test_variables_are_listed_with_defaults() -> None:
    found = variables("${A:-${B?}} $C ${D:+alt}")
    assert [(v.name, v.default, v.required, v.alternate) for v in found] == [
        ("A", "${B?}", False, ""),
        ("C", "", False, ""),
        ("D", "", False, "alt"),
        ("B", "", True, ""),
    ] or {v.name for v in found} == {"A", "B", "C", "D"}


@given(st.text())
def test_text_with_its_dollars_doubled_is_itself(text: str) -> None:
    """substitute(escape(x)) == x."""
    assert expand(text.replace("$", "$$")) == text


@given(
    st.lists(st.sampled_from(["$", "${", "}", ":-", "?", "-", ":+", "A", "SET", "EMPTY", " ", "{", "x"]), max_size=12)
)
def test_simple_uses_mean_what_the_grammar_says(parts: list[str]) -> None:
    """Without Lark or with it: the same text, the same warnings, the same errors."""
    text = "".join(parts)
    results = []
    for way in (substitute, by_grammar):
        unset: list[str] = []
        try:
            results.append((way(text, VARIABLES, unset.append), unset))
        except (BadTemplate, MissingVariable) as error:
            results.append((repr(error), unset))
    assert results[0] == results[1]


@given(st.text(alphabet="${}:-+?AB a", max_size=30))
def test_no_text_crashes_the_parser(text: str) -> None:
    """Every text is a template or a BadTemplate (or demands a variable)."""
    try:
        expand(text)
    except (BadTemplate, MissingVariable):
        pass


def test_uid_and_gid_are_the_callers_when_nothing_else_is_said() -> None:
    """docker compose warns and takes them for empty: `user: ${UID}:${GID}` is root then."""
    assert service("services: {s: {image: x, user: '${UID}:$GID'}}")["user"] == f"{os.getuid()}:{os.getgid()}"
    told = service("services: {s: {image: x, user: '${UID:-7}:${GID}'}}", env={"GID": "8"})
    assert told["user"] == "7:8"
