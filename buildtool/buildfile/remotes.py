"""What a URL means as a source of files: a git repository with a ref and a directory in it, or an http(s) file.

Source: ../shared/reference/build.md, tables 1.2 (ADD) and 1.5; git URLs as BuildKit takes them, fragment and query.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit, urlunsplit

from buildtool.errors import InvalidInput

_SCP = re.compile(
    r"(?P<user>[\w.-]+)@(?P<host>[\w.-]+):(?P<path>[^/#?][^#?]*)(?:\?(?P<query>[^#]*))?(?:#(?P<rest>.*))?"
)
_SCHEMES = ("http", "https", "ssh", "git")
_TRUTH = {"": True, "1": True, "true": True, "0": False, "false": False}
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")


class GitUrl(NamedTuple):
    """A repository, and what of it: `ref` is a branch, tag, full ref or commit ("": the default branch).

    `commit` is (the beginning of) the commit it has to be. `keep_git_dir` and `submodules` are None when the URL does
    not say.
    """

    remote: str
    ref: str = ""
    subdir: str = ""
    commit: str = ""
    keep_git_dir: bool | None = None
    submodules: bool | None = None


def is_http(text: str) -> bool:
    """Whether this is an http(s) URL (which may still be a git one)."""
    return text.startswith(("http://", "https://"))


def is_remote(text: str) -> bool:
    """Whether a context argument is a URL of any kind."""
    return is_http(text) or parse_git(text) is not None


def parse_git(text: str, *, short: bool = True) -> GitUrl | None:
    """The repository a text names, None when it is no git URL. Raises InvalidInput for one that is wrong.

    http(s) counts only when the path ends with `.git`. With `short`, `github.com/…` is one as well (for contexts;
    ADD takes it for a path).
    """
    if short and text.startswith("github.com/"):
        text = f"https://{text}"
        lax = True
    else:
        lax = False
    match = _SCP.fullmatch(text)
    if match is not None and "://" not in text:
        remote = f"{match['user']}@{match['host']}:{match['path']}"
        return _refine(text, remote, match["query"] or "", match["rest"] or "")
    scheme = text.partition("://")[0].lower()
    if scheme not in _SCHEMES or "://" not in text:
        return None
    try:
        parts = urlsplit(text)
        host = parts.hostname
    except ValueError:
        return None
    if scheme in ("http", "https") and not lax and not parts.path.endswith(".git"):
        return None
    if not host or not parts.path.strip("/"):
        raise InvalidInput(f"invalid git URL: {text}", hint="write it like https://HOST/PATH.git#REF:DIRECTORY")
    remote = urlunsplit((scheme, parts.netloc, parts.path, "", ""))
    return _refine(text, remote, parts.query, parts.fragment)


def _refine(text: str, remote: str, query: str, fragment: str) -> GitUrl:
    ref, _, subdir = unquote(fragment).partition(":")
    commit, keep, submodules = "", None, None
    named = ""
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in ("ref", "branch", "tag"):
            full = {"branch": f"refs/heads/{value}", "tag": f"refs/tags/{value}"}.get(name, value)
            if fragment or named not in ("", full):
                raise InvalidInput(f"{text}: the ref is given twice", hint="give one of #REF, ref, branch and tag")
            ref = named = full
        elif name == "subdir":
            if subdir:
                raise InvalidInput(f"{text}: the directory is given twice")
            subdir = value
        elif name in ("checksum", "commit"):
            if commit not in ("", value):
                raise InvalidInput(f"{text}: checksum and commit differ")
            commit = value
        elif name in ("keep-git-dir", "submodules") and value.lower() in _TRUTH:
            if name == "submodules":
                submodules = _TRUTH[value.lower()]
            else:
                keep = _TRUTH[value.lower()]
        else:
            raise InvalidInput(
                f"{text}: unexpected query {name}={value}",
                hint="there are ref, branch, tag, subdir, checksum, commit, keep-git-dir and submodules",
            )
    check_ref(ref, text)
    if commit and not _COMMIT.fullmatch(commit):
        raise InvalidInput(
            f"{text}: {commit!r} is no commit", hint="a checksum is (the beginning of) a commit's hash"
        )
    parts = [part for part in subdir.split("/") if part not in ("", ".")]
    if ".." in parts:
        raise InvalidInput(f"{text}: the directory {subdir!r} leads out of the repository")
    return GitUrl(remote, ref, "/".join(parts), commit.lower(), keep, submodules)


def check_ref(ref: str, text: str) -> None:
    """Raises InvalidInput for what git would not take for a ref, or for an option."""
    if ref.startswith("-") or any(c in ref for c in " ~^:?*[\\\0") or ".." in ref or not ref.isprintable():
        raise InvalidInput(f"{text}: invalid ref {ref!r}")


def file_name(url: str) -> str:
    """The name of a downloaded file: the last element of the URL's path. Source: BuildKit, ADD."""
    name = unquote(urlsplit(url).path).rstrip("/").rpartition("/")[2]
    return name if name not in ("", ".", "..") and "\0" not in name else "__unnamed__"


def without_secrets(url: str) -> str:
    """The URL as it may be shown: without a password."""
    if "://" not in url:
        return url
    parts = urlsplit(url)
    user, at, host = parts.netloc.rpartition("@")
    if not at or ":" not in user:
        return url
    return urlunsplit(
        (parts.scheme, f"{user.partition(':')[0]}:xxxxx@{host}", parts.path, parts.query, parts.fragment)
    )
