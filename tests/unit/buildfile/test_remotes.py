"""What URLs mean as sources."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from buildtool.buildfile.remotes import GitUrl, file_name, is_remote, parse_git, without_secrets
from buildtool.errors import InvalidInput


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("https://example.com/", None),
        ("https://example.com/foo", None),
        ("https://example.com/foo.git/", None),
        ("https://example.com/foo.git.bar", None),
        ("custom.xyz/moby/buildkit.git", None),
        ("./x.git", None),
        ("file:///x.git", None),
        ("https://example.com/foo.git", GitUrl("https://example.com/foo.git")),
        ("https://u:p@example.com/foo.git", GitUrl("https://u:p@example.com/foo.git")),
        ("https://example.com/foo.git#release/1.2", GitUrl("https://example.com/foo.git", "release/1.2")),
        ("https://example.com/f.git#a/b:c/d", GitUrl("https://example.com/f.git", "a/b", "c/d")),
        ("https://example.com/f.git#:c", GitUrl("https://example.com/f.git", "", "c")),
        ("git://example.com/foo", GitUrl("git://example.com/foo")),
        ("ssh://git@example.com:22/foo/bar.git#x", GitUrl("ssh://git@example.com:22/foo/bar.git", "x")),
        ("git@example.com:foo/bar", GitUrl("git@example.com:foo/bar")),
        ("git@example.com:foo/bar.git#x:y", GitUrl("git@example.com:foo/bar.git", "x", "y")),
        ("other@example.com:foo.git?tag=v1", GitUrl("other@example.com:foo.git", "refs/tags/v1")),
        ("github.com/moby/buildkit#main", GitUrl("https://github.com/moby/buildkit", "main")),
        (
            "https://h/f.git?branch=b&subdir=d&checksum=0123456789&keep-git-dir=1&submodules=false",
            GitUrl("https://h/f.git", "refs/heads/b", "d", "0123456789", True, False),
        ),
    ],
)
def test_git_urls(text: str, meant: GitUrl | None) -> None:
    assert parse_git(text) == meant


def test_the_short_form_of_github_is_a_path_for_add() -> None:
    assert parse_git("github.com/moby/buildkit", short=False) is None
    assert is_remote("github.com/moby/buildkit")


@pytest.mark.parametrize(
    "text",
    [
        "https://h/f.git#-x",
        "https://h/f.git#a..b",
        "https://h/f.git#:../x",
        "https://h/f.git#a?b=c",
        "https://h/f.git?tag=a&branch=b",
        "https://h/f.git?tag=a#b",
        "https://h/f.git?unknown=1",
        "https://h/f.git?checksum=xyz",
        "ssh:///f.git",
    ],
)
def test_git_urls_that_are_wrong(text: str) -> None:
    with pytest.raises(InvalidInput):
        parse_git(text)


@given(st.text(max_size=60), st.sampled_from(["", "https://", "ssh://", "git@h:", "git://", "github.com/"]))
def test_any_text_is_a_git_url_or_not_or_refused(text: str, prefix: str) -> None:
    """Nothing but InvalidInput is raised, and no ref can be taken for an option or a way out."""
    try:
        found = parse_git(prefix + text)
    except InvalidInput:
        return
    if found is not None:
        assert not found.ref.startswith("-")
        assert ".." not in found.subdir.split("/")
        assert not found.remote.startswith("-")


def test_names_of_downloads() -> None:
    assert [file_name(f"http://h{path}") for path in ("/a/b.txt?x#y", "/", "", "/a/", "/%C3%A9", "/..")] == [
        "b.txt", "__unnamed__", "__unnamed__", "a", "é", "__unnamed__",
    ]  # fmt: skip


def test_passwords_are_not_shown() -> None:
    assert without_secrets("https://u:p@h/x?y#z") == "https://u:xxxxx@h/x?y#z"
    assert without_secrets("git@h:x") == "git@h:x"
