"""One repository in a registry: manifests, tags, and whether a blob is there.

Source: OCI distribution-spec v1.1, end-2, end-3, end-7 to end-9, end-11.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from urllib.parse import quote

import aiohttp
import msgspec
from yarl import URL

from buildtool.errors import Corrupt, NotFound
from buildtool.oci import Descriptor, Digest, is_digest, media_types, sha256
from buildtool.registry.challenge import scope
from buildtool.registry.errors import Denied, Missing, RegistryRefused, Unauthorized
from buildtool.registry.transport import BROKEN, Connection, Transport, join, read_all

ACCEPT = ", ".join(
    (
        media_types.MANIFEST,
        media_types.INDEX,
        media_types.DOCKER_MANIFEST,
        media_types.DOCKER_LIST,
        "application/vnd.docker.distribution.manifest.v1+prettyjws",
    )
)
MANIFEST_LIMIT = 8 << 20
_TAGS_LIMIT = 16 << 20
_MAX_PAGES = 10_000
_LINK = re.compile(r'<([^>]*)>\s*;\s*rel="?next"?')


@dataclass(frozen=True)
class Fetched:
    """A manifest or index: its bytes as they were pushed, and what they are."""

    data: bytes
    media_type: str
    digest: Digest

    @property
    def descriptor(self) -> Descriptor:
        return Descriptor(self.media_type, self.digest, len(self.data))


class Repository:
    """`actions`: what its requests need, `pull` or `pull` and `push`."""

    def __init__(self, connection: Connection, path: str, *actions: str) -> None:
        self.connection = connection
        self.path = path
        self.name = f"{connection.domain}/{path}"
        self.scopes: tuple[str, ...] = (scope(path, *(actions or ("pull",))),)

    async def manifest(self, reference: str) -> Fetched:
        """A manifest or index by tag or digest, its digest verified. Raises Missing, Corrupt."""
        what = f"manifest {self.name}{'@' if is_digest(reference) else ':'}{reference}"
        url = self.connection.url(f"{self.path}/manifests/{quote(reference, safe=':')}")
        for attempt in range(1, self.connection.retry.attempts + 1):
            try:
                async with self.connection.request(
                    "GET", url, scopes=self.scopes, headers={"Accept": ACCEPT}, what=what
                ) as answer:
                    data = await read_all(answer, MANIFEST_LIMIT, what)
                    return _verified(reference, data, answer.headers, what)
            except BROKEN:
                if attempt == self.connection.retry.attempts:
                    raise
        raise AssertionError("unreachable")

    async def wanted_manifest(self, reference: str) -> Fetched:
        """As `manifest`, for somebody who named it: NotFound and RegistryRefused say what it is about."""
        name = f"{self.name}{'@' if is_digest(reference) else ':'}{reference}"
        try:
            return await self.manifest(reference)
        except Missing as error:
            raise NotFound(f"{name} does not exist: {error.message}") from error
        except (Unauthorized, Denied) as error:
            raise type(error)(
                f"{name}: {error.message}",
                status=error.status,
                code=error.error_code,
                hint=f"it may need a login: buildtool login {self.connection.domain}",
            ) from error

    async def manifest_digest(self, reference: str) -> str:
        """The digest that a tag has now, by HEAD; "" when the registry does not say. Raises Missing."""
        url = self.connection.url(f"{self.path}/manifests/{quote(reference, safe=':')}")
        what = f"manifest {self.name}:{reference}"
        async with self.connection.request(
            "HEAD", url, scopes=self.scopes, headers={"Accept": ACCEPT}, what=what
        ) as answer:
            return answer.headers.get("Docker-Content-Digest", "")

    async def put_manifest(self, reference: str, data: bytes, media_type: str) -> Digest:
        """Push a manifest under a tag (or its digest). Raises Corrupt when the registry stored something else.

        A referrer of a registry that has no referrers API is entered in the subject's fallback tag.
        """
        digest = sha256(data)
        what = f"push of manifest {self.name}:{reference}"
        async with self.connection.request(
            "PUT",
            self.connection.url(f"{self.path}/manifests/{quote(reference, safe=':')}"),
            scopes=self.scopes,
            headers={"Content-Type": media_type},
            body=data,
            ok=(201, 200, 202),
            what=what,
        ) as answer:
            stored = answer.headers.get("Docker-Content-Digest", digest)
            if stored != digest:
                raise Corrupt(f"{what}: the registry stored {stored} instead of {digest}")
            knows_subjects = "OCI-Subject" in answer.headers
        if not knows_subjects:
            from buildtool.registry.referrers import enter

            await enter(self, data, media_type)
        return digest

    async def delete_manifest(self, reference: str) -> None:
        """Delete a tag, or a manifest by its digest. Raises Missing, RegistryRefused."""
        url = self.connection.url(f"{self.path}/manifests/{quote(reference, safe=':')}")
        scopes = (scope(self.path, "pull", "delete"),)
        async with self.connection.request(
            "DELETE", url, scopes=scopes, ok=(202, 200, 204), what=f"deletion of {self.name}:{reference}"
        ):
            return

    async def has_blob(self, digest: Digest) -> bool:
        """Whether the repository has the blob already."""
        try:
            async with self.connection.request(
                "HEAD", self._blob_url(digest), scopes=self.scopes, what=f"look for blob {digest}"
            ):
                return True
        except Missing:
            return False

    async def blob_size(self, digest: Digest) -> int | None:
        """How many bytes the blob has; None when the repository does not have it."""
        try:
            async with self.connection.request(
                "HEAD", self._blob_url(digest), scopes=self.scopes, what=f"look for blob {digest}"
            ) as answer:
                return answer.content_length
        except Missing:
            return None

    async def mount(self, digest: Digest, source: str) -> str | None:
        """Take the blob over from another repository; None when it is here now, else the Location of the upload that
        the registry began instead ("" when it refused)."""
        url = self.connection.url(f"{self.path}/blobs/uploads/?mount={digest}&from={quote(source, safe='')}")
        scopes = (*self.scopes, scope(source, "pull"))
        try:
            async with self.connection.request(
                "POST", url, scopes=scopes, ok=(201, 202), what=f"mount of blob {digest}"
            ) as answer:
                if answer.status == 201:
                    return None
                return str(join(answer.url, answer.headers.get("Location", "")))
        except RegistryRefused:
            return ""

    @asynccontextmanager
    async def open_blob(self, digest: Digest, offset: int = 0) -> AsyncIterator[aiohttp.ClientResponse]:
        """GET a blob from `offset` on; the answer is 206, or 200 with the whole when the registry has no ranges."""
        headers = {"Range": f"bytes={offset}-"} if offset else {}
        async with self.connection.request(
            "GET",
            self._blob_url(digest),
            scopes=self.scopes,
            headers=headers,
            ok=(200, 206),
            what=f"blob {digest} of {self.name}",
        ) as answer:
            yield answer

    async def small_blob(self, descriptor: Descriptor, limit: int = MANIFEST_LIMIT) -> bytes:
        """A blob that is a document, verified. Raises Corrupt, Missing."""
        what = f"blob {descriptor.digest} of {self.name}"
        if descriptor.size > limit:
            raise Corrupt(f"{what} is a document of {descriptor.size} bytes: more than {limit} are not read")
        for attempt in range(1, self.connection.retry.attempts + 1):
            try:
                async with self.open_blob(descriptor.digest) as answer:
                    data = await read_all(answer, limit, what)
                break
            except BROKEN:
                if attempt == self.connection.retry.attempts:
                    raise
        if sha256(data) != descriptor.digest or len(data) != descriptor.size:
            raise Corrupt(f"{what}: the registry sent {len(data)} bytes with the digest {sha256(data)}")
        return data

    async def tags(self) -> list[str]:
        """Every tag, all pages."""
        url = self.connection.url(f"{self.path}/tags/list")
        found: list[str] = []
        for _ in range(_MAX_PAGES):
            async with self.connection.request("GET", url, scopes=self.scopes, what=f"tags of {self.name}") as answer:
                page = _tags(await read_all(answer, _TAGS_LIMIT, f"tags of {self.name}"))
                found += page
                following = next_page(answer)
                if following is None or not page:
                    break
                url = following
        if not found:
            raise NotFound(f"{self.name} has no tags")
        return found

    def _blob_url(self, digest: Digest) -> URL:
        return self.connection.url(f"{self.path}/blobs/{digest}")


async def open_mirror(transport: Transport, mirror: str, path: str) -> Repository:
    """A repository's copy in a mirror: Docker's kind is a base URL, ours `HOST[:PORT][/PREFIX]`.

    Raises RegistryUnreachable, and what breaks.
    """
    if "://" in mirror:
        return Repository(await transport.connect_mirror(mirror), path)
    host, _, prefix = mirror.partition("/")
    return Repository(await transport.connect(host), f"{prefix}/{path}" if prefix else path)


def next_page(answer: aiohttp.ClientResponse) -> URL | None:
    """Where the `Link: <…>; rel="next"` header of a listing leads."""
    for header in answer.headers.getall("Link", ()):
        match = _LINK.search(header)
        if match is not None:
            return join(answer.url, match[1])
    return None


class _Tags(msgspec.Struct):
    tags: Sequence[str] | None = None


def _tags(data: bytes) -> list[str]:
    try:
        return list(msgspec.json.decode(data, type=_Tags).tags or ())
    except msgspec.DecodeError as error:
        raise Corrupt(f"the registry's list of tags is malformed: {error}") from None


def _verified(reference: str, data: bytes, headers: Mapping[str, str], what: str) -> Fetched:
    digest = sha256(data)
    promised = reference if is_digest(reference) else headers.get("Docker-Content-Digest", "")
    if is_digest(promised) and promised != digest:
        raise Corrupt(f"{what}: the registry sent bytes with the digest {digest}, {promised} was to come")
    return Fetched(data, media_type_of(data, headers.get("Content-Type", "")), digest)


def media_type_of(data: bytes, content_type: str = "") -> str:
    """What the document says of itself, else what the registry says of it. Raises Corrupt when these differ.

    A Content-Type that names no kind of manifest says nothing. Source: distribution-spec v1.1, "Pulling manifests".
    """

    class Shape(msgspec.Struct, rename="camel"):
        media_type: str = ""
        manifests: list[msgspec.Raw] | None = None

    try:
        shape = msgspec.json.decode(data, type=Shape)
    except msgspec.DecodeError as error:
        raise Corrupt(f"the manifest is no JSON document: {error}") from None
    named = content_type.partition(";")[0].strip()
    known = named in media_types.MANIFESTS | media_types.INDEXES
    if shape.media_type:
        if known and named != shape.media_type:
            raise Corrupt(f"the registry says that the manifest is a {named}, itself that it is a {shape.media_type}")
        return shape.media_type
    if known:
        return named
    return media_types.INDEX if shape.manifests is not None else media_types.MANIFEST
