"""What one stream tells, step by step: where it stands, what it is handed at once, what it reads on its own."""

import asyncio
from collections.abc import AsyncIterator
from itertools import count

import pytest
from bson import ObjectId

from app.events.catalog import EventType
from app.realtime.feed import PASSED_STALL_S, PIECE_BYTES, STALL_S, Feed, Resync
from app.realtime.hub import Listener
from app.realtime.protocol import TOO_SLOW, Options
from app.realtime.ring import Broadcast
from tests.callers import Caller
from tests.factories.events import add_event, event_row
from tests.live import DEADLINE_S
from tests.realtime.relaying import Relay


@pytest.fixture
async def relay(database: None) -> Relay:
    await add_event()
    relay = Relay()
    await relay.start()
    return relay


@pytest.fixture
async def agent_in(relay: Relay, agent: Caller) -> AsyncIterator[Listener]:
    listener = await relay.enter(agent)
    yield listener
    relay.hub.leave(listener)


async def happen(count: int, *, size: int = 0) -> list[ObjectId]:
    return [await add_event(event_row(version=1, description="x" * size)) for _ in range(count)]


def behind(cursor: str) -> Options:
    return Options(since=cursor)


async def next_of(feed: Feed) -> list[ObjectId]:
    """What it reads next; all of it is news."""
    async with asyncio.timeout(DEADLINE_S):
        news = await feed.next()
    assert not isinstance(news, Resync)
    return [item.row["_id"] for item in news]


async def is_waiting(feed: Feed) -> bool:
    """Whether it has nothing to tell at the moment; not for what it would have to read from the log."""
    asking = asyncio.create_task(feed.next())
    for _ in range(5):
        await asyncio.sleep(0)
    is_done = asking.done()
    asking.cancel()
    await asyncio.gather(asking, return_exceptions=True)
    return not is_done


class Sink:
    """Takes what it is handed, as long as it has room."""

    def __init__(self, room: int) -> None:
        self.room = room
        self.taken: list[ObjectId] = []

    def __call__(self, item: Broadcast) -> bool:
        if len(self.taken) >= self.room:
            return False
        self.taken.append(item.row["_id"])
        return True


class TestAtTheEnd:
    async def test_it_is_handed_each_event_as_long_as_it_takes_them(self, relay: Relay, agent_in: Listener) -> None:
        sink = Sink(2)
        feed, _, _ = await relay.hub.open_feed(agent_in, Options(), sink)

        first = await happen(2)
        await relay.follow()
        assert sink.taken == first
        assert await is_waiting(feed)

        more = await happen(3)
        await relay.follow()
        sink.room = 10
        assert await next_of(feed) == more
        assert await is_waiting(feed)
        last = await happen(1)
        await relay.follow()

        assert sink.taken == first + last

    async def test_it_is_not_handed_what_it_does_not_want(self, relay: Relay, agent_in: Listener) -> None:
        ticket_id = ObjectId()
        sink = Sink(10)
        options = Options.parse({"ticketId": str(ticket_id), "types": ["ticket.deleted"]})
        feed, _, _ = await relay.hub.open_feed(agent_in, options, sink)

        await happen(1)
        await add_event(event_row(_id=ticket_id, version=1))
        wanted = await add_event(event_row(EventType.TICKET_DELETED, _id=ticket_id, version=2))
        await add_event(event_row(EventType.TICKET_DELETED, version=2))
        await relay.follow()

        assert sink.taken == [wanted]
        assert await is_waiting(feed)

    async def test_its_cursor_is_the_present(self, relay: Relay, agent_in: Listener) -> None:
        feed, cursor, _ = await relay.hub.open_feed(agent_in, Options(), Sink(10))
        assert feed.cursor == cursor

        await happen(1)
        await relay.follow()

        assert feed.cursor != cursor
        again, _, _ = await relay.hub.open_feed(agent_in, behind(feed.cursor))
        assert await is_waiting(again)


