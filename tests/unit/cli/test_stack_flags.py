"""Every verb of docker compose, and every flag of each, is a verb and a flag here."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from buildtool.cli import table
from buildtool.cli.parse import Flag, parse_flags

Flags = dict[str, tuple[str, bool]]


def recorded() -> dict[str, Flags]:
    """Of each verb (`compose`: before the verb) the flags: their short forms and whether they take values."""
    text = (Path(__file__).parent / "docker_compose_flags.txt").read_text().replace("\n  ", " ")
    verbs = {}
    for line in text.splitlines()[1:]:
        verb, _, flags = line.partition(":")
        parts = [word.rstrip("=").partition(",") for word in flags.split()]
        valued = [word.endswith("=") for word in flags.split()]
        verbs[verb] = {name: (short, takes) for (name, _, short), takes in zip(parts, valued, strict=True)}
    return verbs


RECORDED = recorded()


def assert_has(ours: tuple[Flag, ...], theirs: Flags) -> None:
    known = {flag.name: flag for flag in ours}
    shorts = {flag.short for flag in ours}
    assert [name for name in theirs if name not in known] == []
    for name, (short, takes_value) in theirs.items():
        assert short in shorts
        assert (known[name].kind not in ("bool", "absent")) == takes_value, name


@pytest.mark.parametrize("verb", [verb for verb in RECORDED if verb != "compose"])
def test_a_verb_has_its_flags(verb: str) -> None:
    for group in ("compose", "stack"):
        if (group, verb) != ("stack", "export"):  # which is ours: manifests
            assert_has(table.load(table.GROUPS[group][verb]).flags, RECORDED[verb])


def test_flags_before_the_verb() -> None:
    assert_has(table.group_flags("compose"), RECORDED["compose"])


@pytest.mark.parametrize(
    ("verb", "words"),
    [
        ("build", "--compress --force-rm --no-rm --parallel"),
        ("pull", "--parallel --no-parallel"),
        ("rm", "-a"),
        ("down", "--volume"),
        ("exec", "-it web sh"),
        ("exec", "--no-TTY -T --no-tty web sh"),
        ("run", "-it web sh"),
    ],
)
def test_words_that_docker_compose_takes_without_telling(verb: str, words: str) -> None:
    command = table.load(f"compose {verb}")
    assert parse_flags(command.flags, words.split(), interspersed=command.interspersed).values


def told(*words: str) -> subprocess.CompletedProcess[str]:
    program = str(Path(sys.executable).with_name("buildtool"))
    return subprocess.run([program, *words], capture_output=True, text=True, check=False)


def test_old_words_before_the_verb(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}")
    assert told("compose", "--version").stdout == told("compose", "version").stdout
    done = told("compose", "--verbose", "--no-ansi", "--workdir", str(tmp_path), "config", "--services")
    assert (done.returncode, done.stdout) == (0, "a\n")


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        ("alpha viz", "stack graph"),
        ("alpha publish x", "compose publish"),
        ("bridge transformations list", "stack export"),
        ("bridge convert -t x", "stack export"),
        ("confg", "config"),
    ],
)
def test_what_is_not_offered_names_what_is(words: str, remedy: str) -> None:
    done = told("compose", *words.split())
    assert done.returncode == 1 and remedy in done.stderr


def test_bridge_convert_writes_manifests(tmp_path: Path) -> None:
    (tmp_path / "compose.yaml").write_text("services: {a: {image: x}}")
    done = told("compose", "--project-directory", str(tmp_path), "bridge", "convert", "-o", str(tmp_path / "k8s"))
    assert done.returncode == 0
    assert {"a-deployment.yaml", "kustomization.yaml"} <= {path.name for path in (tmp_path / "k8s").iterdir()}
