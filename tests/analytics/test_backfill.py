"""The count of the tickets from before: whole, once, and from where it was."""

import asyncio
import random
from datetime import timedelta
from typing import Any

import pytest
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import AutoReconnect

from app.analytics import backfill as module
from app.analytics.backfill import backfill, fill_up, keep_filled, read_place, start_over
from app.analytics.documents import StatsCell, StatsProgress, StatsTicket
from app.analytics.projector import CONSUMER, project, save
from app.analytics.recount import Comparison, compare
from app.events.consume import ConsumerRow, begin_at_end, consume
from app.platform.errors import Conflict
from app.platform.mongo import collection_of, transaction
from app.platform.wire import Row
from tests.analytics.lives import BIRTH, Life, old_ticket, random_life, replace, store
from tests.conftest import Started
from tests.events.consuming import until

SAME = Comparison(0, [])


def some_lives(number: int, seed: int = 1) -> list[Life]:
    rnd = random.Random(seed)
    return [random_life(rnd) for _ in range(number)]


async def figures() -> list[list[Row]]:
    models = (StatsCell, StatsTicket, StatsProgress)
    return [await collection_of(model).find().sort("_id", 1).to_list() for model in models]


async def tell(events: list[Row]) -> None:
    async def body(session: AsyncClientSession) -> None:
        await project(events, session)

    await transaction(StatsCell, body)


async def test_an_empty_database_is_done_at_once(database: None) -> None:
    assert not (await read_place())["isDone"]
    await fill_up()

    assert (await read_place())["isDone"]
    assert await compare(1) == SAME


async def test_looks_again_when_the_figures_are_gone(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "LOOK_S", 0.01)
    await store(*some_lives(5))

    async def is_done() -> bool:
        return (await read_place())["isDone"] is True

    keeping = asyncio.create_task(keep_filled())
    for _ in range(2):
        await until(is_done)
        assert await compare(1) == SAME
        assert (await read_place())["tickets"] == 5
        for model in (StatsCell, StatsTicket, StatsProgress):
            await collection_of(model).delete_many({})
    keeping.cancel()
    await asyncio.wait({keeping})


