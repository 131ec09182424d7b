"""Archives out to skopeo, umoci, podman and dockerd, and theirs in: the same config digests, the same diff_ids.

Every tool works on storage of its own below a temporary directory; a test is skipped where its tool is missing.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import stat
import subprocess
import tarfile
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from buildtool.cache.store import Store
from buildtool.images import Image, Images, LayerSource
from buildtool.oci import ContainerConfig, History, ImageConfig, RootFS, encode, parse_reference

pytestmark = pytest.mark.xdist_group("exchange")

NAME = "exchange/app:1"
EPOCH = 1_600_000_000
CREATED = "2020-09-13T12:26:40Z"


def tool(name: str) -> str:
    """The path of a tool; skips where it is not installed."""
    path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


def run(*command: str | Path, env: dict[str, str] | None = None, input: bytes | None = None) -> str:
    """Run a tool; its output. What it wrote stands in the failure."""
    done = subprocess.run(
        [str(part) for part in command],
        input=input,
        capture_output=True,
        env={**os.environ, **(env or {})},
        timeout=120,
        check=False,
    )
    text = done.stdout.decode(errors="replace")
    assert done.returncode == 0, f"{command}: {done.returncode}\n{text}\n{done.stderr.decode(errors='replace')}"
    return text


def entry(name: str, content: bytes = b"", **fields: Any) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.size, info.mtime, info.mode = len(content), EPOCH - 1000, 0o644
    for key, value in fields.items():
        setattr(info, key, value)
    return info, content


def layer(*entries: tuple[tarfile.TarInfo, bytes]) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for info, content in entries:
            tar.addfile(info, io.BytesIO(content))
    return buffer.getvalue()


def directory(name: str, mode: int = 0o755) -> tuple[tarfile.TarInfo, bytes]:
    return entry(name, type=tarfile.DIRTYPE, mode=mode)


LOWER = layer(
    directory("bin"),
    entry("bin/busybox", Path("/bin/busybox").read_bytes() if Path("/bin/busybox").exists() else b"#!", mode=0o755),
    entry("bin/sh", type=tarfile.LNKTYPE, linkname="bin/busybox"),
    directory("etc"),
    entry("etc/gone", b"gone\n"),
    entry("etc/kept", b"kept\n", uid=1000, gid=1001),
    directory("opaque"),
    entry("opaque/old", b"old\n"),
    entry("link", type=tarfile.SYMTYPE, linkname="/etc/kept"),
    entry("pipe", type=tarfile.FIFOTYPE),
    entry("setuid", b"x", mode=0o4755),
    directory("tmp", 0o1777),
    entry("a/" * 60 + "deep", b"deep\n"),
    entry("ünïcode", b"name\n"),
    entry("attributed", b"x", pax_headers={"SCHILY.xattr.user.note": "hello"}),
)
UPPER = layer(
    directory("etc"),
    entry("etc/.wh.gone"),
    directory("opaque"),
    entry("opaque/.wh..wh..opq"),
    entry("opaque/new", b"new\n"),
    entry("big", os.urandom(64) * 40_000),
)


@pytest.fixture
def images(tmp_path: Path) -> Iterator[Images]:
    with Store.open(tmp_path / "store") as store:
        yield Images(store)


@pytest.fixture
def image(images: Images) -> Image:
    """Two layers as a build leaves them, with all that a layer can hold."""
    snapshots = []
    sources = []
    for data in (LOWER, UPPER):
        snapshot = images.store.layers.unpack(io.BytesIO(data), compression="", parents=snapshots)
        diff_id, size = images.store.layers.diff_id(snapshot, EPOCH)
        sources.append(LayerSource(diff_id, size, snapshot, epoch=EPOCH))
        snapshots.append(snapshot)
    config = ImageConfig(
        architecture="amd64",
        os="linux",
        rootfs=RootFS("layers", [source.diff_id for source in sources]),
        config=ContainerConfig(cmd=["sh"], env=["PATH=/bin"], labels={"made": "here"}, volumes={"/data": {}}),
        created=CREATED,
        history=[History(created=CREATED, created_by=text) for text in ("COPY lower / # buildkit", "COPY upper /")],
    )
    return images.add(encode(config), sources, references=[parse_reference(NAME)])


@pytest.fixture
def archive(images: Images, image: Image, tmp_path: Path) -> Path:
    path = tmp_path / "saved.tar"
    with path.open("wb") as file:
        images.save([NAME], lambda data: void(file.write(data)))
    return path


def void(_: object) -> None:
    return None


def load(images: Images, path: Path) -> Image:
    """Load an archive into our store; the image."""
    with path.open("rb") as stream:
        lines = [line["stream"] for line in images.load(stream, quiet=True)]
    name = lines[-1].partition(": ")[2].strip()
    assert images.store.check() == []
    return images.get(name)


def same(one: Image, other: Image) -> None:
    assert one.id == other.id
    assert one.diff_ids == other.diff_ids


def sees_the_tree(root: Path) -> None:
    """Whether the merged root file system is what the two layers say."""
    assert not (root / "etc/gone").exists()
    assert (root / "etc/kept").read_bytes() == b"kept\n"
    assert sorted(os.listdir(root / "opaque")) == ["new"]
    assert (root / ("a/" * 60 + "deep")).read_bytes() == b"deep\n"
    assert (root / "ünïcode").exists()
    assert (root / "bin/sh").stat().st_ino == (root / "bin/busybox").stat().st_ino
    assert stat.S_ISFIFO((root / "pipe").stat().st_mode)
    assert os.readlink(root / "link") == "/etc/kept"
    assert stat.S_IMODE((root / "setuid").stat().st_mode) == 0o4755
    if os.geteuid() == 0:
        assert (root / "etc/kept").stat().st_uid == 1000


def blobs_of(layout: Path) -> tuple[str, list[str]]:
    """Config digest and layer digests of the one image in a layout directory."""
    index = json.loads((layout / "index.json").read_text())
    manifest = blob(layout, index["manifests"][0]["digest"])
    return manifest["config"]["digest"], [entry["digest"] for entry in manifest["layers"]]


def blob(layout: Path, digest: str) -> Any:
    data = (layout / "blobs/sha256" / digest[7:]).read_bytes()
    assert hashlib.sha256(data).hexdigest() == digest[7:]
    return json.loads(data)


# skopeo


@pytest.mark.parametrize("transport", ["docker-archive", "oci-archive"])
def test_skopeo_reads_our_archive(archive: Path, image: Image, transport: str) -> None:
    skopeo = tool("skopeo")
    raw = run(skopeo, "--insecure-policy", "inspect", "--raw", f"{transport}:{archive}")
    assert json.loads(raw)["config"]["digest"] == image.id
    config = json.loads(run(skopeo, "--insecure-policy", "inspect", "--config", f"{transport}:{archive}"))
    assert config["rootfs"]["diff_ids"] == image.diff_ids
    shown = json.loads(run(skopeo, "--insecure-policy", "inspect", f"{transport}:{archive}"))
    assert shown["Labels"] == {"made": "here"}


def test_what_skopeo_copies_comes_back_the_same(archive: Path, image: Image, tmp_path: Path) -> None:
    skopeo = tool("skopeo")
    layout = tmp_path / "layout"
    run(skopeo, "--insecure-policy", "copy", f"oci-archive:{archive}", f"oci:{layout}:{NAME}")
    assert blobs_of(layout)[0] == image.id
    copies = {
        "from-oci": (f"oci:{layout}:{NAME}", "oci-archive"),
        "to-docker": (f"oci:{layout}:{NAME}", "docker-archive"),
        "from-docker": (f"docker-archive:{archive}", "docker-archive"),
    }
    for name, (source, form) in copies.items():
        packed = tmp_path / f"{name}.tar"
        run(skopeo, "--insecure-policy", "copy", source, f"{form}:{packed}:{NAME}")
        with Store.open(tmp_path / name) as store:
            same(load(Images(store), packed), image)


def test_skopeo_reads_the_root_as_a_layout(images: Images, image: Image) -> None:
    skopeo = tool("skopeo")
    raw = run(skopeo, "--insecure-policy", "inspect", "--raw", f"oci:{images.store.root}:{NAME}")
    assert hashlib.sha256(raw.encode()).hexdigest() == image.manifest.digest[7:]


def test_a_zstd_and_a_gzip_layout_of_skopeo_load(images: Images, archive: Path, image: Image, tmp_path: Path) -> None:
    skopeo = tool("skopeo")
    for form in ("gzip", "zstd"):
        packed = tmp_path / f"{form}.tar"
        run(
            skopeo, "--insecure-policy", "copy", "--dest-compress", f"--dest-compress-format={form}",
            f"oci-archive:{archive}", f"oci-archive:{packed}:{NAME}",
        )  # fmt: skip
        with Store.open(tmp_path / form) as store:
            mine = Images(store)
            loaded = load(mine, packed)
            same(loaded, image)
            assert all(entry.blob and entry.blob.media_type.endswith(form) for entry in loaded.layers)
            again = tmp_path / f"{form}-again.tar"
            with again.open("wb") as file:
                mine.save([NAME], lambda data, file=file: void(file.write(data)))  # type: ignore[misc]
        same(load(images, again), image)


# umoci


def test_umoci_unpacks_our_archive(archive: Path, image: Image, tmp_path: Path) -> None:
    umoci = tool("umoci")
    if os.geteuid() != 0:
        pytest.skip("umoci needs root to give files their owners")
    layout = tmp_path / "layout"
    layout.mkdir()
    run("tar", "-xf", archive, "-C", layout)
    assert blobs_of(layout)[0] == image.id
    run(umoci, "unpack", "--image", f"{layout}:1", tmp_path / "bundle")
    sees_the_tree(tmp_path / "bundle/rootfs")
    assert os.getxattr(tmp_path / "bundle/rootfs/attributed", "user.note") == b"hello"


def test_umoci_made_images_load(images: Images, tmp_path: Path) -> None:
    umoci = tool("umoci")
    if os.geteuid() != 0:
        pytest.skip("umoci needs root to give files their owners")
    layout = tmp_path / "layout"
    run(umoci, "init", "--layout", layout)
    run(umoci, "new", "--image", f"{layout}:first")
    run(umoci, "unpack", "--image", f"{layout}:first", tmp_path / "bundle")
    (tmp_path / "bundle/rootfs/file").write_text("made by umoci\n")
    run(umoci, "repack", "--refresh-bundle", "--image", f"{layout}:second", tmp_path / "bundle")
    run(umoci, "gc", "--layout", layout)
    packed = tmp_path / "umoci.tar"
    run("tar", "-cf", packed, "-C", layout, ".")

    with packed.open("rb") as stream:
        assert len(list(images.load(stream, quiet=True))) == 2

    second = next(image for image in images.list() if image.layers)
    assert second.id == _umoci_config(layout, "second")
    assert (images.store.snapshots.fs(images.snapshots(second)[-1]) / "file").read_text() == "made by umoci\n"


def _umoci_config(layout: Path, tag: str) -> str:
    index = json.loads((layout / "index.json").read_text())
    name = "org.opencontainers.image.ref.name"
    digest = next(entry["digest"] for entry in index["manifests"] if entry["annotations"][name] == tag)
    config: str = blob(layout, digest)["config"]["digest"]
    return config


# podman and buildah


@pytest.fixture
def storage(tmp_path: Path) -> Iterator[list[str]]:
    """Flags that give podman and buildah storage of their own."""
    if os.geteuid() != 0:
        pytest.skip("podman's storage of its own needs root here")
    top = Path(tempfile.mkdtemp(prefix="bt-podman-", dir="/tmp"))
    yield ["--root", str(top / "root"), "--runroot", str(top / "run"), "--storage-driver", "vfs"]
    subprocess.run(["rm", "-rf", str(top)], check=False)


def test_podman_loads_our_archive_and_saves_it_back(
    archive: Path, image: Image, storage: list[str], tmp_path: Path
) -> None:
    podman = tool("podman")
    run(podman, *storage, "load", "-i", archive)
    (shown,) = json.loads(run(podman, *storage, "image", "inspect", NAME))
    assert f"sha256:{shown['Id']}" == image.id
    assert shown["RootFS"]["Layers"] == image.diff_ids
    for form in ("docker-archive", "oci-archive"):
        back = tmp_path / f"{form}.tar"
        run(podman, *storage, "save", "--format", form, "-o", back, NAME)
        with Store.open(tmp_path / form) as store:
            same(load(Images(store), back), image)


def test_an_image_made_by_buildah_loads(images: Images, storage: list[str], tmp_path: Path) -> None:
    buildah = tool("buildah")
    working = run(buildah, *storage, "from", "scratch").strip()
    (tmp_path / "file").write_text("made by buildah\n")
    run(buildah, *storage, "copy", working, tmp_path / "file", "/file")
    run(buildah, *storage, "config", "--cmd", "/file", "--label", "by=buildah", working)
    made = run(buildah, *storage, "commit", "-q", working, "made/by-buildah:1").strip()
    packed = tmp_path / "buildah.tar"
    run(buildah, *storage, "push", "made/by-buildah:1", f"oci-archive:{packed}:made/by-buildah:1")

    loaded = load(images, packed)

    assert loaded.labels["by"] == "buildah"
    assert loaded.id == f"sha256:{made}"
    assert (images.store.snapshots.fs(images.snapshots(loaded)[0]) / "file").read_text() == "made by buildah\n"


# dockerd


class Peer:
    """A dockerd of our own, and the docker CLI talking to it."""

    def __init__(self, top: Path) -> None:
        self.top = top
        self.docker_program = tool("docker")
        self._environment = {"DOCKER_HOST": f"unix://{top}/sock", "DOCKER_CONFIG": str(top / "config")}
        self._environment |= {"DOCKER_BUILDKIT": "0", "DOCKER_CLI_HINTS": "false"}
        command = [
            tool("dockerd"), "--data-root", f"{top}/data", "--exec-root", f"{top}/exec", "-H", f"unix://{top}/sock",
            "--pidfile", f"{top}/pid", "--bridge=none", "--iptables=false", "--ip-masq=false",
        ]  # fmt: skip
        with (top / "log").open("wb") as log:
            self.process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL)

    def ready(self, seconds: float = 60) -> None:
        end = time.monotonic() + seconds
        while time.monotonic() < end and self.process.poll() is None:
            probe = subprocess.run(
                [self.docker_program, "version"],
                env={**os.environ, **self._environment},
                capture_output=True,
                check=False,
            )
            if probe.returncode == 0:
                return
            time.sleep(0.2)
        pytest.skip(f"dockerd does not run here: {(self.top / 'log').read_text(errors='replace')[-300:]}")

    def __call__(self, *arguments: str | Path, input: bytes | None = None) -> str:
        return run(self.docker_program, *arguments, env=self._environment, input=input)

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
        for point in sorted((point for point in mounts if point.startswith(f"{self.top}/")), reverse=True):
            subprocess.run(["umount", "-l", point], check=False, capture_output=True)
        subprocess.run(["rm", "-rf", str(self.top)], check=False)


@pytest.fixture(scope="module")
def peer() -> Iterator[Peer]:
    tool("dockerd")
    if os.geteuid() != 0:
        pytest.skip("dockerd needs root")
    daemon = Peer(Path(tempfile.mkdtemp(prefix="bt-peer-", dir="/tmp")))
    try:
        daemon.ready()
        yield daemon
    finally:
        daemon.close()


def test_dockerd_loads_our_archive_and_saves_it_back(peer: Peer, archive: Path, image: Image, tmp_path: Path) -> None:
    assert f"Loaded image: {NAME}" in peer("load", "-i", archive)
    (shown,) = json.loads(peer("image", "inspect", NAME))
    assert shown["Id"] == image.id
    assert shown["RootFS"]["Layers"] == image.diff_ids
    assert shown["Config"]["Cmd"] == ["sh"]
    back = tmp_path / "back.tar"
    peer("save", "-o", back, NAME)
    with Store.open(tmp_path / "second") as store:
        mine = Images(store)
        loaded = load(mine, back)
        same(loaded, image)
        assert [str(name) for name in loaded.references] == [f"docker.io/{NAME}"]


def test_dockerd_sees_the_files_as_we_do(peer: Peer, archive: Path, tmp_path: Path) -> None:
    peer("load", "-i", archive)
    container = peer("create", NAME).strip()
    tree = tmp_path / "tree"
    tree.mkdir()
    exported = tmp_path / "export.tar"
    peer("export", "-o", exported, container)
    peer("rm", container)
    run("tar", "-xf", exported, "-C", tree)
    sees_the_tree(tree)


def test_an_image_built_and_saved_by_dockerd_loads(peer: Peer, images: Images, tmp_path: Path) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "Dockerfile").write_text('FROM scratch\nCOPY a /a\nCOPY b /b\nCOPY a /c\nENV K=v\nCMD ["/a"]\n')
    (context / "a").write_text("a\n")
    (context / "b").write_text("b\n")
    peer("build", "-q", "-t", "peer/built:1", "-t", "peer/built:2", context)
    (shown,) = json.loads(peer("image", "inspect", "peer/built:1"))
    packed = tmp_path / "built.tar"
    peer("save", "-o", packed, "peer/built")

    loaded = load(images, packed)

    assert loaded.id == shown["Id"]
    assert loaded.diff_ids == shown["RootFS"]["Layers"]
    assert {name.tag for name in loaded.references} == {"1", "2"}
    assert loaded.container_config.env == shown["Config"]["Env"]


def test_what_dockerd_imports_from_us_and_we_from_it(peer: Peer, images: Images, tmp_path: Path) -> None:
    rootfs = tmp_path / "rootfs.tar"
    rootfs.write_bytes(LOWER)
    peer("import", "--change", 'CMD ["sh"]', rootfs, "peer/imported:1")
    packed = tmp_path / "imported.tar"
    peer("save", "-o", packed, "peer/imported:1")
    loaded = load(images, packed)
    assert loaded.container_config.cmd == ["sh"]
    assert loaded.diff_ids == [f"sha256:{hashlib.sha256(LOWER).hexdigest()}"]
    again = tmp_path / "again.tar"
    with again.open("wb") as file:
        images.save(["peer/imported:1"], lambda data: void(file.write(data)))
    peer("rmi", "peer/imported:1")
    peer("load", "-i", again)
    assert json.loads(peer("image", "inspect", "peer/imported:1"))[0]["Id"] == loaded.id
