"""Counts the tickets from before: those of an old database, and all of them after the figures were removed."""

import asyncio
import logging
import time
from collections.abc import Mapping
from contextlib import suppress

from bson import ObjectId
from pymongo import InsertOne, ReplaceOne
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import BulkWriteError, DuplicateKeyError, PyMongoError

from app.events.consume import ConsumerRow
from app.platform.errors import Conflict
from app.platform.mongo import DUPLICATE_KEY, at_one_instant, collection_of, heed_cancellation, transaction
from app.platform.wire import Row
from app.tickets.queries import read_all_tickets

from .contributions import Cell, Sums, difference
from .documents import StatsCell, StatsProgress, StatsTicket
from .facts import FIELDS, Facts, replay
from .projector import CONSUMER, Change, Write, counted_facts, read_histories, save

logger = logging.getLogger(__name__)

# Few, where requests wait for the same event loop; and each has to get its turn between two changes of the same sums.
FEW = 100
# What takes some tenths of a second.
MANY = 500
# So many rows of sums, of some kilobytes each, find room in the cache of a small database until they are committed.
MOST_CELLS = 8_000
RETRY_S = 1.0
LOOK_S = 5.0
_PLACE = "backfill"
_NEW_PLACE: Row = {"last": None, "tickets": 0, "isDone": False, "isEmptying": False}
# Holds up the consumer while the figures are removed, which takes a moment; after this long whoever did it has died.
_REMOVER = "removal of all figures"
_REMOVAL_MS = 60_000


class Overtaken(Exception):
    """Another process counted some of the same tickets meanwhile; nothing was written."""


async def read_place() -> Row:
    """The stored row of `StatsProgress`."""
    return await collection_of(StatsProgress).find_one({"_id": _PLACE}) or _NEW_PLACE


async def count_for(seconds: float) -> None:
    """Counts what can be counted in so long, before there are requests to hold up: all of a small database."""
    deadline = time.monotonic() + seconds
    with suppress(Conflict):  # another process is at it
        while time.monotonic() < deadline and not await backfill(MANY):
            pass


async def keep_filled() -> None:
    """Counts what is not counted, and looks again now and then: somebody may put another database in the place."""
    while True:
        await fill_up()
        await asyncio.sleep(LOOK_S)


async def fill_up() -> None:
    """Counts all tickets from before, unless that is done, beside a service at work; any number of processes may.

    The consumer must have its place in the log by then, so that each change is seen here or there.
    """
    while True:
        heed_cancellation()
        began = time.monotonic()
        try:
            if await backfill(FEW):
                return
            pause = time.monotonic() - began  # half of the time is for others
        except (PyMongoError, Conflict) as error:
            logger.warning("the count of the tickets is interrupted", extra={"reason": type(error).__name__})
            pause = RETRY_S
        await asyncio.sleep(pause)


async def backfill(at_most: int) -> bool:
    """Counts the next so many tickets at most as their events tell; answers whether all are counted now.

    Commits them and the place together, so that a process that is killed leaves nothing half done, and of several
    that are at it none counts what another did. Answers False without having done anything where another was faster.
    Raises `Conflict` when others write the same sums all the time, or remove them.
    """
    place = await read_place()
    if place["isEmptying"]:
        raise Conflict
    if place["isDone"]:
        return True
    found = await _find_out(place["last"], at_most)
    changes, sums = _fitting(found)
    rows = [_row_write(*change) for change in changes if change[0] != change[1]]
    is_done = len(changes) == len(found) < at_most
    reached = {
        "last": changes[-1][1].ticket_id if changes else place["last"],
        "tickets": place["tickets"] + len(changes),
        "isDone": is_done,
    }

    async def body(session: AsyncClientSession) -> None:
        await _move(place, reached, session)
        await _check_unchanged(changes, session)
        await save(await _cell_writes(sums, session), rows, session)

    with suppress(DuplicateKeyError):  # another process was faster
        await collection_of(StatsProgress).update_one({"_id": _PLACE}, {"$setOnInsert": _NEW_PLACE}, upsert=True)
    try:
        await transaction(StatsProgress, body)
    except Overtaken:
        return False
    except BulkWriteError as error:
        if any(one["code"] != DUPLICATE_KEY for one in error.details["writeErrors"]):
            raise
        return False  # the consumer has made one of the cells, or counted one of the tickets
    return is_done


