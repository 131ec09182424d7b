"""What makes an image of a build section stale: files of its contexts, its Buildfile, its arguments."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from buildtool.stacks.built import Built, begin, stale
from buildtool.stacks.model import Project
from tests.unit.stacks.conftest import load_texts


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context with a Dockerfile, a file, and one that is left out."""
    folder = tmp_path / "context"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "app.py").write_text("1")
    (folder / "Dockerfile").write_text("FROM x")
    (folder / "left").mkdir()
    (folder / "left" / "out").write_text("1")
    (folder / ".dockerignore").write_text("left\n")
    return folder


def service(folder: Path, **build: Any) -> dict[str, Any]:
    return {"build": {"context": str(folder), "dockerfile": "Dockerfile", **build}}


def test_nothing_has_changed_when_nothing_was_touched(context: Path) -> None:
    assert begin(service(context)).difference(service(context)) == ""


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda at: (at / "src" / "app.py").write_text("22"), "context changed: src/app.py"),
        (lambda at: (at / "src" / "app.py").unlink(), "context changed: src/app.py"),
        (lambda at: (at / "src" / "app.py").chmod(0o755), "context changed: src/app.py"),
        (lambda at: (at / "src" / "new.py").write_text(""), "context changed: src/new.py"),
        (lambda at: (at / "empty").mkdir(), "context changed: empty"),
        (lambda at: os.symlink("src", at / "link"), "context changed: link"),
        (lambda at: (at / "Dockerfile").write_text("FROM yy"), "Dockerfile changed"),
        (lambda at: (at / "Dockerfile").unlink(), "Dockerfile appeared or is gone"),
        (lambda at: (at / ".dockerignore").write_text(""), "context changed: .dockerignore and 1 more"),
        (lambda at: (at / "left" / "out").write_text("22"), ""),
        (lambda at: (at / "left" / "new").write_text("22"), ""),
        (
            lambda at: (at / "Dockerfile.dockerignore").write_text("src"),
            "context changed: Dockerfile.dockerignore and 2 more",
        ),
    ],
)
def test_a_change_of_the_files_is_named(context: Path, change: Any, words: str) -> None:
    record = begin(service(context))
    change(context)
    assert record.difference(service(context)) == words


@pytest.mark.parametrize(
    ("before", "now", "words"),
    [
        ({"args": {"A": "1"}}, {"args": {"A": "2"}}, "build.args changed"),
        ({}, {"target": "x"}, "build.target changed"),
        ({"labels": {"a": "b"}}, {}, "build.labels changed"),
        ({}, {"cache_from": ["type=local,src=x"], "no_cache": True, "pull": True}, ""),
        ({"args": {}}, {"args": None}, ""),
    ],
)
def test_a_change_of_the_section_is_named(context: Path, before: Any, now: Any, words: str) -> None:
    assert begin(service(context, **before)).difference(service(context, **now)) == words


def test_other_contexts_and_buildfiles_elsewhere_count(context: Path, tmp_path: Path) -> None:
    more, file = tmp_path / "more", tmp_path / "elsewhere.Dockerfile"
    more.mkdir()
    file.write_text("FROM x")
    section = service(context, dockerfile=str(file), additional_contexts={"m": str(more), "i": "docker-image://x"})
    record = begin(section)
    (more / "a").write_text("")
    assert record.difference(section) == "context m changed: a"
    file.write_text("FROM yy")
    assert record.difference(section) == f"{file} changed"


def test_a_context_of_another_place_has_no_files(tmp_path: Path) -> None:
    section = {"build": {"context": "https://example.org/x.git", "dockerfile": "Dockerfile"}}
    assert begin(section).difference(section) == ""


def project(folder: Path) -> Project:
    return load_texts(
        f"""
        services:
          base: {{build: {{context: {folder}}}}}
          above: {{build: {{dockerfile_inline: FROM b, context: /none, additional_contexts: {{b: "service:base"}}}}}}
          other: {{build: {{dockerfile_inline: FROM b, context: /none}}}}
        """
    )


def test_what_takes_files_from_a_stale_image_is_stale_too(context: Path, tmp_path: Path) -> None:
    stack, built = project(context), Built(project(context), "unix://x", str(tmp_path / "builds"))
    images = {name: f"sha256:{name}" for name in stack.services}
    for name, image in images.items():
        built.keep(name, begin(stack.services[name]), image)
    assert stale(stack, images, built) == {}
    (context / "src" / "app.py").write_text("22")
    why = {"base": "context changed: src/app.py", "above": "the image of base is built anew"}
    assert stale(stack, images, built) == why
    assert stale(stack, images | {"base": "sha256:by hand"}, built) == {}


def test_records_are_the_users_own_hold_no_values_and_may_be_anything(context: Path, tmp_path: Path) -> None:
    stack, folder = project(context), tmp_path / "builds"
    section = stack.services["base"]
    section["build"]["args"] = {"TOKEN": "very secret"}
    built = Built(stack, "unix://x", str(folder))
    built.keep("base", begin(section), "sha256:1")
    (file,) = folder.iterdir()
    assert "very secret" not in file.read_text() and file.stat().st_mode & 0o777 == 0o600
    assert json.loads(file.read_text())["image"] == "sha256:1"
    assert Built(stack, "unix://y", str(folder)).of("base", "sha256:1") is None
    file.write_text("[1]")
    assert built.of("base", "sha256:1") is None
    Built(stack, "unix://x", "/proc/nowhere").keep("base", begin(section), "sha256:1")
