"""Query parameters that clients of newer or of older API versions send: each means what Docker means by it."""

from __future__ import annotations

import io
import json
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from buildtool.runtime.apparmor import KERNEL
from tests.conftest import Daemon
from tests.web import web_server


def tar_of(**files: str) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


def build(daemon: Daemon, query: str, dockerfile: str) -> tuple[int, list[dict[str, Any]]]:
    headers = {"Content-Type": "application/x-tar"}
    status, data = daemon.raw("POST", f"/build?{query}", tar_of(Dockerfile=dockerfile), headers)
    return status, [json.loads(line) for line in data.splitlines()]


def refused(daemon: Daemon, method: str, path: str, status: int = 400) -> str:
    code, data = daemon.raw(method, path)
    assert code == status, data
    return str(json.loads(data)["message"])


@pytest.fixture
def platforms(daemon: Daemon, unique: str) -> dict[str, str]:
    """A name that means images of two platforms: platform to image id."""
    body = {
        "dockerfile": f"FROM scratch\nLABEL a={unique}\nARG TARGETPLATFORM\nLABEL p=$TARGETPLATFORM\n",
        "tags": [f"{unique}:x"],
        "platform": "linux/amd64,linux/arm64",
    }
    status, data = daemon.raw("POST", "/buildtool/v1/build", body)
    assert status == 200, data
    ids = {}
    for platform in ("linux/amd64", "linux/arm64"):
        shown = daemon.request("GET", f"/images/{unique}:x/json?platform={quote(json.dumps(split(platform)))}")
        assert f"{shown['Os']}/{shown['Architecture']}" == platform
        ids[platform] = shown["Id"]
    return ids


def split(platform: str) -> dict[str, str]:
    os, architecture = platform.split("/")
    return {"os": os, "architecture": architecture}


def test_start_takes_detach_keys(daemon: Daemon, container: Callable[..., str]) -> None:
    identity = container("sleep", "60", start=False, Tty=True, OpenStdin=True)
    assert "ctrl" in refused(daemon, "POST", f"/containers/{identity}/start?detachKeys=ctrl-1")
    assert daemon.raw("POST", f"/containers/{identity}/start?detachKeys=ctrl-x,x")[0] == 204


def test_lists_of_images(daemon: Daemon, platforms: dict[str, str], unique: str) -> None:
    only = "filters=" + quote(json.dumps({"reference": [unique]}))
    shown = daemon.request("GET", f"/images/json?digests=1&manifests=1&identity=1&{only}")
    assert all(isinstance(image["RepoDigests"], list) for image in shown)
    assert {len(image["Manifests"]) for image in shown} == {2}
    assert all("Identity" not in image for image in shown)
    assert all("Manifests" not in image for image in daemon.request("GET", f"/v1.46/images/json?manifests=1&{only}"))
    shared = daemon.request("GET", f"/images/json?shared-size=1&{only}")
    assert all(image["SharedSize"] >= 0 for image in shared)
    older = daemon.request("GET", f"/v1.41/images/json?shared-size=1&{only}")
    assert all(image["SharedSize"] == -1 for image in older)


def test_an_image_is_inspected_with_its_manifests_or_for_a_platform(
    daemon: Daemon, platforms: dict[str, str], unique: str
) -> None:
    name = f"{unique}:x"
    assert len(daemon.request("GET", f"/images/{name}/json?manifests=1")["Manifests"]) == 2
    arm = quote(json.dumps(split("linux/arm64")))
    assert refused(daemon, "GET", f"/images/{name}/json?manifests=1&platform={arm}") == (
        "conflicting options: manifests and platform options cannot both be set"
    )
    assert "Manifests" not in daemon.request("GET", f"/v1.47/images/{name}/json?manifests=1")
    mine = daemon.request("GET", f"/images/{name}/json")["Id"]
    assert daemon.request("GET", f"/v1.48/images/{name}/json?platform={arm}")["Id"] == mine
    assert "failed to parse platform" in refused(daemon, "GET", f"/images/{name}/json?platform=%7B%22a%22%3A1%7D")
    assert len(daemon.request("GET", f"/images/{name}/history?platform={arm}")) == 3
    status, data = daemon.raw("GET", f"/images/{name}/get?platform={arm}")
    assert status == 200
    with tarfile.open(fileobj=io.BytesIO(data)) as archive:
        manifest = json.load(archive.extractfile("manifest.json"))  # type: ignore[arg-type]
    assert len(manifest) == 1