async def test_goes_on_where_it_was_stopped(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    deleted = Life().resolve(BIRTH + timedelta(days=1)).delete(BIRTH + timedelta(days=2))
    lives = [*some_lives(48), deleted, Life(is_old=True, **old_ticket(status="Resolved"))]
    await store(*lives)
    saved = 0

    async def break_off(*arguments: Any) -> None:
        nonlocal saved
        saved += 1
        await save(*arguments)
        if saved in {2, 4}:
            raise LookupError  # before the commit

    monkeypatch.setattr(module, "save", break_off)
    assert (await compare(20)).wrong_cells > 20
    for place in (10, 20):
        assert not await backfill(10)
        with pytest.raises(LookupError):
            await backfill(10)
        assert (await read_place())["tickets"] == place == await collection_of(StatsTicket).count_documents({})
        assert not (await read_place())["isDone"]
    while not await backfill(10):
        pass

    assert await compare(1) == SAME
    assert (await read_place())["tickets"] == 50 == await collection_of(StatsTicket).count_documents({})
    row = await collection_of(StatsTicket).find_one({"_id": deleted.ticket["_id"]})
    assert row is not None
    assert row["isDeleted"]

    # Once done it does nothing, and if it is done again it changes nothing.
    before = await figures()
    assert await backfill(10)
    assert await figures() == before
    await collection_of(StatsProgress).delete_many({})
    while not await backfill(10):
        pass
    assert await figures() == before


async def test_of_several_processes_none_counts_what_another_did(database: None) -> None:
    await store(*some_lives(60))

    async def count() -> None:
        while not await backfill(7):
            pass

    await asyncio.gather(count(), count(), fill_up())

    assert await compare(1) == SAME
    assert (await read_place())["tickets"] == 60


async def test_one_that_was_slow_does_not_move_the_place_back(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    lives = [Life() for _ in range(10)]
    await store(*lives)
    await tell([event for life in lives for event in life.events])

    async def be_slow(*arguments: Any) -> Any:
        monkeypatch.setattr(module, "_find_out", find_out)
        found = await find_out(*arguments)
        assert not await backfill(5)
        return found

    find_out = module._find_out
    monkeypatch.setattr(module, "_find_out", be_slow)

    assert not await backfill(3)
    assert (await read_place())["tickets"] == 5


@pytest.mark.parametrize("which", ["new", "behind", "other"])
async def test_the_consumer_may_come_in_between(database: None, monkeypatch: pytest.MonkeyPatch, which: str) -> None:
    """And count the ticket, or carry it on, or another in the same cells, which were not there before."""
    life, other = Life(), Life()
    await store(life)
    if which == "behind":
        await tell(life.events)
        await replace(life.resolve(BIRTH), 1)

    async def be_slow(*arguments: Any) -> Any:
        found = await find_out(*arguments)
        if which == "other":
            await store(other)
        await tell(other.events if which == "other" else life.events)
        return found

    find_out = module._find_out
    with monkeypatch.context() as slow:
        slow.setattr(module, "_find_out", be_slow)
        # Cells that are there by now are added to; tickets that are counted by now are looked at again.
        assert await backfill(10) == (which == "other")
    assert (await read_place())["isDone"] == (which == "other")
    assert await backfill(10)

    assert await compare(1) == SAME


async def test_a_cell_that_is_changed_meanwhile_is_read_again(database: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """And nothing of what either added is lost, though whole rows are written."""
    life, other = Life(), Life()
    await store(life)
    runs = 0

    async def be_slow(*arguments: Any) -> Any:
        nonlocal runs
        runs += 1
        writes = await cell_writes(*arguments)
        if runs == 1:
            await store(other)
            await tell(other.events)
        return writes

    cell_writes = module._cell_writes
    monkeypatch.setattr(module, "_cell_writes", be_slow)
    while not await backfill(10):
        pass

    assert runs >= 2
    assert await compare(1) == SAME


@pytest.mark.parametrize("most", [0, 1, 200])
async def test_no_more_is_counted_at_once_than_can_be_committed(
    database: None, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(module, "MOST_CELLS", most)
    await store(*some_lives(20))
    places = [0]
    while not await backfill(50):
        places.append((await read_place())["tickets"])

    assert len(places) > 2
    assert len(set(places)) == len(places)
    assert (await read_place())["tickets"] == 20
    assert await compare(1) == SAME


async def test_an_outage_is_waited_for(
    database: None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    await store(*some_lives(5))
    monkeypatch.setattr(module, "RETRY_S", 0.01)
    errors: list[Exception] = [AutoReconnect("a row that is nobody's business"), Conflict()]

    async def fail_at_first(*arguments: Any) -> Any:
        if errors:
            raise errors.pop(0)
        return await find_out(*arguments)

    find_out = module._find_out
    monkeypatch.setattr(module, "_find_out", fail_at_first)
    await fill_up()

    assert (await read_place())["isDone"]
    assert [record.__dict__["reason"] for record in caplog.records] == ["AutoReconnect", "Conflict"]


class TestStartingOver:
    async def test_beside_a_consumer_at_work(self, app: Started, database: None) -> None:
        await begin_at_end(CONSUMER, app.state["events"])
        lives = some_lives(30)
        await store(*lives)
        await collection_of(StatsCell).insert_one({"_id": {"dim": "wrong"}, "created": 7})
        consuming = asyncio.create_task(consume(CONSUMER, app.state["events"], app.state["follower"], project))
        try:
            for round_ in range(3):
                await start_over()
                assert await collection_of(StatsCell).count_documents({"_id.dim": "wrong"}) == 0
                changing = asyncio.create_task(self.change(lives, round_))
                while not await backfill(4):
                    pass
                await changing
        finally:
            consuming.cancel()
            await asyncio.wait({consuming})
        for life in lives:
            await tell(life.events)  # those that the consumer had no time for

        assert await compare(1) == SAME
        assert "by_value" in await collection_of(StatsCell).index_information()

    async def change(self, lives: list[Life], round_: int) -> None:
        for number, life in enumerate(lives[:10]):
            known = len(life.events)
            await replace(life.mark(BIRTH + timedelta(days=90 * round_ + number)), known)

    async def test_is_not_done_by_two_and_not_counted_before(
        self, app: Started, database: None, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await begin_at_end(CONSUMER, app.state["events"])
        await store(*some_lives(5))
        assert await backfill(10)

        async def die(collection: AsyncCollection[Row]) -> None:
            raise LookupError

        with monkeypatch.context() as death:
            death.setattr(AsyncCollection, "drop", die)
            with pytest.raises(LookupError):
                await start_over()
        for refused in (start_over(), backfill(10)):
            with pytest.raises(Conflict):
                await refused
        assert not (await read_place())["isDone"]

        # Once it can be taken for dead.
        await collection_of(ConsumerRow).update_one({"_id": CONSUMER}, {"$set": {"heldUntil": BIRTH}})
        await start_over()
        assert await backfill(10)
        assert await compare(1) == SAME
