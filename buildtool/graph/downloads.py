"""Sources of ADD that lie elsewhere: http(s) files and git repositories, as steps that fetch them. Pure."""

from __future__ import annotations

import re

from buildtool.buildfile.instructions import Copy, Word
from buildtool.buildfile.remotes import GitUrl, file_name, is_http, parse_git
from buildtool.errors import InvalidInput, Span
from buildtool.graph.steps import Remote

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}|sha384:[0-9a-f]{96}|sha512:[0-9a-f]{128}")
_COMMIT = re.compile(r"[0-9a-fA-F]{7,64}")
_GLOB = re.compile(r"([*?\[\]\\])")


def remote_source(source: str, word: Word, instruction: Copy, checksum: str) -> Remote | None:
    """The step that fetches a source, None for one that is a path. Raises InvalidInput for a URL that is wrong."""
    try:
        git = parse_git(source, short=False)
    except InvalidInput as error:
        raise InvalidInput(error.message, where=word.span, hint=error.hint) from None
    if git is None and not is_http(source):
        return None
    if not instruction.is_add:
        what = "URL" if git is None else "git ref"
        raise InvalidInput(
            f"source can't be a {what} for COPY: {source}", where=word.span, hint="ADD copies from URLs"
        )
    where = instruction.checksum.span if instruction.checksum is not None else word.span
    if git is not None:
        if instruction.unpack:
            raise InvalidInput("ADD --unpack: a git repository is no archive", where=word.span)
        return git_step(git, keep_git_dir=instruction.keep_git_dir, checksum=checksum, where=where)
    if instruction.keep_git_dir:
        raise InvalidInput("ADD --keep-git-dir: the source is no git repository", where=word.span)
    if checksum and not _DIGEST.fullmatch(checksum):
        raise InvalidInput(
            f"ADD --checksum={checksum}: this is no digest",
            where=where,
            hint="write sha256:, sha384: or sha512: and the digest in lower-case hex",
        )
    return Remote("http", source.partition("#")[0], name=file_name(source), checksum=checksum)


def git_step(git: GitUrl, *, keep_git_dir: bool = False, checksum: str = "", where: Span | None = None) -> Remote:
    """The step that checks out what a git URL names."""
    if checksum and not _COMMIT.fullmatch(checksum):
        raise InvalidInput(
            f"ADD --checksum={checksum}: this is no commit",
            where=where,
            hint="the checksum of a git source is (the beginning of) its commit's hash",
        )
    if checksum and git.commit and not checksum.lower().startswith(git.commit):
        raise InvalidInput("the checksums of --checksum and of the URL differ", where=where)
    return Remote(
        "git",
        git.remote,
        ref=git.ref,
        subdir=git.subdir,
        checksum=checksum.lower() or git.commit,
        keep_git_dir=keep_git_dir if git.keep_git_dir is None else git.keep_git_dir,
        submodules=git.submodules is not False,
    )


def pattern_of(remote: Remote) -> str:
    """What to copy out of the tree of a fetched source: the file, or everything."""
    return _GLOB.sub(r"\\\1", remote.name) if remote.kind == "http" else "."
