"""SBOM and provenance from the command line: made by a build, saved, pushed, and read again by us and by others."""

from __future__ import annotations

import json
import shutil
import subprocess
import tarfile
import urllib.request
from pathlib import Path
from typing import Any

import pytest

STATUS = "Package: base\nStatus: install ok installed\nVersion: 1.0\nArchitecture: all\n"
SPDX, SLSA = "https://spdx.dev/Document", "https://slsa.dev/provenance/v1"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    context = tmp_path / "context"
    context.mkdir()
    (context / "status").write_text(STATUS)
    (context / "Buildfile").write_text("FROM busybox\nARG NPM_TOKEN\nCOPY status /var/lib/dpkg/status\n")
    return context


def _get(url: str) -> Any:
    accept = {"Accept": "application/vnd.oci.image.index.v1+json, application/vnd.oci.image.manifest.v1+json"}
    with urllib.request.urlopen(urllib.request.Request(url, headers=accept), timeout=10) as answer:
        return json.load(answer)


def test_a_pushed_image_has_its_attestations_beside_it(
    cli: Any, busybox_image: str, registry: str, unique: str, context: Path
) -> None:
    name = f"{registry}/{unique}/app:1"
    token = ["--build-arg", "NPM_TOKEN=npm-swordfish"]
    cli("build", "-q", "--provenance=mode=max", "--sbom=true", *token, "-t", name, str(context))
    local = json.loads(cli("image", "provenance", name).stdout)
    assert local["buildDefinition"]["externalParameters"]["request"]["args"] == {"build-arg:NPM_TOKEN": "***"}
    statement = json.loads(cli("image", "provenance", "--statement", name).stdout)
    assert statement["predicateType"] == SLSA and statement["predicate"] == local
    sbom = json.loads(cli("image", "sbom", name).stdout)
    assert [package["name"] for package in sbom["packages"]][1:] == ["base"]
    cyclonedx = json.loads(cli("image", "sbom", "--format", "cyclonedx", name).stdout)
    assert [component["purl"] for component in cyclonedx["components"]] == ["pkg:deb/debian/base@1.0?arch=all"]

    cli("push", name)

    base = f"http://{registry}/v2/{unique}/app"
    runnable, stated = _get(f"{base}/manifests/1")["manifests"]
    assert stated["annotations"]["vnd.docker.reference.digest"] == runnable["digest"]
    (referrer,) = _get(f"{base}/referrers/{runnable['digest']}")["manifests"]
    assert referrer["digest"] == stated["digest"]
    layers = _get(f"{base}/manifests/{stated['digest']}")["layers"]
    assert [layer["annotations"]["in-toto.io/predicate-type"] for layer in layers] == [SLSA, SPDX]
    for layer in layers:
        pushed = _get(f"{base}/blobs/{layer['digest']}")
        assert pushed["subject"][0]["digest"]["sha256"] == runnable["digest"][7:]
        assert "swordfish" not in json.dumps(pushed)

    cli("rmi", name)
    cli("pull", name)
    assert json.loads(cli("image", "provenance", name).stdout) == local
    assert json.loads(cli("image", "provenance", "--remote", name).stdout) == local
    other = f"{registry}/{unique}/other:1"
    cli("tag", name, other)
    cli("push", other)
    assert json.loads(cli("image", "provenance", "--remote", other).stdout) == local
    (again, _) = _get(f"http://{registry}/v2/{unique}/other/manifests/1")["manifests"]
    assert again == runnable
    assert json.loads(cli("image", "sbom", "--remote", name).stdout) == sbom
    absent = cli("image", "sbom", "--remote", "--format", "cyclonedx", name, check=False)
    assert absent.returncode == 1 and "no attestation of type https://cyclonedx.org/bom" in absent.stderr


def test_a_saved_image_is_read_by_others(
    cli: Any, busybox_image: str, unique: str, context: Path, tmp_path: Path
) -> None:
    cli("build", "-q", "--attest", "type=sbom", "-t", unique, str(context))
    archive = tmp_path / "saved.tar"
    cli("save", "-o", str(archive), unique)
    cli("rmi", unique)
    cli("load", "-i", str(archive))
    assert cli("run", "--rm", unique, "cat", "/var/lib/dpkg/status").stdout == STATUS
    if shutil.which("skopeo") is None:
        pytest.skip("needs skopeo")
    for kind in ("oci-archive", "docker-archive"):
        done = subprocess.run(["skopeo", "inspect", f"{kind}:{archive}"], capture_output=True, text=True, check=True)
        assert json.loads(done.stdout)["Os"] == "linux"


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--attest", "type=other"], "unknown type 'other' of attestation"),
        (["--provenance=mode=all"], "unknown mode 'all'"),
        (["--provenance=colour=red"], "unknown option 'colour'"),
        (["--sbom=generator=docker/scanner,format=spdx"], "a generator decides on the format itself"),
        (["--provenance=version=v2"], "unknown version 'v2'"),
    ],
)
def test_wrong_flags_are_told(cli: Any, context: Path, flags: list[str], said: str) -> None:
    done = cli("build", *flags, str(context), check=False)
    assert done.returncode == 1 and said in done.stderr


