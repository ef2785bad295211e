"""Who may see a ticket and change what of it. Denies what it does not name.

`may_see` and `visible_to` are one rule, said once for a ticket at hand and once for the database; a property test
holds them equal.
"""

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any

from app.accounts.actor import Actor
from app.accounts.roles import Permission, Scope
from app.platform.errors import Forbidden

from .errors import NotEditable, ReopenWindowOver
from .lifecycle import DONE, Status, is_reopening

REOPEN_WINDOW = timedelta(days=14)
RESTORE_WINDOW = timedelta(days=30)

CUSTOMER_MAY_SEND = frozenset({"title", "description", "priority", "tags", "requester"})
CUSTOMER_MAY_CHANGE = frozenset({"title", "description", "status"})
# The same status again is a move to nowhere, and allowed like any patch that changes nothing.
CUSTOMER_MOVES: dict[Status, frozenset[Status]] = {
    Status.OPEN: frozenset({Status.OPEN, Status.CLOSED}),
    Status.IN_PROGRESS: frozenset({Status.IN_PROGRESS, Status.CLOSED}),
    Status.RESOLVED: frozenset({Status.RESOLVED, Status.CLOSED, Status.OPEN}),
    Status.CLOSED: frozenset({Status.CLOSED, Status.OPEN}),
}


def may_see(actor: Actor, ticket: Mapping[str, Any]) -> bool:
    """May this actor know of this ticket?"""
    if ticket.get("deletedAt") is not None:
        return False
    return actor.may(Permission.WORK_TICKETS) or ticket.get("requester") == actor.id


def visible_to(actor: Actor) -> dict[str, Any]:
    """The tickets that this actor may know of, as a filter."""
    if actor.may(Permission.WORK_TICKETS):
        return {"deletedAt": None}
    return {"deletedAt": None, "requester": actor.id}


def visible_events_to(actor: Actor) -> dict[str, Any]:
    """Which events of a ticket that the actor may see are for their eyes, as a filter."""
    return {} if actor.may(Permission.WORK_TICKETS) else {"internal": False}


def check_may_open(actor: Actor, fields: Mapping[str, Any]) -> None:
    """May this actor open a ticket with these fields? Looks at names, not at values.

    Raises `InsufficientScope`, `Forbidden`.
    """
    actor.require_scope(Scope.TICKETS)
    if actor.may(Permission.WORK_TICKETS):
        return
    _refuse_fields(_other_than(fields, CUSTOMER_MAY_SEND))
    if str(fields.get("requester") or actor.id).lower() != str(actor.id):
        _refuse_fields(["requester"])


def check_may_change(actor: Actor, ticket: Mapping[str, Any], fields: Mapping[str, Any]) -> None:
    """May this actor's role change these fields of a ticket that they see? Raises `InsufficientScope`, `Forbidden`."""
    actor.require_scope(Scope.TICKETS)
    if actor.may(Permission.WORK_TICKETS):
        return
    _refuse_fields(_other_than(fields, CUSTOMER_MAY_CHANGE))
    status = fields.get("status")
    if isinstance(status, str) and status in set(Status) and status not in CUSTOMER_MOVES[Status(ticket["status"])]:
        raise Forbidden(f"Your role may not set the status to {status}")


def check_state_allows(actor: Actor, ticket: Mapping[str, Any], changed: Mapping[str, Any], now: datetime) -> None:
    """Does the ticket's state let this actor make these changes? Raises `NotEditable`, `ReopenWindowOver`."""
    if actor.may(Permission.WORK_TICKETS):
        return
    before = Status(ticket["status"])
    if before is not Status.OPEN and changed.keys() & {"title", "description"}:
        raise NotEditable
    if "status" in changed and is_reopening(before, changed["status"]) and not _is_in_reopen_window(ticket, now):
        raise ReopenWindowOver


def _is_in_reopen_window(ticket: Mapping[str, Any], now: datetime) -> bool:
    finished_at = ticket["closedAt"] or ticket["resolvedAt"]
    return ticket["status"] in DONE and finished_at is not None and now - finished_at <= REOPEN_WINDOW


# What an Agent can set somewhere; a name outside is not forbidden but unknown, which the schemas say.
SETTABLE = frozenset(
    {"title", "description", "priority", "tags", "requester", "assignedTo", "watchers", "status", "waitingOn"}
)


def _other_than(fields: Mapping[str, Any], allowed: Collection[str]) -> list[str]:
    return [name for name in fields if name in SETTABLE and name not in allowed]


def _refuse_fields(names: Collection[str]) -> None:
    if names:
        raise Forbidden(f"Your role may not set {', '.join(sorted(names))}")
