"""What a build gives out: archives, directories, pushed images, files about it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import Program


@pytest.fixture
def source(tmp_path: Path, busybox_image: str) -> Path:
    path = tmp_path / "src"
    path.mkdir()
    text = f"FROM {busybox_image}\nRUN echo of {tmp_path} > /made && ln -s made /link\nCOPY a /dir/a\n"
    (path / "Buildfile").write_text(text)
    (path / "small").write_text("FROM scratch\nCOPY a /dir/a\nCOPY a /b\n")
    (path / "a").write_text(f"{tmp_path}\n")
    (path / "a").chmod(0o755)
    return path


@pytest.fixture
def build(cli: Program, source: Path) -> Any:
    def run(*words: str, check: bool = True, text: bool = True) -> Any:
        return cli("build", "--network=none", *words, source, check=check, text=text)

    return run


def images(cli: Program) -> set[str]:
    return set(cli("images", "-aq", "--no-trunc").stdout.split())


def members(data: bytes | Path) -> dict[str, tarfile.TarInfo]:
    stream = io.BytesIO(data if isinstance(data, bytes) else data.read_bytes())
    with tarfile.open(fileobj=stream) as tar:
        return {member.name.removeprefix("./"): member for member in tar}


def test_a_directory_and_a_tar_hold_the_files_of_the_image_and_nothing_stays(
    build: Any, cli: Program, source: Path, tmp_path: Path
) -> None:
    before = images(cli)
    build("-f", f"{source}/small", "-o", f"{tmp_path}/out")
    assert (tmp_path / "out/dir/a").read_text() == (tmp_path / "out/b").read_text() == f"{tmp_path}\n"
    assert (tmp_path / "out/b").stat().st_mode & 0o777 == 0o755
    (tmp_path / "out/old").write_text("stays")
    build("-f", f"{source}/small", "-o", f"type=local,dest={tmp_path}/out")
    assert (tmp_path / "out/old").exists()
    build("-f", f"{source}/small", "-o", f"type=local,dest={tmp_path}/out,mode=delete")
    assert sorted(os.listdir(tmp_path / "out")) == ["b", "dir"]
    piped = build("-o", "-", text=False).stdout
    found = members(piped)
    assert found["link"].linkname == "made" and found["dir/a"].mode == 0o755
    assert images(cli) == before


def test_the_tree_of_an_image_has_the_epochs_time(build: Any, source: Path, tmp_path: Path) -> None:
    words = ("-f", f"{source}/small", "--build-arg", "SOURCE_DATE_EPOCH=1500000000")
    build(*words, "-o", f"type=tar,dest={tmp_path}/a.tar")
    assert {member.mtime for member in members(tmp_path / "a.tar").values()} == {1500000000}
    build(*words, "-o", f"type=tar,dest={tmp_path}/b.tar")
    assert (tmp_path / "a.tar").read_bytes() == (tmp_path / "b.tar").read_bytes()


@pytest.mark.parametrize(
    ("options", "suffix"),
    [("", "+gzip"), (",compression=zstd,force-compression=true", "+zstd"), (",compression=uncompressed", "")],
)
def test_oci_archives_and_layouts(build: Any, cli: Program, tmp_path: Path, options: str, suffix: str) -> None:
    before = images(cli)
    build("-t", "given/name:1", "-o", f"type=oci,dest={tmp_path}/a.tar{options}")
    build("-t", "given/name:1", "-o", f"type=oci,dest={tmp_path}/layout,tar=false{options}")
    names = members(tmp_path / "a.tar")
    assert "manifest.json" not in names
    index = json.loads((tmp_path / "layout/index.json").read_bytes())
    (entry,) = index["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "1"
    manifest = json.loads((tmp_path / "layout/blobs/sha256" / entry["digest"][7:]).read_bytes())
    kinds = {
        layer["mediaType"].removeprefix("application/vnd.oci.image.layer.v1.tar") for layer in manifest["layers"]
    }
    assert kinds == {suffix}
    assert images(cli) == before
    if shutil.which("skopeo"):
        for place in (f"oci-archive:{tmp_path}/a.tar", f"oci:{tmp_path}/layout"):
            subprocess.run(["skopeo", "inspect", "--raw", place], check=True, capture_output=True)


def test_docker_archives_can_be_loaded_again(build: Any, cli: Program, tmp_path: Path, unique: str) -> None:
    build("-t", f"{unique}:1", "-o", f"type=docker,dest={tmp_path}/d.tar,name={unique}:2")
    assert cli("images", "-q", unique).stdout == ""
    cli("load", "-i", tmp_path / "d.tar")
    assert cli("run", "--rm", "--network=none", f"{unique}:2", "cat", "/link").stdout == f"of {tmp_path}\n"
    cli("rmi", f"{unique}:1", f"{unique}:2")


def test_several_outputs_at_once_and_cacheonly(build: Any, cli: Program, tmp_path: Path, unique: str) -> None:
    before = images(cli)
    build("-o", "type=cacheonly")
    assert images(cli) == before
    build("-t", f"{unique}:1", "-o", f"type=image,name={unique}:2", "-o", f"type=oci,dest={tmp_path}/o.tar")
    assert (tmp_path / "o.tar").exists()
    assert cli("images", "--format", "{{.Tag}}", unique).stdout.split() == ["2", "1"] or set(
        cli("images", "--format", "{{.Tag}}", unique).stdout.split()
    ) == {"1", "2"}
    build("-o", f"type=tar,dest={tmp_path}/t.tar")  # the image has a name by now: it stays
    cli("image", "inspect", f"{unique}:1")
    cli("rmi", f"{unique}:1", f"{unique}:2")
    build("--load", "-t", f"{unique}:1", "-o", f"type=tar,dest={tmp_path}/t.tar")
    cli("rmi", f"{unique}:1")


def test_push_annotations_and_the_files_about_it(
    build: Any, cli: Program, registry: str, tmp_path: Path, unique: str
) -> None:
    name = f"{registry}/{unique}/app"
    build(
        "-t", f"{name}:1", "--push", "--annotation", "org.example.a=1", "--annotation", "manifest:b=x=y",
        "--iidfile", f"{tmp_path}/iid", "--metadata-file", f"{tmp_path}/meta.json",
    )  # fmt: skip
    document = json.loads(cli("manifest", "inspect", f"{name}:1").stdout)
    assert document["annotations"] == {"org.example.a": "1", "b": "x=y"}
    meta = json.loads((tmp_path / "meta.json").read_text())
    assert meta["image.name"] == f"{name}:1"
    assert meta["containerimage.config.digest"] == (tmp_path / "iid").read_text() == document["config"]["digest"]
    shown = cli("image", "inspect", "--format", "{{json .RepoDigests}}", f"{name}:1").stdout
    assert json.loads(shown) == [f"{name}@{meta['containerimage.digest']}"]

    build("--annotation", "b=2", "-o", f"type=image,name={name}:2,push=true,annotation.c=3,compression=zstd")
    document = json.loads(cli("manifest", "inspect", f"{name}:2").stdout)
    assert document["annotations"] == {"c": "3", "b": "2"}
    build("-o", f"type=registry,name={name}:3,compression=zstd,compression-level=9,force-compression=true")
    document = json.loads(cli("manifest", "inspect", f"{name}:3").stdout)
    assert {layer["mediaType"][-5:] for layer in document["layers"]} == {"+zstd"}
    cli("rmi", f"{name}:1", f"{name}:2", f"{name}:3")


def remote(cli: Program, name: str) -> Any:
    """The manifest or index under a name of a registry."""
    return json.loads(cli("manifest", "inspect", name).stdout)


def test_a_push_by_digest_makes_no_tag(build: Any, cli: Program, registry: str, tmp_path: Path, unique: str) -> None:
    name = f"{registry}/{unique}/app"
    words = ("-o", f"type=image,name={name},push=true,push-by-digest=true,name-canonical=true")
    for more in ((), ("--platform=linux/amd64,linux/arm64", "-f", tmp_path / "src/small")):
        build(*words, *more, "--metadata-file", f"{tmp_path}/meta.json")
        digest = json.loads((tmp_path / "meta.json").read_text())["containerimage.digest"]
        found = remote(cli, f"{name}@{digest}")
        assert ("manifests" in found) == bool(more)
        assert cli("image", "inspect", "--format", "ok", f"{name}@{digest}").stdout == "ok\n"
    assert cli("manifest", "inspect", f"{name}:latest", check=False).returncode == 1
    assert cli("image", "inspect", f"{name}:latest", check=False).returncode == 1


def test_what_is_not_stored_is_pushed_all_the_same(
    build: Any, cli: Program, registry: str, source: Path, unique: str
) -> None:
    name, before = f"{registry}/{unique}/app:1", images(cli)
    build("-t", name, "-o", "type=registry,store=false")
    assert images(cli) == before
    assert remote(cli, name)["layers"]
    words = ("--platform=linux/amd64,linux/arm64", "-f", f"{source}/small")
    build("-t", name, "-o", "type=image,push=true,store=false", *words)
    assert images(cli) == before
    assert [entry["platform"]["architecture"] for entry in remote(cli, name)["manifests"]] == ["amd64", "arm64"]


def test_an_image_without_a_name_gets_one_with_its_digest(build: Any, cli: Program, unique: str) -> None:
    for more in ((), ("--platform=linux/amd64,linux/arm64",)):
        image = build("-q", "-o", f"type=image,dangling-name-prefix={unique},unpack=true", *more).stdout.strip()
        shown = json.loads(cli("image", "inspect", image).stdout)[0]
        digest = shown["Descriptor"]["digest"] if more else shown["RepoDigests"][0].partition("@")[2]
        assert cli("image", "inspect", "--format", "ok", f"{unique}@{digest}").stdout == "ok\n"
        cli("rmi", f"{unique}@{digest}")


def test_dockers_media_types(
    build: Any, cli: Program, registry: str, source: Path, tmp_path: Path, unique: str
) -> None:
    name = f"{registry}/{unique}/app:1"
    kind = "application/vnd.docker.distribution.manifest"
    build("-t", name, "-o", "type=registry,oci-mediatypes=false")
    found = remote(cli, name)
    assert found["mediaType"] == f"{kind}.v2+json"
    assert found["config"]["mediaType"] == "application/vnd.docker.container.image.v1+json"
    assert {layer["mediaType"] for layer in found["layers"]} == {"application/vnd.docker.image.rootfs.diff.tar.gzip"}
    words = ("--platform=linux/amd64,linux/arm64", "-f", f"{source}/small")
    build("-t", name, "-o", "type=registry,oci-mediatypes=false", *words)
    found = remote(cli, name)
    assert found["mediaType"] == f"{kind}.list.v2+json"
    assert {entry["mediaType"] for entry in found["manifests"]} == {f"{kind}.v2+json"}
    cli("rmi", name)
    cli("pull", "-q", name)
    build("-t", name, "-o", f"type=oci,dest={tmp_path}/layout,tar=false,oci-mediatypes=false")
    (entry,) = json.loads((tmp_path / "layout/index.json").read_bytes())["manifests"]
    assert entry["mediaType"] == f"{kind}.v2+json"
    build("-t", name, "-o", f"type=oci,dest={tmp_path}/o.tar,oci-mediatypes=false", *words)
    assert cli("load", "-i", f"{tmp_path}/o.tar").stdout.endswith(f"Loaded image: {name}\n")
    cli("rmi", name)


def test_layers_are_pushed_uncompressed_when_that_is_asked_for(
    build: Any, cli: Program, registry: str, unique: str
) -> None:
    name = f"{registry}/{unique}/app:1"
    build("-t", name, "-o", "type=registry,compression=uncompressed,force-compression=true")
    kinds = {layer["mediaType"] for layer in remote(cli, name)["layers"]}
    assert kinds == {"application/vnd.oci.image.layer.v1.tar"}
    cli("rmi", name)
    cli("pull", "-q", name)
    assert cli("run", "--rm", "--network=none", name, "cat", "/link").stdout.startswith("of ")
    cli("rmi", "-f", name)


def test_statements_beside_the_files_have_the_prefix(build: Any, source: Path, tmp_path: Path) -> None:
    words = ("-f", f"{source}/small", "--provenance=true")
    build(*words, "-o", f"type=local,dest={tmp_path}/out,attestation-prefix=about-")
    assert (tmp_path / "out/about-provenance.json").exists()
    build(*words, "-o", f"type=tar,dest={tmp_path}/out.tar,attestation-prefix=about-")
    assert "about-provenance.json" in members(tmp_path / "out.tar")
    inline = ("-f", f"{source}/small", "--provenance=mode=max,inline-only=true", "--sbom=true")
    build(*inline, "-o", f"type=local,dest={tmp_path}/inline")
    names = os.listdir(tmp_path / "inline")
    assert "sbom.spdx.json" in names and "provenance.json" not in names


def test_annotations_of_an_output(build: Any, cli: Program, registry: str, source: Path, unique: str) -> None:
    name = f"{registry}/{unique}/app:1"
    marks = "annotation.a=1,annotation-manifest[linux/arm64].b=2,annotation-index.c=3"
    words = ("--platform=linux/amd64,linux/arm64", "-f", f"{source}/small")
    build(*words, "-o", f"type=registry,name={name},{marks}")
    found = remote(cli, name)
    assert found["annotations"] == {"c": "3"}
    repository = name.removesuffix(":1")
    amd, arm = (remote(cli, f"{repository}@{entry['digest']}")["annotations"] for entry in found["manifests"])
    assert (amd, arm) == ({"a": "1"}, {"a": "1", "b": "2"})
    cli("rmi", name)


def test_what_is_true_anyway_may_be_asked_for(build: Any, cli: Program, tmp_path: Path, unique: str) -> None:
    always = "rewrite-timestamp=true,oci-artifact=true,oci-mediatypes=true"
    build("-o", f"type=image,name={unique}:1,store=true,unpack=false,name-canonical=true,{always}")
    named = json.loads(cli("image", "inspect", "--format", "{{json .RepoDigests}}", f"{unique}:1").stdout)
    assert cli("image", "inspect", "--format", "ok", named[0]).stdout == "ok\n"
    build("-o", f"type=oci,dest={tmp_path}/o.tar,tar=true,{always}")
    build("-o", f"type=docker,dest={tmp_path}/d.tar,tar=true,{always}")
    cli("rmi", "-f", f"{unique}:1")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["-o", "type=what"], "unknown type 'what'"),
        (["-o", "type=local"], "dest is missing"),
        (["-o", "type=tar,dest=/nowhere/x.tar"], "there is no directory /nowhere"),
        (["-o", "type=tar,dest=/tmp"], "/tmp is a directory"),
        (["-o", "type=oci,dest=x,squash=1"], "unknown attribute 'squash'"),
        (["-o", "type=oci,dest=x,tar=perhaps"], "true or false"),
        (["-o", "type=oci,dest=-,tar=false"], "a directory cannot go to STDOUT"),
        (["-o", "-", "-o", "type=oci,dest=-"], "only one output"),
        (["-o", "type=cacheonly,dest=x"], "unknown attribute 'dest'"),
        (["--push"], "a push needs a name"),
        (["--push", "-t", "a", "--annotation", "index:a=b"], "only manifests can be annotated"),
        (["--annotation", "x"], "KEY=VALUE"),
        (["-o", "type=image,compression=lzma"], "unsupported compression"),
        (["-o", "type=image,compression=estargz"], "unsupported compression"),
        (["-o", "type=image,pushed=1"], "did you mean 'push'?"),
        (["-o", "type=image,push-by-diggest=true"], "did you mean 'push-by-digest'?"),
        (["-o", "type=image,buildinfo=true"], "provenance tells it now"),
        (["-o", "type=docker,context=other"], "--context or -H"),
        (["-o", "type=image,store=false"], "nowhere"),
        (["-o", "type=image,name=a,push-by-digest=true"], "nothing is pushed"),
        (["-o", "type=image,name=a:1,push=true,push-by-digest=true"], "a:1 has a tag"),
        (["-o", "type=oci,dest=x,oci-artifact=false"], "always OCI artifacts"),
        (["-o", "type=oci,dest=x,rewrite-timestamp=false"], "never later than the image's"),
        (["-o", "type=oci,dest=x,oci-mediatypes=false,annotation.a=b"], "neither annotations nor attestations"),
        (["-o", "type=oci,dest=x,oci-mediatypes=false", "--sbom=true"], "neither annotations nor attestations"),
        (["-o", "type=oci,dest=x,oci-mediatypes=false,compression=zstd"], "know gzip only"),
        (["-o", "type=image,unpack=often"], "true or false"),
        (["-o", "type=local,dest=x,attestation-prefix=a/b"], "no slash"),
        (["-o", "type=local,dest=x,mode=move"], "unknown mode 'move'"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_anything_is_built(build: Any, words: list[str], says: str) -> None:
    refused = build(*words, check=False)
    assert refused.returncode != 0
    assert says in refused.stderr and "Traceback" not in refused.stderr and "DONE" not in refused.stderr
