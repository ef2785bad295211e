"""Consumers of the event log that must see each event, and act on it once, however many processes there are."""

import asyncio
import logging
import math
import time
import uuid
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

from beanie import Document
from bson import ObjectId
from pydantic import ConfigDict
from pymongo import ReturnDocument
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import ConnectionFailure, DuplicateKeyError, PyMongoError

from app.platform.clock import now
from app.platform.metrics import CONSUMER_LAG
from app.platform.mongo import collection_of, heed_cancellation, transaction
from app.platform.wire import Id, Row, stored_name

from .cursor import LogPosition
from .follow import EventFollower
from .log import Event
from .replay import EventReader, PositionLost

logger = logging.getLogger(__name__)

# A holder that died is replaced after this long; one that lives renews three times as often.
LEASE_S = 15
RENEW_S = LEASE_S / 3
# One that leaves is replaced when those who wait next ask.
ASK_S = 1.0
# Batches share rows that they change, and each has a transaction: of many events at once, each costs much less. So the
# first event after a quiet time is handled at once, and while more come, those of half a second together.
AT_A_TIME = 1_000
PACE_S = 0.5
FIRST_PAUSE_S = 1.0
MAX_PAUSE_S = 30.0
# How much older than the last event that was handled one may be that was not: events are named before they are
# committed, which takes as long as a transaction may live (60 s), and by clocks that differ.
OVERLAP = timedelta(minutes=5)
_LONG_AGO = datetime.fromtimestamp(0, UTC)

Handler = Callable[[list[Row], AsyncClientSession], Awaitable[None]]


class ConsumerRow(Document):
    """How far a consumer has come, and which process is at it."""

    model_config = ConfigDict(alias_generator=stored_name)

    id: str  # type: ignore[assignment]  # the consumer's name
    holder: str
    held_until: datetime
    log: bytes | None = None
    """The identity of the events collection that its place is in."""
    token: bytes | None = None
    """Where it stands in the log; none before it has begun."""
    known_event: Id | None = None
    rereading: Id | None = None
    """While it reads the collection: the event that it has come to, by id."""

    class Settings:
        name = "consumers"


class LeaseLost(Exception):
    """Another process is at it by now; nothing was written."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a consumer stands: in the log, or, as long as `rereading` is set, in the collection before that."""

    log: UUID
    position: LogPosition
    rereading: ObjectId | None = None

    def as_row(self) -> Row:
        return {
            "log": self.log.bytes,
            "token": self.position.token,
            "knownEvent": self.position.known_event,
            "rereading": self.rereading,
        }


# What to handle next, and where the consumer then stands.
_Step = Callable[[AsyncClientSession], Awaitable[tuple[list[Row], _Place]]]


async def begin_at_end(name: str, reader: EventReader) -> None:
    """Lets a consumer begin with the next event rather than with the first one there is; one that has begun goes on."""
    consumers = collection_of(ConsumerRow)
    if await consumers.find_one({"_id": name}, {"_id": 1}) is not None:
        return
    place = await _end_of(reader)
    with suppress(DuplicateKeyError):  # another process was faster
        await consumers.insert_one({"_id": name, "holder": "", "heldUntil": _LONG_AGO, **place.as_row()})


