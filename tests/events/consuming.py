"""Consumers at work in tests: how they are started, and what they have left in the database."""

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from itertools import count

from bson import ObjectId
from prometheus_client import REGISTRY
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection

from app.events.consume import ConsumerRow, Handler, consume
from app.events.cursor import LogPosition
from app.events.follow import EventFollower
from app.events.log import Event
from app.events.replay import EventReader
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.factories.events import add_event
from tests.live import DEADLINE_S

NAME = "notes"
_POLL_S = 0.005
_serial = count()


def effects() -> AsyncCollection[Row]:
    return collection_of(Event).database["effects"]


def note(row: Row, by: str = "") -> Row:
    """An effect without a key: an event that is handled twice leaves two."""
    return {"_id": next(_serial), "event": row["_id"], "by": by}


def noting(by: str = "") -> Handler:
    async def handle(rows: list[Row], session: AsyncClientSession) -> None:
        await effects().insert_many([note(row, by) for row in rows], session=session)

    return handle


async def keyed(rows: list[Row], session: AsyncClientSession) -> None:
    """As a handler should: one effect for each event, however often that comes."""
    for row in rows:
        effect = {"$setOnInsert": {"event": row["_id"], "by": ""}}
        await effects().update_one({"_id": row["_id"]}, effect, upsert=True, session=session)


async def noted(by: str | None = None) -> list[ObjectId]:
    """The events that were handled (by this one), in that order."""
    return [row["event"] async for row in effects().find({} if by is None else {"by": by}).sort("_id", 1)]


async def handled(number: int) -> list[ObjectId]:
    """What was noted, as soon as it is so many."""

    async def is_so_many() -> bool:
        return await effects().count_documents({}) >= number

    await until(is_so_many)
    return await noted()


async def until(is_true: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while not await is_true():  # noqa: ASYNC110 - the database tells nobody
            await asyncio.sleep(_POLL_S)


async def consumer_row() -> Row:
    row = await collection_of(ConsumerRow).find_one({"_id": NAME})
    assert row is not None
    return row


async def is_at_the_log(name: str = NAME) -> bool:
    """Whether the consumer has left the collection behind it."""
    row = await collection_of(ConsumerRow).find_one({"_id": name})
    return row is not None and row.get("token") is not None and row["rereading"] is None


async def place() -> LogPosition:
    """Where the consumer stands."""
    row = await consumer_row()
    return LogPosition(row["token"], row["knownEvent"])


def lag(name: str = NAME) -> float | None:
    return REGISTRY.get_sample_value("event_consumer_lag_seconds", {"consumer": name})


class Consumers:
    """Starts consumers; each stands for one in a process of its own."""

    def __init__(self, reader: EventReader, follower: EventFollower) -> None:
        self._reader = reader
        self._follower = follower
        self._tasks: list[asyncio.Task[None]] = []

    def start(
        self, handle: Handler, name: str = NAME, reader: EventReader | None = None, *, skips_past: bool = False
    ) -> asyncio.Task[None]:
        running = consume(name, reader or self._reader, self._follower, handle, skips_past=skips_past)
        task = asyncio.create_task(running)
        self._tasks.append(task)
        return task

    async def start_at_the_log(self, handle: Handler, name: str = NAME) -> asyncio.Task[None]:
        """Returns when it has read what is there, which it would else be told twice if it came just now."""
        task = self.start(handle, name)
        await until(lambda: is_at_the_log(name))
        return task

    async def end(self, *tasks: asyncio.Task[None]) -> None:
        """These, or all; fails for one that had ended by itself."""
        async with asyncio.timeout(DEADLINE_S):
            for task in tasks or self._tasks:
                assert task.cancel() or task.cancelled(), task
                with suppress(asyncio.CancelledError):
                    await task


async def add_events(number: int) -> list[ObjectId]:
    return [await add_event() for _ in range(number)]
