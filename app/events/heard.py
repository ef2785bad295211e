"""The last events that this process was told, kept for its consumers, which would each read and decode them again."""

from collections import deque
from itertools import islice
from uuid import UUID

from app.platform.wire import Row

from .cursor import LogPosition

# More than come between two batches of a consumer; one that is further behind reads the log.
MAX_EVENTS = 2_000
# An event, and the position right behind it.
Placed = tuple[LogPosition, Row]


class Heard:
    """All events of a log behind a place that moves on, in commit order."""

    def __init__(self) -> None:
        self._log: UUID | None = None
        self._floor = b""
        self._items: deque[Placed] = deque()

    def start(self, log: UUID, position: LogPosition) -> None:
        """From here on it is told every event of this log."""
        # Never from before what it was told of the same log: whoever starts anew may have found its end some time ago.
        told = self._newest if log == self._log else b""
        self._log = log
        self._floor = max(position.token, told)
        self._items.clear()

    def add(self, position: LogPosition, row: Row) -> None:
        """The log's next event; one that was told before is passed over."""
        if position.token <= self._newest:
            return
        self._items.append((position, row))
        while len(self._items) > MAX_EVENTS:
            self._floor = self._items.popleft()[0].token

    def after(self, log: UUID, position: LogPosition, *, at_most: int) -> list[Placed]:
        """The next events behind the position; none where only the log itself can tell whether there are any."""
        if log != self._log or position.token < self._floor:
            return []
        known = sum(1 for place, _ in self._items if place.token <= position.token)
        return list(islice(self._items, known, known + at_most))

    @property
    def _newest(self) -> bytes:
        return self._items[-1][0].token if self._items else self._floor
