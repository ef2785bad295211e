"""Who hears of an event: the same rule as who may see the ticket, for an event at hand."""

from collections.abc import Mapping
from typing import Any

from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.roles import Permission


def hears_all(actor: Actor) -> bool:
    """Does this actor hear of every event?"""
    return actor.may(Permission.WORK_TICKETS)


def may_hear(actor: Actor, event: Mapping[str, Any], requester: ObjectId | None) -> bool:
    """May this actor hear of this event? `requester` is the ticket's present one, not the one at the time.

    A Customer hears of the deletion of a ticket, unlike a list, which no longer has it.
    """
    return hears_all(actor) or (not event["internal"] and requester == actor.id)
