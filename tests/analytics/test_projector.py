"""The figures follow the events: whatever comes, in whatever batches, they are what a recount finds."""

import asyncio
import random
from datetime import timedelta
from typing import Any

from pymongo.asynchronous.client_session import AsyncClientSession

from app.analytics.backfill import backfill, read_place
from app.analytics.documents import StatsCell, StatsProgress, StatsTicket
from app.analytics.facts import Facts, replay
from app.analytics.projector import CONSUMER, project
from app.analytics.recount import Comparison, compare
from app.events.consume import begin_at_end, consume
from app.events.log import Event
from app.platform.mongo import collection_of, transaction
from app.platform.wire import Row
from tests.analytics.lives import AGENTS, BIRTH, Life, old_ticket, random_life, replace, store
from tests.conftest import COMMANDS, Started
from tests.events.consuming import until


async def tell(events: list[Row]) -> None:
    """As a consumer does."""

    async def body(session: AsyncClientSession) -> None:
        await project(events, session)

    await transaction(StatsCell, body)


async def counted(life: Life) -> Facts | None:
    row = await collection_of(StatsTicket).find_one({"_id": life.ticket["_id"]})
    return Facts.of_row(row) if row else None


async def total(**cell: Any) -> Row:
    """The totals of a cell of all time that are not zero."""
    row = await collection_of(StatsCell).find_one(
        {"_id": {"dim": "all", "value": None, "priority": "Medium", "grain": "all", "start": None} | cell}
    )
    totals = {name: sums for name, sums in (row or {}).items() if name != "_id"}
    return {name: sums for name, sums in totals.items() if (any(sums.values()) if isinstance(sums, dict) else sums)}


async def test_random_lives_in_random_batches(database: None) -> None:
    """With events again that were told before, others missing at first, and the count of old tickets in between."""
    rnd = random.Random(5)
    lives = [random_life(rnd) for _ in range(60)]
    await store(*lives)
    waiting = [list(life.events) for life in lives]
    told: list[Row] = []
    is_done = False
    while any(waiting):
        batch = [row for events in rnd.sample(waiting, 20) for row in events[: rnd.randrange(4)]]
        waiting = [[row for row in events if row not in batch] for events in waiting]
        told += batch
        await tell(rnd.sample(batch, len(batch) // 2) if rnd.random() < 0.2 else batch)
        await tell(rnd.choices(told, k=5) if told else [])
        if rnd.random() < 0.3 and not is_done:
            is_done = await backfill(7)
            assert await compare(20) == Comparison(0, []) or not is_done
    await tell(told)
    while not await backfill(50):
        pass

    assert await compare(20) == Comparison(0, [])
    assert (await read_place())["isDone"]
    for life in lives:
        assert await counted(life) == replay(life.ticket, life.events)

    before = await collection_of(StatsCell).find().to_list()
    await tell(told)
    assert await collection_of(StatsCell).find().to_list() == before


async def test_all_that_a_ticket_adds_moves_with_it(database: None) -> None:
    life = Life(assignedTo=AGENTS[0], tags=["a"]).resolve(BIRTH + timedelta(hours=1))
    await store(life)
    await tell(life.events)
    whole = await total()
    assert whole | {"resolved": 1, "resolutionMs": 3_600_000} == whole
    assert await total(dim="agent", value=AGENTS[0]) == await total(dim="tag", value="a") == whole

    told = len(life.events)
    life.patch(BIRTH + timedelta(hours=2), assignedTo=AGENTS[1], tags=["b"], priority="High")
    await tell(life.events[told:])
    assert await total() == await total(dim="agent", value=AGENTS[0]) == await total(dim="tag", value="a") == {}
    high = {"priority": "High"}
    assert await total(**high) == await total(dim="agent", value=AGENTS[1], **high) == whole
    assert await total(dim="tag", value="b", **high) == whole

    told = len(life.events)
    life.delete(BIRTH + timedelta(hours=3))
    await tell(life.events[told:])
    assert await total() == await total(**high) == await total(dim="agent", value=AGENTS[1], **high) == {}


async def test_a_ticket_that_was_never_counted_is_counted_whole(database: None) -> None:
    """From the log, of which the batch has only the end; and of one of the old database, from before the log began."""
    at = BIRTH + timedelta(days=1)
    new = Life().resolve(at).reopen(at).patch(at, title="x")
    old = Life(is_old=True, **old_ticket(status="Resolved", resolvedAt=at)).reopen(at).patch(at, title="x")
    behind = Life()
    await store(new, old)
    await tell(behind.events)
    behind.resolve(at).reopen(at)
    await collection_of(Event).insert_many(behind.events)

    await tell([new.events[-1], old.events[-1], behind.events[-1]])

    for life in (new, old, behind):
        assert await counted(life) == replay(life.ticket, life.events)
    assert await total() | {"created": 3, "open": 3, "left": 3, "reopened": 3, "firstResolved": 3} == await total()


async def test_a_batch_costs_two_reads_and_two_writes(database: None) -> None:
    rnd = random.Random(6)
    lives = [life for life in (random_life(rnd) for _ in range(60)) if life.events]
    await store(*lives)
    COMMANDS.names.clear()

    await tell([event for life in lives for event in life.events][:100])

    assert sorted(COMMANDS.names) == ["commitTransaction", "find", "find", "update", "update"]


async def test_the_count_of_old_tickets_beside_the_consumer(app: Started, database: None) -> None:
    """Changes come while two processes count; all write the same sums at once."""
    rnd = random.Random(7)
    await begin_at_end(CONSUMER, app.state["events"])
    old = [Life(is_old=True, **old_ticket(status="Resolved", createdAt=BIRTH)) for _ in range(60)]
    await store(*old)
    consuming = asyncio.create_task(consume(CONSUMER, app.state["events"], app.state["follower"], project))
    try:
        counting = [asyncio.create_task(count_all()) for _ in range(2)]
        for number in range(40):
            is_new = number % 2 == 0
            life = Life() if is_new else rnd.choice(old)
            known = len(life.events)
            life.patch(BIRTH + timedelta(days=number + 1), priority=rnd.choice(["Low", "High"]), tags=[str(number)])
            if is_new:
                await store(life)
                old.append(life)
            else:
                await replace(life, known)
        await asyncio.gather(*counting)

        async def is_level() -> bool:
            rows = await collection_of(StatsTicket).find().to_list()
            versions = {row["_id"]: row["version"] for row in rows}
            return versions == {life.ticket["_id"]: life.ticket.get("version", 1) for life in old}

        await until(is_level)
    finally:
        consuming.cancel()
        await asyncio.wait({consuming})

    assert await compare(20) == Comparison(0, [])
    progress = await collection_of(StatsProgress).find_one()
    assert progress is not None
    assert progress["tickets"] >= 60


async def count_all() -> None:
    while not await backfill(5):
        pass
