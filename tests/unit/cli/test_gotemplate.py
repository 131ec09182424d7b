"""Go templates as `--format` uses them: what the stock docker CLI was seen to print, and laws."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from buildtool.cli.gotemplate import Template, TemplateError
from buildtool.cli.gotemplate.store import Store
from tests.compare.templates import RECORD, DockerCli, plain

TYPES = {
    "container": "container.InspectResponse",
    "image": "image.InspectResponse",
    "network": "network.Inspect",
    "volume": "volume.Volume",
}


@cache
def record() -> Any:
    return json.loads(RECORD.read_text())


@pytest.fixture(autouse=True, scope="module")
def cache_of_its_own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        yield


def outcome(kind: str, text: str) -> tuple[int, str]:
    """What `inspect --type KIND --format TEXT` prints, and its exit code."""
    document = record()["documents"][kind]
    try:
        template = Template(text)
    except TemplateError as error:
        return 64, f"template parsing error: {error.message}"
    try:
        return 0, plain(template.render_document(document, TYPES[kind]))
    except TemplateError as error:
        return 1, plain(f"template parsing error: {error.message}")


def test_all_recorded_templates_give_what_docker_gave() -> None:
    different = []
    for kind, text, code, expected in record()["results"]:
        found = outcome(kind, text)
        if found != (code, expected):
            different.append(f"{text!r}\n  docker {code} {expected[:300]}\n  ours   {found[0]} {found[1][:300]}")
    assert not different, "\n".join(different)
    assert len(record()["results"]) > 500


WORDS = """
    .Name .Nope .State .State.Running .Args .Config.Labels .HostConfig.Init .RestartCount . $ $x nil true . .
    1 -1 2.5 "a" `b` 'c' ( ) | , := = : "%s" "%v"
    len index printf print eq lt and or not json upper join slice html call foo
    if else end range with break continue define template block
    {{ }} {{- -}} x /* */ $x:= $i,$e:=.Args .A.B ).C
"""
PIECES = st.sampled_from(WORDS.split())


@cache
def stock() -> DockerCli | None:
    if shutil.which("docker") is None:
        return None
    version = subprocess.run(["docker", "--version"], capture_output=True, text=True, check=False).stdout
    return DockerCli(record()["documents"]) if "version 28." in version else None


@settings(max_examples=30, derandomize=True)
@given(st.lists(st.lists(PIECES, min_size=1, max_size=5).map(" ".join), min_size=1, max_size=3))
def test_the_stock_cli_says_the_same(actions: list[str]) -> None:
    """Of anything put together from words of templates, docker 28 prints the same, or refuses it as we do.

    Which of two mistakes is told may differ; that there is one may not.
    """
    cli = stock()
    if cli is None:
        pytest.skip("no docker CLI 28 here")
    text = "".join(f"{{{{{action}}}}}" for action in actions)
    ours, theirs = outcome("container", text), cli.inspect("container", text)
    assert ours[0] == theirs[0], (text, ours, theirs)
    if theirs[0] == 0:
        assert ours == theirs


@settings(max_examples=60)
@given(st.text(max_size=30), st.booleans())
def test_any_text_renders_or_is_refused(text: str, whole: bool) -> None:
    """No template makes the engine fail in another way than by TemplateError."""
    try:
        Template(text if whole else "{{" + text + "}}").render({"A": [1, {"b": None}]}, strict=True)
    except TemplateError:
        pass


@settings(max_examples=60)
@given(st.text(alphabet=st.characters(exclude_characters="{"), max_size=60))
def test_text_without_actions_is_itself(text: str) -> None:
    """What holds no `{{` comes out as it is."""
    assert Template(text).render({}) == text


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('{{.Names}} {{.Label "k"}}', "web <k>"),
        ("{{json .}}", '{"Names":"web","Ports":"80-\\u003e90"}'),
        ("{{.Ports}}", "80->90"),
        ('{{printf "%T" .}}', "*formatter.ContainerContext"),
    ],
)
def test_rows(text: str, expected: str) -> None:
    row = {"Ports": "80->90", "Names": "web", "Label": lambda name: f"<{name}>"}
    assert Template(text).render_row(row, "formatter.ContainerContext") == expected


def test_a_row_has_no_other_fields() -> None:
    with pytest.raises(TemplateError) as refused:
        Template("{{.Nope}}").render_row({"A": 1}, "formatter.ContainerContext")
    assert refused.value.message == (
        'template: :1:2: executing "" at <.Nope>: can\'t evaluate field Nope in type *formatter.ContainerContext'
    )


def test_titles_pass_through_functions() -> None:
    template = Template('{{upper .ID}}\t{{join .Names ","}}\t{{json .X}}\t{{truncate .Image 3}}')
    titles = {"ID": "Container Id", "Names": "Names", "X": "x", "Image": "Image"}
    assert template.render(titles, headers=True) == "Container Id\tNames\tx\tImage"


def test_templates_may_call_themselves_but_not_for_ever() -> None:
    with pytest.raises(TemplateError, match="exceeded maximum template depth"):
        Template('{{define "a"}}{{template "a" .}}{{end}}{{template "a" .}}').render({})


@pytest.mark.parametrize("text", ["{{.__class__}}", "{{.Names.__class__}}", "{{(.Names).__len__}}", "{{$.format}}"])
def test_nothing_of_python_can_be_reached(text: str) -> None:
    with pytest.raises(TemplateError, match=r"no entry for key|can't evaluate field"):
        Template(text).render({"Names": "web"}, strict=True)


def test_compiled_templates_are_kept_for_the_user_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert Template("{{.A}}").render({"A": "1"}) == "1"
    kept = list((tmp_path / "buildtool" / "templates").iterdir())
    assert len(kept) == 1
    assert Store().find("{{.A}}", "") is not None
    assert Store().find("{{.B}}", "") is None
    kept[0].chmod(0o666)
    assert Store().find("{{.A}}", "") is None
    kept[0].chmod(0o600)
    kept[0].write_bytes(b"nonsense")
    assert Template("{{.A}}").render({"A": "2"}) == "2"


@pytest.mark.parametrize("number", ["1e400", "-1e400", "1e400i", "0x1p99999", "0x1p-99999999999999999999x"])
def test_numbers_that_are_too_large_are_refused(number: str) -> None:
    with pytest.raises(TemplateError, match=rf'^template: :1: .*"{re.escape(number)}"'):
        Template(f"{{{{{number}}}}}")


def test_integers_of_many_digits_are_refused() -> None:
    with pytest.raises(TemplateError, match="integer overflow"):
        Template("{{" + "9" * 5000 + "}}")


@pytest.mark.parametrize("depth", [25, 150, 3000])
@pytest.mark.parametrize(
    ("opening", "closing"),
    [("{{if .}}", "{{end}}"), ("{{range .}}", "{{end}}"), ("{{print (", ")}}"), ("{{else if .}}", "")],
)
def test_deep_templates_are_rendered_or_refused(opening: str, closing: str, depth: int) -> None:
    text = opening * depth + closing * depth
    if opening.startswith("{{print"):
        text = "{{print " + "(print " * depth + "1" + ")" * depth + "}}"
    if opening.startswith("{{else"):
        text = "{{if .}}" + opening * depth + "{{end}}"
    try:
        Template(text).render([1])
    except TemplateError as refused:
        assert "nested too deeply" in refused.message
