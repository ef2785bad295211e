"""A long event log, written straight into the database: what thousands of changes would have left there."""

from bson import ObjectId

from tests.factories.events import event_row
from tests.services import Person, Rows

TICKETS = 1_000
Told = tuple[str, int]


class History:
    """Events of so many tickets in turn. The order of one writer's inserts is the order of commits."""

    def __init__(self, rows: Rows, requester: Person) -> None:
        self._events = rows.events
        self._requester = requester.id
        self._tickets = [ObjectId() for _ in range(TICKETS)]
        self.told: list[Told] = []
        """Ticket and version of each event."""

    def write(self, rounds: int) -> None:
        """So many events of each ticket."""
        for _ in range(rounds):
            version = len(self.told) // TICKETS + 1
            self._events.insert_many(
                event_row(_id=ticket_id, version=version, requester=self._requester) for ticket_id in self._tickets
            )
            self.told += [(str(ticket_id), version) for ticket_id in self._tickets]
