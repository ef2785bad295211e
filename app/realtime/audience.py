"""Who hears of an event: the same rule as who may see the ticket, for an event at hand."""

from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.roles import Permission

# Those who hear of everything; beside them, each other user is a group of their own.
STAFF = "staff"
Group = str | ObjectId


def group_of(actor: Actor) -> Group:
    """The group that the actor hears with."""
    return STAFF if actor.may(Permission.WORK_TICKETS) else actor.id


def addressees(event: Mapping[str, Any], requester: ObjectId | None) -> tuple[Group, ...]:
    """The groups that hear of the event. `requester` is the ticket's present one, which may not be the event's.

    A Customer hears of the deletion of a ticket, unlike a list, which no longer has it.
    """
    if event["internal"] or requester is None:
        return (STAFF,)
    return (STAFF, requester)


def may_hear(actor: Actor, event: Mapping[str, Any], requester: ObjectId | None) -> bool:
    """May this actor hear of this event?"""
    return group_of(actor) in addressees(event, requester)
