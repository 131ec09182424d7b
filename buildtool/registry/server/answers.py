"""One request, and the usual answers."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import msgspec
from aiohttp import web

from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.names import Target

if TYPE_CHECKING:
    from buildtool.registry.server.access import Identity
    from buildtool.registry.server.app import Server
    from buildtool.registry.server.content import Writable
    from buildtool.registry.server.mirror import Mirror

_STANDARD = {"Docker-Distribution-API-Version": "registry/2.0", "X-Content-Type-Options": "nosniff"}
_MAX_PAGE = 10_000


class Call:
    """A request whose path is understood and whose sender is known."""

    def __init__(self, request: web.BaseRequest, server: Server, target: Target, who: Identity) -> None:
        self.request = request
        self.server = server
        self.target = target
        self.who = who

    @property
    def user(self) -> str:
        """Their name, "" for anybody."""
        return self.who.name

    def may(self, action: str, repository: str) -> bool:
        """Whether they may do something with another repository than the one the path names. May block."""
        return self.server.access.allows(self.who, action, repository)

    @property
    def store(self) -> Writable:
        """The repositories, to change them. Raises ApiError UNSUPPORTED for a server that only reads."""
        if self.server.writable is None:
            raise ApiError("UNSUPPORTED", "this registry is read-only")
        if self.server.mirror is not None and self.server.mirror.covers(self.target.name):
            raise ApiError("UNSUPPORTED", "this repository mirrors another registry's: it is not changed here")
        return self.server.writable

    @property
    def mirror(self) -> Mirror | None:
        """What brings the repository's content here, when it is another registry's."""
        mirror = self.server.mirror
        return mirror if mirror is not None and mirror.covers(self.target.name) else None

    def query(self, name: str) -> str:
        """A query parameter, "" when it is missing."""
        return self.request.query.get(name, "")

    def header(self, name: str) -> str:
        """A header, "" when it is missing."""
        return self.request.headers.get(name, "")

    def page(self) -> tuple[str, int]:
        """`last` and `n` of a listing. Raises ApiError."""
        text = self.query("n")
        if not text:
            return self.query("last"), _MAX_PAGE
        if not (text.isascii() and text.isdigit()):
            raise ApiError("UNSUPPORTED", "invalid number of results requested", {"n": text[:50]}, status=400)
        return self.query("last"), min(int(text[:9]), _MAX_PAGE)


def nothing(status: int, headers: dict[str, str] | None = None) -> web.Response:
    """An answer without a body."""
    return web.Response(status=status, headers={**_STANDARD, **(headers or {})})


def json_answer(
    document: Any, status: int = 200, headers: dict[str, str] | None = None, content_type: str = "application/json"
) -> web.Response:
    """A JSON document."""
    return web.Response(
        body=msgspec.json.encode(document),
        status=status,
        headers={**_STANDARD, "Content-Type": content_type, **(headers or {})},
    )


def listing(path: str, key: str, document: dict[str, Any], limit: int) -> web.Response:
    """One page; `document[key]` may hold one item more than `limit`, which says that there is a next page."""
    items = document[key]
    headers = {}
    if len(items) > limit:
        del items[limit:]
        if items:
            headers["Link"] = f'<{path}?n={limit}&last={quote(items[-1], safe="")}>; rel="next"'
    return json_answer(document, headers=headers)


async def expect_body(request: web.BaseRequest) -> None:
    """Tell a client that asks first (`Expect: 100-continue`) to send its body."""
    if request.headers.get("Expect", "").lower() == "100-continue" and request.transport is not None:
        request.transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")


async def read_body(request: web.BaseRequest, limit: int) -> bytes:
    """The whole body. Raises ApiError with status 413 when it is longer than `limit` bytes."""
    too_long = ApiError("MANIFEST_INVALID", f"the manifest is longer than {limit} bytes", status=413)
    if (request.content_length or 0) > limit:
        raise too_long
    await expect_body(request)
    parts, size = [], 0
    async for data in request.content.iter_any():
        parts.append(data)
        size += len(data)
        if size > limit:
            raise too_long
    return b"".join(parts)