def test_platforms_of_a_name_are_deleted_one_by_one(daemon: Daemon, platforms: dict[str, str], unique: str) -> None:
    name, arm = f"{unique}:x", quote(json.dumps(split("linux/arm64")))
    missing = quote(json.dumps(split("linux/s390x")))
    assert "does not provide the specified platform" in refused(
        daemon, "DELETE", f"/images/{name}?platforms={missing}", 404
    )
    records = daemon.request("DELETE", f"/images/{name}?platforms={arm}")
    assert {"Deleted": platforms["linux/arm64"]} in records
    assert daemon.request("GET", f"/images/{name}/json")["Id"] == platforms["linux/amd64"]
    assert daemon.raw("GET", f"/images/{platforms['linux/arm64']}/json")[0] == 404
    amd = quote(json.dumps(split("linux/amd64")))
    records = daemon.request("DELETE", f"/images/{name}?platforms={amd}")
    assert {"Untagged": name} in records
    assert daemon.raw("GET", f"/images/{name}/json")[0] == 404


def test_a_name_with_all_platforms_goes_for_older_clients(
    daemon: Daemon, platforms: dict[str, str], unique: str
) -> None:
    arm = quote(json.dumps(split("linux/arm64")))
    records = daemon.request("DELETE", f"/v1.49/images/{unique}:x?platforms={arm}")
    assert {record["Deleted"] for record in records if "Deleted" in record} >= set(platforms.values())


def test_builds_take_cachefrom_rm_and_forcerm(daemon: Daemon, busybox_image: str, unique: str) -> None:
    dockerfile = f"FROM {busybox_image}\nRUN echo {unique}\n"
    names = quote(json.dumps([busybox_image, "127.0.0.1:1/nobody/there:1"]))
    status, lines = build(daemon, f"rm=0&forcerm=1&cachefrom={names}", dockerfile)
    assert status == 200
    assert any("aux" in line for line in lines), lines
    assert build(daemon, "cachefrom=%7B", dockerfile)[0] == 400
    assert build(daemon, "cachefrom=%5B1%5D", dockerfile)[0] == 400
    assert build(daemon, "cachefrom=null", dockerfile)[0] == 200


def test_the_build_cache_is_pruned_down_to_a_size(make_daemon: Callable[..., Daemon]) -> None:
    daemon = make_daemon()
    try:
        body = {"dockerfile": "FROM scratch\nCOPY <<EOF /a\nx\nEOF\nCOPY <<EOF /b\ny\nEOF\n", "tags": []}
        assert daemon.raw("POST", "/buildtool/v1/build", body)[0] == 200
        assert daemon.request("GET", "/system/df?type=build-cache&verbose=1")["BuildCache"]
        assert daemon.request("POST", "/build/prune?all=1&reserved-space=10000000000")["CachesDeleted"] is None
        assert daemon.request("POST", "/build/prune?all=1&max-used-space=10000000000")["CachesDeleted"] is None
        assert daemon.request("POST", "/build/prune?all=1&min-free-space=1")["CachesDeleted"] is None
        assert daemon.request("POST", "/v1.47/build/prune?all=1&keep-storage=10000000000")["CachesDeleted"] is None
        assert "not negative" in refused(daemon, "POST", "/build/prune?max-used-space=-1")
        assert "not an integer" in refused(daemon, "POST", "/build/prune?min-free-space=x")
        assert daemon.raw("POST", "/v1.47/build/prune?reserved-space=-1")[0] == 200
    finally:
        daemon.close()


def test_networks_are_inspected_verbosely_and_by_scope(daemon: Daemon) -> None:
    assert daemon.request("GET", "/networks/bridge?verbose=true&scope=local")["Name"] == "bridge"
    assert refused(daemon, "GET", "/networks/bridge?verbose=maybe") == (
        'invalid value for verbose: maybe: strconv.ParseBool: parsing "maybe": invalid syntax'
    )
    assert "not found" in refused(daemon, "GET", "/networks/bridge?scope=swarm", 404)


