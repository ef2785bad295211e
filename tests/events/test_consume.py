"""Consumers of the event log: each event is handled once, in commit order, by one holder, whatever goes wrong."""

import asyncio
import logging
from contextlib import suppress
from datetime import datetime, timedelta

import pytest
from bson import ObjectId
from pymongo import monitoring
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.errors import DuplicateKeyError

from app.events.consume import ConsumerRow, _Consumer, begin_at_end
from app.events.cursor import LogPosition
from app.events.log import Event
from app.events.replay import EventReader, Stretch
from app.platform.clock import now
from app.platform.mongo import collection_of
from app.platform.wire import Row
from tests.conftest import COMMANDS, Started
from tests.events.consuming import (
    NAME,
    Consumers,
    add_events,
    consumer_row,
    effects,
    handled,
    is_at_the_log,
    keyed,
    lag,
    noted,
    noting,
    place,
    until,
)
from tests.factories.events import add_event, event_row
from tests.live import DEADLINE_S, eventually


class TestOrder:
    async def test_what_is_there_and_what_comes_is_handled_once(self, consumers: Consumers) -> None:
        there = await add_events(5)
        await consumers.start_at_the_log(noting())
        assert await handled(5) == there
        coming = await add_events(5)

        assert await handled(10) == there + coming

    async def test_the_past_is_skipped_up_to_where_it_was_told_to_begin(
        self, app: Started, consumers: Consumers
    ) -> None:
        await add_events(3)
        await begin_at_end(NAME, app.state["events"])
        coming = await add_events(2)
        await begin_at_end(NAME, app.state["events"])
        consumers.start(noting(), skips_past=True)
        assert await handled(2) == coming

        # Without a place, as after the database was put back: from there on.
        await consumers.end()
        await collection_of(ConsumerRow).delete_many({})
        consumers.start(noting(), skips_past=True)
        await until(is_at_the_log)
        coming += await add_events(1)

        assert await handled(3) == coming

    async def test_a_transaction_that_began_earlier_and_ended_later_comes_later(self, consumers: Consumers) -> None:
        await consumers.start_at_the_log(noting())
        start = await add_events(1)
        await handled(1)
        early, late = event_row(version=1), event_row(version=1)
        events = collection_of(Event)
        client = events.database.client

        async with client.start_session() as first, client.start_session() as second:
            await first.start_transaction()
            await events.insert_one(early, session=first)
            await second.start_transaction()
            await events.insert_one(late, session=second)
            await second.commit_transaction()
            await handled(2)
            await first.commit_transaction()

        assert await handled(3) == [*start, late["_id"], early["_id"]]

    async def test_news_does_not_wait_for_the_next_look(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.events.consume.RENEW_S", 10 * DEADLINE_S)
        await consumers.start_at_the_log(noting())
        events = []
        for number in range(1, 21):
            events += await add_events(1)
            assert await handled(number) == events


class TestFailure:
    async def test_leaves_neither_effect_nor_place_and_comes_again_with_growing_pauses(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        pauses = {"FIRST_PAUSE_S": 0.05, "MAX_PAUSE_S": 0.2}
        for name, seconds in pauses.items():
            monkeypatch.setattr(f"app.events.consume.{name}", seconds)
        before = await add_events(1)
        calls: list[tuple[float, list[ObjectId]]] = []
        has_failed_often, is_well = asyncio.Event(), False

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            await noting()(rows, session)
            if rows[0]["_id"] not in before and not is_well:
                calls.append((asyncio.get_running_loop().time(), [row["_id"] for row in rows]))
                if len(calls) >= 5:
                    has_failed_often.set()
                raise LookupError

        await consumers.start_at_the_log(handle)
        at = await place()
        bad = await add_events(1)
        await asyncio.wait_for(has_failed_often.wait(), DEADLINE_S)
        assert [events for _, events in calls] == [bad] * len(calls)
        assert await noted() == before
        assert (await place()).known_event == at.known_event

        times = [moment for moment, _ in calls]
        for least, earlier, later in zip([0.05, 0.1, 0.2, 0.2], times, times[1:], strict=False):
            assert least <= later - earlier < least + DEADLINE_S
        told = [record.exc_info for record in caplog.records if record.levelno == logging.ERROR]
        assert [kind for kind, _, _ in filter(None, told)] == [LookupError] * len(told)
        assert len(told) >= 4
        is_well = True
        assert await handled(2) == before + bad

    async def test_holds_up_no_other_consumer_and_shows(self, consumers: Consumers) -> None:
        event = event_row(version=1) | {"_id": ObjectId.from_datetime(now() - timedelta(minutes=2))}
        has_failed = asyncio.Event()

        async def fail(rows: list[Row], session: AsyncClientSession) -> None:
            has_failed.set()
            raise LookupError

        await consumers.start_at_the_log(fail, "poisoned")
        await consumers.start_at_the_log(noting())
        await add_event(event)
        events = [event["_id"], *await add_events(3)]

        assert await handled(4) == events
        await asyncio.wait_for(has_failed.wait(), DEADLINE_S)
        assert 120 <= (lag("poisoned") or 0) < 180

        async def has_nothing_before_it() -> bool:
            return lag() == 0

        await until(has_nothing_before_it)

    async def test_a_write_conflict_doubles_nothing(self, consumers: Consumers) -> None:
        await effects().insert_one({"_id": "sum", "event": None, "value": 0})
        attempts = 0

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            nonlocal attempts
            attempts += 1
            await noting()(rows, session)
            if attempts <= 2:
                await effects().update_one({"_id": "sum"}, {"$inc": {"others": 1}})
            await effects().update_one({"_id": "sum"}, {"$inc": {"value": len(rows)}}, session=session)

        events = await add_events(3)
        consumers.start(handle)

        assert (await handled(4))[:3] == events
        assert attempts == 3
        assert await effects().find_one({"_id": "sum"}) == {"_id": "sum", "event": None, "value": 3, "others": 2}

    async def test_an_upsert_knows_an_event_that_comes_again(self, consumers: Consumers) -> None:
        events = await add_events(3)
        await effects().insert_one({"_id": events[1], "event": events[1], "by": "an earlier look"})
        consumers.start(keyed)

        assert await handled(3) == events
        assert await noted(by="an earlier look") == [events[1]]

    async def test_an_insert_that_forgives_duplicates_is_undone_by_one(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        """And of what the database said, the log tells nothing but the kind: it may hold the whole row."""
        monkeypatch.setattr("app.events.consume.FIRST_PAUSE_S", 0.01)
        monkeypatch.setattr("app.platform.mongo.TRANSACTION_S", 0.05)
        events = await add_events(3)
        await effects().insert_one({"_id": events[1], "event": events[1], "by": "an earlier look"})

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            for row in rows:
                with suppress(DuplicateKeyError):
                    await effects().insert_one({"_id": row["_id"], "event": row["_id"]}, session=session)

        consumers.start(handle)

        def failures() -> list[logging.LogRecord]:
            return [record for record in caplog.records if record.levelno == logging.ERROR]

        await eventually(lambda: len(failures()) >= 3)
        assert await noted() == [events[1]]
        assert {(record.exc_info, record.__dict__["reason"]) for record in failures()} == {(None, "OperationFailure")}


async def nothing(*_: object) -> None:
    pass


class StallingReader(EventReader):
    """Stands still with what it has read, as a process does that is not given the processor."""

    def __init__(self, reader: EventReader) -> None:
        super().__init__(reader._cursors)
        self.is_to_stall = False
        self.has_stalled = asyncio.Event()
        self.may_go_on = asyncio.Event()

    async def after(self, position: LogPosition, *, at_most: int) -> Stretch:
        stretch = await super().after(position, at_most=at_most)
        if self.is_to_stall and stretch.events:
            self.has_stalled.set()
            await self.may_go_on.wait()
        return stretch


class TestLease:
    async def test_of_two_one_works(self, consumers: Consumers) -> None:
        events = await add_events(1)
        one, other = consumers.start(noting("one")), consumers.start(noting("other"))
        await until(is_at_the_log)
        assert await handled(1) == events
        for number in range(2, 11):
            events += await add_events(1)
            assert await handled(number) == events

        assert [] in [await noted("one"), await noted("other")]
        assert not one.done()
        assert not other.done()

    @pytest.mark.parametrize("error_of_clock", [timedelta(0), timedelta(hours=1)])
    async def test_is_given_back_by_one_that_ends(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch, error_of_clock: timedelta
    ) -> None:
        """Whatever the time is by its own clock."""
        monkeypatch.setattr("app.events.consume.now", lambda: now() + error_of_clock)
        monkeypatch.setattr("app.events.consume.LEASE_S", 10 * DEADLINE_S)
        one = await consumers.start_at_the_log(noting("one"))
        events = await add_events(2)
        await handled(2)
        consumers.start(noting("other"))
        await consumers.end(one)
        events += await add_events(2)

        assert await handled(4) == events
        assert await noted("other") == events[2:]

    async def test_of_one_that_died_runs_out(self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.events.consume.LEASE_S", 1)
        one = await consumers.start_at_the_log(noting("one"))
        events = await add_events(2)
        await handled(2)
        with monkeypatch.context() as death:
            death.setattr(_Consumer, "release", nothing)
            await consumers.end(one)
        held_until: datetime = (await consumer_row())["heldUntil"]
        consumers.start(noting("other"))
        events += await add_events(2)

        assert await handled(4) == events
        assert await noted("other") == events[2:]
        assert held_until < now() < held_until + timedelta(seconds=DEADLINE_S / 2)

    async def test_a_row_that_is_made_and_not_taken_holds_up_nobody(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """By a process that died just then, and whose clock was ahead."""
        monkeypatch.setattr("app.events.consume.now", lambda: now() + timedelta(hours=1))
        held = _Consumer._held
        asked = 0

        def die_at_the_second_try(consumer: _Consumer) -> list[Row]:
            nonlocal asked
            asked += 1
            if asked == 2:
                raise asyncio.CancelledError
            return held(consumer)

        with monkeypatch.context() as death:
            death.setattr(_Consumer, "release", nothing)
            death.setattr(_Consumer, "_held", die_at_the_second_try)
            await asyncio.wait({consumers.start(noting("one"))}, timeout=DEADLINE_S)
        assert await consumer_row()
        events = await add_events(2)
        consumers.start(noting("other"))

        assert await handled(2) == events

    async def test_one_that_stood_still_between_reading_and_writing_writes_no_more(
        self, consumers: Consumers, app: Started, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        stalling = StallingReader(app.state["events"])
        monkeypatch.setattr("app.events.consume.LEASE_S", 0.5)
        events = await add_events(1)
        one = consumers.start(noting("one"), reader=stalling)
        await until(is_at_the_log)
        stalling.is_to_stall = True
        events += await add_events(2)
        await asyncio.wait_for(stalling.has_stalled.wait(), DEADLINE_S)
        other = consumers.start(noting("other"))
        assert await handled(3) == events

        stalling.may_go_on.set()
        events += await add_events(2)
        assert await handled(5) == events
        await consumers.end(other)
        events += await add_events(1)
        assert await handled(6) == events
        assert await noted("one") == [events[0], events[5]]
        assert not one.done()

    async def test_one_that_stands_still_in_its_transaction_is_waited_for(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Its effects and the other's would be in each other's way in any case."""
        monkeypatch.setattr("app.events.consume.LEASE_S", 0.2)
        monkeypatch.setattr("app.events.consume.RENEW_S", 0.05)
        stands_still, may_go_on = asyncio.Event(), asyncio.Event()

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            await noting("one")(rows, session)
            stands_still.set()
            await may_go_on.wait()

        async def is_wanted() -> bool:
            """Somebody has been trying to take the lease for a while."""
            trying = {"command.findAndModify": ConsumerRow.Settings.name, "microsecs_running": {"$gt": 100_000}}
            admin = effects().database.client.admin
            return bool(await (await admin.aggregate([{"$currentOp": {}}, {"$match": trying}])).to_list())

        await consumers.start_at_the_log(handle)
        events = await add_events(3)
        await asyncio.wait_for(stands_still.wait(), DEADLINE_S)
        consumers.start(noting("other"))
        await until(is_wanted)
        assert await noted() == []
        may_go_on.set()
        events += await add_events(3)

        assert await handled(6) == events
        assert (await noted("one"))[0] == events[0]


@pytest.mark.parametrize("is_busy", [True, False])
@pytest.mark.parametrize(
    ("command", "commits"),
    [("findAndModify", 0), ("insert", 0), ("aggregate", 0), ("update", 0), ("commitTransaction", 0), ("aggregate", 2)],
)
async def test_is_told_to_end_while_it_sends_a_command(
    consumers: Consumers, monkeypatch: pytest.MonkeyPatch, command: str, commits: int, is_busy: bool
) -> None:
    """On Python 3.11 the driver loses the cancellation. With two commits it has all there is, and looks for more."""
    monkeypatch.setattr("app.events.consume.RENEW_S", 10 * DEADLINE_S)
    # So that it has to ask the database for each event.
    monkeypatch.setattr("app.events.heard.MAX_EVENTS", 0)
    sent: list[str] = []
    is_told = False

    def started(event: monitoring.CommandStartedEvent) -> None:
        nonlocal is_told
        if asyncio.current_task() is not task or is_told:
            return
        if event.command_name == command and sent.count("commitTransaction") == commits:
            is_told = True
            asyncio.get_running_loop().call_soon(task.cancel)
        sent.append(event.command_name)

    async def handle(rows: list[Row], session: AsyncClientSession) -> None:
        await noting()(rows, session)
        if is_busy:
            await add_event()

    await add_events(3)
    monkeypatch.setattr(COMMANDS, "started", started)
    task = consumers.start(handle)
    async with asyncio.timeout(DEADLINE_S):
        await asyncio.wait({task})

    assert is_told
    assert task.cancelled()
    # And it has let go.
    row = await collection_of(ConsumerRow).find_one({"_id": NAME})
    assert row is None or row["heldUntil"] <= now()
