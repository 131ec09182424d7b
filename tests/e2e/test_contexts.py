"""Contexts of all kinds through the CLI, our build call and Docker's: URLs, archives, named ones."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import socket
import tarfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program
from tests.web import MODIFIED_EPOCH, Repository, Web, web_server


@pytest.fixture
def web(tmp_path: Path) -> Iterator[Web]:
    with web_server(tmp_path / "repositories") as found:
        yield found


def tar_of(files: dict[str, str]) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content.encode()))
    return stream.getvalue()


def build(cli: Program, *arguments: str | Path, tag: str = "ctx:1") -> str:
    """Build, and give what was said."""
    done = cli("build", "--network=none", "--progress=plain", "-t", tag, *arguments)
    return str(done.stderr)


def content(cli: Program, path: str, tag: str = "ctx:1") -> str:
    """A file of the image that was built; the image is removed."""
    made = cli("create", tag, "/x").stdout.strip()
    try:
        archive = cli("cp", f"{made}:{path}", "-", text=False).stdout
    finally:
        cli("rm", made)
        cli("rmi", tag)
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        member = tar.next()
        assert member is not None
        file = tar.extractfile(member)
        assert file is not None
        return file.read().decode()


@pytest.fixture
def repository(web: Web) -> Repository:
    files = {"Dockerfile": "FROM scratch\nCOPY . /c/\n", "sub__Buildfile": "FROM scratch\nCOPY b /b\n"}
    return web.repository("app", a="1", sub__b="2", **files)


def test_a_git_url_is_a_context_with_ref_and_directory(cli: Program, repository: Repository) -> None:
    first = repository.git("rev-parse", "HEAD")
    repository.commit(a="changed")
    said = build(cli, repository.url)
    assert f"fetching {repository.url} at " in said
    assert content(cli, "/c/a") == "changed"
    build(cli, f"{repository.url}#{first}")
    assert content(cli, "/c/a") == "1"
    build(cli, f"{repository.url}#main:sub")
    assert content(cli, "/b") == "2"
    missing = cli("build", "-f", "nothing", repository.url, check=False)
    assert "the context has no nothing" in missing.stderr


def test_an_unchanged_git_context_is_cached_and_a_commit_is_told(cli: Program, repository: Repository) -> None:
    repository.commit(a=f"of {repository.url}")
    build(cli, repository.url)
    assert "all cached" in build(cli, repository.url)
    repository.commit(a="new")
    assert "1 file changed: a (content)" in build(cli, "--explain", repository.url)
    cli("rmi", "ctx:1")


def test_the_ignore_file_of_a_remote_context_counts(cli: Program, web: Web) -> None:
    files = {"Dockerfile": "FROM scratch\nCOPY . /c/\n", "a": "1", "secret": "2"}
    files[".dockerignore"] = "secret\nDockerfile\n"
    web.files["/context.tar.gz"] = gzip.compress(tar_of(files))
    build(cli, f"{web.url}/context.tar.gz")
    made = cli("create", "ctx:1", "/x").stdout.strip()
    with tarfile.open(fileobj=io.BytesIO(cli("cp", f"{made}:/c", "-", text=False).stdout)) as tar:
        assert sorted(tar.getnames()) == ["c", "c/.dockerignore", "c/a"]
    cli("rm", made)
    cli("rmi", "ctx:1")


def test_a_buildfile_from_a_url_and_one_from_stdin_for_a_remote_context(
    cli: Program, web: Web, repository: Repository
) -> None:
    web.files["/plain"] = f"FROM scratch\nADD {web.url}/f /f\nCOPY . /all/\n".encode()
    web.files["/f"] = b"file"
    build(cli, f"{web.url}/plain")
    assert content(cli, "/f") == "file"
    build(cli, f"{web.url}/plain", "-f", "has-no-meaning-then")
    assert content(cli, "/all/context") == web.files["/plain"].decode()  # BuildKit's name for it
    cli("build", "-q", "-t", "ctx:1", "-f", "-", repository.url, input="FROM scratch\nCOPY sub/b /z\n")
    assert content(cli, "/z") == "2"


def test_the_context_epoch_is_that_of_the_commit_or_document(cli: Program, web: Web, repository: Repository) -> None:
    web.files["/c.tar"] = tar_of({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"})
    for url, created in ((f"{web.url}/c.tar", MODIFIED_EPOCH), (repository.url, 1500000000)):
        build(cli, "--build-arg", "SOURCE_DATE_EPOCH=context", url)
        from datetime import UTC, datetime

        shown = json.loads(cli("image", "inspect", "ctx:1").stdout)[0]["Created"]
        assert datetime.fromisoformat(shown).astimezone(UTC).timestamp() == created
        cli("rmi", "ctx:1")


def test_the_provenance_of_a_remote_context_names_the_commit(cli: Program, web: Web, repository: Repository) -> None:
    """And what ADD fetched; a git context gives its image the commit's time."""
    web.files["/file"] = b"fetched"
    repository.commit(Dockerfile=f"FROM scratch\nADD {web.url}/file?token=hidden /f\nCOPY a /a\n")
    commit = repository.git("rev-parse", "HEAD")
    cli("build", "-q", "--provenance=true", "-t", "ctx:1", repository.url)

    found = json.loads(cli("image", "provenance", "ctx:1").stdout)
    definition, metadata = found["buildDefinition"], found["runDetails"]["metadata"]
    source = {"uri": repository.url, "digest": {"sha1": commit}}
    assert definition["externalParameters"]["configSource"] == {"path": "Dockerfile", **source}
    fetched = {"sha256": hashlib.sha256(b"fetched").hexdigest()}
    assert definition["resolvedDependencies"] == [{"uri": f"{web.url}/file?token=***", "digest": fetched}, source]
    assert metadata["buildtool_completeness"]["resolvedDependencies"] is True
    assert definition["externalParameters"]["request"]["locals"] == []
    (image,) = json.loads(cli("image", "inspect", "ctx:1").stdout)
    assert image["Created"] == "2017-07-14T02:40:00Z"
    cli("rmi", "ctx:1")


