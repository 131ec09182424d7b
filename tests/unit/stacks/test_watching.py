"""`develop.watch`: which files count, and what has happened to them."""

from __future__ import annotations

from pathlib import Path

from buildtool.stacks.watching import Rule, Watcher, rules_of
from tests.unit.stacks.conftest import load_texts


def rule(folder: Path, **entry: object) -> Rule:
    return Rule("s", {"path": str(folder), "action": "sync", "target": "/t", **entry}, "")


def test_added_changed_and_removed_files_are_told_once(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b").write_text("1")
    watcher = Watcher([rule(tmp_path)])
    assert watcher.changes() == []
    (tmp_path / "a").write_text("22")
    (tmp_path / "sub" / "c").write_text("1")
    (tmp_path / "sub" / "b").unlink()
    ((_, changed, removed),) = watcher.changes()
    assert (sorted(changed), removed) == (["a", "sub/c"], ["sub/b"])
    assert watcher.changes() == []


def test_ignored_files_do_not_count(tmp_path: Path) -> None:
    (tmp_path / "node_modules").mkdir()
    watcher = Watcher([rule(tmp_path, ignore=["node_modules/", "*.log"])])
    for name in ("node_modules/x", "a.log", "kept"):
        (tmp_path / name).write_text("1")
    ((_, changed, _),) = watcher.changes()
    assert changed == ["kept"]


def test_only_included_files_count(tmp_path: Path) -> None:
    watcher = Watcher([rule(tmp_path, include=["*.py"])])
    for name in ("a.py", "b.txt"):
        (tmp_path / name).write_text("1")
    ((_, changed, _),) = watcher.changes()
    assert changed == ["a.py"]


def test_a_single_file_is_watched_as_itself(tmp_path: Path) -> None:
    (tmp_path / "package.json").write_text("1")
    watcher = Watcher([rule(tmp_path / "package.json")])
    (tmp_path / "package.json").write_text("22")
    ((_, changed, _),) = watcher.changes()
    assert changed == [""]


def test_the_ignore_file_of_the_build_context_counts(tmp_path: Path) -> None:
    (tmp_path / ".dockerignore").write_text("secret\n")
    text = f"services: {{s: {{build: {tmp_path}, develop: {{watch: [{{path: {tmp_path}, action: rebuild}}]}}}}}}"
    (found,) = rules_of(load_texts(text), ["s"])
    assert not found.wanted("secret") and found.wanted("other")
