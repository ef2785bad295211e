"""Coming back with `since`: all that was missed, in order, once, and then what happens."""

import asyncio
import random
from typing import Any

import pytest

from app.realtime.hub import Hub
from tests.callers import Caller, Callers
from tests.conftest import COMMANDS, settle
from tests.factories.tickets import open_ticket
from tests.live import Live, Socket, eventually
from tests.realtime.conftest import RING, Forget
from tests.realtime.doors import Door, events_of, listening
from tests.realtime.polling import present, walked

AUTHENTICATION = ["aggregate"]


async def happen(caller: Caller, count: int) -> None:
    """So many events of a ticket of the caller's."""
    ticket = await open_ticket(caller)
    for number in range(count - 1):
        await caller.patch(f"/api/tickets/{ticket['id']}", json={"title": str(number)})


@pytest.fixture(params=["agent", "customer"])
def someone(request: pytest.FixtureRequest, callers: Callers) -> Caller:
    chosen: Caller = getattr(callers, request.param)
    return chosen


class TestFromEachEventInTurn:
    async def test_tells_what_is_behind_it(self, live: Live, someone: Caller, door: Door, forget: Forget) -> None:
        start = await present(someone)
        await happen(someone, 6)
        await forget()
        cursors = [start, *(item["cursor"] for item in await walked(someone, start))]
        sources = [await listening(door, live, someone.token, since=cursor) for cursor in cursors]
        await happen(someone, 2)

        items = await walked(someone, start)
        for number, source in enumerate(sources):
            assert events_of(await source.frames(len(items) - number)) == items[number:]

    async def test_crosses_from_the_log_to_memory_to_the_present(
        self, live: Live, someone: Caller, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Little is remembered, and each look goes through less than that."""
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", RING)
        monkeypatch.setattr("app.realtime.feed.SCAN", 2)
        monkeypatch.setattr("app.realtime.feed.PIECE_BYTES", 1)
        start = await present(someone)
        await happen(someone, 3 * RING)
        cursors = [start, *(item["cursor"] for item in await walked(someone, start))]
        sources = [await listening(door, live, someone.token, since=cursor) for cursor in cursors]
        await happen(someone, 3 * RING)

        items = await walked(someone, start)
        assert len(items) == 6 * RING
        for number, source in enumerate(sources):
            assert events_of(await source.frames(len(items) - number)) == items[number:]


class TestWhileOthersWrite:
    async def test_who_comes_and_goes_misses_nothing_and_hears_nothing_twice(
        self, live: Live, callers: Callers, door: Door, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The service remembers little, so that clients find themselves before, in and behind what it does."""
        monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", RING)
        monkeypatch.setattr("app.realtime.feed.SCAN", 3)
        everybody = [callers.customer, callers.other_customer, callers.agent, callers.admin]
        start = await present(callers.agent)
        seed = random.randrange(2**32)
        print("seed", seed)  # noqa: T201 - who wants to see it again needs it

        async def write() -> None:
            await asyncio.gather(*(happen(who, 12) for who in everybody))
            for who in everybody:
                await open_ticket(who, title=f"The last of {who.user_id}")

        async def follow(who: Caller) -> list[dict[str, Any]]:
            chance = random.Random(f"{seed} {who.user_id}")
            heard: list[dict[str, Any]] = []
            while True:
                since = heard[-1]["cursor"] if heard else start
                source = await listening(door, live, who.token, since=since)
                for _ in range(chance.randrange(9)):
                    heard += events_of([await source.frame()])
                    if heard[-1]["ticket"]["title"] == f"The last of {who.user_id}":
                        return heard
                if isinstance(source, Socket) and chance.random() < 0.5:
                    source.break_off()
                else:
                    await source.leave()

        _, *stories = await asyncio.gather(write(), *(follow(who) for who in everybody))

        for who, heard in zip(everybody, stories, strict=True):
            items = await walked(who, start)
            assert heard == items[: len(heard)]
            assert {item["ticket"]["title"] for item in items[len(heard) :]} <= {
                f"The last of {other.user_id}" for other in everybody
            }


class TestCost:
    async def test_what_is_remembered_costs_no_look_at_the_database(
        self, live: Live, hub: Hub, someone: Caller, door: Door
    ) -> None:
        start = await present(someone)
        await happen(someone, 3)
        await settle(hub)
        first, *behind = await walked(someone, start)
        COMMANDS.names.clear()

        source = await listening(door, live, someone.token, since=first["cursor"])

        assert events_of(await source.frames(len(behind))) == behind
        assert COMMANDS.names == AUTHENTICATION

    async def test_what_happens_costs_no_look_at_the_database(self, live: Live, someone: Caller, door: Door) -> None:
        sources = [await listening(door, live, someone.token) for _ in range(5)]
        COMMANDS.names.clear()
        await open_ticket(someone)
        writing = list(COMMANDS.names)

        for source in sources:
            assert (await source.frame())["type"] == "event"
        assert COMMANDS.names == writing


class TestTheCursorOf:
    async def test_ready_is_good_later(self, live: Live, hub: Hub, agent: Caller, door: Door, forget: Forget) -> None:
        source = await door(live, agent.token)
        cursor = (await source.frame())["cursor"]
        await source.leave()
        ticket = await open_ticket(agent)
        await forget()

        source = await door(live, agent.token, {"since": cursor})

        ready, event = await source.frames(2)
        assert ready == {"type": "ready", "cursor": cursor}
        assert event["event"]["ticketId"] == ticket["id"]

    async def test_a_place_where_nothing_happened_is_good_later(
        self, live: Live, hub: Hub, agent: Caller, forget: Forget
    ) -> None:
        """The log says once a second that nothing has happened up to a place of its own."""
        past = hub._past
        assert past is not None
        here = past.ring.end
        await eventually(lambda: past.ring.end != here)
        cursor = (await (await live.connect(agent.token)).frame())["cursor"]
        ticket = await open_ticket(agent)
        await forget()

        socket = await listening(Live.connect, live, agent.token, since=cursor)

        assert (await socket.frame())["event"]["ticketId"] == ticket["id"]

    async def test_polling_may_be_ahead_of_what_the_service_has_told(
        self, live: Live, agent: Caller, door: Door
    ) -> None:
        """It reads the log itself, so the cursor may name an event that is still on its way to those who listen."""
        for _ in range(5):
            await open_ticket(agent)
            source = await listening(door, live, agent.token, since=await present(agent))
            after = await open_ticket(agent)

            assert [event["ticketId"] for event in events_of([await source.frame()])] == [after["id"]]
