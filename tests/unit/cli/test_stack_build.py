"""What of a build section goes to `build`, and what is told to have no effect."""

from __future__ import annotations

import pytest

from buildtool.cli import table
from buildtool.cli.parse import parse_flags
from buildtool.cli.stack_build import BuildOptions, build_words, ignored, with_contexts
from tests.unit.stacks.conftest import load_texts

FLAGS = table.load("build").flags


def parsed(section: str, options: BuildOptions | None = None) -> tuple[dict[str, object], list[str]]:
    """The flags of `build`, and what is told, for a build section."""
    project = load_texts(f"services: {{s: {{build: {{context: ., {section}}}}}}}\nsecrets: {{k: {{file: ./k}}}}")
    service = project.services["s"]
    words = build_words(project, "s", service, options or BuildOptions())
    return parse_flags(FLAGS, words, interspersed=True).values, ignored(service, options or BuildOptions())


@pytest.mark.parametrize(
    ("section", "flag", "value"),
    [
        ("args: {A: 1}", "build-arg", ["A=1"]),
        ("target: t", "target", "t"),
        ("tags: ['x:1', 'y:2']", "tag", ["p-s", "x:1", "y:2"]),
        ("labels: {a: b}", "label", ["a=b"]),
        ("no_cache: true", "no-cache", True),
        ("no_cache_filter: [a, b]", "no-cache-filter", ["a", "b"]),
        ("pull: true", "pull", True),
        ("network: host", "network", "host"),
        ("platforms: [linux/s390x]", "platform", ["linux/s390x"]),
        ("additional_contexts: {d: ./d, i: 'docker-image://b'}", "build-context", ["d=/p/d", "i=docker-image://b"]),
        ("secrets: [k]", "secret", ["id=k,src=/p/k"]),
        ("ssh: [default, key=/k]", "ssh", ["default", "key=/k"]),
        ("shm_size: 8m", "shm-size", 8 << 20),
        ("ulimits: {nofile: {soft: 1, hard: 2}}", "ulimit", ["nofile=1:2"]),
        ("extra_hosts: ['a=1.2.3.4']", "add-host", ["a:1.2.3.4"]),
        ("entitlements: [network.host]", "allow", ["network.host"]),
    ],
)
def test_attribute(section: str, flag: str, value: object) -> None:
    values, told = parsed(section)
    assert values[flag] == value
    assert told == []


@pytest.mark.parametrize(
    ("section", "key"),
    [
        ("cache_from: [a, 'type=registry,ref=b']", "cache_from"),
        ("cache_to: ['type=inline']", "cache_to"),
        ("provenance: mode=max", "provenance"),
        ("sbom: true", "sbom"),
    ],
)
def test_what_build_may_lack_is_passed_on_or_told(section: str, key: str) -> None:
    """A stack that asks for a remote cache can be built without one; nothing is dropped in silence."""
    values, told = parsed(section)
    passed = key.replace("_", "-") in values
    assert passed != any(text.startswith(f"{key} is ignored") for text in told)


def test_caches_of_unknown_types_are_left_out_and_told() -> None:
    values, told = parsed("cache_from: ['type=gha,scope=x', 'type=registry,ref=r/x']")
    assert values["cache-from"] == ["type=registry,ref=r/x"]
    assert told == ["cache_from type=gha,scope=x is ignored: there is no such cache"]


def test_flags_of_the_command_beat_the_section() -> None:
    values, _ = parsed("args: {A: 1}, no_cache: false", BuildOptions(arguments=["A=2"], no_cache=True, ssh="default"))
    assert (values["build-arg"], values["no-cache"], values["ssh"]) == (["A=1", "A=2"], True, ["default"])


def test_services_whose_images_are_contexts_are_built_too_even_when_not_active() -> None:
    project = load_texts(
        """
        services:
          a: {build: {context: ., additional_contexts: {x: "service:b"}}}
          b: {build: {context: ., additional_contexts: {x: "service:c"}}, profiles: [never]}
          c: {build: ., profiles: [never]}
          d: {image: x}
        """
    )
    assert with_contexts(project, ["a", "d"]) == ["a", "b", "c"]
