"""Builds in the CI of others: what the environment says, what images are called, what the job's page shows."""

from __future__ import annotations

import json
import shlex
from importlib import resources
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator

from buildtool.cli import credentials
from buildtool.cli.ci.environment import BRANCH, REQUEST, TAG, Job, read_job
from buildtool.cli.ci.login import logged_in
from buildtool.cli.ci.naming import cache_scopes, labels, slug, tags
from buildtool.cli.ci.page import Finding, Page, code_quality, summary, workflow_command
from buildtool.cli.main import run
from buildtool.errors import InvalidInput

SHA = "0123456789abcdef0123456789abcdef01234567"
GITHUB = {
    "GITHUB_ACTIONS": "true",
    "GITHUB_REF": "refs/heads/main",
    "GITHUB_SHA": SHA,
    "GITHUB_REPOSITORY": "Team/App",
    "GITHUB_SERVER_URL": "https://github.com",
    "GITHUB_TOKEN": "token",
    "GITHUB_ACTOR": "me",
}
GITLAB = {
    "GITLAB_CI": "true",
    "CI_COMMIT_SHA": SHA,
    "CI_COMMIT_BRANCH": "topic/x",
    "CI_DEFAULT_BRANCH": "main",
    "CI_PROJECT_URL": "https://gitlab.example/team/app",
    "CI_PROJECT_ID": "5",
    "CI_REGISTRY": "registry.example",
    "CI_REGISTRY_IMAGE": "registry.example/team/app",
    "CI_JOB_TOKEN": "secret",
}


def job(kind: str, ref: str, **more: Any) -> Job:
    return Job("github", kind, ref, commit=SHA, default_branch="main", repository="https://g/team/app", **more)


def event(tmp_path: Path, head: str) -> dict[str, str]:
    document = {
        "pull_request": {"head": {"sha": "f" * 40, "repo": {"full_name": head}}},
        "repository": {"default_branch": "trunk"},
    }
    (tmp_path / "event.json").write_text(json.dumps(document))
    return GITHUB | {
        "GITHUB_REF": "refs/pull/7/merge",
        "GITHUB_BASE_REF": "release",
        "GITHUB_EVENT_PATH": str(tmp_path / "event.json"),
    }


def test_a_branch_of_github() -> None:
    found = read_job(GITHUB)
    assert (found.kind, found.ref, found.commit, found.trusted) == (BRANCH, "main", SHA, True)
    assert (found.image, found.repository) == ("ghcr.io/team/app", "https://github.com/Team/App")
    assert found.logins == {"ghcr.io": ("me", "token")}


def test_a_pull_request_has_its_own_commit_and_is_trusted_unless_it_comes_from_a_fork(tmp_path: Path) -> None:
    found = read_job(event(tmp_path, "Team/App"))
    assert (found.kind, found.ref, found.commit, found.base) == (REQUEST, "7", "f" * 40, "release")
    assert found.trusted and found.default_branch == "trunk"
    assert not read_job(event(tmp_path, "stranger/App")).trusted


@pytest.mark.parametrize(
    ("more", "kind", "ref", "trusted"),
    [
        ({}, BRANCH, "topic/x", True),
        ({"CI_COMMIT_TAG": "v1.0.0", "CI_COMMIT_BRANCH": ""}, TAG, "v1.0.0", True),
        ({"CI_MERGE_REQUEST_IID": "9", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "5"}, REQUEST, "9", True),
        ({"CI_MERGE_REQUEST_IID": "9", "CI_MERGE_REQUEST_SOURCE_PROJECT_ID": "6"}, REQUEST, "9", False),
    ],
)
def test_jobs_of_gitlab(more: dict[str, str], kind: str, ref: str, trusted: bool) -> None:
    found = read_job(GITLAB | more)
    assert (found.kind, found.ref, found.trusted) == (kind, ref, trusted)
    assert found.logins == {"registry.example": ("gitlab-ci-token", "secret")}


