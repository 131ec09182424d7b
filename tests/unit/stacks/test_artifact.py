"""A stack as an artifact: what its files become, and what is made of the layers again."""

from __future__ import annotations

import json
from textwrap import dedent
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.errors import Corrupt, InvalidInput
from buildtool.stacks.artifact import ENV_FILE, FILE, Part, layers_of, manifest, parts_of, unpacked
from tests.unit.stacks.conftest import Texts, load_texts

TEXT = """
# stays as it is
name: app
services:
  web:
    image: w
    env_file: ["${DIR:-env}/a.env", {path: 'b.env', required: false}]   # two
    extends: {file: base/base.yaml, service: b}
  db: {image: d, env_file: [{path: b.env, required: false}]}
"""
FILES = {
    "/p/compose.yaml": TEXT,
    "/p/base/base.yaml": "services: {b: {command: x, env_file: own.env, extends: {file: ../deep.yaml, service: c}}}",
    "/p/deep.yaml": "services: {c: {user: '1'}}",
    "/p/env/a.env": "A=1",
    "/p/base/own.env": "B=2",
}


def parts(text: str = TEXT, *, with_env: bool = True, **files: str) -> list[Part]:
    everything = FILES | {"/p/compose.yaml": text} | files
    project = load_texts(text, files=everything)
    return parts_of(project, Texts(everything), with_env=with_env)


def test_names_of_other_files_are_written_into_the_text_and_nothing_else_changes() -> None:
    first, base, deep, *envs = parts()
    assert [part.media_type for part in (first, base, deep, *envs)] == [FILE] * 3 + [ENV_FILE] * 2
    assert [part.extends for part in (first, base, deep)] == [False, True, True]
    text = first.content.decode()
    assert base.name in text and "base/base.yaml" not in text and "# stays as it is" in text and "# two" in text
    assert deep.name in base.content.decode()
    assert {part.content for part in envs} == {b"A=1", b"B=2"}
    assert all(part.name in text + base.content.decode() for part in envs)


def test_without_with_env_no_env_file_goes_along() -> None:
    assert {part.media_type for part in parts(with_env=False)} == {FILE}


def test_what_is_published_is_the_stack_again() -> None:
    made = parts()
    layers = layers_of(json.loads(manifest(made)), "x")
    found = unpacked(list(zip(layers, [part.content for part in made], strict=True)), "x")
    again = load_texts(found["compose.yaml"].decode(), files={name: data.decode() for name, data in found.items()})
    before = load_texts(TEXT, files=FILES)
    for name in ("web", "db"):
        assert again.digest("services", name) == before.digest("services", name)


def test_files_that_are_merged_are_documents_of_one() -> None:
    layers: list[tuple[dict[str, Any], bytes]] = [
        (Part(FILE, "a.yaml", b"a: 1").descriptor(), b"a: 1"),
        (Part(FILE, "image-digests.yaml", b"b: 2").descriptor(), b"b: 2"),
    ]
    assert unpacked(layers, "x") == {"compose.yaml": b"a: 1\n---\nb: 2"}


def test_the_manifest_is_that_of_docker_compose() -> None:
    document = json.loads(manifest([Part(FILE, "compose.yaml", b"x")]))
    assert document["artifactType"] == "application/vnd.docker.compose.project"
    assert document["config"]["mediaType"] == "application/vnd.oci.empty.v1+json"
    assert document["layers"][0]["annotations"] == {"com.docker.compose.file": "compose.yaml"}
    old = json.loads(manifest([], old=True))
    assert "artifactType" not in old and layers_of(old, "x") == []


def test_an_image_is_no_stack() -> None:
    with pytest.raises(InvalidInput, match=r"img is not a stack, but application/vnd.oci.image.config"):
        layers_of({"config": {"mediaType": "application/vnd.oci.image.config.v1+json"}}, "img")


@pytest.mark.parametrize("name", ["", "../x", "a/b", "/etc/passwd", ".", "..", "compose.yaml", "a\0b"])
def test_names_of_layers_do_not_lead_elsewhere(name: str) -> None:
    layers = [(Part(FILE, "compose.yaml", b"").descriptor(), b""), (Part(ENV_FILE, name, b"x").descriptor(), b"x")]
    with pytest.raises(Corrupt):
        unpacked(layers, "x")


def test_included_files_cannot_be_published() -> None:
    with pytest.raises(InvalidInput, match="includes local files"):
        parts("include: [other.yaml]\nservices: {a: {image: x}}", **{"/p/other.yaml": "services: {}"})


@given(st.lists(st.sampled_from(["'env/a.env'", '"env/a.env"', "env/a.env", "*name"]), min_size=1, max_size=3))
def test_every_way_to_write_a_name_is_found(names: list[str]) -> None:
    text = dedent(
        f"""
        x-name: &name env/a.env
        services: {{s: {{image: x, env_file: [{", ".join(names)}]}}}}
        """
    )
    first, env = parts(text)
    assert "env/a.env" not in first.content.decode().partition("services")[2] and env.content == b"A=1"
