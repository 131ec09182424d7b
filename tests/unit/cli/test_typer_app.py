"""Help and completion, generated from the table."""

from __future__ import annotations

import pytest

from buildtool.cli import table, typer_app
from buildtool.cli.main import run


@pytest.mark.parametrize("verb", sorted(table.TOP_LEVEL))
def test_every_command_has_help_with_its_flags(capsys: pytest.CaptureFixture[str], verb: str) -> None:
    command = table.load(table.TOP_LEVEL[verb])
    assert run([verb, "--help"]) == 0
    text = capsys.readouterr().out
    assert f"Usage: buildtool {verb}" in text
    assert command.help in " ".join(text.split())
    for flag in command.flags:
        assert flag.hidden or f"--{flag.name}" in text


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_the_list_of_commands(capsys: pytest.CaptureFixture[str], words: list[str]) -> None:
    assert run(words) == 0
    text = capsys.readouterr().out
    for word in ("run", "build", "container", "Manage images"):
        assert word in text


@pytest.mark.parametrize("group", sorted(table.GROUPS))
def test_bare_groups_show_their_commands(capsys: pytest.CaptureFixture[str], group: str) -> None:
    assert run([group]) == 0
    text = capsys.readouterr().out
    for verb in table.GROUPS[group]:
        assert verb in table.ALIASES or f"  {verb} " in text


def complete(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, words: str) -> list[str]:
    monkeypatch.setenv("_BUILDTOOL_COMPLETE", "complete_bash")
    monkeypatch.setenv("COMP_WORDS", words)
    monkeypatch.setenv("COMP_CWORD", str(len(words.split(" ")) - 1))
    run([])
    return capsys.readouterr().out.split()


def test_completion_knows_verbs_flags_and_names(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert sorted(complete(capsys, monkeypatch, "buildtool ima"), reverse=True) == ["images", "image"]
    assert "--no-trunc" in complete(capsys, monkeypatch, "buildtool ps --no")
    assert complete(capsys, monkeypatch, "buildtool image boot") == ["bootstrap"]
    monkeypatch.setattr(typer_app, "known_names", lambda kind: [f"{kind}-web", "other"])
    assert complete(capsys, monkeypatch, "buildtool logs cont") == ["containers-web"]


def test_the_app_runs_commands_too(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Whoever embeds the Typer app gets the same handlers with the same values."""
    monkeypatch.setenv("BUILDTOOL_HOST", "unix:///none.sock")
    monkeypatch.setenv("BUILDTOOL_AUTOSTART", "0")
    assert typer_app.run_typer(["run", "--pull", "sometimes", "busybox", "ls", "-l"]) == 125
    assert "invalid pull option: 'sometimes'" in capsys.readouterr().err


def test_completion_can_be_shown(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION", "1")
    assert run(["--show-completion", "bash"]) == 0
    assert "_BUILDTOOL_COMPLETE=complete_bash" in capsys.readouterr().out
