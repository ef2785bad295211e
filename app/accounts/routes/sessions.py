"""The caller's own sessions."""

from typing import Annotated

from fastapi import APIRouter, Path, Request
from starlette.responses import Response

from app.accounts.commands.sessions import end_other_sessions, end_session
from app.accounts.deps import SIGNED_OUT, CurrentActor, TheOrigin, object_id
from app.accounts.errors import SessionRequired
from app.accounts.queries import list_sessions
from app.accounts.security_schemas import SessionList, session_out
from app.platform.clock import now
from app.platform.errors import NotFound
from app.platform.http import no_content
from app.platform.openapi import PAGE_PARAMETERS, Success, describe
from app.platform.paging import page_response

router = APIRouter(tags=["me"])
SESSION_EXAMPLE = {
    "id": "6740a1f0c3b2a1d4e5f60719",
    "device": "Mozilla/5.0 (X11; Linux x86_64; rv:146.0) Gecko/20100101 Firefox/146.0",
    "address": "203.0.113.7",
    "createdAt": "2026-11-22T09:30:00.000Z",
    "lastUsedAt": "2026-11-22T11:05:00.000Z",
    "expiresAt": "2026-12-06T11:05:00.000Z",
    "current": True,
}
SessionReference = Annotated[
    str, Path(alias="sessionId", description="The session's id", examples=[SESSION_EXAMPLE["id"]])
]


@router.get(
    "/api/me/sessions",
    **describe(
        "listSessions",
        Success(200, SessionList, {"items": [SESSION_EXAMPLE], "nextCursor": None}, ("Link",)),
        errors=[*SIGNED_OUT, SessionRequired],
        parameters=PAGE_PARAMETERS,
    ),
)
async def list_sessions_route(request: Request, actor: CurrentActor) -> Response:
    """Where the caller is signed in, newest first."""
    page = await list_sessions(actor, request.query_params, now())
    return page_response(request, page, [session_out(row, actor.credential_id) for row in page.rows])


@router.delete(
    "/api/me/sessions/{sessionId}",
    **describe("endSession", Success(204), errors=[*SIGNED_OUT, SessionRequired, NotFound]),
)
async def end_session_route(session_id: SessionReference, actor: CurrentActor, origin: TheOrigin) -> Response:
    """Ends one of the caller's sessions: its tokens stop working at once."""
    await end_session(actor, object_id(session_id), origin=origin, now=now())
    return no_content()


@router.delete("/api/me/sessions", **describe("endOtherSessions", Success(204), errors=[*SIGNED_OUT, SessionRequired]))
async def end_other_sessions_route(actor: CurrentActor, origin: TheOrigin) -> Response:
    """Ends all of the caller's sessions but the one that asks."""
    await end_other_sessions(actor, origin=origin, now=now())
    return no_content()