async def consume(
    name: str, reader: EventReader, follower: EventFollower, handle: Handler, *, skips_past: bool = False
) -> None:
    """Hands every event to `handle`, in commit order, in the one process that holds the lease; for ever.

    A consumer that is new begins with the first event there is or, if it `skips_past`, with the next one; so that none
    is missed in between, `begin_at_end` is called before there are requests. `handle` writes in the session that it is
    given, and does nothing else: its effects and the consumer's place commit together, so that a crash repeats nothing
    and loses nothing, and until they do, it may be called again. When it fails, the same events come again after a
    pause.

    Effects are to be keyed by the event's `_id`, though: when the place has left the operations log, the events since
    are read from the collection, ordered by id, and some of them, which were handled before, come again. The key goes
    into an upsert with `$setOnInsert`, whose outcome tells whether the event is new. An insert will not do: a
    duplicate makes the database abort the transaction, whatever the handler does about it.

    The transaction of a process that was killed may hold up its successor until the database drops it
    (`transactionLifetimeLimitSeconds`), which may be later than the end of the lease.
    """
    consumer = _Consumer(name, reader, follower, handle, skips_past=skips_past)
    pause = FIRST_PAUSE_S
    try:
        while True:
            heed_cancellation()
            try:
                if await consumer.hold():
                    await consumer.work()
                    pause = FIRST_PAUSE_S
                else:
                    await asyncio.sleep(ASK_S)
                continue
            except LeaseLost:
                consumer.doubt_lease()
                logger.info("another process took over", extra={"consumer": name})
                continue
            except ConnectionFailure as error:
                logger.warning("a consumer waits for the database", extra=_reason(name, error))
                pause = FIRST_PAUSE_S
            except PyMongoError as error:  # its text may hold a whole row, which has no place in a log
                logger.error("a consumer failed, and will try again", extra=_reason(name, error))  # noqa: TRY400
            except Exception:  # a fault in a handler holds up its consumer, and nobody else
                logger.exception("a consumer failed, and will try again", extra={"consumer": name})
            consumer.doubt_lease()
            heed_cancellation()
            await asyncio.sleep(pause)
            pause = min(pause * 2, MAX_PAUSE_S)
    finally:
        with suppress(PyMongoError):
            await consumer.release()


def _reason(name: str, error: PyMongoError) -> dict[str, Any]:
    return {"consumer": name, "reason": type(error).__name__, "code": getattr(error, "code", None)}