class TestTheEnd:
    @pytest.mark.parametrize("is_ended", [True, False])
    async def test_is_the_end_of_all_telling(self, relay: Relay, agent_in: Listener, is_ended: bool) -> None:
        """By the service, or by the client, at the end of the log or behind it."""
        sink, full = Sink(10), Sink(0)
        feeds = [(await relay.hub.open_feed(agent_in, Options(), one))[0] for one in (sink, full, None)]
        await happen(1)
        await relay.follow()
        sink.taken.clear()

        if is_ended:
            relay.hub.end(agent_in, TOO_SLOW)
        else:
            relay.hub.leave(agent_in)
        await happen(1)
        await relay.follow()

        assert (sink.taken, agent_in.feeds, dict(relay.hub._feeds)) == ([], set(), {})
        for feed in feeds:
            with pytest.raises(asyncio.CancelledError):
                await feed.next()


class TestBehind:
    async def test_it_reads_in_pieces_of_64_kib(self, relay: Relay, agent_in: Listener) -> None:
        feed, _, _ = await relay.hub.open_feed(agent_in, Options())
        ids = await happen(5, size=20_000) + await happen(1, size=100_000) + await happen(1)
        await relay.follow()

        assert PIECE_BYTES == 65_536
        assert [await next_of(feed) for _ in range(4)] == [ids[:3], ids[3:5], ids[5:6], ids[6:]]

    async def test_its_cursor_is_where_it_stands(self, relay: Relay, agent_in: Listener) -> None:
        feed, _, _ = await relay.hub.open_feed(agent_in, Options())
        ids = await happen(2, size=60_000)
        await relay.follow()
        await next_of(feed)

        again, _, _ = await relay.hub.open_feed(agent_in, behind(feed.cursor))

        assert await next_of(again) == ids[1:] == await next_of(feed)

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    async def test_whoever_gives_up_waiting_loses_nothing(
        self, relay: Relay, agent_in: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """At each step of the reading in turn; the driver leaves a socket to the collector when it is interrupted."""
        monkeypatch.setattr("app.realtime.feed.SCAN", 1)
        start = await relay.present()
        ids = await happen(8)
        await relay.start()  # so that they have to be read from the log
        feed, _, _ = await relay.hub.open_feed(agent_in, behind(start))
        heard: list[ObjectId] = []

        for steps in count():
            asking = asyncio.create_task(next_of(feed))
            for _ in range(steps):
                await asyncio.sleep(0)
            asking.cancel()
            [outcome] = await asyncio.gather(asking, return_exceptions=True)
            if isinstance(outcome, list):
                heard += outcome
            if len(heard) == len(ids):
                break

        assert heard == ids

    @pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
    async def test_whoever_waits_is_let_go_when_it_is_closed(self, relay: Relay, agent_in: Listener) -> None:
        """At each step in turn, also where the cancellation meets the end of what the driver waits for."""
        start = await relay.present()
        await happen(2)
        await relay.start()

        async def read() -> None:
            while True:
                await feed.next()

        for steps in range(60):
            feed, _, _ = await relay.hub.open_feed(agent_in, behind(start))
            reading = asyncio.create_task(read())
            for _ in range(steps):
                await asyncio.sleep(0)
            reading.cancel()
            relay.hub.close_feed(agent_in, feed)

            done, _ = await asyncio.wait([reading], timeout=DEADLINE_S)
            assert done == {reading}
        assert agent_in.feeds == set()

    async def test_a_listener_that_left_meanwhile_gets_none(self, relay: Relay, agent_in: Listener) -> None:
        start = await relay.present()
        await happen(1)
        await relay.start()

        opening = asyncio.create_task(relay.hub.open_feed(agent_in, behind(start)))
        await asyncio.sleep(0)
        relay.hub.leave(agent_in)

        with pytest.raises(asyncio.CancelledError):
            await opening
        assert (agent_in.feeds, dict(relay.hub._feeds)) == (set(), {})

    async def test_it_tells_nothing_from_the_log_before_its_turn(self, relay: Relay, agent_in: Listener) -> None:
        """Between the two may stand that this listener may not hear it."""
        start = await relay.present()
        before = await happen(2)
        await relay.start()
        after = await happen(2)
        feed, _, _ = await relay.hub.open_feed(agent_in, behind(start))

        assert await next_of(feed) == before
        assert await is_waiting(feed)
        await relay.follow(1)
        assert await next_of(feed) == after[:1]
        await relay.follow()
        assert await next_of(feed) == after[1:]

    async def test_it_waits_where_another_process_has_told_more(self, relay: Relay, agent_in: Listener) -> None:
        told_elsewhere = await happen(2)
        since = await relay.present()
        feed, cursor, resync = await relay.hub.open_feed(agent_in, behind(since))
        assert (cursor, resync) == (since, None)

        assert await is_waiting(feed)
        await relay.follow(1)
        assert await is_waiting(feed)
        ids = await happen(1)
        await relay.follow()

        assert await next_of(feed) == ids
        assert ids[0] not in told_elsewhere


class TestRestart:
    async def test_is_told_once_and_then_it_goes_on(self, relay: Relay, agent_in: Listener) -> None:
        sink = Sink(10)
        feed, _, _ = await relay.hub.open_feed(agent_in, Options(), sink)
        await happen(2)

        await relay.start()
        news = await feed.next()
        ids = await happen(1)
        await relay.follow()

        assert isinstance(news, Resync)
        assert sink.taken == ids
        assert await is_waiting(feed)
        again, _, _ = await relay.hub.open_feed(agent_in, behind(news.cursor))
        assert await next_of(again) == ids

    async def test_comes_before_anything_that_happens_after_it(self, relay: Relay, agent_in: Listener) -> None:
        sink = Sink(10)
        feed, _, _ = await relay.hub.open_feed(agent_in, Options(), sink)
        await happen(1)
        await relay.start()
        await happen(1)
        await relay.follow()

        assert sink.taken == []
        assert await feed.next() == Resync(relay.hub._following().ring.end_cursor)
        ids = await happen(1)
        await relay.follow()
        assert sink.taken == ids

    async def test_in_the_middle_of_a_replay_is_told_too(self, relay: Relay, agent_in: Listener) -> None:
        start = await relay.present()
        await happen(2, size=60_000)
        await relay.follow()
        feed, _, _ = await relay.hub.open_feed(agent_in, behind(start))
        await next_of(feed)

        await relay.start()

        assert await feed.next() == Resync(relay.hub._following().ring.end_cursor)


class TestSlowness:
    async def test_is_a_matter_of_what_is_left_to_tell(
        self, relay: Relay, agent_in: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        assert (STALL_S, PASSED_STALL_S) == (20, 1)
        monkeypatch.setattr("app.realtime.feed.STALL_S", -1)
        feed, _, _ = await relay.hub.open_feed(agent_in, Options())
        assert not feed.is_too_slow()  # there is nothing to tell

        await happen(2, size=60_000)
        await relay.follow()
        assert not feed.is_too_slow()  # its reader has not been given anything

        await next_of(feed)
        assert feed.is_too_slow()
        assert await next_of(feed)
        assert await is_waiting(feed)
        assert not feed.is_too_slow()

    async def test_is_less_forgivable_when_memory_has_gone_past_it(
        self, relay: Relay, agent_in: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.realtime.feed.PASSED_STALL_S", -1)
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", 4)
        feed, _, _ = await relay.hub.open_feed(agent_in, Options())
        await happen(2, size=60_000)
        await relay.follow()
        await next_of(feed)
        assert not feed.is_too_slow()

        await happen(5)
        await relay.follow()

        assert feed.is_too_slow()

    async def test_is_not_held_against_who_replays_what_memory_never_had(
        self, relay: Relay, agent_in: Listener, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.realtime.feed.PASSED_STALL_S", -1)
        monkeypatch.setattr("app.realtime.feed.SCAN", 2)
        start = await relay.present()
        await happen(4)
        await relay.start()
        feed, _, _ = await relay.hub.open_feed(agent_in, behind(start))

        assert len(await next_of(feed)) == 2

        assert not feed.is_too_slow()
