"""Where a consumer begins and where it goes on: nothing is passed over, whatever became of the log meanwhile."""

import asyncio
from datetime import UTC, datetime

import pytest
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.events.log import Event
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.events.consuming import (
    Consumers,
    add_events,
    consumer_row,
    effects,
    handled,
    keyed,
    noted,
    noting,
    place,
    until,
)
from tests.factories.events import add_event, event_row
from tests.live import DEADLINE_S


class TestBeginning:
    async def test_reads_the_collection_in_pages_and_then_the_log_without_a_gap(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.events.consume.AT_A_TIME", 3)
        events = collection_of(Event)
        oldest = event_row(version=1) | {"_id": ObjectId.from_datetime(datetime(2020, 1, 1, tzinfo=UTC))}
        there = await add_events(8)
        meanwhile: list[ObjectId] = []
        pages: list[int] = []

        async with events.database.client.start_session() as slow:
            await slow.start_transaction()
            await events.insert_one(oldest, session=slow)

            async def handle(rows: list[Row], session: AsyncClientSession) -> None:
                pages.append(len(rows))
                if len(pages) == 1:
                    meanwhile.append(await add_event())
                if len(pages) == 2:
                    await slow.commit_transaction()
                    meanwhile.append(await add_event())
                await keyed(rows, session)

            consumers.start(handle)
            await handled(11)

        later = await add_events(2)
        assert await handled(13) == [oldest["_id"], *there, *meanwhile, *later]
        assert pages[:3] == [3, 3, 3]
        assert max(pages) == 3

    async def test_a_crash_in_the_middle_repeats_nothing(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.events.consume.AT_A_TIME", 2)
        events = await add_events(9)
        is_in_the_middle = asyncio.Event()

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            await noting("one")(rows, session)
            if rows[0]["_id"] == events[4]:
                is_in_the_middle.set()
                await asyncio.Event().wait()

        one = consumers.start(handle)
        await asyncio.wait_for(is_in_the_middle.wait(), DEADLINE_S)
        await consumers.end(one)
        assert await noted() == events[:4]
        assert (await consumer_row())["rereading"] == events[3]
        await consumers.start_at_the_log(noting("other"))

        events += await add_events(1)
        assert await handled(10) == events
        assert await noted("other") == events[4:]

    async def test_with_nothing_there_goes_on_with_the_log(self, consumers: Consumers) -> None:
        await consumers.start_at_the_log(noting())
        events = await add_events(1)

        assert await handled(1) == events


class TestPlace:
    async def test_follows_the_log_while_nothing_happens(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.events.consume.RENEW_S", 0.05)
        events = await add_events(1)
        consumers.start(noting())
        await handled(1)
        there = (await effects().database.command("ping"))["operationTime"]

        async def has_passed() -> bool:
            return bool((await place()).at > there)

        await until(has_passed)
        assert await noted() == events

    @pytest.mark.parametrize("is_running", [True, False])
    async def test_in_a_log_that_was_replaced_is_worth_nothing(self, consumers: Consumers, is_running: bool) -> None:
        """As when a backup is restored: what happened since then is undone, and new things happen."""
        events = collection_of(Event)
        database = events.database
        kept = await add_events(2)
        task = consumers.start(keyed)
        await handled(2)
        undone = None
        if not is_running:
            await consumers.end(task)
            undone = await add_event()
        await events.rename("events_before")
        try:
            backup: list[Row] = [{"$match": {"_id": {"$ne": undone}}}, {"$out": events.name}]
            await (await database["events_before"].aggregate(backup)).to_list()
            if not is_running:
                consumers.start(keyed)
            new = await add_events(2)
            assert await handled(4) == kept + new
            new += await add_events(1)
            assert await handled(5) == kept + new
        finally:
            await consumers.end()
            await database["events_before"].rename(events.name, dropTarget=True)
