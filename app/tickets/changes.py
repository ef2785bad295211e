"""What a patch does to a ticket: the fields it sets, their differences, and the one event that tells of them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from app.accounts.actor import Actor
from app.events.catalog import EventType

from .errors import IllegalTransition
from .lifecycle import LEGAL_MOVES, Priority, Status, WaitingOn, check_may_wait, consequences
from .policy import check_state_allows

# Every field of a ticket, and what it means that a row of the original service lacks it.
DEFAULTS: dict[str, Any] = {
    "_id": None,
    "number": None,
    "title": "",
    "description": "",
    "status": Status.OPEN,
    "priority": Priority.MEDIUM,
    "waitingOn": None,
    "assignedTo": None,
    "requester": None,
    "watchers": None,
    "tags": None,
    "createdAt": None,
    "updatedAt": None,
    "firstRespondedAt": None,
    "resolvedAt": None,
    "closedAt": None,
    "reopenCount": 0,
    "sla": None,
    "commentCount": 0,
    "attachmentCount": 0,
    "deletedAt": None,
    "version": 1,
}
# The values that there are of these fields. The original service did not check what its updates wrote: a row of it may
# have another, which means what a missing one does. Tuples, since such a value need not be hashable.
VALUES: dict[str, tuple[str | None, ...]] = {
    "status": tuple(Status),
    "priority": tuple(Priority),
    "waitingOn": (None, *WaitingOn),
}
NO_SLA: dict[str, Any] = {
    "policy": None,
    "firstResponseDueAt": None,
    "resolutionDueAt": None,
    "firstResponseBreached": False,
    "resolutionBreached": False,
    "pausedMs": 0,
}


@dataclass(frozen=True, slots=True)
class Plan:
    """What to write. `fields` is empty when the patch changes nothing; then there is no event either."""

    event_type: EventType
    fields: dict[str, Any]
    changes: dict[str, dict[str, Any]]


def complete(row: Mapping[str, Any]) -> dict[str, Any]:
    """The stored ticket with every field of today: a row of the original service gets what it lacks."""
    ticket = {name: default if row.get(name) is None else row[name] for name, default in DEFAULTS.items()}
    for name, known in VALUES.items():
        if ticket[name] not in known:
            ticket[name] = DEFAULTS[name]
    ticket["createdAt"] = ticket["createdAt"] or row["_id"].generation_time
    ticket["updatedAt"] = ticket["updatedAt"] or ticket["createdAt"]
    ticket["watchers"] = row.get("watchers") or []
    ticket["tags"] = row.get("tags") or []
    ticket["sla"] = NO_SLA | (row.get("sla") or {})
    return ticket


def plan_change(ticket: Mapping[str, Any], patch: Mapping[str, Any], actor: Actor, now: datetime) -> Plan:
    """The plan for a merge patch of stored names and values on a complete ticket.

    Raises `InvalidInput`, `IllegalTransition`, `NotEditable`, `ReopenWindowOver`.
    """
    changed = {name: value for name, value in patch.items() if value != ticket[name]}
    if changed.keys() & {"status", "waitingOn"}:
        check_may_wait(patch.get("status", ticket["status"]), patch.get("waitingOn"))
    check_state_allows(actor, ticket, changed, now)
    if "status" in changed:
        before, after = Status(ticket["status"]), changed["status"]
        if after not in LEGAL_MOVES[before]:
            raise IllegalTransition(before, after)
        moved = consequences(ticket, after, now)
        changed = {**{name: value for name, value in moved.items() if value != ticket[name]}, **changed}
    return Plan(_event_type(changed), _touched(ticket, changed, now), _differences(ticket, changed))


def plan_deletion(ticket: Mapping[str, Any], now: datetime) -> Plan:
    return Plan(EventType.TICKET_DELETED, _touched(ticket, {"deletedAt": now}, now), {})


def plan_restoration(ticket: Mapping[str, Any], now: datetime) -> Plan:
    return Plan(EventType.TICKET_RESTORED, _touched(ticket, {"deletedAt": None}, now), {})


def _touched(ticket: Mapping[str, Any], changed: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    return {**changed, "updatedAt": now, "version": ticket["version"] + 1} if changed else {}


def _differences(ticket: Mapping[str, Any], changed: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    return {name: {"from": ticket[name], "to": value} for name, value in changed.items()}


def _event_type(changed: Mapping[str, Any]) -> EventType:
    if "status" in changed:
        return EventType.TICKET_STATUS_CHANGED
    return EventType.TICKET_ASSIGNED if "assignedTo" in changed else EventType.TICKET_UPDATED
