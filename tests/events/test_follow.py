"""Following the event log: what happens, in the order of commit, by one stream that heals and says what it missed."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId, Timestamp
from prometheus_client import REGISTRY
from pymongo import monitoring

from app.accounts.documents import Session, User
from app.events.follow import EventFollower, News, Reached, Restarted, RowTouched
from app.events.log import Event
from app.events.replay import EventReader, Logged
from app.platform.clock import now
from app.platform.metrics import EVENT_STREAM_LAG
from app.platform.mongo import collection_of, transaction
from app.realtime.relay import WATCHED
from tests.conftest import COMMANDS, Started
from tests.factories.accounts import PASSWORD_HASH
from tests.factories.events import add_event, event_row
from tests.live import DEADLINE_S, eventually


class Following:
    """What one follower tells, one after the other."""

    def __init__(self, news: AsyncIterator[News]) -> None:
        self._news = news

    async def next(self) -> News:
        async with asyncio.timeout(DEADLINE_S):
            return await anext(self._news)

    async def happening(self) -> News:
        """The next that is more than silence."""
        async with asyncio.timeout(DEADLINE_S):
            while isinstance(news := await anext(self._news), Reached):
                pass
            return news

    async def event(self) -> ObjectId:
        news = await self.happening()
        assert isinstance(news, Logged), news
        event_id: ObjectId = news.row["_id"]
        return event_id


@pytest.fixture
def reader(app: Started) -> EventReader:
    return EventReader(app.state["events"]._cursors)


@pytest.fixture
def follower(reader: EventReader, monkeypatch: pytest.MonkeyPatch) -> EventFollower:
    """One beside the application's, whose metric it borrows."""
    monkeypatch.setattr("app.events.follow.AWAIT_MS", 50)
    monkeypatch.setattr("app.events.follow.RETRY_S", 0.02)
    monkeypatch.setattr(EVENT_STREAM_LAG, "_child_samples", EVENT_STREAM_LAG._child_samples)
    return EventFollower(reader, WATCHED)


@pytest.fixture
async def following(follower: EventFollower, database: None) -> AsyncIterator[Following]:
    """The follower has been asked nothing yet."""
    async with aclosing(follower.tail()) as news:  # type: ignore[type-var]
        yield Following(news)


async def operation_time() -> Timestamp:
    found: Timestamp = (await collection_of(Event).database.command("ping"))["operationTime"]
    return found


class TestTail:
    async def test_begins_at_the_present_and_says_so(self, following: Following, reader: EventReader) -> None:
        before = await add_event()
        start = await following.next()
        assert isinstance(start, Restarted)
        assert start.position.known_event == before
        assert await reader.locate(start.cursor) == start.position

        events = [await add_event(), await add_event()]
        assert [await following.event(), await following.event()] == events

    async def test_an_event_comes_as_it_is_stored_with_its_own_cursor(
        self, following: Following, reader: EventReader
    ) -> None:
        await following.next()
        rows = [event_row(version=1), event_row(version=1)]
        for row in rows:
            await add_event(row)
        told = [await following.happening(), await following.happening()]

        assert [news.row for news in told if isinstance(news, Logged)] == rows
        first, second = told
        assert isinstance(first, Logged)
        assert isinstance(second, Logged)
        assert (await reader.after(await reader.locate(first.cursor), at_most=9)).events == [second]
        assert (await reader.after(await reader.locate(second.cursor), at_most=9)).events == []

    async def test_silence_moves_the_position(self, following: Following, reader: EventReader) -> None:
        event = await add_event()
        await following.next()
        await collection_of(User).insert_one({"_id": ObjectId(), "username": "somebody"})
        present = await operation_time()

        async with asyncio.timeout(DEADLINE_S):
            while (news := await following.next()).position.at < present:  # type: ignore[union-attr]
                assert isinstance(news, Reached)
        assert isinstance(news, Reached)
        assert news.position.known_event == event
        assert await reader.locate(news.cursor) == news.position

    async def test_a_transaction_that_began_earlier_and_ended_later_comes_later(self, following: Following) -> None:
        await following.next()
        early, late = event_row(version=1), event_row(version=1)
        events = collection_of(Event)
        client = events.database.client

        async with client.start_session() as first, client.start_session() as second:
            await first.start_transaction()
            await events.insert_one(early, session=first)
            await second.start_transaction()
            await events.insert_one(late, session=second)
            await second.commit_transaction()
            assert await following.event() == late["_id"]
            await first.commit_transaction()

        assert await following.event() == early["_id"]


