"""Who is told of an event by mail, and why."""

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from bson import ObjectId

from app.events.catalog import EventType
from app.tickets.lifecycle import ACTIVE, DONE, Status, is_reopening

from .kinds import Kind

Told = tuple[Kind, Iterable[ObjectId | None]]


def recipients(event: Mapping[str, Any]) -> dict[ObjectId, set[Kind]]:
    """The people that the event itself names as concerned. Nobody is told what they did, but of their own request.

    Their accounts are not looked at: what a person may know of it is decided when the mail is sent.
    """
    found: dict[ObjectId, set[Kind]] = defaultdict(set)
    actor_id = event["actor"]["id"] if event["actor"] else None
    requester = event["ticket"]["requester"]
    for kind, people in _told(event):
        for person in people:
            is_receipt = kind is Kind.CREATED and person == requester
            if person is not None and (person != actor_id or is_receipt):
                found[person].add(kind)
    return dict(found)


def kind_of_move(before: str, after: str) -> Kind:
    """What a change of status is to those who wait: the end of the work, or a step."""
    return Kind.RESOLVED if before in ACTIVE and after in DONE else Kind.STATUS_CHANGED


def people_of(ticket: Mapping[str, Any]) -> set[ObjectId | None]:
    """Those whom the ticket names."""
    return {ticket["requester"], ticket["assignedTo"], *ticket["watchers"]}


def _told(event: Mapping[str, Any]) -> Iterator[Told]:
    ticket, changes = event["ticket"], event["changes"]
    assignee = ticket["assignedTo"]
    # Internal ones are not for the requester; what else must not reach a Customer is found when the mail is sent.
    audience = [*ticket["watchers"], *([] if event["internal"] else [ticket["requester"]])]
    match event["type"]:
        case EventType.TICKET_CREATED:
            yield Kind.CREATED, audience
            yield Kind.ASSIGNED, [assignee]
        case EventType.COMMENT_CREATED:
            yield Kind.COMMENTED, [*audience, assignee]
        case EventType.SLA_WARNING | EventType.SLA_BREACHED:
            yield Kind.SLA, [assignee]
    if "assignedTo" in changes:
        yield Kind.ASSIGNED, [changes["assignedTo"]["to"]]
    if "status" in changes:
        before, after = Status(changes["status"]["from"]), Status(changes["status"]["to"])
        yield kind_of_move(before, after), audience
        if is_reopening(before, after):
            yield Kind.STATUS_CHANGED, [assignee]
