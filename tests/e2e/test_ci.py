"""`ci build` as a job of GitHub and of GitLab would run it, with a registry, on more than one machine."""

from __future__ import annotations

import json
import urllib.request
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

import bcrypt

from tests.conftest import BUILDTOOL, Daemon, Program, load_busybox

SHA = "0123456789abcdef0123456789abcdef01234567"
BUILDFILE = "FROM busybox as base\nRUN cat /proc/sys/kernel/random/uuid > /made\nCMD cat /made\n"


def github(folder: Path, ref: str) -> dict[str, str]:
    return {
        "GITHUB_ACTIONS": "true",
        "GITHUB_REF": ref,
        "GITHUB_SHA": SHA,
        "GITHUB_REPOSITORY": "team/app",
        "GITHUB_STEP_SUMMARY": str(folder / "summary"),
        "GITHUB_OUTPUT": str(folder / "output"),
        "GITHUB_EVENT_PATH": "",
        "GITHUB_BASE_REF": "",
    }


def test_a_job_on_another_machine_builds_what_the_first_one_built(
    cli: Program,
    busybox_image: str,
    make_daemon: Callable[..., Daemon],
    start_registry: Callable[..., str],
    tmp_path: Path,
) -> None:
    image = f"{start_registry()}/team/app"
    (tmp_path / "Buildfile").write_text(BUILDFILE)
    words = ("ci", "build", "--network", "none", "--image", image, str(tmp_path))
    first = cli(*words, env=github(tmp_path, "refs/heads/main"))
    names = [line.partition("@")[0] for line in first.stdout.split()]
    assert names == [f"{image}:main", f"{image}:latest", f"{image}:sha-0123456"]
    assert "::group::Build" in first.stderr and "::endgroup::" in first.stderr
    assert f"::warning file={tmp_path}/Buildfile,line=1" in first.stderr
    assert "| executed |" in (tmp_path / "summary").read_text()
    output = (tmp_path / "output").read_text()
    assert f"digest={first.stdout.split()[0].partition('@')[2]}" in output and "imageid=sha256:" in output

    other = make_daemon()
    load_busybox(other)
    try:
        (tmp_path / "summary").unlink()
        second = Program(BUILDTOOL, other.environment)(*words, env=github(tmp_path, "refs/pull/7/merge"))
        assert second.stdout.split() == [f"{image}:pr-7", f"{image}:sha-0123456"]
        assert "2 of 2 steps from the cache, 0 executed" in (tmp_path / "summary").read_text()
    finally:
        other.close()


def test_an_index_of_a_job_goes_to_the_jobs_own_registry_with_its_token(
    cli: Program, start_registry: Callable[..., str], tmp_path: Path
) -> None:
    users = tmp_path / "users"
    users.write_text("gitlab-ci-token:" + bcrypt.hashpw(b"job-token", bcrypt.gensalt(4)).decode() + "\n")
    host = start_registry("--htpasswd", str(users))
    source = tmp_path / "source"
    source.mkdir()
    (source / "Buildfile").write_text("FROM scratch\nARG TARGETARCH\nCOPY Buildfile /$TARGETARCH\n")
    environment = {
        "GITHUB_ACTIONS": "",
        "GITLAB_CI": "true",
        "CI_COMMIT_TAG": "",
        "CI_COMMIT_BRANCH": "main",
        "CI_DEFAULT_BRANCH": "main",
        "CI_COMMIT_SHA": SHA,
        "CI_REGISTRY": host,
        "CI_REGISTRY_IMAGE": f"{host}/team/app",
        "CI_JOB_TOKEN": "job-token",
        "DOCKER_CONFIG": str(tmp_path / "config"),
    }
    words = ("ci", "build", "--platform=linux/amd64,linux/arm64", "--dotenv", str(tmp_path / "env"), str(source))
    done = cli(*words, "--summary", str(tmp_path / "summary"), env=environment)
    names = dict(line.split("@") for line in done.stdout.split())
    assert list(names) == [f"{host}/team/app:main", f"{host}/team/app:latest", f"{host}/team/app:sha-0123456"]
    values = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert {values["IMAGE_DIGEST"]} == set(names.values())
    assert f"| Digest | `{values['IMAGE_DIGEST']}` |" in (tmp_path / "summary").read_text()
    assert "| Size | " in (tmp_path / "summary").read_text()
    assert "| `COPY Buildfile /" in (tmp_path / "summary").read_text()
    request = urllib.request.Request(f"http://{host}/v2/team/app/manifests/latest")
    request.add_header("Authorization", "Basic " + b64encode(b"gitlab-ci-token:job-token").decode())
    index = json.loads(urllib.request.urlopen(request).read())
    assert [entry["platform"]["architecture"] for entry in index["manifests"]] == ["amd64", "arm64"]
    assert not (tmp_path / "config").exists()  # the login was the job's only
    cli("rmi", *names)


def test_a_failure_is_told_on_the_page_and_in_the_exit_code(cli: Program, busybox_image: str, tmp_path: Path) -> None:
    (tmp_path / "Buildfile").write_text("FROM busybox\nRUN echo gone wrong; false\n")
    words = ("ci", "build", "--network", "none", "--image", "x.example/y", "--push=false", "--cache", "none")
    done = cli(*words, str(tmp_path), env=github(tmp_path, "refs/heads/main"), check=False)
    assert done.returncode == 1 and f"::error file={tmp_path}/Buildfile,line=2" in done.stderr
    text = (tmp_path / "summary").read_text()
    assert "gone wrong" in text and "**failed**" in text


def test_a_job_of_gitlab_leaves_its_reports(cli: Program, busybox_image: str, tmp_path: Path) -> None:
    (tmp_path / "Buildfile").write_text(BUILDFILE)
    environment = {
        "GITHUB_ACTIONS": "",
        "GITLAB_CI": "true",
        "CI_MERGE_REQUEST_IID": "",
        "CI_COMMIT_TAG": "v1.2.3",
        "CI_COMMIT_SHA": SHA,
    }
    reports = ("--dotenv", str(tmp_path / "env"), "--code-quality", str(tmp_path / "quality.json"))
    words = ("ci", "build", "--network", "none", "--image", "x.example/y", "--push=false", "--cache=none", *reports)
    done = cli(*words, "--label", "own=1", str(tmp_path), env=environment)
    assert done.stdout.split()[:2] == ["x.example/y:1.2.3", "x.example/y:1.2"]
    assert "section_start:" in done.stderr and "section_end:" in done.stderr
    values = dict(line.split("=", 1) for line in (tmp_path / "env").read_text().splitlines())
    assert values["IMAGE"] == "x.example/y:1.2.3"
    [found] = json.loads((tmp_path / "quality.json").read_text())[:1]
    assert found["location"]["lines"]["begin"] == 1
    [inspected] = json.loads(cli("inspect", values["IMAGE_ID"]).stdout)
    assert inspected["Config"]["Labels"]["own"] == "1"
    assert inspected["Config"]["Labels"]["org.opencontainers.image.revision"] == SHA
    cli("rmi", "-f", values["IMAGE_ID"])
