"""Following the event log as it grows: one change stream per process, which heals by itself."""

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from beanie import Document
from bson import ObjectId
from pymongo.asynchronous.change_stream import AsyncChangeStream
from pymongo.errors import PyMongoError

from app.platform.clock import now
from app.platform.metrics import EVENT_STREAM_LAG
from app.platform.mongo import collection_of, heed_cancellation, prepare
from app.platform.wire import Row

from .cursor import LogPosition
from .log import Event
from .replay import EventReader, Logged, PositionLost, check_past, loss_told, resuming, token_of

logger = logging.getLogger(__name__)

# How long the server holds an unanswered question for news; an answer without news tells that all is well.
AWAIT_MS = 1_000
# How much it may answer with at once: left to itself it sends 16 MB, which take several times that here.
BATCH = 500
RETRY_S = 0.5
_LOG_GONE = ("drop", "rename", "dropDatabase", "invalidate")


@dataclass(frozen=True, slots=True)
class Restarted:
    """The follower stands at a new place, and what lies between the last one and this can't be told."""

    position: LogPosition
    cursor: str


@dataclass(frozen=True, slots=True)
class Reached:
    """Nothing happened up to here."""

    position: LogPosition
    cursor: str


@dataclass(frozen=True, slots=True)
class RowTouched:
    """A row of a watched collection was changed or removed; what it is now is for the reader to look up."""

    collection: str
    id: ObjectId


News = Logged | RowTouched | Reached | Restarted


class EventFollower:
    """The one change stream of this process: the events, and in the same order what happens to `watched` rows.

    `watched` maps a model to the operations that matter (`update`, `replace`, `delete`).
    """

    def __init__(self, reader: EventReader, watched: Mapping[type[Document], Sequence[str]]) -> None:
        self.moved = asyncio.Event()
        """Set with the next event, or when some may have been missed, and then replaced by another."""
        self._reader = reader
        self._watched = watched
        self._heard_at: float | None = None
        self._behind_s = 0.0
        EVENT_STREAM_LAG.set_function(lambda: -1 if self.lag_s is None else self.lag_s)

    @property
    def lag_s(self) -> float | None:
        """Seconds by which live events trail the log at most: how old the last event was when it came, and how long

        the server has been silent since, which it is for a second at most. None before its first word.
        """
        return None if self._heard_at is None else self._behind_s + time.monotonic() - self._heard_at

    async def tail(self) -> AsyncIterator[News]:
        """Everything from now on, for ever; starts with `Restarted`.

        Goes on from where it was after an outage. Where the operations log no longer has that place, or the database
        is another one, the commit order of what was missed can't be told any more: then `Restarted` comes again.
        """
        position: LogPosition | None = None
        log: UUID | None = None
        while True:
            heed_cancellation()
            try:
                self._reader.doubt_log()
                found = await self._reader.log_id()
                if log not in (None, found):
                    # Whatever made it anew, a write for example, may have left out what keeps its events unique.
                    await prepare(collection_of(Event).database, [Event])
                log = found
                if position is not None:
                    await check_past(position)
                async for news in self._listen(position):
                    if not isinstance(news, RowTouched):
                        position = news.position
                    yield news
            except PositionLost:
                logger.warning("the place in the event log is lost; streams start over")
                position = None
            except PyMongoError as error:
                logger.warning("the event stream is interrupted", extra={"reason": type(error).__name__})
                await asyncio.sleep(RETRY_S)

    async def _listen(self, position: LogPosition | None) -> AsyncIterator[News]:
        events = collection_of(Event)
        if position is None:
            end = await self._reader.end()
            self._heard_at = time.monotonic()
            position = end.position
            self._reader.heard.start(await self._reader.log_id(), position)
            self._tell_waiting()
            yield Restarted(end.position, end.next_cursor)
        known = position.known_event
        with loss_told():
            async with await events.database.watch(
                self._pipeline(events.name), max_await_time_ms=AWAIT_MS, batch_size=BATCH, **resuming(position)
            ) as stream:
                self._heard_at = time.monotonic()
                while True:
                    heed_cancellation()
                    change = await stream.try_next()
                    self._heard_at = time.monotonic()
                    if change is None:
                        self._behind_s = 0.0
                        yield Reached(*self._here(stream, known))
                    elif change["operationType"] in _LOG_GONE:
                        raise PositionLost
                    elif change["ns"]["coll"] == events.name:
                        logged = self._reader.logged(change)
                        known = logged.position.known_event
                        self._behind_s = max(0.0, (now() - logged.row["at"]).total_seconds())
                        self._reader.heard.add(logged.position, logged.row)
                        self._tell_waiting()
                        yield logged
                    else:
                        yield RowTouched(change["ns"]["coll"], change["documentKey"]["_id"])

    def _tell_waiting(self) -> None:
        self.moved.set()
        self.moved = asyncio.Event()

    def _here(self, stream: AsyncChangeStream[Row], known: ObjectId | None) -> tuple[LogPosition, str]:
        position = LogPosition(token_of(stream), known)
        return position, self._reader.encode(position)

    def _pipeline(self, events: str) -> list[dict[str, Any]]:
        """Of other collections only which row it was: their contents, password hashes among them, stay there."""
        wanted: list[Row] = [{"ns.coll": events, "operationType": {"$in": ["insert", *_LOG_GONE]}}]
        wanted += [{"to.coll": events}]  # another one was put in its place
        wanted += [
            {"ns.coll": collection_of(model).name, "operationType": {"$in": list(operations)}}
            for model, operations in self._watched.items()
        ]
        kept = {"$cond": [{"$eq": ["$ns.coll", events]}, "$fullDocument", "$$REMOVE"]}
        return [
            {"$match": {"$or": [*wanted, {"operationType": {"$in": ["dropDatabase", "invalidate"]}}]}},
            {"$project": {"operationType": 1, "ns": 1, "documentKey": 1, "fullDocument": kept}},
        ]
