"""Reading the event log from a position on, in commit order, through a change stream.

An ObjectId or a time does not follow the order of commits: of two transactions, the one that began later may be seen
first, and a reader that went by id would pass the other by for good. The server's operations log has the order.
"""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from bson import Timestamp
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import OperationFailure

from app.platform.mongo import collection_of
from app.platform.wire import Row

from .cursor import Cursors, LogPosition
from .log import Event

# What the server says when a position is no longer, or was never, in its operations log.
_LOST = "NonResumableChangeStreamError"
_INSERTS = [{"$match": {"operationType": "insert"}}]
# How long a read may wait for news at the log's end: it is to come back at once.
_AWAIT_MS = 1


class PositionLost(Exception):
    """Completeness since this cursor can't be proved: too old, from the future, or from another log."""


@dataclass(frozen=True, slots=True)
class Logged:
    """An event and the cursor right behind it."""

    row: Row
    cursor: str


@dataclass(frozen=True, slots=True)
class Stretch:
    """A piece of the log in commit order, and the cursor behind it, which may be further on than the last event's."""

    events: list[Logged]
    next_cursor: str


class EventReader:
    """Reads the log after a cursor; keeps nothing between reads."""

    def __init__(self, cursors: Cursors) -> None:
        self._cursors = cursors

    async def end(self) -> str:
        """The cursor of the present end of the log."""
        log = await _log_id()
        newest = await collection_of(Event).find_one({}, {"_id": 1}, sort=[("_id", -1)])
        async with _stream(None) as stream:
            return self._cursors.encode(log, LogPosition(_token(stream), newest["_id"] if newest else None))

    async def after(self, cursor: str, *, at_most: int) -> Stretch:
        """Up to so many events behind the cursor. Raises `PositionLost`."""
        log = await _log_id()
        position = self._cursors.decode(log, cursor)
        if position is None or not await _is_of_this_past(position):
            raise PositionLost
        events: list[Logged] = []
        known = position.known_event
        async with _stream(position) as stream:
            while len(events) < at_most and (change := await stream.try_next()) is not None:
                row = dict(change["fullDocument"])
                known = row["_id"]
                # The event's own token, not the stream's, which behind a batch's last event is a later one.
                here = LogPosition(bytes.fromhex(change["_id"]["_data"]), known)
                events.append(Logged(row, self._cursors.encode(log, here)))
            return Stretch(events, self._cursors.encode(log, LogPosition(_token(stream), known)))


@asynccontextmanager
async def _stream(after: LogPosition | None) -> AsyncIterator[AsyncChangeStream[Row]]:
    resume: dict[str, Any] = {"resume_after": {"_data": after.token.hex().upper()}} if after else {}
    try:
        async with await collection_of(Event).watch(_INSERTS, max_await_time_ms=_AWAIT_MS, **resume) as stream:
            yield stream
    except OperationFailure as error:
        if after is not None and error.has_error_label(_LOST):
            raise PositionLost from None
        raise


def _token(stream: AsyncChangeStream[Row]) -> bytes:
    token = stream.resume_token
    if token is None:
        message = "an open change stream has a resume token"
        raise AssertionError(message)
    return bytes.fromhex(token["_data"])


async def _log_id() -> UUID:
    """The identity that the server gave the events collection: another one after a drop or a restore."""
    collection = collection_of(Event)
    [found] = await (await collection.database.list_collections(filter={"name": collection.name})).to_list()
    return UUID(bytes=bytes(found["info"]["uuid"]))


async def _is_of_this_past(position: LogPosition) -> bool:
    """Whether the position is behind us, and the event it was made beside is still there."""
    collection = collection_of(Event)
    reply = await collection.database.command(
        {"find": collection.name, "filter": {"_id": position.known_event}, "projection": {"_id": 1}, "limit": 1}
    )
    is_there = position.known_event is None or bool(reply["cursor"]["firstBatch"])
    present: Timestamp = reply["operationTime"]
    # A stream that is opened at the end stands one tick behind the last operation.
    return is_there and position.at <= Timestamp(present.time, present.inc + 1)
