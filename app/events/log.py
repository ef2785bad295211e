"""The events collection: append-only, and at once the history, the audit trail, the outbox and the live feed."""

from datetime import datetime

from beanie import Document
from bson import ObjectId
from pydantic import ConfigDict
from pymongo import IndexModel

from app.platform.commit import Insert
from app.platform.mongo import collection_of
from app.platform.paging import Order, Page, read_page
from app.platform.wire import Id, Row, stored_name

from .catalog import EventRow, EventType

OLDEST_FIRST = Order("version", is_descending=False, is_unique=True, may_be_null=False)


class Event(Document):
    """One change to one ticket."""

    model_config = ConfigDict(alias_generator=stored_name)

    type: EventType
    ticket_id: Id
    version: int
    at: datetime

    class Settings:
        name = "events"
        # Unique: a version of a ticket is made by one event, whatever goes wrong elsewhere.
        indexes = [IndexModel([("ticketId", 1), ("version", 1)], name="history", unique=True)]


def record(
    event_type: EventType,
    ticket: Row,
    *,
    at: datetime,
    actor: Row | None,
    changes: Row | None = None,
    internal: bool = False,
) -> Insert:
    """The event's row, to be committed with the change. `ticket` is the stored ticket as it is after the change;

    `actor` holds `id`, `username`, `role`; `changes` maps a field to its `from` and `to`.
    """
    row: Row = {
        "_id": ObjectId(),
        "type": event_type,
        "ticketId": ticket["_id"],
        "version": ticket["version"],
        "at": at,
        "actor": actor,
        "changes": changes or {},
        "comment": None,
        "internal": internal,
        "ticket": ticket,
    }
    EventRow.model_validate(row)
    return Insert(Event, row)


async def read_history(ticket_id: ObjectId, visible: Row, *, cursor: str | None, limit: int) -> Page:
    """A ticket's events, oldest first. `visible` is the caller's filter on events."""
    where: Row = {"ticketId": ticket_id, **visible}
    return await read_page(
        collection_of(Event), where, OLDEST_FIRST, scope=f"history {ticket_id}", cursor=cursor, limit=limit
    )
