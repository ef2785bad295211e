"""What one stream tells, from its place in the log on: from the log, from the ring, and then as it happens."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from operator import attrgetter

from app.accounts.actor import Actor
from app.events.cursor import LogPosition
from app.events.replay import EventReader, PositionLost, check_past

from .audience import group_of
from .protocol import Options
from .queries import heard_by
from .ring import Broadcast, Ring

# One reading of a feed is at most this large, or one event.
PIECE_BYTES = 64 * 1024
# How much of the log one look goes through.
SCAN = 100
# How long a reader may be at one piece before it counts as one that does not read; if the ring went past it, the less.
STALL_S = 20.0
PASSED_STALL_S = 1.0


@dataclass(frozen=True, slots=True)
class Resync:
    """What lies between the last place and this cursor can't be told completely."""

    cursor: str


class Past:
    """What has happened, as far as this process has it at hand: the ring, and the log behind it."""

    def __init__(self, reader: EventReader, ring: Ring) -> None:
        self.reader = reader
        self.ring = ring
        self.restarts = 0
        self._waiting: list[asyncio.Event] = []

    def restart(self, ring: Ring) -> None:
        """The log between the present ring and this one is lost."""
        self.ring = ring
        self.restarts += 1
        self.moved()

    def moved(self) -> None:
        """The end of the ring is another one."""
        for event in self._waiting:
            event.set()
        self._waiting.clear()

    async def locate(self, cursor: str) -> LogPosition:
        """Raises `PositionLost`. Asks the database only for what the ring does not know."""
        position = await self.reader.decode(cursor)
        if not (self.ring.covers(position) and self.ring.knows(position.known_event)):
            await check_past(position)
        return position

    async def more(self) -> None:
        """Returns when the ring's end has moved."""
        event = asyncio.Event()
        self._waiting.append(event)
        await event.wait()


class Feed:
    """Never queues: it has a place, and reads on from there. `next` is for one reader at a time."""

    actor: Actor
    """Whoever hears it, by their present rights; the hub says so before anything is told."""

    def __init__(self, past: Past, options: Options, sink: Callable[[Broadcast], bool] | None) -> None:
        """`sink` is handed each event at the end of the ring at once, or says by False that it can't take it now."""
        self._past = past
        self._ticket_id = options.ticket_id
        self._types = frozenset(options.types) if options.types else None
        self._wants_all = options.ticket_id is None and not options.types
        self._sink = sink
        self._restarts = past.restarts
        # None: at the end of the ring, wherever that is by now.
        self._position: LogPosition | None = None
        self._busy_since: float | None = None
        self._is_in_log = False
        self._is_closed = False
        self._wake = asyncio.Event()

    async def start(self, since: str | None) -> tuple[str, Resync | None]:
        """Takes its place. Answers the cursor of that place, and whether what `since` asks for can't be told."""
        resync = None
        if since is not None:
            try:
                self._position = await self._past.locate(since)
            except PositionLost:
                resync = Resync(self._past.ring.end_cursor)
            else:
                return since, None
        self._restarts = self._past.restarts
        return self._past.ring.end_cursor, resync

    def offer(self, item: Broadcast, before: LogPosition) -> bool:
        """A new event at the end of the ring, which was `before` until now; it is for this actor's group.

        Answers whether it has been told; if not, it is either not wanted or left to `next`.
        """
        # After a restart the `resync` comes first: an event before it would take its cursor across what is lost.
        if self._position is not None or self._restarts != self._past.restarts:
            return False
        if not (self._wants_all or self._is_wanted(item)):
            return False
        if self._sink is not None and self._sink(item):
            return True
        self._position = before
        self._wake.set()
        return False

    @property
    def cursor(self) -> str:
        """The cursor of its place: all before it has been told."""
        return self._past.ring.end_cursor if self._position is None else self._past.reader.encode(self._position)

    def restarted(self) -> None:
        self._wake.set()

    def close(self) -> None:
        """Whoever waits for more is cancelled, or as soon as they ask for it.

        For certain: Python 3.11 loses a cancellation that meets the end of what the database driver waits for.
        """
        self._is_closed = True
        self._wake.set()

    def is_too_slow(self) -> bool:
        """Whether its reader has been at the last piece for too long."""
        if self._busy_since is None or self._position is None:
            return False
        # Who replays the log is behind the ring all the time, however well they read.
        has_been_passed = not self._is_in_log and self._position.token < self._past.ring.floor.token
        return time.monotonic() - self._busy_since > (PASSED_STALL_S if has_been_passed else STALL_S)

    async def next(self) -> list[Broadcast] | Resync:
        """The next events, as soon as there are any; or that some can't be told."""
        self._busy_since = None
        while True:
            if self._is_closed:
                raise asyncio.CancelledError
            if self._restarts != self._past.restarts:
                return self._resync()
            if self._position is None:
                self._wake.clear()
                await self._wake.wait()
                continue
            try:
                found = await self._look(self._position)
            except PositionLost:
                return self._resync()
            if found:
                self._busy_since = time.monotonic()
                return found

    def _resync(self) -> Resync:
        self._restarts = self._past.restarts
        self._position = None
        return Resync(self._past.ring.end_cursor)

    async def _look(self, position: LogPosition) -> list[Broadcast]:
        """What is wanted of the piece behind the position, which moves on; nothing may be wanted of it."""
        ring = self._past.ring
        if position.token > ring.end.token:  # another process told it that far already
            await self._past.more()
            return []
        self._is_in_log = position.token < ring.floor.token
        if self._is_in_log:
            return await self._look_into_log(position)
        piece = ring.after(position, PIECE_BYTES)
        self._position = piece[-1].position if piece else None
        group = group_of(self.actor)
        return [item for item in piece if group in item.addressees(ring.requester_of(item)) and self._is_wanted(item)]

    async def _look_into_log(self, position: LogPosition) -> list[Broadcast]:
        stretch = await self._past.reader.after(position, at_most=SCAN)
        # What lies behind has its turn when the ring has come to it: until then this actor's rights may change.
        end = self._past.ring.end
        heard = await heard_by(self.actor, [logged for logged in stretch.events if logged.position.token <= end.token])
        # Only now, so that whoever gives up waiting in between loses nothing.
        self._position = min(stretch.position, end, key=attrgetter("token"))
        return [item for item in map(Broadcast, heard) if self._is_wanted(item)]

    def _is_wanted(self, item: Broadcast) -> bool:
        row = item.row
        return (self._ticket_id is None or row["ticketId"] == self._ticket_id) and (
            self._types is None or row["type"] in self._types
        )
