"""Tickets and their events on the wire."""

from typing import Annotated, Any

from pydantic import AfterValidator, Field, StringConstraints

from app.events.catalog import EventType
from app.platform.wire import STORABLE, Id, Instant, JsonObject, PatchModel, Row, WireModel

from .changes import complete
from .lifecycle import Priority, Status, WaitingOn

MAX_BULK = 100
MAX_TAG = 50


def _without_repeats(values: list[Any]) -> list[Any]:
    return list(dict.fromkeys(values))


def _none_as_empty(values: list[Any] | None) -> list[Any]:
    return values or []


def _refuse_repeats(values: list[Any]) -> list[Any]:
    if len(set(values)) != len(values):
        message = "must not name an id twice"
        raise ValueError(message)
    return values


Title = Annotated[str, StringConstraints(min_length=1, max_length=200), STORABLE]
Description = Annotated[str, StringConstraints(min_length=1, max_length=10_000), STORABLE]
Tag = Annotated[str, StringConstraints(min_length=1, max_length=MAX_TAG), STORABLE]
Tags = Annotated[list[Tag], Field(max_length=20), AfterValidator(_without_repeats)]
Watchers = Annotated[list[Id], Field(max_length=50), AfterValidator(_without_repeats)]


class TicketCreate(WireModel):
    title: Title
    description: Description
    priority: Priority = Priority.MEDIUM
    tags: Tags = Field(default_factory=list)
    requester: Id | None = Field(default=None, description="Agents and Admins may open for another; else the caller")
    assigned_to: Id | None = Field(default=None, description="Agents and Admins only: an active Agent or Admin")
    watchers: Watchers = Field(default_factory=list, description="Agents and Admins only")


class TicketPatch(PatchModel):
    title: Title = ""
    description: Description = ""
    status: Status = Status.OPEN
    priority: Priority = Priority.MEDIUM
    waiting_on: WaitingOn | None = Field(default=None, description="Null on a ticket that is Resolved or Closed")
    assigned_to: Id | None = None
    requester: Id | None = None
    watchers: Annotated[Watchers | None, AfterValidator(_none_as_empty)] = Field(default_factory=list)
    tags: Annotated[Tags | None, AfterValidator(_none_as_empty)] = Field(default_factory=list)


class BulkPatch(WireModel):
    ids: Annotated[list[Id], Field(min_length=1, max_length=MAX_BULK), AfterValidator(_refuse_repeats)]
    patch: TicketPatch


class SlaOut(WireModel):
    policy: str | None
    first_response_due_at: Instant | None
    resolution_due_at: Instant | None
    first_response_breached: bool
    resolution_breached: bool
    paused_ms: int


class TicketOut(WireModel):
    id: Id
    number: int | None = Field(description="Increasing; null for tickets of the original service, which had none")
    title: str
    description: str
    status: Status
    priority: Priority
    waiting_on: WaitingOn | None
    assigned_to: Id | None
    requester: Id | None
    watchers: list[Id]
    tags: list[str]
    created_at: Instant
    updated_at: Instant = Field(
        description="`createdAt` for tickets that were created by the original service and not changed since"
    )
    first_responded_at: Instant | None
    resolved_at: Instant | None
    closed_at: Instant | None
    reopen_count: int
    sla: SlaOut
    comment_count: int
    attachment_count: int
    version: int


class TicketList(WireModel):
    items: list[TicketOut]
    next_cursor: str | None


class BulkResult(WireModel):
    id: Id
    status: int = Field(description="What a single PATCH would have answered")
    ticket: TicketOut | None
    error: dict[str, Any] | None = Field(description="A problem, as a single PATCH would have answered it")


class BulkResults(WireModel):
    results: list[BulkResult]


class EventActorOut(WireModel):
    id: Id
    username: str
    role: str


class FieldChangeOut(WireModel):
    from_: Any = Field(alias="from")
    to: Any


class EventOut(WireModel):
    id: Id
    type: EventType
    ticket_id: Id
    at: Instant
    actor: EventActorOut | None
    changes: dict[str, FieldChangeOut]
    comment: dict[str, Any] | None
    internal: bool
    ticket: TicketOut = Field(description="The ticket as it was after the change")
    cursor: str | None = Field(description="Where a stream can go on; null in a ticket's history")


class EventList(WireModel):
    items: list[EventOut]
    next_cursor: str | None


def ticket_out(row: JsonObject) -> Row:
    """A stored ticket, an original one included, as `TicketOut` has it."""
    ticket = complete(row)
    del ticket["deletedAt"]
    return {"id": ticket.pop("_id"), **ticket}


def event_out(row: JsonObject, cursor: str | None = None) -> Row:
    """A stored event as `EventOut` has it."""
    return {
        "id": row["_id"],
        "type": row["type"],
        "ticketId": row["ticketId"],
        "at": row["at"],
        "actor": row["actor"],
        "changes": row["changes"],
        "comment": row["comment"],
        "internal": row["internal"],
        "ticket": ticket_out(row["ticket"]),
        "cursor": cursor,
    }


TICKET_EXAMPLE: JsonObject = {
    "id": "6740a1f0c3b2a1d4e5f60720",
    "number": 42,
    "title": "The printer on floor two stopped answering",
    "description": "It stopped after the update last night.",
    "status": "Open",
    "priority": "High",
    "waitingOn": None,
    "assignedTo": None,
    "requester": "6740a1f0c3b2a1d4e5f60718",
    "watchers": [],
    "tags": ["printer"],
    "createdAt": "2026-11-22T09:30:00.000Z",
    "updatedAt": "2026-11-22T09:30:00.000Z",
    "firstRespondedAt": None,
    "resolvedAt": None,
    "closedAt": None,
    "reopenCount": 0,
    "sla": {
        "policy": None,
        "firstResponseDueAt": None,
        "resolutionDueAt": None,
        "firstResponseBreached": False,
        "resolutionBreached": False,
        "pausedMs": 0,
    },
    "commentCount": 0,
    "attachmentCount": 0,
    "version": 1,
}
EVENT_EXAMPLE: JsonObject = {
    "id": "6740a1f0c3b2a1d4e5f60721",
    "type": "ticket.updated",
    "ticketId": TICKET_EXAMPLE["id"],
    "at": "2026-11-22T09:30:00.000Z",
    "actor": {"id": "6740a1f0c3b2a1d4e5f60722", "username": "agent1", "role": "Agent"},
    "changes": {"priority": {"from": "Medium", "to": "High"}},
    "comment": None,
    "internal": False,
    "ticket": TICKET_EXAMPLE,
    "cursor": None,
}
