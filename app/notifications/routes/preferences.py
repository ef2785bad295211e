"""What each user wants to be told by mail, set by themselves or by a link in a mail."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.deps import SIGNED_OUT, Anonymous, CurrentActor
from app.accounts.errors import InsufficientScope
from app.notifications.commands import change_preferences, unsubscribe
from app.notifications.errors import InvalidUnsubscribeToken
from app.notifications.kinds import Kind
from app.notifications.queries import switched_off
from app.notifications.schemas import NotificationsOut, NotificationsPatch, UnsubscribedOut, notifications_out
from app.platform.http import json_response, read_json
from app.platform.openapi import Body, Success, describe

router = APIRouter(tags=["notifications"])
PREFERENCES = Success(200, NotificationsOut, notifications_out([Kind.STATUS_CHANGED]))
TOKEN: dict[str, Any] = {
    "name": "token",
    "in": "query",
    "required": True,
    "description": "As the link in a mail has it",
    "schema": {"type": "string"},
}


@router.get("/api/me/notifications", **describe("getNotificationPreferences", PREFERENCES, errors=SIGNED_OUT))
async def get_preferences_route(actor: CurrentActor) -> Response:
    """Of which kinds of news the caller gets mail. Mails about the safety of an account are not among them."""
    return json_response(notifications_out(await switched_off(actor.id)))


@router.patch(
    "/api/me/notifications",
    **describe(
        "updateNotificationPreferences",
        PREFERENCES,
        body=Body(NotificationsPatch, {"statusChanged": False}),
        errors=[*SIGNED_OUT, InsufficientScope],
    ),
)
async def change_preferences_route(request: Request, actor: CurrentActor) -> Response:
    """Switches kinds of news on and off (JSON merge patch); what is absent stays as it is."""
    return json_response(notifications_out(await change_preferences(actor, await read_json(request))))


@router.post(
    "/unsubscribe",
    dependencies=[Anonymous],
    **describe(
        "unsubscribe",
        Success(200, UnsubscribedOut, {"kind": Kind.COMMENTED}),
        errors=[InvalidUnsubscribeToken],
        parameters=[TOKEN],
    ),
)
async def unsubscribe_route(request: Request) -> Response:
    """Ends mails of one kind to one person. Mail programs call it at the press of a button (RFC 8058), so it needs no
    sign-in and takes a body of any type; a body has no effect.
    """
    kind = await unsubscribe(request.query_params.get("token", ""), key=request.state.notification_key)
    return json_response({"kind": kind})
