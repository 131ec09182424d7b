"""`compose config` and its flags: no daemon is asked."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

TEXT = """
name: p
services:
  web: {image: "w:${TAG:-1}", environment: [OUTSIDE], env_file: [a.env], volumes: ["./d:/d", "v:/v"], networks: [n]}
  off: {image: o, profiles: [extra]}
  built: {build: .}
networks: {n: {}, unused: {}}
volumes: {v: {}}
models: {m: {model: some/model}}
x-top: {a: 1}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "compose.yaml").write_text(TEXT)
    (tmp_path / "a.env").write_text("FROM_FILE=1\n")
    return tmp_path


def config(folder: Path, *words: str, code: int = 0, **env: str) -> str:
    program = str(Path(sys.executable).with_name("buildtool"))
    done = subprocess.run(
        [program, "compose", "config", *words],
        cwd=folder, env={**os.environ, **env}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == code, done.stderr
    return done.stdout or done.stderr


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ("--services", "built\nweb\n"),
        ("--services --profile extra", "built\noff\nweb\n"),
        ("--images", "p-built\nw:1\n"),
        ("--volumes", "v\n"),
        ("--networks", "default\nn\n"),
        ("--profiles", "extra\n"),
        ("--quiet", ""),
        ("--services web", "web\n"),
    ],
)
def test_lists(folder: Path, words: str, expected: str) -> None:
    assert config(folder, *words.split()) == expected


def test_yaml_and_json_say_the_same(folder: Path) -> None:
    import yaml

    document = json.loads(config(folder, "--format", "json"))
    printed = yaml.safe_load(config(folder))
    assert document["services"]["web"]["image"] == printed["services"]["web"]["image"] == "w:1"
    assert set(document["services"]) == set(printed["services"]) == {"web", "built"}
    assert document["x-top"] == printed["x-top"] == {"a": 1}
    assert config(folder, "--format", "toml", code=125)


@pytest.mark.parametrize(
    ("words", "has", "has_not"),
    [
        ("--no-interpolate", "image: w:${TAG:-1}", "image: w:1"),
        ("--no-path-resolution", "source: ./d", "source: /"),
        ("--no-normalize", "image: w:1", "name: p_n"),
        ("--no-env-resolution", "env_file", "FROM_FILE"),
        ("--all-resources", "unused", "nothing"),
        ("", "FROM_FILE", "unused"),
    ],
)
def test_steps_that_are_left_out(folder: Path, words: str, has: str, has_not: str) -> None:
    printed = config(folder, *words.split())
    assert has in printed and has_not not in printed


def test_no_consistency_prints_what_does_not_fit_together(folder: Path) -> None:
    (folder / "compose.yaml").write_text("services: {a: {image: x, networks: [nowhere]}}")
    assert "undefined network nowhere" in config(folder, code=1)
    assert "nowhere" in config(folder, "--no-consistency")


def test_variables_and_environment(folder: Path) -> None:
    lines = config(folder, "--variables").splitlines()
    assert lines[0].split() == ["NAME", "REQUIRED", "DEFAULT", "VALUE", "ALTERNATE", "VALUE"]
    assert lines[1].split() == ["TAG", "false", "1"]
    shown = config(folder, "--environment", OUTSIDE="there").splitlines()
    assert "OUTSIDE=there" in shown and "COMPOSE_PROJECT_NAME=p" in shown


def test_hashes_are_of_services(folder: Path) -> None:
    every = dict(line.split() for line in config(folder, "--hash", "*").splitlines())
    assert set(every) == {"web", "built"} and all(len(digest) == 64 for digest in every.values())
    assert config(folder, "--hash", "web") == f"web {every['web']}\n"
    assert "no such service: nobody" in config(folder, "--hash", "nobody", code=1)


def test_it_is_written_into_a_file(folder: Path) -> None:
    assert config(folder, "-o", "out.yaml", "--services") == ""
    assert (folder / "out.yaml").read_text() == "built\nweb\n"


def test_switches_of_the_environment(folder: Path) -> None:
    (folder / ".env").write_text("TAG=dot\n")
    (folder / "other.env").write_text("TAG=other\n")
    assert "w:dot" in config(folder, "--images")
    assert "w:1" in config(folder, "--images", COMPOSE_DISABLE_ENV_FILE="1")
    assert "w:other" in config(folder, "--images", COMPOSE_ENV_FILES="other.env")
    assert "off" in config(folder, "--services", COMPOSE_PROFILES="extra")
    (folder / "two.yaml").write_text("services: {two: {image: x}}")
    files = {"COMPOSE_FILE": "compose.yaml:two.yaml"}
    assert config(folder, "--services", **files) == "built\ntwo\nweb\n"
    assert "name: other" in config(folder, COMPOSE_PROJECT_NAME="other")


def test_a_missing_env_file_ends_with_14(folder: Path) -> None:
    (folder / "a.env").unlink()
    assert "not found" in config(folder, code=14)
