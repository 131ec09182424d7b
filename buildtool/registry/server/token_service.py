"""The token service: passwords (or refresh tokens) in, short-lived tokens for exactly what is allowed out.

Source: the token authentication and OAuth2 specifications of the distribution project.
"""

from __future__ import annotations

import datetime
from urllib.parse import parse_qs

from aiohttp import web

from buildtool.aio import offload
from buildtool.registry.server.access import Guarded, Identity, unauthorized
from buildtool.registry.server.answers import json_answer, read_body
from buildtool.registry.server.errors import ApiError
from buildtool.registry.server.signing import Grant, parse_scope

LIFETIME = 300.0
REFRESH_LIFETIME = 90 * 86400.0
_FORM_LIMIT = 64 * 1024
_MAX_SCOPES = 100


async def token(request: web.BaseRequest, access: Guarded) -> tuple[web.StreamResponse, Identity]:
    """GET with Basic credentials or none, POST with a form (grant_type password or refresh_token)."""
    signer = access.signer
    assert signer is not None
    if request.method == "POST":
        form = parse_qs((await read_body(request, _FORM_LIMIT)).decode(errors="replace"))
        who = await _from_form(access, form)
        scopes = " ".join(form.get("scope", [])).split()
        offline = form.get("access_type", [""])[0] == "offline"
        service = form.get("service", [""])[0]
    elif request.method == "GET":
        who = await offload(access.identify, request.headers)
        scopes = " ".join(request.query.getall("scope", [])).split()
        offline = request.query.get("offline_token", "") == "true"
        service = request.query.get("service", "")
    else:
        raise ApiError("UNSUPPORTED", "the operation is unsupported", headers={"Allow": "GET, POST"})
    if service not in ("", signer.service):
        raise unauthorized(f"there is no service {service[:80]!r} here")
    grants = await offload(granted, access, who, scopes[:_MAX_SCOPES])
    value = await offload(signer.sign, who.name, grants, LIFETIME)
    document: dict[str, object] = {
        "token": value,
        "access_token": value,
        "expires_in": int(LIFETIME),
        "issued_at": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    if offline and who.name and who.grants is None:
        document["refresh_token"] = await offload(signer.sign, who.name, (), REFRESH_LIFETIME, use="refresh")
    return json_answer(document, headers={"Cache-Control": "no-store"}), who


async def _from_form(access: Guarded, form: dict[str, list[str]]) -> Identity:
    def field(name: str) -> str:
        return form.get(name, [""])[0]

    if field("grant_type") == "refresh_token":
        return await offload(access.refreshed, field("refresh_token"))
    if field("grant_type") == "password":
        return await offload(access.log_in, field("username"), field("password"))
    raise ApiError("UNSUPPORTED", "the grant_type must be password or refresh_token", status=400)


def granted(access: Guarded, who: Identity, scopes: list[str]) -> list[Grant]:
    """Of what is asked for, what they may do."""
    grants = []
    for text in scopes:
        asked = parse_scope(text)
        if asked is None or "*" in asked.pattern or "{" in asked.pattern:
            continue
        actions = frozenset(action for action in asked.actions if access.allows(who, action, asked.pattern))
        if actions:
            grants.append(Grant(asked.pattern, actions))
    return grants
