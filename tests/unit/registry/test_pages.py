"""The web pages: what they show, for whom, and that nothing pushed can act in them."""

from __future__ import annotations

import asyncio
import html.parser
import json
import os
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from buildtool.oci import parse_reference
from tests.unit.registry.conftest import Running, Side
from tests.unit.registry.test_copying import attach, push_index
from tests.unit.registry.test_server_api import INDEX, MANIFEST, Api, descriptor, digest_of, manifest

VOID = {"meta", "link", "input", "br"}


class Page(html.parser.HTMLParser):
    """A page, read strictly: tags are nested, links collected, text joined."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.tags: set[str] = set()
        self.feed(text)
        self.close()
        assert self.open == [], self.open

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        assert not any(name.startswith("on") for name, _ in attrs)
        self.links += [value for name, value in attrs if name == "href" and value]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.words).split())


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    async with aiohttp.ClientSession() as made:
        yield made


async def page(session: aiohttp.ClientSession, url: str, expect: int = 200) -> Page:
    async with session.get(url) as answer:
        assert answer.status == expect, await answer.text()
        assert "script-src" not in answer.headers["Content-Security-Policy"]
        assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
        return Page(await answer.text())


async def test_an_empty_registry_says_how_to_push(ours: Running, session: aiohttp.ClientSession) -> None:
    shown = await page(session, ours.url)
    assert f"docker push {ours.host}/NAME:TAG" in shown.text


async def test_every_link_leads_somewhere(
    here: Side, ours: Running, session: aiohttp.ClientSession, tmp_path: Any
) -> None:
    digest = await push_index(here, ours.host, "team/app")
    await attach(ours.host, "team/app", digest, "application/x.signature", tmp_path)
    seen: set[str] = set()
    pending = ["/"]
    while pending:
        path = pending.pop()
        if path in seen or path.startswith("/login"):
            continue
        seen.add(path)
        if path.startswith("/ui/style.css?v="):
            async with session.get(ours.url + path) as answer:
                assert answer.status == 200 and answer.content_type == "text/css"
        else:
            pending += (await page(session, ours.url + path)).links
    assert len(seen) >= 8


async def test_what_an_image_page_tells(
    here: Side, ours: Running, session: aiohttp.ClientSession, tmp_path: Any
) -> None:
    from buildtool.oci import ContainerConfig, History, ImageConfig, RootFS, encode

    image = here.make("local/x:1", {"a": b"1" * 4000})
    config = ContainerConfig(
        cmd=["sh", "-c", "<b>x</b>"], env=["A=<script>"], labels={"k": "v&w"}, exposed_ports={"80/tcp": {}}
    )
    history = [
        History(created="2026-01-02T03:04:05Z", created_by="/bin/sh -c #(nop) COPY a / # buildkit"),
        History(created_by='ENV A="<script>alert(1)</script>"', empty_layer=True),
    ]
    changed = ImageConfig(
        "amd64",
        "linux",
        RootFS("layers", image.config.rootfs.diff_ids),
        config=config,
        created="2026-01-02T03:04:05.6Z",
        history=history,
    )
    reference = parse_reference(f"{ours.host}/team/app:1")
    here.images.add(encode(changed), image.layers, references=[reference])
    (pushed,) = await here.push(str(reference))
    await attach(ours.host, "team/app", pushed.digest, "application/spdx+json", tmp_path)

    shown = await page(session, f"{ours.url}/ui/team/app/-/1")
    for text in (
        f"docker pull {ours.host}/team/app:1",
        pushed.digest,
        "linux/amd64",
        "2026-01-02 03:04:05",
        "COPY a /",
        'ENV A="<script>alert(1)</script>"',
        "sh -c <b>x</b>",
        "80/tcp",
        "v&w",
        "application/spdx+json",
    ):
        assert text in shown.text, text
    assert not shown.tags & {"script", "b"}
    tags = await page(session, f"{ours.url}/ui/team/app")
    assert "linux/amd64" in tags.text and "docker pull" in tags.text
    found = await page(session, f"{ours.url}/?q=eam/a")
    assert "team/app" in found.text
    assert "No repository" in (await page(session, f"{ours.url}/?q=<script>")).text


async def test_an_index_with_statements_shows_its_image_and_what_they_are(
    here: Side, ours: Running, session: aiohttp.ClientSession
) -> None:
    """Of one image all there is to see; statements by their kind; the size in the list of tags."""
    name = f"{ours.host}/team/app:own"
    here.make(name, {"a": os.urandom(5000)})
    (pushed,) = await here.push(name)
    image = {"mediaType": MANIFEST, "digest": pushed.digest, "size": pushed.size}
    api = Api(ours.url, session)
    for blob in (b"{}", b"bom", b"made"):
        await api.push_blob("team/app", blob)
    kinds = {b"bom": "https://spdx.dev/Document", b"made": "https://slsa.dev/provenance/v1"}
    layers = [
        descriptor(data, "application/vnd.in-toto+json", annotations={"in-toto.io/predicate-type": kind})
        for data, kind in kinds.items()
    ]
    about = manifest(b"{}", layers=layers)
    await api("PUT", f"/v2/team/app/manifests/{digest_of(about)}", about, 201, Content_Type=MANIFEST)
    marks = {"vnd.docker.reference.type": "attestation-manifest", "vnd.docker.reference.digest": pushed.digest}
    entries = [
        image | {"platform": {"architecture": "amd64", "os": "linux"}},
        descriptor(about, MANIFEST, annotations=marks, platform={"architecture": "unknown", "os": "unknown"}),
    ]
    index = json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": entries}).encode()
    await api("PUT", "/v2/team/app/manifests/1", index, 201, Content_Type=INDEX)

    shown = (await page(session, f"{ours.url}/ui/team/app/-/1")).text
    for text in ("SBOM (SPDX)", "Provenance (SLSA)", "Layers", "linux/amd64", "docker pull"):
        assert text in shown, text
    assert "unknown" not in shown.replace("Created unknown", "")
    tags = (await page(session, f"{ours.url}/ui/team/app")).text
    assert tags.count("linux/amd64") == 2 and tags.count("kB") == 2
    statements = (await page(session, f"{ours.url}/ui/team/app/-/{digest_of(about)}")).text
    assert "Content What" in statements and "SBOM (SPDX)" in statements and "docker pull" not in statements


async def test_strange_content_is_shown_or_refused(here: Side, ours: Running, session: aiohttp.ClientSession) -> None:
    """Artifacts, and documents that are not what their types say."""
    for blob in (b"not json", b"{}"):
        url = f"{ours.url}/v2/x/y/blobs/uploads/?digest={digest_of(blob)}"
        async with session.post(url, data=blob) as answer:
            assert answer.status == 201
    artifact = json.loads(manifest(b"{}", b"not json"))
    artifact |= {"artifactType": "application/<i>", "annotations": {"a": "</dl><script>"}}
    for tag, data in (("artifact", json.dumps(artifact).encode()), ("broken", manifest(b"not json"))):
        headers = {"Content-Type": MANIFEST}
        async with session.put(f"{ours.url}/v2/x/y/manifests/{tag}", data=data, headers=headers) as answer:
            assert answer.status == 201
    shown = await page(session, f"{ours.url}/ui/x/y/-/artifact")
    assert "</dl><script>" in shown.text and "script" not in shown.tags
    await page(session, f"{ours.url}/ui/x/y/-/broken")
    assert "damaged" in (await page(session, f"{ours.url}/ui/x/y")).text


@pytest.mark.parametrize(
    ("created_by", "line"),
    [
        ('/bin/sh -c #(nop)  CMD ["sh"]', 'CMD ["sh"]'),
        ("/bin/sh -c apt-get update", "RUN apt-get update"),
        ("RUN /bin/sh -c make # buildkit", "RUN make"),
        ("RUN |1 A=b /bin/sh -c make # buildkit", "RUN |1 A=b /bin/sh -c make"),
        ("COPY a b # buildkit", "COPY a b"),
        ("", ""),
    ],
)
def test_lines_of_the_buildfile(created_by: str, line: str) -> None:
    from buildtool.registry.server.pages import _line

    assert _line(created_by) == line


@pytest.mark.skipif(shutil.which("chromium") is None, reason="needs Chromium")
async def test_a_browser_shows_the_pages(here: Side, ours: Running, tmp_path: Path) -> None:
    """On a desktop and on a phone; the browser refuses nothing of it."""
    await push_index(here, ours.host, "team/app")
    for width, path in ((1200, "/"), (1200, "/ui/team/app"), (400, "/ui/team/app/-/amd64")):
        shot = tmp_path / "shot.png"
        flags = ["--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
        browser = await asyncio.create_subprocess_exec(
            "chromium", *flags, "--enable-logging=stderr", f"--user-data-dir={tmp_path}/profile",
            f"--window-size={width},800", f"--screenshot={shot}", "--dump-dom", ours.url + path,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        out, err = await asyncio.wait_for(browser.communicate(), 60)
        assert b"team/app" in out and shot.read_bytes()[:4] == b"\x89PNG", err.decode()
        assert b"CONSOLE" not in err and b"Content Security Policy" not in err, err.decode()
        shot.unlink()


@pytest.mark.parametrize(
    "path",
    ["/ui/", "/ui/no", "/ui/no/-/1", "/ui/../../etc/passwd", "/ui/%2e%2e/x", "/ui/a/-/..", "/nothing", "/ui/A"],
)
async def test_no_such_page(ours: Running, session: aiohttp.ClientSession, path: str) -> None:
    assert "There is no such page" in (await page(session, ours.url + path, 404)).text


async def test_pages_can_be_switched_off(
    make_server: Callable[..., Awaitable[Running]], session: aiohttp.ClientSession
) -> None:
    running = await make_server(pages=False)
    async with session.get(running.url) as answer:
        assert answer.status == 404


async def test_the_daemons_own_images_have_pages(here: Side, session: aiohttp.ClientSession) -> None:
    """With --share-store: also of images whose layers exist only unpacked."""
    from buildtool.registry.server.app import Server
    from buildtool.registry.server.shared import SharedImages

    here.make("busybox:1", {"bin/sh": b"#!"})
    server = Server(here.store, content=SharedImages(here.store))
    protocol = await server.open()
    listening = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    try:
        assert "busybox" in (await page(session, url)).text
        assert "linux/amd64" in (await page(session, f"{url}/ui/busybox")).text
        assert "docker pull" in (await page(session, f"{url}/ui/library/busybox/-/1")).text
        async with session.get(f"{url}/readyz") as answer:
            assert answer.status == 200
    finally:
        listening.close()
        await protocol.shutdown(0.1)
        await server.close()
