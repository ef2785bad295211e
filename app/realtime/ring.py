"""The last events, encoded once, in memory: what is being told, and what short reconnects missed."""

from bisect import bisect_right
from functools import cached_property
from operator import attrgetter

from bson import ObjectId

from app.events.cursor import LogPosition
from app.events.replay import Logged
from app.platform.websocket import text_frame
from app.platform.wire import Row

from .audience import Group, addressees
from .protocol import event_frame

MAX_EVENTS = 1_000
MAX_BYTES = 4 * 1024 * 1024
# Of an event without its long texts.
BASE_BYTES = 1_200


class Broadcast:
    """An event on its way to those who may hear of it; each encoding is made when first wanted and then shared."""

    def __init__(self, logged: Logged) -> None:
        self.row: Row = logged.row
        self.position = logged.position
        self.cursor = logged.cursor

    @property
    def token(self) -> bytes:
        return self.position.token

    @cached_property
    def size(self) -> int:
        """About what it takes to keep, in bytes: not worth encoding it for, as long as nobody listens."""
        ticket = self.row["ticket"]
        texts = [ticket["title"], ticket["description"]]
        texts += [value for change in self.row["changes"].values() for value in change.values()]
        return BASE_BYTES + sum(len(text) for text in texts if isinstance(text, str))

    @cached_property
    def frame(self) -> bytes:
        return event_frame(self.row, self.cursor)

    @cached_property
    def websocket_frame(self) -> bytes:
        return text_frame(self.frame)

    def addressees(self, requester: ObjectId | None) -> tuple[Group, ...]:
        """Who hears of it, if the ticket is this requester's now."""
        return addressees(self.row, requester)


class Ring:
    """All events between `floor` and `end`, in commit order."""

    def __init__(self, position: LogPosition, cursor: str) -> None:
        self.floor = position
        self.end = position
        self.end_cursor = cursor
        self._items: list[Broadcast] = []
        self._bytes = 0
        # The newest event of a ticket tells whose it is now; events of tickets that have passed on are not replayed.
        self._requesters: dict[ObjectId, tuple[ObjectId | None, int]] = {}

    def append(self, item: Broadcast) -> tuple[Group, ...]:
        """Answers who hears of it."""
        self._items.append(item)
        self._bytes += item.size
        self.reach(item.position, item.cursor)
        ticket_id = item.row["ticketId"]
        _, count = self._requesters.get(ticket_id, (None, 0))
        self._requesters[ticket_id] = (item.row["ticket"]["requester"], count + 1)
        # In one go for many, since each time moves all that stay.
        if len(self._items) >= MAX_EVENTS * 5 // 4 or self._bytes >= MAX_BYTES * 5 // 4:
            self._trim()
        return item.addressees(item.row["ticket"]["requester"])

    def reach(self, position: LogPosition, cursor: str) -> None:
        """Nothing more happened up to here."""
        self.end = position
        self.end_cursor = cursor

    def covers(self, position: LogPosition) -> bool:
        return self.floor.token <= position.token <= self.end.token

    def knows(self, event_id: ObjectId | None) -> bool:
        return any(item.position.known_event == event_id for item in self._items)

    def after(self, position: LogPosition, at_most_bytes: int) -> list[Broadcast]:
        """The next events behind the position: as many as fit, but one at least, if there is one."""
        start = end = bisect_right(self._items, position.token, key=attrgetter("token"))
        size = 0
        while end < len(self._items) and (size == 0 or size + len(self._items[end].frame) <= at_most_bytes):
            size += len(self._items[end].frame)
            end += 1
        return self._items[start:end]

    def requester_of(self, item: Broadcast) -> ObjectId | None:
        """Whose ticket it is now."""
        return self._requesters[item.row["ticketId"]][0]

    def _trim(self) -> None:
        keep = len(self._items)
        size = 0
        while keep > 1 and len(self._items) - keep < MAX_EVENTS and size <= MAX_BYTES:
            keep -= 1
            size += self._items[keep].size
        dropped, self._items = self._items[:keep], self._items[keep:]
        self._bytes = size
        self.floor = dropped[-1].position
        for item in dropped:
            ticket_id = item.row["ticketId"]
            requester, count = self._requesters[ticket_id]
            if count == 1:
                del self._requesters[ticket_id]
            else:
                self._requesters[ticket_id] = (requester, count - 1)
