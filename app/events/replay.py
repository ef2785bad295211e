"""Reading the event log from a position on, in commit order, through a change stream.

An ObjectId or a time does not follow the order of commits: of two transactions, the one that began later may be seen
first, and a reader that went by id would pass the other by for good. The server's operations log has the order.
"""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bson import ObjectId, Timestamp
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import ConnectionFailure, OperationFailure

from app.platform.mongo import collection_of
from app.platform.wire import Row

from .cursor import Cursors, LogPosition
from .heard import Heard
from .log import Event

# What the server says when a position is no longer, or was never, in its operations log.
_LOST = "NonResumableChangeStreamError"
_INVALID_RESUME_TOKEN = 260
_INSERTS = [{"$match": {"operationType": "insert"}}]
# A first answer with events in it would not say where it begins.
_NOTHING = [{"$match": {"operationType": "none"}}]
# How long a read may wait for news at the log's end: it is to come back at once.
_AWAIT_MS = 1


class PositionLost(Exception):
    """Completeness since this position can't be proved: too old, from the future, or from another log."""


class LogGone(ConnectionFailure):
    """There is no events collection, as in the middle of a restore: an outage, for whoever wants to read it."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An event, and the position and cursor right behind it."""

    row: Row
    position: LogPosition
    cursor: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of the log in commit order, and where it ends, which may be further on than its last event."""

    events: list[Logged]
    position: LogPosition
    next_cursor: str


class EventReader:
    """Reads the log from anywhere. Keeps nothing of what it reads but which log it is."""

    def __init__(self, cursors: Cursors) -> None:
        self.heard = Heard()
        """What the follower of this process was told."""
        self._cursors = cursors
        self._log: UUID | None = None
        self._is_sure = False

    async def log_id(self) -> UUID:
        """The identity that the server gave the events collection: another one after a drop or a restore.

        Raises `LogGone`.
        """
        if self._log is None or not self._is_sure:
            collection = collection_of(Event)
            found = await (await collection.database.list_collections(filter={"name": collection.name})).to_list()
            if not found:
                message = "the events collection is gone"
                raise LogGone(message)
            self._log = UUID(bytes=bytes(found[0]["info"]["uuid"]))
            self._is_sure = True
        return self._log

    def doubt_log(self) -> None:
        """The next read asks again which log this is: the follower saw it go, or lost sight of it."""
        self._is_sure = False

    async def end(self) -> Stretch:
        """The present end of the log: no events."""
        await self.log_id()
        known = await newest_event()
        async with await collection_of(Event).watch(_NOTHING, max_await_time_ms=_AWAIT_MS) as stream:
            position = LogPosition(token_of(stream), known)
            return Stretch([], position, self.encode(position))

    async def decode(self, cursor: str) -> LogPosition:
        """Where the cursor says it stands. Raises `PositionLost` unless it is one of ours, into this log."""
        position = self._cursors.decode(await self.log_id(), cursor)
        if position is None:
            raise PositionLost
        return position

    async def locate(self, cursor: str) -> LogPosition:
        """Where the cursor stands. Raises `PositionLost` unless it is one of ours, into this log and its past."""
        position = await self.decode(cursor)
        await check_past(position)
        return position

    async def after(self, position: LogPosition, *, at_most: int) -> Stretch:
        """Up to so many events behind the position. Raises `PositionLost`."""
        await self.log_id()
        events: list[Logged] = []
        known = position.known_event
        async with open_stream(position, at_most) as stream:
            while len(events) < at_most and (change := await stream.try_next()) is not None:
                events.append(self.logged(change))
                known = events[-1].position.known_event
            # The last event's own position where there may be more behind it; the stream's, else.
            end = events[-1].position if len(events) == at_most else LogPosition(token_of(stream), known)
            return Stretch(events, end, self.encode(end))

    def logged(self, change: Row) -> Logged:
        """The event that an insert into the log tells of, with its own token: the stream's may be a later one."""
        row: Row = change["fullDocument"]
        position = LogPosition(bytes.fromhex(change["_id"]["_data"]), row["_id"])
        return Logged(row, position, self.encode(position))

    def encode(self, position: LogPosition) -> str:
        """The cursor of a position in the log that was last read."""
        if self._log is None:
            message = "a position comes from a log that was read"
            raise AssertionError(message)
        return self._cursors.encode(self._log, position)


@asynccontextmanager
async def open_stream(after: LogPosition, at_a_time: int) -> AsyncIterator[AsyncChangeStream[Row]]:
    """The events inserted behind a position, so many of them fetched at once. Raises `PositionLost`."""
    with loss_told():
        stream = await collection_of(Event).watch(
            _INSERTS, max_await_time_ms=_AWAIT_MS, batch_size=at_a_time, **resuming(after)
        )
        async with stream:
            yield stream


@contextmanager
def loss_told() -> Iterator[None]:
    """Turns the server's word that a position is not in its operations log into `PositionLost`."""
    try:
        yield
    except OperationFailure as error:
        if error.has_error_label(_LOST) or error.code == _INVALID_RESUME_TOKEN:
            raise PositionLost from None
        raise


def resuming(after: LogPosition) -> dict[str, Any]:
    return {"resume_after": {"_data": after.token.hex().upper()}}


def token_of(stream: AsyncChangeStream[Row]) -> bytes:
    token = stream.resume_token
    if token is None:
        message = "an open change stream has a resume token"
        raise AssertionError(message)
    return bytes.fromhex(token["_data"])


async def newest_event() -> ObjectId | None:
    """An event that is there now, by which a later look can tell this log from one that was restored."""
    newest = await collection_of(Event).find_one({}, {"_id": 1}, sort=[("_id", -1)])
    return newest["_id"] if newest else None


async def check_past(position: LogPosition) -> None:
    """Raises `PositionLost` unless the position is behind us, and the event it was made beside is still there."""
    collection = collection_of(Event)
    reply = await collection.database.command(
        {"find": collection.name, "filter": {"_id": position.known_event}, "projection": {"_id": 1}, "limit": 1}
    )
    is_there = position.known_event is None or bool(reply["cursor"]["firstBatch"])
    present: Timestamp = reply["operationTime"]
    # A stream that is opened at the end stands one tick behind the last operation.
    if not is_there or position.at > Timestamp(present.time, present.inc + 1):
        raise PositionLost
