"""Wishes about mail, deliveries and addresses that are left alone, on the wire."""

from collections.abc import Collection

from pydantic import Field, StrictBool

from app.mail.documents import WAITING, DeliveryState
from app.platform.wire import Id, Instant, JsonObject, PatchModel, Row, WireModel

from .kinds import Kind


class NotificationsOut(WireModel):
    resolved: bool = Field(description="A request of yours, or one that you watch, was resolved or closed")
    sla: bool = Field(description="A ticket that is assigned to you is close to a deadline, or missed it")
    assigned: bool = Field(description="A ticket was assigned to you")
    created: bool = Field(description="The receipt for a request of yours; or a ticket was opened that you watch")
    commented: bool = Field(description="Somebody wrote a comment")
    status_changed: bool = Field(description="The status changed in another way")


class NotificationsPatch(PatchModel):
    resolved: StrictBool = True
    sla: StrictBool = True
    assigned: StrictBool = True
    created: StrictBool = True
    commented: StrictBool = True
    status_changed: StrictBool = True


class UnsubscribedOut(WireModel):
    kind: Kind = Field(description="What you get no more mail about")


class DeliveryOut(WireModel):
    id: Id
    state: DeliveryState
    to: str | None = Field(description="The address; null until the first attempt, for mail about tickets")
    user_id: Id | None = Field(description="Whom a mail about a ticket is for; null for mail about accounts")
    ticket_id: Id | None
    subject: str | None
    attempts: int
    created_at: Instant
    due_at: Instant | None = Field(description="When it will be tried next; null when it will not be")
    handed_over_at: Instant | None = Field(description="When the provider took it")
    last_error: str | None


class DeliveryList(WireModel):
    items: list[DeliveryOut]
    next_cursor: str | None


class RetriedOut(WireModel):
    retried: int = Field(description="How many mails will be tried again")


class SuppressionOut(WireModel):
    address: str
    reason: str = Field(description="`bounce`: mail came back; `complaint`: somebody called it spam")
    at: Instant


class SuppressionList(WireModel):
    items: list[SuppressionOut]
    next_cursor: str | None


def notifications_out(off: Collection[str]) -> Row:
    return {kind.value: kind not in off for kind in Kind}


def delivery_out(row: JsonObject) -> Row:
    """A stored delivery as `DeliveryOut` has it; never what the mail says."""
    shown = ("state", "to", "userId", "ticketId", "subject", "attempts", "createdAt", "handedOverAt", "lastError")
    due_at = row["dueAt"] if row["state"] in WAITING else None
    return {"id": row["_id"], **{name: row[name] for name in shown}, "dueAt": due_at}


def suppression_out(row: JsonObject) -> Row:
    return {"address": row["_id"], "reason": row["reason"], "at": row["at"]}


DELIVERY_EXAMPLE: JsonObject = {
    "id": "6740a1f0c3b2a1d4e5f60730",
    "state": "dead",
    "to": "carol@example.com",
    "userId": "6740a1f0c3b2a1d4e5f60718",
    "ticketId": "6740a1f0c3b2a1d4e5f60720",
    "subject": "[#42] The printer on floor two stopped answering",
    "attempts": 31,
    "createdAt": "2026-11-22T09:30:00.000Z",
    "dueAt": None,
    "handedOverAt": None,
    "lastError": "503 Service Unavailable",
}
SUPPRESSION_EXAMPLE: JsonObject = {
    "address": "carol@example.com",
    "reason": "bounce",
    "at": "2026-11-22T09:30:00.000Z",
}
