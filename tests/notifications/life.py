"""Tickets whose life is made up: each step is an event as the service would record it, without the service."""

from typing import Any

from bson import ObjectId

from app.accounts.roles import Role
from app.events.catalog import EventType
from app.events.log import Event, record
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row
from app.tickets.documents import Ticket
from tests.factories.tickets import ticket_row


def person(role: Role = Role.AGENT, username: str = "ann") -> Row:
    """Somebody who acts, as events name them."""
    return {"id": ObjectId(), "username": username, "role": role}


class Life:
    """A ticket and what has happened to it so far."""

    def __init__(self, **fields: Any) -> None:
        self.ticket = ticket_row(**{"number": 42, "title": "No paper", **fields}) | {"version": 0}
        self.events: list[Row] = []

    def step(
        self,
        event_type: EventType = EventType.TICKET_UPDATED,
        by: Row | None = None,
        *,
        internal: bool = False,
        comment: str | None = None,
        **changed: Any,
    ) -> Row:
        """The event of these fields' new values."""
        changes = {name: {"from": self.ticket[name], "to": value} for name, value in changed.items()}
        self.ticket = self.ticket | changed | {"version": self.ticket["version"] + 1}
        row = record(event_type, self.ticket, at=now(), actor=by, changes=changes, internal=internal).row
        self.events.append(row | {"comment": None if comment is None else {"body": comment}})
        return self.events[-1]

    def commented(self, by: Row | None, body: str, *, internal: bool = False, **changed: Any) -> Row:
        return self.step(EventType.COMMENT_CREATED, by, internal=internal, comment=body, **changed)

    async def store(self) -> None:
        """Makes the ticket as it is now, and what has happened to it, all that there is."""
        for model in (Ticket, Event):
            await collection_of(model).delete_many({})
        await collection_of(Ticket).insert_one(self.ticket)
        if self.events:
            await collection_of(Event).insert_many(self.events)
