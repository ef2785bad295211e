"""The caller's own API keys."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.accounts.commands.keys import create_api_key, delete_api_key
from app.accounts.deps import (
    SIGNED_OUT,
    STEP_UP_ERRORS,
    CurrentActor,
    Person,
    TheIdempotency,
    TheMail,
    TheOrigin,
    object_id,
)
from app.accounts.errors import SessionRequired, TooManyApiKeys
from app.accounts.keys import new_key
from app.accounts.queries import list_api_keys
from app.accounts.security_schemas import ApiKeyCreate, ApiKeyCreated, ApiKeyList, api_key_out
from app.platform.clock import now
from app.platform.errors import Forbidden, NotFound
from app.platform.http import NO_STORE, no_content, read_json
from app.platform.idempotency import Answer
from app.platform.openapi import PAGE_PARAMETERS, Body, Success, describe
from app.platform.paging import page_response
from app.platform.wire import Row, to_json

router = APIRouter(tags=["API keys"])
KEY_EXAMPLE = {
    "id": "6740a1f0c3b2a1d4e5f6071a",
    "name": "nightly export",
    "scopes": ["read"],
    "hint": "x7Qa",
    "createdAt": "2026-11-22T09:30:00.000Z",
    "expiresAt": "2027-02-20T09:30:00.000Z",
    "lastUsedAt": None,
}
KeyReference = Annotated[str, Path(alias="keyId", description="The key's id", examples=[KEY_EXAMPLE["id"]])]


@router.get(
    "/api/api-keys",
    **describe(
        "listApiKeys",
        Success(200, ApiKeyList, {"items": [KEY_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=[*SIGNED_OUT, SessionRequired],
        parameters=PAGE_PARAMETERS,
    ),
)
async def list_api_keys_route(request: Request, actor: CurrentActor) -> Response:
    """The caller's keys, newest first, expired ones included; the keys themselves can't be read again."""
    page = await list_api_keys(actor, request.query_params)
    return page_response(request, page, [api_key_out(row) for row in page.rows])


@router.post(
    "/api/api-keys",
    **describe(
        "createApiKey",
        Success(201, ApiKeyCreated, {**KEY_EXAMPLE, "key": "tkt_…x7Qa"}, ("Location", "Idempotency-Replayed")),
        body=Body(ApiKeyCreate, {"name": "nightly export", "scopes": ["read"]}),
        errors=[*SIGNED_OUT, *STEP_UP_ERRORS, Forbidden, TooManyApiKeys],
        request_headers=["Idempotency-Key"],
    ),
)
async def create_api_key_route(
    request: Request, actor: Person, mail: TheMail, idempotency: TheIdempotency, origin: TheOrigin
) -> Response:
    """A key for a machine, to be sent as `Authorization: Bearer …`. It can do what its scopes say and its owner's role
    allows, never more than the owner has by then, and nothing to passwords, MFA, sessions or keys.
    """
    body, key = await read_json(request), new_key()
    return await idempotency.run(
        request,
        body,
        lambda once: create_api_key(actor, body, key, origin, mail=mail, now=now(), once=once),
        lambda row: _created(row, key),
    )


@router.delete(
    "/api/api-keys/{keyId}",
    **describe("deleteApiKey", Success(204), errors=[*SIGNED_OUT, *STEP_UP_ERRORS, NotFound]),
)
async def delete_api_key_route(key_id: KeyReference, actor: CurrentActor, origin: TheOrigin) -> Response:
    """Takes a key back: it stops working at once."""
    await delete_api_key(actor, object_id(key_id), origin, now=now())
    return no_content()


def _created(row: Row, key: str) -> Answer:
    body = {**api_key_out(row), "key": None}
    headers = (("Location", f"/api/api-keys/{row['_id']}"), *NO_STORE.items())
    return Answer(201, to_json(body), headers, shown=to_json({**body, "key": key}))
