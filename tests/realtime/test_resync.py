"""Where completeness can't be proved, a stream says `resync`, and goes on behind it."""

from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from bson import ObjectId

from app.accounts.tokens import derive_key
from app.events.cursor import Cursors, LogPosition
from app.events.log import Event
from app.events.replay import EventReader
from app.platform.mongo import collection_of
from app.realtime.hub import Hub
from tests.callers import Caller
from tests.conftest import SECRET, settle
from tests.factories.tickets import open_ticket
from tests.live import EventStream, Live, eventually
from tests.realtime.doors import Door, events_of, introduced, listening
from tests.realtime.polling import news, present

CURSORS = Cursors(derive_key(SECRET, "event-cursor"))
OTHERS = Cursors(derive_key("another secret, just as long as ours", "event-cursor"))


def flipped(cursor: str, at: int) -> str:
    """The cursor with one bit changed."""
    raw = bytearray(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    raw[at] ^= 1
    return urlsafe_b64encode(raw).decode().rstrip("=")


# What becomes of a good cursor.
ALTERED: dict[str, Callable[[str], str]] = {
    "empty": lambda _: "",
    "cut at the end": lambda cursor: cursor[:-4],
    "cut at the start": lambda cursor: cursor[4:],
    "half of it": lambda cursor: cursor[: len(cursor) // 2],
    "longer": lambda cursor: cursor + "AAAA",
    "twice": lambda cursor: cursor + cursor,
    "much too long": lambda cursor: cursor + "A" * 4000,
    "another mac": lambda cursor: flipped(cursor, 0),
    "another log": lambda cursor: flipped(cursor, 10),
    "another known event": lambda cursor: flipped(cursor, 26),
    "another place": lambda cursor: flipped(cursor, -1),
    "a word": lambda _: "now",
    "a number": lambda _: "0",
    "an id": lambda _: str(ObjectId()),
    "not ASCII": lambda _: "é" * 40,
    "padded": lambda cursor: cursor + "=",
    "with what is no base64 in it": lambda cursor: cursor[:8] + "****" + cursor[8:],
    "no base64": lambda cursor: "*" + cursor[1:],
    "NUL": lambda cursor: cursor + "\0",
}


async def position_of(cursor: str) -> LogPosition:
    position = CURSORS.decode(await EventReader(CURSORS).log_id(), cursor)
    assert position is not None
    return position


async def resynced(live: Live, agent: Caller, door: Door, cursor: str) -> None:
    """The stream says so at once, and is good from there on, now and later."""
    source = await door(live, agent.token, {"since": cursor})
    first = await source.message() if isinstance(source, EventStream) else None
    ready = first.frame if first else await source.frame()
    resync = await source.frame()
    if first:  # a client that breaks off in between must not come back with the cursor of `ready`
        assert first.id is None
    assert ready == {"type": "ready", "cursor": ready["cursor"]}
    assert resync == {"type": "resync", "cursor": ready["cursor"]}

    ticket = await open_ticket(agent)

    [event] = events_of([await source.frame()])
    assert event["ticketId"] == ticket["id"]
    assert (await news(agent, resync["cursor"]))["items"] == [event]
    again = await listening(door, live, agent.token, since=resync["cursor"])
    assert events_of([await again.frame()]) == [event]


class TestCursors:
    @pytest.mark.parametrize("alter", ALTERED.values(), ids=ALTERED)
    async def test_that_are_not_ours(
        self, live: Live, hub: Hub, agent: Caller, door: Door, alter: Callable[[str], str]
    ) -> None:
        await open_ticket(agent)
        await settle(hub)

        await resynced(live, agent, door, alter(await present(agent)))

    async def test_in_the_first_message(self, live: Live, agent: Caller) -> None:
        for cursor in ("", "garbage", "é", "x" * 60_000):
            socket = await introduced(live, agent.token, since=cursor)

            assert [frame["type"] for frame in await socket.frames(2)] == ["ready", "resync"]

    async def test_of_another_secret(self, live: Live, hub: Hub, agent: Caller, door: Door) -> None:
        await settle(hub)
        position = await position_of(await present(agent))

        await resynced(live, agent, door, OTHERS.encode(await EventReader(CURSORS).log_id(), position))

    async def test_of_another_log(self, live: Live, hub: Hub, agent: Caller, door: Door) -> None:
        await settle(hub)
        position = await position_of(await present(agent))

        await resynced(live, agent, door, CURSORS.encode(uuid4(), position))

    async def test_of_a_past_that_was_undone(self, live: Live, hub: Hub, agent: Caller, door: Door) -> None:
        await settle(hub)
        position = replace(await position_of(await present(agent)), known_event=ObjectId())

        await resynced(live, agent, door, CURSORS.encode(await EventReader(CURSORS).log_id(), position))

    @pytest.mark.parametrize("seconds", [60, 3600, 2**31])
    async def test_of_the_future(self, live: Live, hub: Hub, agent: Caller, door: Door, seconds: int) -> None:
        await settle(hub)
        position = await position_of(await present(agent))
        then = (int.from_bytes(position.token[1:5]) + seconds).to_bytes(4)
        coming = replace(position, token=position.token[:1] + then + position.token[5:])

        await resynced(live, agent, door, CURSORS.encode(await EventReader(CURSORS).log_id(), coming))


class TestRestart:
    """The service has lost its own place in the log."""

    async def test_is_told_to_all_who_listen(self, live: Live, hub: Hub, agent: Caller, door: Door) -> None:
        sources = [await listening(door, live, agent.token) for _ in range(3)]
        end = await EventReader(CURSORS).end()

        hub.restart(end.position, end.next_cursor)

        ticket = await open_ticket(agent)
        for source in sources:
            resync, event = await source.frames(2)
            assert resync == {"type": "resync", "cursor": end.next_cursor}
            assert event["event"]["ticketId"] == ticket["id"]
            assert (await news(agent, end.next_cursor))["items"] == [event["event"]]

    async def test_happens_when_the_log_goes_away_for_a_moment(
        self, live: Live, hub: Hub, agent: Caller, customer: Caller, door: Door
    ) -> None:
        past = hub._past
        assert past is not None
        restarts = past.restarts
        sources = [await listening(door, live, who.token) for who in (agent, customer)]
        before = await open_ticket(customer)
        for source in sources:
            assert (await source.frame())["event"]["ticketId"] == before["id"]

        events = collection_of(Event)
        await events.rename("events_elsewhere")
        await events.database["events_elsewhere"].rename(Event.Settings.name)
        await eventually(lambda: past.restarts > restarts)
        after = await open_ticket(customer)

        for source in sources:
            resync, event = await source.frames(2)
            assert resync["type"] == "resync"
            assert event["event"]["ticketId"] == after["id"]
            assert (await news(agent, resync["cursor"]))["items"] == [event["event"]]

    async def test_does_not_hide_what_the_log_still_has(self, live: Live, hub: Hub, agent: Caller, door: Door) -> None:
        """Who comes back afterwards is told what came before it, as long as the log has it."""
        start = await present(agent)
        before = await open_ticket(agent)
        end = await EventReader(CURSORS).end()
        hub.restart(end.position, end.next_cursor)

        source = await listening(door, live, agent.token, since=start)

        after = await open_ticket(agent)
        events = events_of(await source.frames(2))
        assert [event["ticketId"] for event in events] == [before["id"], after["id"]]
