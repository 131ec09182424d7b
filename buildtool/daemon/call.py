"""One request, as its handler sees it: parameters, body, version, services."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import msgspec
from aiohttp import web

from buildtool.daemon.negotiate import Version
from buildtool.errors import InvalidInput

if TYPE_CHECKING:
    from buildtool.daemon.hijack import RawConnection
    from buildtool.daemon.services import Services

JSON_LIMIT = 64 * 1024 * 1024
_FALSE = frozenset({"", "0", "no", "false", "none"})

_GO_TRUE = frozenset(("1", "t", "T", "true", "TRUE", "True"))
_GO_FALSE = frozenset(("", "0", "f", "F", "false", "FALSE", "False"))


class Call:
    """A request with its place in the route table."""

    def __init__(
        self, request: web.BaseRequest, services: Services, version: Version, names: Mapping[str, str]
    ) -> None:
        self.request = request
        self.services = services
        self.version = version
        self.names = names
        self.query = request.query

    def text(self, name: str, default: str = "") -> str:
        """A query parameter as it was sent."""
        return self.query.get(name, default)

    def texts(self, name: str) -> list[str]:
        """All values of a query parameter that may be repeated, without empty ones."""
        return [value for value in self.query.getall(name, ()) if value]

    def flag(self, name: str, default: bool = False) -> bool:
        """A boolean as Docker reads it: everything is true but nothing, `0`, `no`, `false` and `none`."""
        value = self.query.get(name)
        return default if value is None else value.strip().lower() not in _FALSE

    def number(self, name: str, default: int | None = None) -> int | None:
        """An integer query parameter; InvalidInput when it is something else."""
        value = self.query.get(name, "")
        if not value:
            return default
        try:
            return int(value)
        except ValueError:
            raise InvalidInput(f'invalid value for query parameter "{name}": "{value}" is not an integer') from None

    def document(self, name: str) -> Any:
        """A query parameter that holds JSON (buildargs, labels, ulimits); None when it is missing."""
        value = self.query.get(name, "")
        if not value:
            return None
        try:
            return msgspec.json.decode(value)
        except msgspec.DecodeError as error:
            raise InvalidInput(f'invalid JSON in query parameter "{name}": {error}') from None

    def filters(self) -> dict[str, list[str]]:
        """`filters` in either wire form (`{"a": ["b"]}`, `{"a": {"b": true}}`). Raises InvalidInput."""
        found = self.document("filters")
        if found is None:
            return {}
        if not isinstance(found, dict):
            raise InvalidInput("invalid filter: not a JSON object")
        return {name: _filter_values(name, values) for name, values in found.items()}

    async def json(self, *, optional: bool = False) -> dict[str, Any]:
        """The JSON object in the body; {} when there is none and that is allowed. Raises InvalidInput."""
        body = await self.body()
        if not body.strip():
            if optional:
                return {}
            raise InvalidInput("invalid JSON: got EOF while reading request body")
        content_type = self.request.headers.get("Content-Type", "")
        if content_type.partition(";")[0].strip().lower() != "application/json" and not optional:
            raise InvalidInput(f"unsupported Content-Type header ({content_type}): must be 'application/json'")
        return json_object(body)

    async def body(self, limit: int = JSON_LIMIT) -> bytes:
        """The whole body. Raises InvalidInput when it is longer than `limit` bytes."""
        parts, size = [], 0
        async for part in self.request.content.iter_any():
            size += len(part)
            if size > limit:
                raise InvalidInput(f"the request's body is longer than {limit} bytes")
            parts.append(part)
        return b"".join(parts)

    def encoded_header(self, name: str) -> Any:
        """A header that holds base64 (URL alphabet) of JSON, such as X-Registry-Auth; None when missing or empty."""
        value = self.request.headers.get(name, "")
        if not value:
            return None
        try:
            return msgspec.json.decode(base64.urlsafe_b64decode(value + "=" * (-len(value) % 4)))
        except (binascii.Error, msgspec.DecodeError, ValueError) as error:
            raise InvalidInput(f"invalid {name} header: {error}") from None

    def hijack(self) -> RawConnection:
        """The connection behind the request, for handlers whose answer is not HTTP. Raises InvalidInput."""
        from buildtool.daemon.hijack import HijackableProtocol

        protocol = self.request.protocol
        raw = protocol.raw if isinstance(protocol, HijackableProtocol) else None
        if raw is None:
            raise InvalidInput("this request cannot take over its connection: send Content-Length, not chunks")
        return raw


def parse_bool(text: str, name: str) -> bool:
    """A parameter that Go reads by strconv.ParseBool. Raises InvalidInput."""
    if text not in _GO_TRUE and text not in _GO_FALSE:
        raise InvalidInput(f'invalid value for {name}: {text}: strconv.ParseBool: parsing "{text}": invalid syntax')
    return text in _GO_TRUE


def json_object(body: bytes) -> dict[str, Any]:
    """Decode a JSON object. Raises InvalidInput in Docker's manner."""
    try:
        document = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise InvalidInput(f"invalid JSON: {error}") from None
    if document is None:
        return {}
    if not isinstance(document, dict):
        raise InvalidInput("invalid JSON: the body is not an object")
    return document


def _filter_values(name: str, values: Any) -> list[str]:
    if isinstance(values, dict):
        values = [value for value, wanted in values.items() if wanted]
    if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
        raise InvalidInput(f"invalid filter '{name}': its values are not strings")
    return values
