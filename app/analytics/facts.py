"""What figures need to know of a ticket: a few facts, found from the ticket itself and carried on by its events."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple

from bson import ObjectId

from app.events.catalog import EventType
from app.platform.wire import Row
from app.tickets.changes import DEFAULTS, NO_SLA, VALUES
from app.tickets.lifecycle import DONE, Status

# All that is read of a stored ticket, or of its events' `changes` and `ticket`.
FIELDS = (
    *("_id", "version", "deletedAt", "assignedTo", "priority", "tags", "createdAt"),
    *("status", "resolvedAt", "firstRespondedAt", "sla", "rating"),
)


class Outcome(StrEnum):
    """What became of a promise that is no longer pending."""

    MET = "met"
    BREACHED = "breached"


class Sla(NamedTuple):
    """The promises that a policy makes for a ticket; None while they are pending, or where it makes none."""

    first_response: Outcome | None
    resolution: Outcome | None


class Rating(NamedTuple):
    """What the requester thought of it, from 1 to 5, and when."""

    score: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """A ticket as of one version, as far as figures depend on it. All instants are UTC."""

    ticket_id: ObjectId
    version: int
    is_deleted: bool
    agent: ObjectId | None
    priority: str
    tags: tuple[str, ...]
    created_at: datetime
    moves: tuple[datetime | None, ...]
    """When it was first resolved or closed, then reopened, and so on in turn; so an even number means open now.

    None for a resolution that the old database has no time of.
    """
    is_undated: bool
    """It is resolved, at a time that is not known. A ticket that was closed so counts as no resolution."""
    first_responded_at: datetime | None
    sla: Sla | None
    rating: Rating | None

    @property
    def is_open(self) -> bool:
        return len(self.moves) % 2 == 0

    @property
    def resolved_at(self) -> datetime | None:
        """When it was resolved; None while it is open, and where the time is not known."""
        return None if self.is_open else self.moves[-1]

    @property
    def first_resolved_at(self) -> datetime | None:
        """When it was resolved for the first time, also if it was reopened since; None where that is not known."""
        return self.moves[0] if self.moves else None

    def as_row(self) -> Row:
        """For storage; what is absent is left out."""
        row: Row = {
            "_id": self.ticket_id,
            "version": self.version,
            "isDeleted": self.is_deleted or None,
            "agent": self.agent,
            "priority": self.priority,
            "tags": [*self.tags] or None,
            "createdAt": self.created_at,
            "moves": [*self.moves] or None,
            "isUndated": self.is_undated or None,
            "firstRespondedAt": self.first_responded_at,
            "sla": self.sla and [*self.sla],
            "rating": self.rating and [*self.rating],
        }
        return {name: value for name, value in row.items() if value is not None}

    @classmethod
    def of_row(cls, row: Mapping[str, Any]) -> "Facts":
        return cls(
            ticket_id=row["_id"],
            version=row["version"],
            is_deleted=row.get("isDeleted", False),
            agent=row.get("agent"),
            priority=row["priority"],
            tags=tuple(row.get("tags", ())),
            created_at=row["createdAt"],
            moves=tuple(row.get("moves", ())),
            is_undated=row.get("isUndated", False),
            first_responded_at=row.get("firstRespondedAt"),
            sla=Sla(*(outcome and Outcome(outcome) for outcome in row["sla"])) if "sla" in row else None,
            rating=Rating(*row["rating"]) if "rating" in row else None,
        )


def start(ticket: Mapping[str, Any]) -> Facts:
    """The facts of a stored ticket as far as it tells them itself: all there are of one without events."""
    status, resolved_at = _given(ticket, "status"), ticket.get("resolvedAt")
    return _facts(
        ticket,
        version=_given(ticket, "version"),
        moves=(resolved_at,) if status in DONE else (),
        is_undated=status == Status.RESOLVED and resolved_at is None,
        rating=None,
    )


def advance(facts: Facts, event: Mapping[str, Any]) -> Facts:
    """The facts after the ticket's next event."""
    ticket = event["ticket"]
    status, resolved_at = _given(ticket, "status"), ticket.get("resolvedAt")
    return _facts(
        ticket,
        version=event["version"],
        moves=_moved(facts.moves, event["at"], resolved_at, is_open=status not in DONE),
        is_undated=status == Status.RESOLVED and resolved_at is None,
        rating=_rating_of(event) if "rating" in event["changes"] else facts.rating,
    )


def _facts(ticket: Mapping[str, Any], **others: Any) -> Facts:
    """Those that the ticket itself tells, whatever its past, and the others."""
    return Facts(
        ticket_id=ticket["_id"],
        is_deleted=ticket.get("deletedAt") is not None,
        agent=ticket.get("assignedTo"),
        priority=_given(ticket, "priority"),
        tags=tuple(dict.fromkeys(ticket.get("tags") or ())),
        created_at=ticket.get("createdAt") or ticket["_id"].generation_time,
        first_responded_at=ticket.get("firstRespondedAt"),
        sla=_sla_of(ticket),
        **others,
    )


def _given(ticket: Mapping[str, Any], name: str) -> Any:
    """The field as `complete` has it, which would be most of the work of counting a ticket."""
    value = ticket.get(name)
    is_known = value is not None and (name not in VALUES or value in VALUES[name])
    return value if is_known else DEFAULTS[name]


def replay(ticket: Mapping[str, Any], events: Sequence[Mapping[str, Any]], *, until: int | None = None) -> Facts:
    """The facts from a ticket's whole life up to this version: its events in the order of their versions.

    A ticket of the old database has no event of its creation, or none at all. The ticket matters only in that case.
    """
    facts = start(_before(events[0]) if events else ticket)
    for event in events:
        if until is None or event["version"] <= until:
            facts = advance(facts, event)
    return facts


def _before(event: Mapping[str, Any]) -> Row:
    """The ticket before this event, or, there being none, as it was created."""
    earlier = {name: change["from"] for name, change in event["changes"].items()}
    if event["type"] == EventType.TICKET_DELETED:
        earlier["deletedAt"] = None
    return {**event["ticket"], **earlier, "version": event["version"] - 1}


def _moved(
    moves: tuple[datetime | None, ...], at: datetime, resolved_at: datetime | None, *, is_open: bool
) -> tuple[datetime | None, ...]:
    """With the last move as the ticket now has it, and one more if it was open and is not, or the reverse."""
    was_open = len(moves) % 2 == 0
    if is_open:
        return moves if was_open else (*moves, at)
    return (*(moves if was_open else moves[:-1]), resolved_at)


def _rating_of(event: Mapping[str, Any]) -> Rating | None:
    rating = event["changes"]["rating"]["to"]
    if rating is None:
        return None
    return Rating(rating["score"] if isinstance(rating, Mapping) else rating, event["at"])


def _sla_of(ticket: Mapping[str, Any]) -> Sla | None:
    stored = ticket.get("sla")
    if not stored or stored.get("policy") is None:
        return None
    sla = NO_SLA | stored
    resolved_at = ticket.get("resolvedAt")
    is_resolved = resolved_at is not None and _given(ticket, "status") in DONE
    return Sla(
        _outcome(sla["firstResponseDueAt"], sla["firstResponseBreached"], ticket.get("firstRespondedAt") is not None),
        _outcome(sla["resolutionDueAt"], sla["resolutionBreached"], is_resolved),
    )


def _outcome(due: datetime | None, is_breached: bool, is_kept: bool) -> Outcome | None:  # noqa: FBT001 - as stored
    if is_breached:
        return Outcome.BREACHED
    return Outcome.MET if due is not None and is_kept else None
