"""A ticket's statuses, its legal moves between them, and what a move sets and clears."""

from collections.abc import Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any

from app.platform.errors import FieldError, InvalidInput


class Status(StrEnum):
    """The original's four statuses, exactly as stored."""

    OPEN = "Open"
    IN_PROGRESS = "In Progress"
    RESOLVED = "Resolved"
    CLOSED = "Closed"


class Priority(StrEnum):
    """The original's three priorities, exactly as stored."""

    LOW = "Low"
    MEDIUM = "Medium"
    HIGH = "High"


class WaitingOn(StrEnum):
    """Whose turn it is when it is not ours; not a status."""

    CUSTOMER = "customer"
    THIRD_PARTY = "third_party"


LEGAL_MOVES: dict[Status, tuple[Status, ...]] = {
    Status.OPEN: (Status.IN_PROGRESS, Status.RESOLVED, Status.CLOSED),
    Status.IN_PROGRESS: (Status.OPEN, Status.RESOLVED, Status.CLOSED),
    Status.RESOLVED: (Status.OPEN, Status.IN_PROGRESS, Status.CLOSED),
    Status.CLOSED: (Status.OPEN,),
}
ACTIVE = frozenset({Status.OPEN, Status.IN_PROGRESS})
DONE = frozenset({Status.RESOLVED, Status.CLOSED})


def is_reopening(before: Status, after: Status) -> bool:
    return before in DONE and after in ACTIVE


def check_may_wait(status: str, waiting_on: WaitingOn | None) -> None:
    """What is finished waits for nobody. Raises `InvalidInput`."""
    if waiting_on is not None and status in DONE:
        raise InvalidInput(FieldError("waitingOn", "not_waiting", f"must be null on a ticket that is {status}"))


def consequences(ticket: Mapping[str, Any], status: Status, now: datetime) -> dict[str, Any]:
    """The stored fields that a move sets beside the status itself."""
    before = Status(ticket["status"])
    if is_reopening(before, status):
        return {"resolvedAt": None, "closedAt": None, "reopenCount": ticket["reopenCount"] + 1}
    if status is Status.RESOLVED:
        return {"resolvedAt": now, "waitingOn": None}
    if status is Status.CLOSED:
        closed = {"closedAt": now, "waitingOn": None}
        return closed if before is Status.RESOLVED else {"resolvedAt": now, **closed}
    return {}
