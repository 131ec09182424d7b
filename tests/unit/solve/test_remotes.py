"""ADD from http(s) and git: what comes into the image, when it is fetched again, how it fails."""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from buildtool.buildfile.remotes import parse_git
from buildtool.errors import BuildtoolError, InvalidInput
from buildtool.graph.contexts import RemoteContext
from buildtool.graph.downloads import git_step
from buildtool.solve import remote_http
from buildtool.solve.records import forget_old_files
from buildtool.solve.remotes import FetchFailed
from buildtool.solve.run_agent import Channel
from tests.unit.solve.conftest import Workshop
from tests.web import MODIFIED_EPOCH, Repository, Web, web_server


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(tmp_path / "repositories") as found:
        yield found


def digest(data: bytes, algorithm: str = "sha256") -> str:
    return f"{algorithm}:{hashlib.new(algorithm, data).hexdigest()}"


def tar_gz(**files: str) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name.replace("__", "/"))
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return gzip.compress(stream.getvalue())


# http


def test_a_download_has_the_urls_name_mode_0600_and_the_servers_time(shop: Workshop, web: Web) -> None:
    web.files["/dir/tool.bin"] = b"content"
    image = shop.build(f"FROM scratch\nADD {web.url}/dir/tool.bin?x=1#frag /opt/\n").image
    assert shop.layer(image) == {"opt": "", "opt/tool.bin": "content"}
    entry = shop.tree(image)["/opt/tool.bin"]
    assert (entry.permissions, entry.owner) == (0o600, (0, 0))
    snapshot = image.layers[-1].snapshot
    assert snapshot is not None
    assert (shop.store.snapshots.fs(snapshot) / "opt/tool.bin").stat().st_mtime == MODIFIED_EPOCH


def test_a_download_to_a_name_and_without_one(shop: Workshop, web: Web) -> None:
    web.files |= {"/a": b"1", "/": b"2", "/x*y": b"3"}
    lines = f"ADD {web.url}/a /named\nADD {web.url}/ /d/\nADD {web.url}/x*y /e/\n"
    lines += f"ADD --chmod=755 --chown=1:2 {web.url}/a /f\n"
    tree = shop.tree(shop.build(f"FROM scratch\n{lines}").image)
    assert [tree[path].content for path in ("/named", "/d/__unnamed__", "/e/x*y")] == ["1", "2", "3"]
    assert (tree["/f"].permissions, tree["/f"].owner) == (0o755, (1, 2))


def test_an_unchanged_url_is_a_hit_after_a_conditional_request_and_a_changed_one_a_miss(
    shop: Workshop, web: Web
) -> None:
    web.files["/f"] = b"one"
    text = f"FROM scratch\nADD {web.url}/f /f\n"
    first = shop.build(text)
    again = shop.build(text)
    assert (first.cached[-1], again.cached[-1], web.statuses) == (False, True, [200, 304])
    web.files["/f"] = b"two"
    changed = shop.build(text)
    assert not changed.cached[-1]
    assert shop.layer(changed.image) == {"f": "two"}
    assert changed.reason(-1) == f"{web.url}/f changed: content {digest(b'one')[7:19]} → {digest(b'two')[7:19]}"


@pytest.mark.parametrize("algorithm", ["sha256", "sha384", "sha512"])
def test_a_checksum_is_verified_and_then_needs_no_request(shop: Workshop, web: Web, algorithm: str) -> None:
    web.files["/f"] = b"one"
    text = f"FROM scratch\nADD --checksum={digest(b'one', algorithm)} {web.url}/f /f\n"
    shop.build(text)
    assert shop.build(text).cached[-1]
    assert web.statuses == [200]


def test_a_wrong_checksum_fails_at_the_url_also_for_a_url_that_changed(shop: Workshop, web: Web) -> None:
    """BuildKit takes another URL with the old checksum for the old file (buildkit#7108)."""
    web.files |= {"/f": b"one", "/g": b"two"}
    shop.build(f"FROM scratch\nADD --checksum={digest(b'one')} {web.url}/f /f\n")
    for path in ("/g", "/f"):
        web.files["/f"] = b"other"
        wrong = digest(b"one") if path == "/g" else digest(b"nothing")
        with pytest.raises(BuildtoolError, match="checksum does not match") as failure:
            shop.build(f"FROM scratch\nADD --checksum={wrong} {web.url}{path} /f\n")
        assert failure.value.where is not None
        assert failure.value.where.line == 2
    shop.assert_clean()


