"""A long event log, written straight into the database: what thousands of changes would have left there."""

from typing import Any

from bson import ObjectId

from tests.factories.events import event_row
from tests.services import Person, Rows

Told = tuple[str, int]


class History:
    """Events of so many tickets in turn. The order of one writer's inserts is the order of commits."""

    def __init__(self, rows: Rows, requester: Person, *, tickets: int, description: str = "Tray 2 is empty") -> None:
        self._events = rows.events
        self._fields: dict[str, Any] = {"requester": requester.id, "description": description}
        self._tickets = [ObjectId() for _ in range(tickets)]
        self.told: list[Told] = []
        """Ticket and version of each event."""

    def write(self, rounds: int) -> None:
        """So many events of each ticket."""
        for _ in range(rounds):
            version = len(self.told) // len(self._tickets) + 1
            self._events.insert_many(
                event_row(_id=ticket_id, version=version, **self._fields) for ticket_id in self._tickets
            )
            self.told += [(str(ticket_id), version) for ticket_id in self._tickets]