@pytest.mark.parametrize(
    "environment", [{}, GITHUB | {"GITHUB_REF": ""}, {"GITLAB_CI": "true"}, GITHUB | {"GITHUB_REF": "refs/x/y"}]
)
def test_no_known_ci_is_told(environment: dict[str, str]) -> None:
    with pytest.raises(InvalidInput):
        read_job(environment)


@pytest.mark.parametrize(
    ("kind", "ref", "expected"),
    [
        (BRANCH, "main", ["main", "latest"]),
        (BRANCH, "topic/x y", ["topic-x-y"]),
        (REQUEST, "7", ["pr-7"]),
        (TAG, "v1.2.3", ["1.2.3", "1.2", "1", "latest"]),
        (TAG, "0.2.3", ["0.2.3", "0.2", "latest"]),
        (TAG, "v1.2.3-rc.1", ["1.2.3-rc.1"]),
        (TAG, "2026/spring", ["2026-spring", "latest"]),
    ],
)
def test_tags(kind: str, ref: str, expected: list[str]) -> None:
    assert tags(job(kind, ref)) == [*expected, "sha-0123456"]


def test_labels_have_no_time() -> None:
    assert labels(job(BRANCH, "main")) == {
        "org.opencontainers.image.source": "https://g/team/app",
        "org.opencontainers.image.revision": SHA,
        "org.opencontainers.image.title": "app",
        "org.opencontainers.image.version": "main",
    }


def test_a_request_reads_the_caches_of_branches_and_writes_its_own() -> None:
    assert cache_scopes(job(REQUEST, "7", base="release")) == ["request-7", "release", "main"]
    assert cache_scopes(job(BRANCH, "main")) == ["main"]
    assert cache_scopes(job(TAG, "v1")) == ["tags", "main"]
    branch = cache_scopes(job(BRANCH, "request-7"))[0]
    assert slug("a/../b") == "a-..-b" and branch != ""


def test_annotations_are_escaped() -> None:
    finding = Finding("error", "100%\nbad: x", "a,b:c", 3, 5)
    assert workflow_command(finding) == "::error file=a%2Cb%3Ac,line=3,col=5::100%25%0Abad: x"
    assert workflow_command(Finding("warning", "w")) == "::warning::w"


def test_a_failures_place_is_taken_from_its_message() -> None:
    found = Finding.of_failure("src/Buildfile:2:1: it failed\n  2 | RUN false")
    assert (found.file, found.line, found.column) == ("src/Buildfile", 2, 1)
    assert Finding.of_failure("no place").file == ""
    [entry] = json.loads(code_quality([found, Finding("error", "no place")]))
    assert entry["location"] == {"path": "src/Buildfile", "lines": {"begin": 2}} and entry["severity"] == "blocker"


def test_the_summary_tells_of_each_step() -> None:
    steps = [
        {"name": "FROM a", "status": "cached"},
        {"name": "RUN x | y `z`", "status": "done", "seconds": 1.26, "miss_reason": "file a|b changed"},
        {"name": "RUN bad", "status": "failed", "seconds": 0.1},
    ]
    layers = [{"CreatedBy": "ENV a", "Size": 0}, {"CreatedBy": "RUN b|c", "Size": 3000}, {"CreatedBy": "", "Size": 9}]
    text = summary("Image x", ["x:1"], "sha256:1", 2_000_000, steps, failure="bad", layers=layers)
    assert text.endswith("| Layer | Size |\n| --- | ---: |\n| `?` | 9B |\n| `RUN b\\|c` | 3kB |\n")
    assert "| `RUN x \\| y 'z'` | executed | 1.3 s | file a\\|b changed |" in text
    assert "1 of 3 steps from the cache, 2 executed." in text and "| Size | 2MB |" in text
    assert "**failed**" in text and "```\nbad\n```" in text


def test_logins_last_as_long_as_the_build(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path))
    (tmp_path / "config.json").write_text(json.dumps({"auths": {"have.example": {"auth": "bWU6bWluZQ=="}}}))
    with logged_in({"ci.example": ("u", "p"), "have.example": ("other", "x")}):
        assert credentials.find("ci.example")["password"] == "p"
        assert credentials.find("have.example")["password"] == "mine"
    assert credentials.find("ci.example") == {} and list(tmp_path.iterdir()) == [tmp_path / "config.json"]