def test_a_download_is_not_unpacked_unless_asked(shop: Workshop, web: Web) -> None:
    web.files["/a.tgz"] = tar_gz(d__x="1")
    assert "/a.tgz" in shop.tree(shop.build(f"FROM scratch\nADD {web.url}/a.tgz /\n").image)
    unpacked = shop.build(f"FROM scratch\nADD --unpack=true {web.url}/a.tgz /o/\n").image
    assert shop.layer(unpacked) == {"o": "", "o/d": "", "o/d/x": "1"}


def test_what_cannot_be_fetched_is_told_with_its_place(shop: Workshop, web: Web) -> None:
    for url, words in (
        (f"{web.url}/missing", "answers 404"),
        ("http://127.0.0.1:1/f", "127.0.0.1"),
        (f"{web.url}/loop", "redirected more than 10 times"),
    ):
        web.redirects["/loop"] = f"{web.url}/loop"
        with pytest.raises(BuildtoolError, match=words) as failure:
            shop.build(f"FROM scratch\nADD {url} /f\n")
        assert str(failure.value).startswith("Buildfile:2:5:")
    shop.assert_clean()


def test_redirects_secrets_and_proxies(shop: Workshop, web: Web) -> None:
    web.files |= {"/real": b"1", "/proxied/p": b"2"}
    web.redirects["/link"] = f"{web.url}/real"
    web.authorization = "Bearer t0ken"
    secrets = {"HTTP_AUTH_TOKEN_127.0.0.1": b"t0ken\n"}
    image = shop.build(f"FROM scratch\nADD {web.url}/link /d/\n", secrets=secrets).image
    assert shop.layer(image)["d/link"] == "1"
    web.authorization = ""
    proxied = shop.build("FROM scratch\nADD http://host.invalid/p /p\n", build_args={"HTTP_PROXY": web.url})
    assert shop.layer(proxied.image)["p"] == "2"