def test_templates_and_includes_of_a_remote_context(cli: Program, web: Web) -> None:
    text = "# template=jinja2\nFROM scratch\nINCLUDE part/more\nCOPY a /{{ name }}\n"
    web.files["/t.tar"] = tar_of({"Buildfile": text, "part/more": "COPY a /here\n", "a": "1"})
    build(cli, "--var", "name=there", f"{web.url}/t.tar")
    assert content(cli, "/there") == "1"
    web.files["/u.tar"] = tar_of({"Buildfile": "FROM scratch\nINCLUDE ../../etc/passwd\n"})
    refused = cli("build", f"{web.url}/u.tar", check=False)
    assert "Buildfile:2:9: INCLUDE: forbidden path outside the build context" in refused.stderr


def test_a_remote_context_includes_urls_which_include_what_lies_beside_them(cli: Program, web: Web) -> None:
    web.files["/lib/first"] = b"COPY a /first\nINCLUDE ../other\n"
    web.files["/other"] = b"COPY a /second\n"
    web.files["/t.tar"] = tar_of({"Buildfile": f"FROM scratch\nINCLUDE {web.url}/lib/first\n", "a": "1"})
    build(cli, f"{web.url}/t.tar")
    assert content(cli, "/second") == "1"
    del web.files["/other"]
    refused = cli("build", f"{web.url}/t.tar", check=False)
    assert f"{web.url}/lib/first:2:9: INCLUDE: {web.url}/other: HTTP Error 404" in refused.stderr


def test_a_local_tar_file_and_one_from_stdin(cli: Program, tmp_path: Path) -> None:
    data = gzip.compress(tar_of({"d/Other": "FROM scratch\nCOPY a /\n", "a": "1"}))
    (tmp_path / "c.tgz").write_bytes(data)
    build(cli, "-f", "d/Other", tmp_path / "c.tgz")
    assert content(cli, "/a") == "1"
    done = cli("build", "--explain", "-t", "ctx:1", "-f", "d/Other", "-", input=data, text=False)
    assert b"cached" in done.stderr
    assert content(cli, "/a") == "1"


