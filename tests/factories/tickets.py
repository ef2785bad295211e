"""Tickets: through the service where history matters, straight into the database where only rows do."""

from datetime import timedelta
from itertools import count
from typing import Any

from bson import ObjectId
from httpx import AsyncClient

from app.events.log import Event
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row
from app.tickets.changes import complete
from app.tickets.documents import Ticket

_serial = count(1)


async def open_ticket(caller: AsyncClient, **fields: Any) -> dict[str, Any]:
    """A ticket opened over REST by the caller, as the service answered it."""
    body = {"title": "Printer down", "description": "It stopped after the update.", **fields}
    answer = await caller.post("/api/tickets", json=body)
    assert answer.status_code == 201, answer.text
    ticket: dict[str, Any] = answer.json()
    return ticket


def ticket_row(**fields: Any) -> Row:
    """A stored ticket of today, with a number of its own."""
    serial = next(_serial)
    moment = now() - timedelta(minutes=serial)
    row = {
        "_id": ObjectId(),
        "number": 1_000_000 + serial,
        "title": f"Ticket {serial}",
        "description": "What happened",
        "createdAt": moment,
        "updatedAt": moment,
        **fields,
    }
    return complete(row)


async def add_tickets(*rows: Row) -> None:
    """Rows without events: for reading only."""
    await collection_of(Ticket).insert_many(rows)


async def stored_ticket(ticket_id: str) -> Row:
    row = await collection_of(Ticket).find_one({"_id": ObjectId(ticket_id)})
    assert row is not None
    return row


async def events_of(ticket_id: str) -> list[Row]:
    """All events of the ticket, internal ones too, by version."""
    return await collection_of(Event).find({"ticketId": ObjectId(ticket_id)}).sort("version", 1).to_list()
