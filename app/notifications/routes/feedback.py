"""Where SendGrid tells what became of mails (its Event Webhook)."""

from typing import Any

from fastapi import APIRouter, Request
from starlette.responses import Response

from app.accounts.deps import Anonymous
from app.notifications.commands import record_feedback
from app.notifications.errors import InvalidSignature
from app.platform.clock import now
from app.platform.http import no_content
from app.platform.openapi import Success, describe

router = APIRouter(tags=["notifications"])
SIGNATURE = "X-Twilio-Email-Event-Webhook-Signature"
TIMESTAMP = "X-Twilio-Email-Event-Webhook-Timestamp"


def _header(name: str, description: str) -> dict[str, Any]:
    return {"name": name, "in": "header", "required": True, "description": description, "schema": {"type": "string"}}


@router.post(
    "/api/sendgrid/events",
    dependencies=[Anonymous],
    **describe(
        "recordMailEvents",
        Success(204),
        errors=[InvalidSignature],
        parameters=[
            _header(SIGNATURE, "SendGrid's signature of timestamp and body (ECDSA with P-256 and SHA-256), in base64"),
            _header(TIMESTAMP, "When it was signed, in seconds since 1970; good for a day"),
        ],
    ),
)
async def record_feedback_route(request: Request) -> Response:
    """Takes SendGrid's events: whether mails were delivered, came back, were dropped or were called spam."""
    given = request.headers
    await record_feedback(
        await request.body(),
        given.get(SIGNATURE, ""),
        given.get(TIMESTAMP, ""),
        key=request.state.webhook_key,
        now=now(),
    )
    return no_content()