def test_nothing_is_stated_unless_it_is_asked_for(cli: Any, busybox_image: str, unique: str, context: Path) -> None:
    cli("build", "-q", "--provenance=false", "--sbom=false", "-t", unique, str(context))
    done = cli("image", "provenance", unique, check=False)
    assert done.returncode == 1 and "Build it with --provenance=true" in done.stderr
    assert cli("image", "sbom", "nothing-of-this-name", check=False).returncode == 1


def test_dockers_list_of_attestations(cli: Any, daemon: Any, busybox_image: str, unique: str, context: Path) -> None:
    cli("build", "-q", "--provenance=true", "--sbom=true", "-t", unique, str(context))
    (slsa, spdx) = daemon.request("GET", f"/images/{unique}/attestations")
    assert (slsa["PredicateType"], spdx["PredicateType"]) == (SLSA, SPDX) and "Statement" not in slsa
    (one,) = daemon.request("GET", f"/images/{unique}/attestations?type={SPDX}&statement=1")
    assert one["Statement"]["predicate"]["spdxVersion"] == "SPDX-2.3" and one["Descriptor"] == spdx["Descriptor"]
    assert daemon.raw("GET", f"/images/{unique}/attestations?platform=%7B%7D&platform=%7B%7D")[0] == 400
    assert daemon.raw("GET", "/images/no-such-image/attestations")[0] == 404


def test_outputs_and_the_metadata_file_have_them(cli: Any, busybox_image: str, context: Path, tmp_path: Path) -> None:
    folder, archive, metadata = tmp_path / "out", tmp_path / "oci.tar", tmp_path / "metadata.json"
    outputs = ["-o", f"type=local,dest={folder}", "-o", f"type=oci,dest={archive}", "--metadata-file", str(metadata)]
    cli("build", "--provenance=mode=max", "--sbom=format=spdx+cyclonedx", *outputs, str(context))

    provenance = json.loads((folder / "provenance.json").read_text())
    assert json.loads(metadata.read_text())["buildx.build.provenance"] == provenance["predicate"]
    assert json.loads((folder / "sbom.spdx.json").read_text())["predicate"]["spdxVersion"] == "SPDX-2.3"
    assert json.loads((folder / "sbom.cdx.json").read_text())["predicate"]["specVersion"] == "1.6"
    with tarfile.open(archive) as tar:
        index = json.load(tar.extractfile("index.json"))  # type: ignore[arg-type]
        (entry,) = index["manifests"]
        nested = json.load(tar.extractfile(f"blobs/sha256/{entry['digest'][7:]}"))  # type: ignore[arg-type]
    assert [each["platform"]["os"] for each in nested["manifests"]] == ["linux", "unknown"]

    cli("build", "-o", f"type=local,dest={tmp_path / 'plain'}", str(context))
    assert not (tmp_path / "plain" / "provenance.json").exists()


def test_a_scanner_image_and_the_older_provenance(
    cli: Any, busybox_image: str, unique: str, context: Path, tmp_path: Path
) -> None:
    scan = tmp_path / "scanner"
    scan.mkdir()
    out = '> "$BUILDKIT_SCAN_DESTINATION/${BUILDKIT_SCAN_SOURCE##*/}.spdx.json"'
    document = '{\\"spdxVersion\\": \\"SPDX-2.3\\", \\"name\\": \\"of the scanner\\"}'
    (scan / "Buildfile").write_text(f'FROM {busybox_image}\nENTRYPOINT echo "{document}" {out}\n')
    cli("build", "-q", "-t", f"{unique}-scan", str(scan))
    folder = tmp_path / "out"
    flags = (f"--sbom=generator={unique}-scan", "--provenance=mode=max,version=v0.2")
    cli("build", *flags, "-t", unique, str(context))
    cli("build", *flags, "-o", f"type=local,dest={folder}", str(context))
    assert json.loads((folder / "sbom.spdx.json").read_text())["predicate"]["name"] == "of the scanner"
    assert json.loads((folder / "provenance.json").read_text())["predicateType"] == "https://slsa.dev/provenance/v0.2"
    assert json.loads(cli("image", "provenance", unique).stdout)["invocation"]["configSource"]
    cli("rmi", unique, f"{unique}-scan")