def test_no_proxy_and_the_daemons_own_proxies(shop: Workshop, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files |= {"/p": b"direct", "/proxied/p": b"proxied"}
    text = f"FROM scratch\nADD {web.url}/p /p\n"

    def built(**args: str) -> str:
        return shop.layer(shop.build(text, build_args=args).image)["p"]

    assert built(http_proxy=web.url) == "proxied"
    assert built(HTTP_PROXY=web.url, NO_PROXY="localhost,127.0.0.1") == "direct"
    assert built(ALL_PROXY=web.url) == "proxied"
    monkeypatch.setenv("http_proxy", web.url)
    assert built() == "proxied"
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert built() == "direct"
    assert built(no_proxy="elsewhere") == "proxied"


def test_limits_of_a_download(shop: Workshop, web: Web, monkeypatch: pytest.MonkeyPatch) -> None:
    web.files["/big"] = b"x" * 4096
    web.redirects["/circle"] = f"{web.url}/circle"
    monkeypatch.setattr(remote_http, "_LARGEST", 4095)
    monkeypatch.setattr(remote_http, "_SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(remote_http, "_CONNECT_SECONDS", 0.2)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(1)
        port = silent.getsockname()[1]
        for url, words in (
            (f"{web.url}/big", "it is larger than"),
            (f"{web.url}/circle", "redirected more than 10 times"),
            (f"http://127.0.0.1:{port}/x", "the server does not answer in time"),
        ):
            with pytest.raises(FetchFailed, match=words) as failure:
                shop.build(f"FROM scratch\nADD {url} /f\n")
            assert str(failure.value).startswith("Buildfile:2:5:")
    shop.assert_clean()


def test_local_and_remote_sources_in_one_add(shop: Workshop, web: Web) -> None:
    web.files["/r"] = b"remote"
    shop.write(a="1", b="2")
    text = f"FROM scratch\nADD a {web.url}/r b <<here {{flags}} /d/\ninline\nhere\n"
    for flags in ("", "--link "):
        image = shop.build(text.replace("ADD ", f"ADD {flags}").replace("{flags} ", "")).image
        assert shop.layer(image) == {"d": "", "d/a": "1", "d/b": "2", "d/r": "remote", "d/here": "inline\n"}
        assert len(image.layers) == 1
    shop.write(b="changed")
    assert shop.layer(shop.build(text.replace("{flags} ", "")).image)["d/b"] == "changed"


def test_of_the_sources_of_one_add_the_last_counts(shop: Workshop, web: Web) -> None:
    web.files |= {"/x": b"far", "/y": b"file"}
    shop.write(x="near", y__in="directory", z__f="1")
    image = shop.build(f"FROM scratch\nADD x {web.url}/x z {web.url}/y /d/\n").image
    assert shop.layer(image) == {"d": "", "d/x": "far", "d/f": "1", "d/y": "file"}
    image = shop.build(f"FROM scratch\nADD {web.url}/x x /d/\n").image
    assert shop.layer(image)["d/x"] == "near"


# git


def test_a_repository_is_checked_out_at_its_ref(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1", sub__b="2")
    repository.git("tag", "-a", "-m", "one", "v1")
    commit = repository.commit(a="changed")
    repository.git("branch", "side", "v1")

    def files(source: str) -> dict[str, str]:
        return shop.layer(shop.build(f"FROM scratch\nADD {source} /s\n").image)

    now, then = ({"s": "", "s/a": text, "s/sub": "", "s/sub/b": "2"} for text in ("changed", "1"))
    assert files(repository.url) == files(f"{repository.url}#main") == files(f"{repository.url}#{commit}") == now
    assert files(f"{repository.url}#v1") == files(f"{repository.url}#refs/heads/side") == then
    assert files(f"{repository.url}?branch=side") == files(f"{repository.url}?tag=v1") == then
    assert files(f"{repository.url}#:sub") == files(f"{repository.url}?subdir=sub&ref=v1") == {"s": "", "s/b": "2"}


def test_an_old_commit_by_its_hash(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    old = repository.git("rev-parse", "HEAD")
    repository.commit(a="2")
    assert shop.layer(shop.build(f"FROM scratch\nADD {repository.url}#{old} /\n").image) == {"a": "1"}


def test_the_same_commit_is_a_hit_and_a_moved_branch_a_miss(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    text = f"FROM scratch\nADD {repository.url}#main /\n"
    before = repository.git("rev-parse", "HEAD")
    shop.build(text)
    assert shop.build(text).cached[-1]
    now = repository.commit(a="2")
    changed = shop.build(text)
    assert changed.reason(-1) == f"{repository.url} changed: commit {before[:12]} → {now[:12]}"


def test_the_git_directory_is_kept_on_request(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    assert "/.git/HEAD" not in shop.tree(shop.build(f"FROM scratch\nADD {repository.url} /\n").image)
    kept = shop.tree(shop.build(f"FROM scratch\nADD --keep-git-dir {repository.url} /\n").image)
    assert kept["/.git/HEAD"].content.strip() == repository.git("rev-parse", "HEAD")


def test_the_checksum_of_a_repository_is_its_commit(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    commit = repository.git("rev-parse", "HEAD")
    shop.build(f"FROM scratch\nADD --checksum={commit[:10]} {repository.url}#main /\n")
    with pytest.raises(BuildtoolError, match="expected the commit 0123456789, got"):
        shop.build(f"FROM scratch\nADD --checksum=0123456789 {repository.url}#main /\n")


def test_submodules_come_along(shop: Workshop, web: Web) -> None:
    part = web.repository("part", p="part")
    repository = web.repository("app", a="1")
    repository.git("submodule", "--quiet", "add", part.url, "vendor")
    repository.commit()
    with_it = shop.layer(shop.build(f"FROM scratch\nADD {repository.url} /\n").image)
    assert (with_it["vendor/p"], "vendor/.git" in with_it) == ("part", False)
    without = shop.layer(shop.build(f"FROM scratch\nADD {repository.url}?submodules=false /\n").image)
    assert "vendor/p" not in without


def test_git_failures_name_the_repository_and_the_remedy(shop: Workshop, web: Web) -> None:
    repository: Repository = web.repository("app", a="1")
    for source, words in (
        (f"{repository.url}#nothing", "has no ref 'nothing'"),
        (f"{repository.url}#:nothing", "no directory 'nothing'"),
        (f"{web.url}/missing.git", "missing.git"),
    ):
        with pytest.raises(BuildtoolError, match=words):
            shop.build(f"FROM scratch\nADD {source} /\n")
    web.authorization = "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="
    with pytest.raises(BuildtoolError) as failure:
        shop.build(f"FROM scratch\nADD {repository.url} /\n")
    assert "GIT_AUTH_TOKEN" in failure.value.hint
    shop.build(f"FROM scratch\nADD {repository.url} /\n", secrets={"GIT_AUTH_TOKEN": b"t0ken"})
    shop.assert_clean()


def test_a_server_of_plain_files_gives_whole_histories(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    old = repository.git("rev-parse", "HEAD")
    repository.commit(a="2")
    repository.git("update-server-info")
    web.dumb = True
    assert shop.layer(shop.build(f"FROM scratch\nADD {repository.url}#main /\n").image) == {"a": "2"}
    assert shop.layer(shop.build(f"FROM scratch\nADD {repository.url}#{old} /\n").image) == {"a": "1"}


def test_ssh_goes_by_the_agent_of_the_build(
    shop: Workshop, web: Web, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The `ssh` of this test runs the command here when it sees an agent's socket."""
    repository = web.repository("app", a="1")
    (tmp_path / "bin").mkdir()
    ssh = tmp_path / "bin/ssh"
    ssh.write_text('#!/bin/sh\ntest -S "$SSH_AUTH_SOCK" || { echo Permission denied >&2; exit 255; }\n'
                   'for last; do :; done\nexec sh -c "$last"\n')  # fmt: skip
    ssh.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    text = f"FROM scratch\nADD ssh://git@host.invalid{repository.path}/.git /\n"

    async def dial() -> Channel:
        raise ConnectionError

    with pytest.raises(BuildtoolError, match="Permission denied") as failure:
        shop.build(text)
    assert "--ssh" in failure.value.hint
    assert shop.layer(shop.build(text, agents={"default": dial}).image) == {"a": "1"}


def test_flags_of_add_hold_for_fetched_sources(shop: Workshop, web: Web) -> None:
    web.files["/f"] = b"1"
    repository = web.repository("app", a="1", b__c="2", d="3")
    lines = f"ADD --link {web.url}/f /l/\nADD --exclude=b --exclude=d --chown=5:6 --chmod=600 {repository.url} /g/\n"
    text = f"FROM scratch\nARG SUM={digest(b'1')}\n{lines}ADD --checksum=$SUM {web.url}/f /s\n"
    tree = shop.tree(shop.build(text, no_cache=True).image)
    assert {path for path in tree if not path.endswith("/")} >= {"/l/f", "/g/a", "/s"}
    assert "/g/b" not in tree and "/g/d" not in tree
    assert (tree["/g/a"].owner, tree["/g/a"].permissions) == ((5, 6), 0o600)
    assert all(shop.build(text).cached)


def test_a_repository_as_a_stage_and_a_mount(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    git = parse_git(repository.url)
    assert git is not None
    contexts = {"src": RemoteContext(git_step(git))}
    staged = shop.build("FROM src AS x\nFROM x\nCOPY --from=x a /again\n", contexts=contexts)
    assert {path for path in shop.tree(staged.image) if len(path) > 1} == {"/a", "/again"}
    mounted = shop.build("FROM busybox\nRUN --mount=from=src,target=/m cp /m/a /copy\n", contexts=contexts)
    assert shop.layer(mounted.image) == {"copy": "1"}


def test_a_trigger_of_the_base_fetches_too(shop: Workshop, web: Web) -> None:
    web.files["/f"] = b"1"
    shop.build(f"FROM busybox\nONBUILD ADD {web.url}/f /f\n", tags=("base",))
    assert shop.layer(shop.build("FROM base\n").image) == {"f": "1"}


def test_locks_of_a_killed_git_are_in_nobodys_way(shop: Workshop, web: Web) -> None:
    repository = web.repository("app", a="1")
    shop.build(f"FROM scratch\nADD {repository.url} /\n")
    (bare,) = (shop.root / "data/git").glob("*/")
    repository.commit(a="2")
    for name in ("config.lock", "shallow.lock", "refs/fetched/x.lock"):
        (bare / name).touch()
    assert shop.layer(shop.build(f"FROM scratch\nADD {repository.url} /\n").image) == {"a": "2"}


def test_a_repository_that_was_not_used_for_a_month_is_forgotten(shop: Workshop, web: Web) -> None:
    shop.build(f"FROM scratch\nADD {web.repository('app', a='1').url} /\n")
    (bare,) = (shop.root / "data/git").glob("*/")
    forget_old_files(shop.root / "data")
    assert bare.exists()
    os.utime(bare, (1, 1))
    forget_old_files(shop.root / "data")
    assert not bare.exists()


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("COPY https://example.com/x /", "can't be a URL for COPY"),
        ("COPY git@example.com:a/b /", "can't be a git ref for COPY"),
        ("ADD --checksum=md5:00 https://example.com/x /", "this is no digest"),
        ("ADD --checksum=sha256:00 https://example.com/x.git /", "this is no commit"),
        ("ADD --keep-git-dir https://example.com/x /", "no git repository"),
        ("ADD --checksum=sha256:00 a b /d/", "multiple sources"),
        ("ADD https://example.com/x.git#-evil /", "invalid ref"),
        ("ADD https://example.com/x.git?what=1 /", "unexpected query"),
        ("ADD https://example.com/x.git#:../x /", "leads out"),
    ],
)
def test_refusals_before_anything_is_fetched(shop: Workshop, line: str, words: str) -> None:
    with pytest.raises(InvalidInput, match=words) as failure:
        shop.build(f"FROM scratch\n{line}\n")
    assert failure.value.where is not None
