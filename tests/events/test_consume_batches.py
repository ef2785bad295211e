"""Consumers under load: how many events they take at once, and what they read for that."""

import asyncio

import pytest
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.events.consume import _Consumer, begin_at_end
from app.events.cursor import LogPosition
from app.events.replay import EventReader, Stretch
from app.platform.wire import Row
from tests.conftest import Started
from tests.events.consuming import NAME, Consumers, add_events, handled, noted, noting
from tests.live import DEADLINE_S, eventually


class TestBatches:
    async def test_what_comes_while_it_rests_is_handled_together(
        self, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        may_go_on = asyncio.Event()
        batches: list[int] = []

        async def rest(consumer: _Consumer) -> None:
            if consumer._rests_until > 0 and batches:
                await may_go_on.wait()

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            batches.append(len(rows))
            await noting()(rows, session)

        await consumers.start_at_the_log(handle)
        monkeypatch.setattr(_Consumer, "_rest", rest)
        events = await add_events(1)
        assert await handled(1) == events
        events += await add_events(30)
        assert await noted() == events[:1]
        may_go_on.set()

        assert await handled(31) == events
        assert batches[0] == 1
        assert sum(batches) == 31

    async def test_goes_on_at_once_when_there_is_more_than_it_may_take(
        self, app: Started, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Through what the process has forgotten and what it remembers, without a rest, which would never end."""
        monkeypatch.setattr("app.events.consume.AT_A_TIME", 3)
        monkeypatch.setattr("app.events.heard.MAX_EVENTS", 5)
        monkeypatch.setattr("app.events.consume.PACE_S", 100 * DEADLINE_S)
        batches: list[int] = []

        async def handle(rows: list[Row], session: AsyncClientSession) -> None:
            batches.append(len(rows))
            await noting()(rows, session)

        await begin_at_end(NAME, app.state["events"])
        events = await add_events(11)
        remembered = app.state["events"].heard._items
        await eventually(lambda: remembered and remembered[-1][1]["_id"] == events[-1])
        consumers.start(handle)

        assert await handled(11) == events
        assert batches == [3, 3, 3, 2]

    async def test_of_what_this_process_was_told_nothing_is_read_again(
        self, app: Started, consumers: Consumers, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        reads = 0
        after = EventReader.after

        async def counted(reader: EventReader, position: LogPosition, *, at_most: int) -> Stretch:
            nonlocal reads
            stretch = await after(reader, position, at_most=at_most)
            reads += len(stretch.events)
            return stretch

        monkeypatch.setattr(EventReader, "after", counted)
        await consumers.start_at_the_log(noting())
        events: list[ObjectId] = []
        for number in range(1, 21):
            events += await add_events(1)
            assert await handled(number) == events

        assert reads < len(events)