class _Consumer:
    def __init__(
        self, name: str, reader: EventReader, follower: EventFollower, handle: Handler, *, skips_past: bool
    ) -> None:
        self._name = name
        self._skips_past = skips_past
        self._me = uuid.uuid4().hex
        self._reader = reader
        self._follower = follower
        self._handle = handle
        self._place: _Place | None = None
        self._renewed = -math.inf
        self._rests_until = -math.inf

    async def hold(self) -> bool:
        """Takes the lease, or prolongs it, if nobody else has it."""
        if time.monotonic() - self._renewed < RENEW_S:
            return True
        # By the server's clock, which is the same for all.
        is_free: Row = {"$or": [{"holder": self._me}, {"$expr": {"$lt": ["$heldUntil", "$$NOW"]}}]}
        mine = {"_id": self._name, **is_free}
        consumers = collection_of(ConsumerRow)
        row = await consumers.find_one_and_update(mine, self._held(), return_document=ReturnDocument.AFTER)
        if row is None:
            self._place = None
            CONSUMER_LAG.labels(self._name).set(0)
            with suppress(DuplicateKeyError):  # it is there: another process has it
                await consumers.insert_one({"_id": self._name, "holder": self._me, "heldUntil": _LONG_AGO})
                return await self.hold()
            return False
        self._renewed = time.monotonic()
        self._place = _place_of(row)
        return True

    def doubt_lease(self) -> None:
        """The next `hold` asks the database."""
        self._renewed = -math.inf

    async def work(self) -> None:
        """Handles what there is, and waits a while for more. Raises `LeaseLost`."""
        if self._place is None and self._skips_past:
            await self._advance([], await _end_of(self._reader))
        elif self._place is None:
            await self._begin_again(None)
        elif self._place.rereading is not None:
            await self._reread(self._place, self._place.rereading)
        else:
            try:
                await self._read(self._place)
            except PositionLost:
                logger.warning("the place in the event log is lost; reading the events", extra={"consumer": self._name})
                self._reader.doubt_log()
                await self._begin_again(self._place.position.known_event)

    async def release(self) -> None:
        """Lets another process go on at once."""
        await collection_of(ConsumerRow).update_one(
            {"_id": self._name, "holder": self._me}, [{"$set": {"heldUntil": "$$NOW"}}]
        )

    async def _begin_again(self, known: ObjectId | None) -> None:
        """Goes on through the collection, from some time before the last event that is known to have been handled."""
        # First the place to go on from afterwards: what is committed meanwhile is then seen twice rather than never.
        end = await _end_of(self._reader)
        start = ObjectId.from_datetime(known.generation_time - OVERLAP) if known else ObjectId(bytes(12))
        await self._advance([], replace(end, rereading=start))

    async def _reread(self, place: _Place, last: ObjectId) -> None:
        async def page(session: AsyncClientSession) -> tuple[list[Row], _Place]:
            # In the session, since a change of primary may undo what is read outside.
            found = collection_of(Event).find({"_id": {"$gt": last}}, session=session).sort("_id", 1)
            rows = await found.limit(AT_A_TIME).to_list()
            return rows, replace(place, rereading=rows[-1]["_id"] if len(rows) == AT_A_TIME else None)

        await self._commit(page)

    async def _read(self, place: _Place) -> None:
        """Handles what the log has behind the place; what it gets later, if nothing. Raises `PositionLost`."""
        await self._rest()
        began = time.monotonic()
        moved = self._follower.moved
        if place.log != await self._reader.log_id():
            raise PositionLost
        rows, reached = await self._next(place)
        if rows:
            await self._advance(rows, reached)
            # With more than that behind it, it goes on at once.
            self._rests_until = began + PACE_S if len(rows) < AT_A_TIME else began
            return
        CONSUMER_LAG.labels(self._name).set(0)
        heed_cancellation()
        try:
            async with asyncio.timeout(RENEW_S):
                await moved.wait()
        except TimeoutError:
            # Or the place would leave the operations log while others fill it; and each read goes through those.
            await self._advance([], reached)

    async def _next(self, place: _Place) -> tuple[list[Row], _Place]:
        """What this process was told already, else what the log has. Raises `PositionLost`."""
        heard = self._reader.heard.after(place.log, place.position, at_most=AT_A_TIME)
        if heard:
            return [row for _, row in heard], replace(place, position=heard[-1][0])
        stretch = await self._reader.after(place.position, at_most=AT_A_TIME)
        return [event.row for event in stretch.events], replace(place, position=stretch.position)

    async def _rest(self) -> None:
        """Lets events gather after a batch."""
        await asyncio.sleep(max(0.0, self._rests_until - time.monotonic()))

    async def _advance(self, rows: list[Row], place: _Place) -> None:
        async def known(_session: AsyncClientSession) -> tuple[list[Row], _Place]:
            return rows, place

        await self._commit(known)

    async def _commit(self, step: _Step) -> None:
        """The effects of the next events and the new place, together. Raises `LeaseLost`."""
        before = self._place.as_row() if self._place else {"token": None}

        async def body(session: AsyncClientSession) -> _Place:
            rows, place = await step(session)
            mine = {"_id": self._name, "holder": self._me, **before}
            outcome = await collection_of(ConsumerRow).update_one(mine, self._held(place), session=session)
            if outcome.matched_count == 0:
                raise LeaseLost
            if rows:
                age = now() - rows[0]["_id"].generation_time
                CONSUMER_LAG.labels(self._name).set(max(0.0, age.total_seconds()))
                await self._handle(rows, session)
            return place

        self._place = await transaction(ConsumerRow, body)
        self._renewed = time.monotonic()

    def _held(self, place: _Place | None = None) -> list[dict[str, Any]]:
        until = {"$add": ["$$NOW", LEASE_S * 1000]}
        # A literal, because the bytes and ids of a place could be taken for expressions.
        literals = {name: {"$literal": value} for name, value in (place.as_row() if place else {}).items()}
        return [{"$set": {"holder": self._me, "heldUntil": until, **literals}}]


async def _end_of(reader: EventReader) -> _Place:
    return _Place(await reader.log_id(), (await reader.end()).position)


def _place_of(row: Row) -> _Place | None:
    if row.get("token") is None:
        return None
    position = LogPosition(row["token"], row["knownEvent"])
    return _Place(UUID(bytes=row["log"]), position, row["rereading"])