@pytest.mark.parametrize(
    ("context", "words"),
    [
        ("ftp://example.com/x", "of no kind that is known"),
        ("https://example.com/x.git#-u", "invalid ref"),
        ("http://127.0.0.1:1/x", "127.0.0.1"),
        ("{web}/nothing", "answers 404"),
        ("{web}/nothing.git", "nothing.git"),
    ],
)
def test_contexts_that_cannot_be_fetched(cli: Program, web: Web, context: str, words: str) -> None:
    done = cli("build", context.replace("{web}", web.url), check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "Traceback" not in done.stderr


def test_a_private_repository_takes_the_token_of_a_secret(
    cli: Program, web: Web, repository: Repository, tmp_path: Path
) -> None:
    web.authorization = "basic eC1hY2Nlc3MtdG9rZW46dDBrZW4="
    (tmp_path / "token").write_text("t0ken")
    denied = cli("build", repository.url, check=False)
    assert "GIT_AUTH_TOKEN" in denied.stderr
    build(cli, "--secret", f"id=GIT_AUTH_TOKEN,src={tmp_path}/token", repository.url)
    assert content(cli, "/c/a") == "1"


def test_checks_look_into_remote_contexts_and_archives(cli: Program, repository: Repository, tmp_path: Path) -> None:
    checked = cli("build", "--check", repository.url)
    assert "no warnings found" in checked.stdout
    (tmp_path / "c.tar").write_bytes(tar_of({"Dockerfile": "FROM scratch as x\n"}))
    assert "FromAsCasing" in cli("build", "--check", tmp_path / "c.tar", check=False).stdout
    assert "TARGET" in cli("build", "--call=targets", tmp_path / "c.tar").stdout


# Named contexts


def test_a_directory_as_stage_source_and_mount_with_its_own_ignore_file(
    cli: Program, busybox_image: str, tmp_path: Path
) -> None:
    main, other = tmp_path / "main", tmp_path / "other"
    main.mkdir()
    other.mkdir()
    (other / "f").write_text("other")
    (other / "hidden").write_text("no")
    (other / ".dockerignore").write_text("hidden\n")
    (main / "Buildfile").write_text(
        f"FROM {busybox_image}\nCOPY --from=src f /f\n"
        "RUN --mount=from=src,target=/m cp /m/f /g && test ! -e /m/hidden\n"
    )
    build(cli, "--build-context", f"src={other}", main)
    assert "all cached" in build(cli, "--build-context", f"src={other}", main)
    (other / "f").write_text("changed")
    build(cli, "--build-context", f"src={other}", main)
    assert content(cli, "/g") == "changed"
    (main / "Buildfile").write_text("FROM src\nCOPY --from=src f /again\n")
    build(cli, "--build-context", f"src={other}", main)
    assert content(cli, "/f") == "changed"


@pytest.fixture
def far() -> Iterator[Program]:
    """A client that reaches its daemon by TCP: it takes for granted that the daemon does not see its files."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        address = f"tcp://127.0.0.1:{probe.getsockname()[1]}"
    daemon = Daemon()
    daemon.flags = ("-H", daemon.host, "-H", address, "--plain-tcp")
    try:
        daemon.start()
        yield Program(BUILDTOOL, {**daemon.environment, "BUILDTOOL_HOST": address})
    finally:
        daemon.close()


def test_named_directories_are_sent_to_a_daemon_that_does_not_see_them(
    far: Program, web: Web, tmp_path: Path
) -> None:
    files = {
        "main/m": "main",
        "other/f": "1",
        "other/hidden": "no",
        "other/.dockerignore": "hidden\n",
        "third/f": "3",
    }
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    text = "FROM scratch\nCOPY m /m\nCOPY --from=other . /o\nCOPY --from=third f /t\n"
    (tmp_path / "main/Buildfile").write_text(text)
    named = [f"--build-context={name}={tmp_path}/{name}" for name in ("third", "other")]
    build(far, *named, tmp_path / "main")
    assert content(far, "/t") == "3"
    assert "all cached" in build(far, *named, tmp_path / "main")
    (tmp_path / "other/f").write_text("changed")
    build(far, *named, tmp_path / "main")
    assert content(far, "/o/f") == "changed"
    archive = gzip.compress(tar_of({"Buildfile": text, "m": "of the archive"}))
    far("build", "-q", "-t", "ctx:1", *named, "-", input=archive, text=False)
    assert content(far, "/m") == "of the archive"
    web.files["/c.tar"] = tar_of({"Buildfile": text, "m": "of the url"})
    build(far, *named, f"{web.url}/c.tar")
    assert content(far, "/m") == "of the url"
    assert "hidden" in far("build", *named, "-f", "-", tmp_path / "main", check=False,
                           input="FROM scratch\nCOPY --from=other hidden /\n").stderr  # fmt: skip


def test_a_sent_context_that_breaks_off_is_refused(daemon: Daemon) -> None:
    line = b'{"dockerfile": "FROM scratch", "contexts": {"x": {"sent": true}}}\n'
    for body, words in ((b"", "before all contexts"), (b"\0\0\0\x05abc", "the middle"), (b"\xff" * 8, "no framed")):
        kind = {"Content-Type": "application/vnd.buildtool.build+tars"}
        status, answer = daemon.raw("POST", "/buildtool/v1/build", line + body, kind)
        assert status == 400 and words in answer.decode()


def test_an_image_instead_of_a_base_and_a_stage(cli: Program, busybox_image: str, tmp_path: Path) -> None:
    text = "FROM nowhere/base:1 AS made\nRUN exit 1\nFROM scratch\nCOPY --from=made /bin/busybox /b\n"
    (tmp_path / "Buildfile").write_text(text)
    build(cli, "--build-context", f"made=docker-image://{busybox_image}", tmp_path)
    cli("rmi", "ctx:1")
    (tmp_path / "Buildfile").write_text("FROM nowhere/base\nLABEL a=b\n")
    build(cli, "--build-context", f"nowhere/base=docker-image://{busybox_image}", tmp_path)
    cli("rmi", "ctx:1")


def test_a_stage_under_another_name(cli: Program, tmp_path: Path) -> None:
    (tmp_path / "a").write_text("1")
    text = "FROM scratch AS one\nCOPY a /a\nFROM scratch\nCOPY --from=alias /a /b\n"
    (tmp_path / "Buildfile").write_text(text)
    build(cli, "--build-context", "alias=target:one", tmp_path)
    assert content(cli, "/b") == "1"
    refused = cli("build", "--build-context", "alias=target:on", tmp_path, check=False)
    assert "there is no such stage above" in refused.stderr and "did you mean 'one'?" in refused.stderr


def test_urls_as_named_contexts(cli: Program, web: Web, repository: Repository, tmp_path: Path) -> None:
    web.files |= {"/t.tar": tar_of({"d/x": "tar"}), "/file.txt": b"file"}
    text = "FROM scratch\nCOPY --from=git a /a\nCOPY --from=tar d/x /x\nCOPY --from=file file.txt /f\n"
    (tmp_path / "Buildfile").write_text(text)
    named = {"git": repository.url, "tar": f"{web.url}/t.tar", "file": f"{web.url}/file.txt"}
    flags = [word for name, url in named.items() for word in ("--build-context", f"{name}={url}")]
    build(cli, *flags, tmp_path)
    assert "all cached" in build(cli, *flags, tmp_path)
    assert content(cli, "/x") == "tar"


def test_an_oci_layout_as_a_base(cli: Program, busybox_image: str, tmp_path: Path) -> None:
    layout, main = tmp_path / "layout", tmp_path / "main"
    main.mkdir()
    archive = cli("save", busybox_image, text=False).stdout
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # Python 3.11.4 and later
        tar.extractall(layout)
    index = json.loads((layout / "index.json").read_bytes())
    tag, digest = busybox_image.rpartition(":")[2], index["manifests"][0]["digest"]
    (main / "Buildfile").write_text("FROM base\nRUN echo made > /made\n")
    for value in (f"{layout}:{tag}", f"{layout}@{digest}"):
        build(cli, "--build-context", f"base=oci-layout://{value}", main)
    assert content(cli, "/made") == "made\n"
    refused = cli("build", "--build-context", f"base=oci-layout://{layout}:nothing", main, check=False)
    assert "the context base:" in refused.stderr and "the layout has no 'nothing'" in refused.stderr


def test_a_layout_with_an_index_gives_each_platform_its_image(cli: Program, tmp_path: Path) -> None:
    made, main, layout = tmp_path / "made", tmp_path / "main", tmp_path / "layout"
    made.mkdir()
    main.mkdir()
    (made / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Buildfile /of-$TARGETARCH\n")
    platforms = "--platform=linux/amd64,linux/arm64"
    cli("build", platforms, "-t", "any/name:1", "-o", f"type=oci,dest={layout},tar=false", "--provenance=true", made)
    (main / "Buildfile").write_text("FROM base\nFROM scratch\nCOPY --from=base / /got/\n")
    context = f"base=oci-layout://{layout}:1"
    cli("build", platforms, "--build-context", context, "-o", tmp_path / "both", main)
    for architecture in ("amd64", "arm64"):
        assert (tmp_path / f"both/linux_{architecture}/got/of-{architecture}").exists()
    cli("build", "--platform=linux/arm64", "--build-context", context, "-o", tmp_path / "one", main)
    assert (tmp_path / "one/got/of-arm64").exists()


@pytest.mark.parametrize(
    ("value", "words"),
    [("x", "write NAME=VALUE"), ("x=/nowhere", "path '/nowhere' not found"), ("x=what://y", "no kind that is known")],
)
def test_named_contexts_that_cannot_be(cli: Program, tmp_path: Path, value: str, words: str) -> None:
    (tmp_path / "Buildfile").write_text("FROM scratch\nCOPY --from=x a /a\n")
    refused = cli("build", "--build-context", value, tmp_path, check=False)
    assert refused.returncode == 1
    assert words in refused.stderr


# Docker's call


def test_remote_of_dockers_build_call(cli: Program, daemon: Daemon, web: Web, repository: Repository) -> None:
    import docker

    web.files["/c.tar"] = tar_of({"Dockerfile": "FROM scratch\nCOPY a /\n", "a": "1"})
    web.files["/plain"] = b"FROM scratch\nLABEL a=b\n"
    client = docker.APIClient(base_url=daemon.environment["BUILDTOOL_HOST"])
    for url in (f"{web.url}/c.tar", f"{web.url}/plain", f"{repository.url}#main"):
        lines = list(client.build(path=url, tag="ctx:1", decode=True))
        assert "Successfully built" in "".join(line.get("stream", "") for line in lines), lines
        cli("rmi", "ctx:1")
    client.close()
