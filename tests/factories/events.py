"""Events of the log without the change that they tell of, a fraction of a millisecond each."""

from typing import Any

from bson import ObjectId

from app.events.catalog import EventType
from app.events.log import Event, record
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row

from .tickets import ticket_row


def event_row(event_type: EventType = EventType.TICKET_UPDATED, *, internal: bool = False, **ticket: Any) -> Row:
    """An event as it is stored; `ticket` is what the ticket is after the change."""
    return record(event_type, ticket_row(**ticket), at=now(), actor=None, internal=internal).row


async def add_event(row: Row | None = None) -> ObjectId:
    """Puts an event into the log; answers its id."""
    row = row or event_row(version=1)
    await collection_of(Event).insert_one(row)
    event_id: ObjectId = row["_id"]
    return event_id