def test_a_job_on_the_target_of_a_pull_request_is_one_for_the_request(tmp_path: Path) -> None:
    """It may have checked out what a stranger wrote: nothing of it is called latest."""
    environment = event(tmp_path, "stranger/app")
    document = json.loads((tmp_path / "event.json").read_text())
    document["pull_request"]["number"] = 7
    (tmp_path / "event.json").write_text(json.dumps(document))
    found = read_job(environment | {"GITHUB_REF": "refs/heads/trunk", "GITHUB_EVENT_NAME": "pull_request_target"})
    assert (found.kind, found.ref, found.trusted) == (REQUEST, "7", False)
    assert tags(found) == ["pr-7", f"sha-{'f' * 7}"]


@pytest.mark.parametrize(
    "words",
    [
        [],
        ["--branch", "release/#1", "--context", "some dir/it's: #1"],
        ["--image", "r.example:5000/a/b", "--platform", "linux/amd64,arm64", "--context", "{{ x }}"],
    ],
)
@pytest.mark.parametrize(("system", "schema"), [("github", "github-workflows"), ("gitlab", "gitlab-ci")])
def test_pipelines_are_what_the_published_schemas_ask_for(
    system: str, schema: str, words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["ci", "init", system, "--output", "-", *words]) == 0
    document = yaml.load(capsys.readouterr().out, Loader=Yaml12)
    folder = resources.files("check_jsonschema").joinpath("builtin_schemas/vendor")
    validator = Draft7Validator(json.loads(folder.joinpath(f"{schema}.json").read_text("utf-8")))
    assert [error.message for error in validator.iter_errors(document)] == []
    if system == "github":
        commands = [step["run"] for step in document["jobs"]["build"]["steps"] if "run" in step]
        emulators = [step for step in document["jobs"]["build"]["steps"] if "qemu" in step.get("uses", "")]
        assert len(emulators) == ("--platform" in words)
    else:
        commands = document["build-image"]["script"]
    told = shlex.split(commands[-1])
    assert told[:3] == ["buildtool", "ci", "build"]
    assert told[-1] == (words[words.index("--context") + 1] if "--context" in words else ".")
    assert ("linux/amd64,linux/arm64" in told) == ("--platform" in words)


class Yaml12(yaml.SafeLoader):
    """`on` is a word, as GitHub reads it."""


Yaml12.yaml_implicit_resolvers = {
    first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:bool"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


def test_files_are_named_as_they_are_in_the_repository(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    monkeypatch.chdir(tmp_path / "sub")
    page = Page("github", str(tmp_path))
    for file in ("Buildfile", f"{tmp_path}/other/Buildfile", "/elsewhere/Buildfile"):
        page.annotate(Finding("warning", "w", file, 1))
    shown = capsys.readouterr().err.splitlines()
    assert [line.partition(",")[0] for line in shown] == [
        "::warning file=sub/Buildfile",
        "::warning file=other/Buildfile",
        "::warning file=/elsewhere/Buildfile",
    ]


@pytest.mark.parametrize("system", ["github", "gitlab"])
def test_pipelines_are_yaml_and_not_overwritten(
    system: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run(["ci", "init", system, "--image", "r.example/x", "--branch", "trunk", "--context", "src"]) == 0
    path = Path(capsys.readouterr().out.strip())
    text = path.read_text()
    document = yaml.safe_load(text)
    assert "--image r.example/x src" in text and "trunk" in text
    jobs = document["jobs"] if system == "github" else {key: document[key] for key in document}
    assert len(jobs) == 1 and "image" not in jobs
    assert run(["ci", "init", system]) == 1 and "exists" in capsys.readouterr().err
    assert run(["ci", "init", system, "--force", "--branch", 'x"']) == 1
    assert "invalid --branch" in capsys.readouterr().err
    assert run(["ci", "init", system, "--force"]) == 0
    assert run(["ci", "init", "jenkins"]) == 125
