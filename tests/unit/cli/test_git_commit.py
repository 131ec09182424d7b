"""The time of the commit that a context is checked out at."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from buildtool.cli import git_commit
from buildtool.cli.build_attest import git_facts
from buildtool.cli.git_commit import commit_time

ENVIRONMENT = {
    **{name: value for name, value in os.environ.items() if not name.startswith("GIT_")},
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_AUTHOR_DATE": "@1700000000 +0200",
    "GIT_COMMITTER_DATE": "@1750000000 +0200",
}


def git(directory: Path, *words: str) -> None:
    identity = ["-c", "user.name=A", "-c", "user.email=a@b.c"]
    subprocess.run(["git", *identity, *words], cwd=directory, env=ENVIRONMENT, check=True, capture_output=True)


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    path = tmp_path / "work"
    (path / "sub").mkdir(parents=True)
    (path / "sub" / "file").write_text("1")
    git(path, "init", "-q", "-b", "main")
    git(path, "add", ".")
    git(path, "commit", "-qm", "first")
    return path


def test_the_time_is_the_commits(repository: Path) -> None:
    assert commit_time(str(repository)) == commit_time(str(repository / "sub")) == 1_750_000_000


def test_a_loose_commit_is_read_without_git(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(git_commit, "run_git", lambda *words: pytest.fail("git was started"))
    assert commit_time(str(repository)) == 1_750_000_000
    git(repository, "checkout", "-q", "--detach")
    assert commit_time(str(repository)) == 1_750_000_000


def test_packed_repositories_and_linked_trees(repository: Path, tmp_path: Path) -> None:
    git(repository, "gc", "-q")
    assert commit_time(str(repository)) == 1_750_000_000
    git(repository, "worktree", "add", "-q", "--detach", str(tmp_path / "linked"))
    assert commit_time(str(tmp_path / "linked")) == 1_750_000_000


def test_no_commit_no_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert commit_time(str(tmp_path)) is None
    git(tmp_path, "init", "-q")
    assert commit_time(str(tmp_path)) is None
    monkeypatch.setenv("PATH", "/nowhere")
    assert commit_time(str(tmp_path)) is None


def test_what_is_known_of_a_repository(repository: Path) -> None:
    git(repository, "remote", "add", "origin", "https://me:swordfish@example.com/a.git")
    facts = git_facts(str(repository))
    assert facts["source"] == "https://example.com/a.git" and len(facts["revision"]) == 40
    (repository / "sub" / "file").write_text("2")
    assert git_facts(str(repository)) == {**facts, "revision": f"{facts['revision']}-dirty"}
    assert git_facts("/") == {}