async def _find_out(last: ObjectId | None, at_most: int) -> list[Change]:
    """The next tickets, as of one instant."""

    async def body(session: AsyncClientSession) -> list[Change]:
        tickets = await read_all_tickets(last, FIELDS, session, limit=at_most)
        ids = [ticket["_id"] for ticket in tickets]
        counted = await counted_facts(ids, session)
        histories = await read_histories(ids, session)
        return [(counted.get(row["_id"]), replay(row, histories.get(row["_id"], []))) for row in tickets]

    return await at_one_instant(StatsProgress, body)


def _fitting(changes: list[Change]) -> tuple[list[Change], Sums]:
    """As many of the first of these as one transaction can write the cells of, and what to add to those."""
    while True:
        sums = difference((before, after) for before, after in changes if before != after)
        if len(sums) <= MOST_CELLS or len(changes) == 1:
            return changes, sums
        changes = changes[: len(changes) // 2]


def _row_write(before: Facts | None, after: Facts) -> Write:
    row = after.as_row()
    return InsertOne(row) if before is None else ReplaceOne({"_id": after.ticket_id}, row)


async def _cell_writes(sums: Sums, session: AsyncClientSession) -> list[Write]:
    """Whole cells, those that are there with the amounts added to theirs.

    About twice as fast as having the database add to each of a thousand sums in a large row. Whoever else changes one
    of the cells after this transaction began, which then had another row before its eyes, makes it fail and run again.
    """
    ids = [cell._asdict() for cell in sums]
    found = collection_of(StatsCell).find({"_id": {"$in": ids}}, session=session, batch_size=len(ids) + 1)
    there = {Cell(**row["_id"]): row for row in await found.to_list()}
    return [
        ReplaceOne({"_id": row["_id"]}, _with_added(row, amounts))
        if (row := there.get(cell)) is not None
        else InsertOne(_with_added({"_id": cell._asdict()}, amounts))
        for cell, amounts in sums.items()
    ]


def _with_added(document: Row, amounts: Mapping[str, int]) -> Row:
    inner = {"": document}
    for path, amount in amounts.items():
        above, _, name = path.rpartition(".")
        if above not in inner:
            place = document
            for step in above.split("."):
                place = place.setdefault(step, {})
            inner[above] = place
        inner[above][name] = inner[above].get(name, 0) + amount
    return document


async def start_over() -> None:
    """Removes all figures, beside a service at work, so that every ticket is counted anew.

    The consumer must have begun. Raises `Conflict` when another process is removing them.
    """
    consumers = collection_of(ConsumerRow)
    is_free: Row = {"$or": [{"holder": {"$ne": _REMOVER}}, {"$expr": {"$lt": ["$heldUntil", "$$NOW"]}}]}
    until = {"$add": ["$$NOW", _REMOVAL_MS]}
    # Whoever holds the lease loses it: what it adds to sums must not come between the removal of these and of those.
    held = await consumers.update_one(
        {"_id": CONSUMER, **is_free}, [{"$set": {"holder": _REMOVER, "heldUntil": until}}]
    )
    if held.matched_count == 0:
        raise Conflict
    progress = collection_of(StatsProgress)
    await progress.replace_one({"_id": _PLACE}, {**_NEW_PLACE, "isEmptying": True}, upsert=True)
    for model in (StatsCell, StatsTicket):
        await collection_of(model).drop()
    await collection_of(StatsCell).create_indexes(StatsCell.Settings.indexes)
    await progress.update_one({"_id": _PLACE}, {"$set": {"isEmptying": False}})
    await consumers.update_one({"_id": CONSUMER, "holder": _REMOVER}, [{"$set": {"heldUntil": "$$NOW"}}])


async def _move(place: Row, reached: Row, session: AsyncClientSession) -> None:
    """Raises `Overtaken`."""
    where = {"_id": _PLACE, "last": place["last"], "isDone": False, "isEmptying": False}
    moved = await collection_of(StatsProgress).update_one(where, {"$set": reached}, session=session)
    if moved.matched_count == 0:
        raise Overtaken


async def _check_unchanged(changes: list[Change], session: AsyncClientSession) -> None:
    """Raises `Overtaken` if the consumer has counted one of the tickets since."""
    expected = {after.ticket_id: before.version for before, after in changes if before is not None}
    ids = [after.ticket_id for _, after in changes]
    rows = await collection_of(StatsTicket).find({"_id": {"$in": ids}}, {"version": 1}, session=session).to_list()
    if {row["_id"]: row["version"] for row in rows} != expected:
        raise Overtaken
