"""Everything that can happen to a ticket: the closed list of event types and what each event holds."""

from datetime import datetime
from enum import StrEnum
from typing import Any

from bson import ObjectId
from pydantic import BaseModel, ConfigDict, Field


class EventType(StrEnum):
    """Clients and consumers branch on these words, so none is ever renamed."""

    TICKET_CREATED = "ticket.created"
    TICKET_UPDATED = "ticket.updated"
    TICKET_ASSIGNED = "ticket.assigned"
    TICKET_STATUS_CHANGED = "ticket.status_changed"
    TICKET_DELETED = "ticket.deleted"
    TICKET_RESTORED = "ticket.restored"
    TICKET_MERGED = "ticket.merged"
    TICKET_RATED = "ticket.rated"
    COMMENT_CREATED = "comment.created"
    COMMENT_UPDATED = "comment.updated"
    COMMENT_DELETED = "comment.deleted"
    ATTACHMENT_ADDED = "attachment.added"
    ATTACHMENT_DELETED = "attachment.deleted"
    SLA_WARNING = "sla.warning"
    SLA_BREACHED = "sla.breached"


class _Closed(BaseModel):
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True, frozen=True)


class FieldChange(_Closed):
    """One field's value before and after."""

    before: Any = Field(alias="from")
    after: Any = Field(alias="to")


class EventActor(_Closed):
    """Who did it, by name and role as they were then."""

    id: ObjectId
    username: str
    role: str


class EventRow(_Closed):
    """A stored event, checked where it is made: a misspelt member fails here and not at a client."""

    id: ObjectId = Field(alias="_id")
    type: EventType
    ticket_id: ObjectId = Field(alias="ticketId")
    version: int = Field(description="The ticket's version that this event made")
    at: datetime
    actor: EventActor | None
    changes: dict[str, FieldChange]
    comment: dict[str, Any] | None
    internal: bool
    ticket: dict[str, Any]