class TestWatched:
    async def test_rows_come_in_the_order_of_commit_with_the_events(self, following: Following) -> None:
        users, sessions = collection_of(User), collection_of(Session)
        user, session = ObjectId(), ObjectId()
        await following.next()
        await users.insert_one({"_id": user, "username": "somebody"})
        await sessions.insert_one({"_id": session, "userId": user})
        events = [await add_event()]
        await users.update_one({"_id": user}, {"$set": {"role": "Agent"}})
        events.append(await add_event())
        await sessions.update_one({"_id": session}, {"$set": {"generation": 1}})
        await users.replace_one({"_id": user}, {"username": "somebody else"})
        await sessions.delete_one({"_id": session})
        events.append(await add_event())
        await users.delete_one({"_id": user})

        told = [await following.happening() for _ in range(7)]
        assert [news.row["_id"] if isinstance(news, Logged) else news for news in told] == [
            events[0],
            RowTouched("users", user),
            events[1],
            RowTouched("users", user),
            RowTouched("sessions", session),
            events[2],
            RowTouched("users", user),
        ]

    async def test_one_transaction_comes_in_the_order_of_its_writes(self, following: Following) -> None:
        user, row = ObjectId(), event_row(version=1)
        await collection_of(User).insert_one({"_id": user, "username": "somebody"})
        await following.next()

        async def body(session: Any) -> None:
            await collection_of(User).update_one({"_id": user}, {"$set": {"role": "Agent"}}, session=session)
            await collection_of(Event).insert_one(row, session=session)
            await collection_of(User).delete_one({"_id": user}, session=session)

        await transaction(Event, body)

        assert await following.happening() == RowTouched("users", user)
        assert await following.event() == row["_id"]
        assert await following.happening() == RowTouched("users", user)

    async def test_their_contents_do_not_leave_the_server(
        self, following: Following, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        answers: list[str] = []

        def succeeded(event: monitoring.CommandSucceededEvent) -> None:
            if event.command_name in {"aggregate", "getMore"}:
                answers.append(repr(event.reply))

        monkeypatch.setattr(COMMANDS, "succeeded", succeeded)
        user = ObjectId()
        await following.next()
        await collection_of(User).insert_one({"_id": user, "username": "somebody", "password": PASSWORD_HASH})
        await collection_of(User).update_one({"_id": user}, {"$set": {"password": PASSWORD_HASH, "role": "Agent"}})
        await collection_of(User).replace_one({"_id": user}, {"username": "somebody", "password": PASSWORD_HASH})
        assert await following.happening() == RowTouched("users", user)
        assert await following.happening() == RowTouched("users", user)
        event = await add_event()
        assert await following.event() == event

        assert any(str(event) in answer for answer in answers)
        assert any(str(user) in answer for answer in answers)
        for secret in (PASSWORD_HASH, "password", "Agent", "somebody"):
            assert not any(secret in answer for answer in answers), secret


class TestLoss:
    async def test_of_the_log_is_told_each_time(self, following: Following) -> None:
        events = collection_of(Event)
        before = events.database["events_before"]

        async def is_told(first: ObjectId) -> None:
            """That it begins anew, with this one as the last that it can't tell."""
            news = await following.happening()
            assert isinstance(news, Restarted)
            assert news.position.known_event == first
            event = await add_event()
            assert await following.event() == event

        await following.next()
        await events.rename(before.name)
        try:
            await is_told(await add_event())
            await events.drop()
            await is_told(await add_event())
            await (await events.aggregate([{"$out": events.name}])).to_list()
            newest = await events.find_one(sort=[("_id", -1)])
            assert newest is not None
            await is_told(newest["_id"])
            last = event_row(version=1)
            await before.insert_one(last)
        finally:
            await before.rename(events.name, dropTarget=True)
        await is_told(last["_id"])

    async def test_of_the_log_is_made_good_by_one_with_its_indexes(self, following: Following) -> None:
        events = collection_of(Event)
        before = events.database["events_before"]
        await following.next()
        await events.rename(before.name)
        try:
            await add_event()
            assert isinstance(await following.happening(), Restarted)
            indexes = await events.index_information()
        finally:
            await before.rename(events.name, dropTarget=True)

        assert indexes["history"]["unique"]


class TestWaiting:
    async def test_ends_with_the_next_event_or_when_some_were_missed(
        self, following: Following, follower: EventFollower
    ) -> None:
        moved = follower.moved
        await following.next()
        assert moved.is_set()
        moved = follower.moved
        assert isinstance(await following.next(), Reached)
        assert not moved.is_set()
        await add_event()
        await following.event()

        assert moved.is_set()
        assert not follower.moved.is_set()


class TestLag:
    async def test_is_the_age_of_what_came_last_and_the_silence_since(
        self, following: Following, follower: EventFollower
    ) -> None:
        def shown() -> float | None:
            return REGISTRY.get_sample_value("event_stream_lag_seconds")

        assert follower.lag_s is None
        assert shown() == -1
        await following.next()
        assert isinstance(await following.next(), Reached)
        assert 0 <= (follower.lag_s or -1) < 1

        await add_event(event_row(version=1) | {"at": now() - timedelta(minutes=2)})
        await following.event()
        assert 120 <= (follower.lag_s or -1) < 121
        assert 120 <= (shown() or -1) < 121
        assert isinstance(await following.next(), Reached)
        assert 0 <= (follower.lag_s or -1) < 1

        heard = follower.lag_s or -1
        await eventually(lambda: (follower.lag_s or 0) > heard + 0.2)
        assert isinstance(await following.next(), Reached)
        assert 0 <= (follower.lag_s or -1) < 0.2


class TestEnd:
    @pytest.fixture
    def end_with(
        self, follower: EventFollower, database: None, monkeypatch: pytest.MonkeyPatch
    ) -> Callable[[str], Awaitable[bool]]:
        """Tells a task that follows to end while it sends such a command; says whether it was cancelled by that."""

        async def follow() -> None:
            async with aclosing(follower.tail()) as news:  # type: ignore[type-var]
                async for _ in news:
                    pass

        async def end_with(command: str) -> bool:
            is_told = False

            def started(event: monitoring.CommandStartedEvent) -> None:
                nonlocal is_told
                if event.command_name == command and asyncio.current_task() is task and not is_told:
                    is_told = True
                    asyncio.get_running_loop().call_soon(task.cancel)

            monkeypatch.setattr(COMMANDS, "started", started)
            task = asyncio.create_task(follow())
            await asyncio.wait({task}, timeout=DEADLINE_S)
            assert is_told
            return task.cancelled()

        return end_with

    @pytest.mark.parametrize("command", ["listCollections", "aggregate", "getMore"])
    async def test_while_it_sends_a_command(self, end_with: Callable[[str], Awaitable[bool]], command: str) -> None:
        """When the driver loses the cancellation, on Python 3.11."""
        assert await end_with(command)

    async def test_while_it_looks_for_the_log(self, end_with: Callable[[str], Awaitable[bool]]) -> None:
        events = collection_of(Event)
        elsewhere = events.database["events_elsewhere"]
        await events.rename(elsewhere.name)
        try:
            assert await end_with("listCollections")
        finally:
            await elsewhere.rename(events.name)
