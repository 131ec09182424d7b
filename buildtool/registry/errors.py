"""What registries answer when they refuse, as exceptions; and the answer read as one.

Source: OCI distribution-spec v1.1, "Error Codes".
"""

from __future__ import annotations

from typing import Any

import msgspec

from buildtool.errors import BuildtoolError

_DETAIL_LIMIT = 300


class RegistryUnreachable(BuildtoolError):
    """Nothing answers at a registry's address, or what answers breaks off again and again."""


class RegistryRefused(BuildtoolError):
    """A registry answered a request with an error. `code` is the specification's (`DENIED`), "" when it gave none."""

    def __init__(self, message: str, *, status: int, code: str = "", hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.status = status
        self.error_code = code


class Unauthorized(RegistryRefused):
    """The registry wants credentials, or does not take those it got."""

    http_status = 401


class Denied(RegistryRefused):
    """The credentials are good but not for this."""

    http_status = 403


class Missing(RegistryRefused):
    """The registry does not have it."""

    http_status = 404


def refusal(status: int, body: bytes, what: str) -> RegistryRefused:
    """The exception for an error answer; `what` begins the message when the registry gives no reason."""
    code, message = _first_error(body)
    reason = f"{code.lower().replace('_', ' ')}: {message}" if code else message
    if status == 401:
        return Unauthorized(reason or "unauthorized: authentication required", status=status, code=code)
    if status == 403:
        return Denied(reason or "denied: requested access to the resource is denied", status=status, code=code)
    if status == 404:
        return Missing(reason or f"{what}: not found", status=status, code=code)
    if status == 429:
        reason = reason or "toomanyrequests: the registry asks for fewer requests"
        return RegistryRefused(reason, status=status, code=code)
    return RegistryRefused(
        f"{what}: the registry answered {status}{f': {reason}' if reason else ''}", status=status, code=code
    )


def _first_error(body: bytes) -> tuple[str, str]:
    """Code and message of the first error in the document; ("", the text) when it is none."""
    try:
        document: Any = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        text = body[:_DETAIL_LIMIT].decode(errors="replace").strip()
        return "", "" if text.startswith("<") else text
    if isinstance(document, dict):
        errors = document.get("errors")
        if isinstance(errors, list) and errors and isinstance(errors[0], dict):
            code, message = errors[0].get("code"), errors[0].get("message")
            return str(code or "")[:60], str(message or "")[:_DETAIL_LIMIT]
        for name in ("details", "message", "error"):
            if isinstance(document.get(name), str):
                return "", str(document[name])[:_DETAIL_LIMIT]
    return "", ""
