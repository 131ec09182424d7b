"""Builds for several platforms: one graph, an index in the store, and all that is done with it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

BOTH = ("--platform", "linux/amd64,linux/arm64")


@pytest.fixture
def source(tmp_path: Path, busybox_image: str) -> Path:
    path = tmp_path / "src"
    path.mkdir()
    (path / "Buildfile").write_text(
        f"FROM --platform=$BUILDPLATFORM {busybox_image} AS common\n"
        f"RUN echo {tmp_path} > /common\n"
        "FROM common AS build\n"
        "ARG TARGETARCH TARGETPLATFORM TARGETVARIANT\n"
        "RUN echo $TARGETARCH $TARGETPLATFORM $TARGETVARIANT > /out\n"
        "FROM scratch\n"
        "COPY --from=build /out /out\n"
        "COPY --from=common /common /common\n"
        "ENV A=b\n"
    )
    return path


@pytest.fixture
def name(cli: Program, unique: str) -> Iterator[str]:
    yield f"{unique}:1"
    cli("rmi", "-f", f"{unique}:1", check=False)


@pytest.fixture
def build(cli: Program, source: Path) -> Any:
    def run(*words: str, check: bool = True, text: bool = True, where: Path = source) -> Any:
        return cli("build", "--network=none", *words, where, check=check, text=text)

    return run


def layout(data: bytes) -> tuple[dict[str, Any], Callable[[str], Any]]:
    """The index.json of an archive, and what reads a document by its digest."""
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        files = {member.name: archive.extractfile(member) for member in archive if member.isfile()}
        content = {path: file.read() for path, file in files.items() if file is not None}

    def read(digest: str) -> Any:
        return json.loads(content[f"blobs/sha256/{digest.removeprefix('sha256:')}"])

    return json.loads(content["index.json"]), read


def test_what_platforms_share_is_executed_once_and_names_tell_platforms(build: Any, name: str) -> None:
    told = build(*BOTH, "-t", name, "--progress=plain").stderr
    assert told.count("RUN echo /tmp") - told.count("CACHED") <= 2  # its name heads its lines, and comes once more
    assert "[linux/amd64 common] RUN" in told and "[linux/amd64->arm64 build] RUN echo $TARGETARCH" in told
    assert "[linux/amd64 build] RUN echo $TARGETARCH" in told
    again = build(*BOTH, "-t", name, "--progress=plain").stderr
    assert "all cached" in again


def test_a_tag_names_an_index_with_all_its_images(build: Any, cli: Program, name: str, tmp_path: Path) -> None:
    build(*BOTH, "-t", name, "--iidfile", f"{tmp_path}/iid", "--metadata-file", f"{tmp_path}/meta")
    index = (tmp_path / "iid").read_text()
    told = json.loads((tmp_path / "meta").read_text())
    assert told["containerimage.digest"] == index
    assert told["containerimage.descriptor"]["mediaType"] == "application/vnd.oci.image.index.v1+json"
    here, arm = (
        json.loads(cli("image", "inspect", *words, name).stdout)[0] for words in ((), ("--platform", "linux/aarch64"))
    )
    assert (here["Architecture"], arm["Architecture"]) == ("amd64", "arm64")
    assert here["Descriptor"]["digest"] == index
    assert json.loads(cli("image", "inspect", index).stdout)[0]["Id"] == here["Id"]
    listed = cli("images", "--no-trunc", "-q", name).stdout.split()
    assert listed == [here["Id"]]
    assert "ENV A=b" in cli("history", "--platform", "linux/arm64", name).stdout
    missing = cli("image", "inspect", "--platform", "linux/s390x", name, check=False)
    assert missing.returncode == 1 and "does not provide the specified platform (linux/s390x)" in missing.stderr


def test_a_name_is_copied_and_removed_with_the_whole_index(build: Any, cli: Program, name: str) -> None:
    build(*BOTH, "-t", name)
    arm = json.loads(cli("image", "inspect", "--platform", "linux/arm64", name).stdout)[0]["Id"]
    cli("image", "prune", "-f")
    cli("system", "check")
    assert arm in cli("images", "-aq", "--no-trunc").stdout
    refused = cli("rmi", arm, check=False)
    assert refused.returncode == 1 and f"one platform's image of {name}" in refused.stderr
    cli("tag", name, f"{name}2")
    cli("rmi", name)
    assert json.loads(cli("image", "inspect", "--platform", "linux/arm64", f"{name}2").stdout)[0]["Id"] == arm
    gone = cli("rmi", f"{name}2").stdout
    assert f"Deleted: {arm}" in gone
    assert arm not in cli("images", "-aq", "--no-trunc").stdout


def test_archives_hold_the_index(build: Any, cli: Program, name: str, tmp_path: Path) -> None:
    build(
        *(*BOTH, "-t", name, "--annotation", "index:a=1", "--annotation", "manifest[linux/arm64]:b=2"),
        *("--annotation", "index-descriptor:c=3", "--annotation", "manifest-descriptor[linux/amd64]:d=4"),
        *("--annotation", "manifest,index:e=5", "-o", f"type=oci,dest={tmp_path}/oci.tar", "--provenance=true"),
    )
    top, read = layout((tmp_path / "oci.tar").read_bytes())
    assert top["manifests"][0]["annotations"]["c"] == "3"
    index = read(top["manifests"][0]["digest"])
    assert index["annotations"] == {"a": "1", "e": "5"}
    amd, arm, *stated = index["manifests"]
    assert amd["annotations"] == {"d": "4"} and amd["platform"] == {"architecture": "amd64", "os": "linux"}
    assert read(arm["digest"])["annotations"] == {"b": "2", "e": "5"}
    assert read(amd["digest"])["annotations"] == {"e": "5"}
    assert [each["platform"] for each in stated] == [{"architecture": "unknown", "os": "unknown"}] * 2
    assert [each["annotations"]["vnd.docker.reference.digest"] for each in stated] == [amd["digest"], arm["digest"]]
    build(*BOTH, "-t", name)
    top, read = layout(cli("save", name, text=False).stdout)
    assert [each["platform"]["architecture"] for each in read(top["manifests"][0]["digest"])["manifests"]] == [
        "amd64",
        "arm64",
    ]
    docker = tmp_path / "docker.tar"
    docker.write_bytes(cli("save", name, text=False).stdout)
    index = json.loads(cli("image", "inspect", name).stdout)[0]["Descriptor"]["digest"]
    cli("rmi", name)
    assert cli("load", "-i", docker).stdout == f"Loaded image: {name}\n"
    assert "ENV A=b" in cli("history", "--platform", "linux/arm64", name).stdout
    assert json.loads(cli("image", "inspect", index).stdout)[0]["Descriptor"]["digest"] == index
    one, read = layout(cli("save", "--platform", "linux/arm64", name, text=False).stdout)
    assert read(read(one["manifests"][0]["digest"])["config"]["digest"])["architecture"] == "arm64"


def test_directories_and_tars_have_one_directory_a_platform(build: Any, source: Path, tmp_path: Path) -> None:
    build(*BOTH, "-o", f"{tmp_path}/out", "--provenance=true")
    assert (tmp_path / "out/linux_amd64/out").read_text() == "amd64 linux/amd64\n"
    assert (tmp_path / "out/linux_arm64/out").read_text() == "arm64 linux/arm64\n"
    assert (tmp_path / "out/linux_arm64/provenance.json").exists()
    build(*BOTH, "-o", f"type=tar,dest={tmp_path}/out.tar")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert {"linux_amd64/out", "linux_arm64/out"} <= set(archive.getnames())
    for kind in ("local", "tar"):
        refused = build(*BOTH, "-o", f"type={kind},dest={tmp_path}/flat-{kind},platform-split=false", check=False)
        assert refused.returncode == 1 and "is in the images of linux/amd64 and of linux/arm64" in refused.stderr
        assert not (tmp_path / f"flat-{kind}").exists()
    (source / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Buildfile /app-$TARGETARCH\n")
    build(*BOTH, "-o", f"type=local,dest={tmp_path}/one,platform-split=false", "--provenance=true")
    assert sorted(path.name for path in (tmp_path / "one").iterdir()) == [
        "app-amd64",
        "app-arm64",
        "provenance.linux_amd64.json",
        "provenance.linux_arm64.json",
    ]
    build("-o", f"type=local,dest={tmp_path}/split,platform-split=true")
    assert (tmp_path / "split/linux_amd64/app-amd64").exists()
    build("-o", f"type=tar,dest={tmp_path}/stated.tar", "--provenance=true")
    with tarfile.open(tmp_path / "stated.tar") as archive:
        assert {"app-amd64", "provenance.json"} <= set(archive.getnames())


def test_a_push_is_of_the_whole_index_and_pulls_join_it(
    build: Any, cli: Program, registry: str, unique: str, tmp_path: Path
) -> None:
    name = f"{registry}/{unique}:1"
    build(*BOTH, "-t", name, "--push", "--sbom=true", "--metadata-file", f"{tmp_path}/meta")
    pushed = json.loads((tmp_path / "meta").read_text())["containerimage.digest"]
    remote = json.loads(cli("manifest", "inspect", "--insecure", name).stdout)
    assert [each["platform"]["architecture"] for each in remote["manifests"]] == [
        "amd64",
        "arm64",
        "unknown",
        "unknown",
    ]
    assert pushed in cli("image", "inspect", name).stdout
    cli("rmi", name)
    for platform in ("linux/arm64", "linux/amd64"):
        cli("pull", "-q", "--platform", platform, name)
    told = [
        json.loads(cli("image", "inspect", *words, name).stdout)[0]["Architecture"]
        for words in ((), ("--platform", "linux/arm64"), ("--platform", "linux/amd64"))
    ]
    assert told == ["amd64", "arm64", "amd64"]
    cli("rmi", name)


def test_bases_of_other_platforms_come_from_their_registry(
    build: Any, cli: Program, registry: str, unique: str, tmp_path: Path
) -> None:
    base = f"{registry}/{unique}-base:1"
    build(*BOTH, "-t", base, "--push")
    cli("rmi", base)
    source = tmp_path / "user"
    source.mkdir()
    (source / "Buildfile").write_text(f"FROM {base}\nCOPY Buildfile /mine\n")
    build(*BOTH, "-o", f"{tmp_path}/two", where=source)
    assert (tmp_path / "two/linux_arm64/out").read_text() == "arm64 linux/arm64\n"
    assert (tmp_path / "two/linux_amd64/out").read_text() == "amd64 linux/amd64\n"
    cli("rmi", base)


def test_a_container_of_a_platform(build: Any, cli: Program, name: str) -> None:
    build(*BOTH, "-t", name)
    container = cli("create", "--platform", "linux/arm64", name, "/none").stdout.strip()
    image = json.loads(cli("inspect", container).stdout)[0]["Image"]
    assert image == json.loads(cli("image", "inspect", "--platform", "linux/arm64", name).stdout)[0]["Id"]
    cli("rm", container)


def test_one_cache_serves_all_platforms(build: Any, source: Path, tmp_path: Path, name: str) -> None:
    build(*BOTH, "-t", name, "--cache-to", f"type=local,dest={tmp_path}/cache,mode=max")
    assert len(list((tmp_path / "cache/blobs/sha256").iterdir())) > 4


@pytest.fixture
def fresh(make_daemon: Callable[..., Daemon]) -> Iterator[Program]:
    """A client of a machine on which nothing was built yet."""
    daemon = make_daemon()
    load_busybox(daemon)
    yield Program(BUILDTOOL, {**daemon.environment, "NO_COLOR": "1"})
    daemon.close()


@pytest.mark.parametrize("kind", ["registry", "inline", "local"])
def test_every_platform_finds_its_results_in_a_cache_that_travels(
    build: Any, cli: Program, fresh: Program, source: Path, registry: str, unique: str, tmp_path: Path, kind: str
) -> None:
    name = f"{registry}/{unique}/app:1"
    (source / "Buildfile").write_text(  # all of it is in the images' layers, which is what an inline cache has
        f"FROM busybox\nARG TARGETARCH\nRUN echo {tmp_path} $TARGETARCH > /made\n"
    )
    to, origin = {
        "registry": (f"type=registry,ref={name}-cache,mode=max", f"{name}-cache"),
        "inline": ("type=inline", name),
        "local": (f"type=local,dest={tmp_path}/cache,mode=max", f"type=local,src={tmp_path}/cache"),
    }[kind]
    build(*BOTH, "-t", name, "--push", "--cache-to", to)
    words = ("build", "--network=none", "--progress=plain", "--cache-from", origin)
    assert "all cached" in fresh(*words, *BOTH, "-t", "app:1", source).stderr
    here, there = (
        json.loads(program("image", "inspect", image).stdout)[0]["RootFS"]
        for program, image in ((cli, name), (fresh, "app:1"))
    )
    assert here == there
    cli("rmi", name)


def test_the_epoch_counts_for_all_platforms_and_the_index_is_reproducible(
    build: Any, cli: Program, source: Path, name: str, tmp_path: Path
) -> None:
    epoch = ("--build-arg", "SOURCE_DATE_EPOCH=1500000000")
    told = build(*BOTH, *epoch, "-t", name, "--verify-reproducible").stderr
    assert "reproducible: both builds made sha256:" in told
    for platform in ("linux/amd64", "linux/arm64"):
        shown = json.loads(cli("image", "inspect", "--platform", platform, name).stdout)[0]
        assert shown["Created"].startswith("2017-07-14T02:40:00")
    build(*BOTH, *epoch, "-o", f"type=tar,dest={tmp_path}/out.tar")
    with tarfile.open(tmp_path / "out.tar") as archive:
        assert {member.mtime for member in archive if member.isfile()} == {1500000000}
    (source / "Buildfile").write_text(
        "FROM --platform=$BUILDPLATFORM busybox AS made\nARG TARGETARCH\n"
        "RUN if [ $TARGETARCH = arm64 ]; then date +%s%N; fi > /time\nFROM scratch\nCOPY --from=made /time /\n"
    )
    images = set(cli("images", "-aq", "--no-trunc").stdout.split())
    refused = build(*BOTH, "-t", name, "--verify-reproducible", check=False)
    assert refused.returncode == 1 and "not reproducible" in refused.stderr
    assert "for linux/arm64:\n" in refused.stderr and "for linux/amd64" not in refused.stderr
    assert "time content:" in refused.stderr
    assert len(set(cli("images", "-aq", "--no-trunc").stdout.split()) - images) == 2


def test_a_run_for_a_platform_that_cannot_run_is_refused_at_once(
    build: Any, source: Path, busybox_image: str
) -> None:
    (source / "Buildfile").write_text(
        f"FROM {busybox_image} AS slow\nRUN echo never > /done\nFROM scratch\nCOPY --from=slow /done /\n\nRUN ls\n"
    )
    refused = build("--platform", "linux/s390x", "--progress=plain", check=False)
    assert refused.returncode == 1
    assert "Buildfile:6:1: this RUN executes programs for linux/s390x" in refused.stderr
    assert "qemu-user-static" in refused.stderr and "echo never > /done\n#" not in refused.stderr


@pytest.mark.parametrize("platforms", ["linux/arm64", "linux/amd64,linux/arm64"])
def test_a_base_that_was_made_here_for_another_platform_is_taken_with_a_warning(
    build: Any, source: Path, busybox_image: str, platforms: str
) -> None:
    (source / "Buildfile").write_text(f"FROM {busybox_image}\nCOPY Buildfile /\n")
    told = build("--platform", platforms, "-o", "type=cacheonly", "--progress=plain").stderr
    assert f"Base image {busybox_image.removesuffix(':latest')}" in told and 'expected "linux/arm64"' in told


@pytest.mark.parametrize("platforms", ["linux/s390x", "linux/amd64,linux/s390x"])
def test_an_index_without_the_platform_is_no_base(build: Any, source: Path, name: str, platforms: str) -> None:
    build(*BOTH, "-t", name)
    (source / "Buildfile").write_text(f"FROM {name}\n")
    refused = build("--platform", platforms, check=False)
    assert refused.returncode == 1 and "Buildfile:1:6" in refused.stderr
    assert "is in the local store for linux/amd64, linux/arm64, not for linux/s390x" in refused.stderr


def test_an_image_alone_under_its_name_in_a_registry_is_a_base_for_any_platform(
    build: Any, cli: Program, source: Path, registry: str, unique: str
) -> None:
    base = f"{registry}/{unique}-single:1"
    build("-t", base, "--push")
    (source / "Buildfile").write_text(f"FROM {base}\nCOPY Buildfile /\n")
    for _ in range(2):  # it is fetched first, and here then
        cli("rmi", base, check=False)
        cli("pull", "-q", base)
        for platforms in ("linux/arm64", "linux/amd64,linux/arm64"):
            told = build("--platform", platforms, "-o", "type=cacheonly", "--progress=plain").stderr
            assert 'pulled with platform "linux/amd64", expected "linux/arm64"' in told
        cli("rmi", base)
        build("--platform", "linux/arm64", "-o", "type=cacheonly")
    index = f"{registry}/{unique}-index:1"
    (source / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Buildfile /$TARGETARCH\n")
    build(*BOTH, "-t", index, "--push")
    cli("rmi", index)
    cli("pull", "-q", index)
    (source / "Buildfile").write_text(f"FROM {index}\n")
    build("--platform", "linux/arm64", "-o", source.parent / "arm")  # one platform is here, the other there
    assert (source.parent / "arm/arm64").exists()
    cli("rmi", index, base)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--platform", "linux/amd64,mips/"), "invalid platform"),
        (("--platform", "vax"), "unknown operating system or architecture"),
        (("--annotation", "index:a=1"), "only manifests can be annotated"),
        ((*BOTH, "--annotation", "manifest[linux/s390x]:a=1"), "nothing is built for linux/s390x"),
        ((*BOTH, "--annotation", "index[linux/amd64]:a=1"), "an index has no platform"),
        ((*BOTH, "--annotation", "layer:a=1"), "nothing is called 'layer'"),
    ],
)
def test_wrong_words_are_refused(build: Any, words: tuple[str, ...], why: str) -> None:
    refused = build(*words, check=False)
    assert refused.returncode != 0 and why in refused.stderr