def test_only_cluster_volumes_have_versions(daemon: Daemon) -> None:
    assert "cluster" in refused(daemon, "PUT", "/volumes/nope?version=3", 501)


def test_disk_usage_of_some_types_only(daemon: Daemon) -> None:
    shown = daemon.request("GET", "/system/df?type=volume&type=container&verbose=1")
    assert shown["Images"] is None and shown["Containers"] is not None and shown["Volumes"] is not None
    assert "unknown object type" in refused(daemon, "GET", "/system/df?type=secret")


def test_flags_of_docker_for_what_is_not_here(cli: Any, busybox_image: str, tmp_path: Any, unique: str) -> None:
    (tmp_path / "Dockerfile").write_text(f"FROM {busybox_image}\nLABEL a={unique}\n")
    assert 'no builder "x" found' in cli("build", "--builder", "x", tmp_path, check=False).stderr
    cli("build", "-q", "--builder", "default", "--compress", "--disable-content-trust", tmp_path)
    done = cli("build", "--security-opt", "a=b", tmp_path, check=False)
    assert "does not support setting security options on build" in done.stderr
    assert cli("run", "--rm", "--kernel-memory", "8m", busybox_image, "echo", "there").stdout == "there\n"
    shown = cli("images", "--tree", busybox_image)
    assert busybox_image in shown.stdout and "└─ linux/" in shown.stdout
    assert "--tree" in cli("images", "--tree", "-q", check=False).stderr


def test_kernel_memory_is_warned_of_as_long_as_there_was_one(daemon: Daemon, busybox_image: str) -> None:
    body = {"Image": busybox_image, "HostConfig": {"KernelMemory": 8 << 20}}
    for version, warnings in (("v1.41", 1), ("v1.50", 0)):
        made = daemon.request("POST", f"/{version}/containers/create", body)
        assert len([text for text in made["Warnings"] if "kernel memory" in text]) == warnings
        daemon.raw("DELETE", f"/containers/{made['Id']}?force=1")


def test_profiles_of_apparmor_are_told_and_passed_over_where_there_is_none(
    daemon: Daemon, container: Callable[..., str]
) -> None:
    has = "name=apparmor" in daemon.request("GET", "/info")["SecurityOptions"]
    assert has is KERNEL.supported()
    plain = daemon.request("GET", f"/containers/{container('true')}/json")
    assert plain["AppArmorProfile"] == ("buildtool-default" if has else "")
    if not has:
        identity = container("true", HostConfig={"SecurityOpt": ["apparmor=some-profile"]})
        assert daemon.request("GET", f"/containers/{identity}/json")["AppArmorProfile"] == "some-profile"


def test_a_file_system_is_imported_from_a_url(
    daemon: Daemon, cli: Any, docker: Any, busybox_image: str, tmp_path: Path, unique: str
) -> None:
    with web_server(tmp_path / "repositories") as web:
        web.files["/root.tar"] = tar_of(made="by the web")
        for number, client in enumerate((cli, docker)):
            said = client("import", "-c", "CMD cat /made", f"{web.url}/root.tar", f"{unique}:{number}").stdout
            assert "sha256:" in said
            shown = daemon.request("GET", f"/images/{unique}:{number}/json")
            assert shown["Config"]["Cmd"] == ["/bin/sh", "-c", "cat /made"]
            cli("rmi", f"{unique}:{number}")
        done = cli("import", f"{web.url}/nothing.tar", check=False)
        assert done.returncode == 1 and "404" in done.stderr
    assert "invalid source" in refused(daemon, "POST", "/images/create?fromSrc=ftp://x/y")


@pytest.mark.parametrize("server", ["a b", "é", "http://a b/v1/"])
def test_what_is_no_registrys_address_is_refused(daemon: Daemon, server: str) -> None:
    body = {"username": "u", "password": "p", "serveraddress": server}
    status, data = daemon.raw("POST", "/auth", body)
    assert status == 400 and "invalid registry address" in json.loads(data)["message"]
