"""Random interleavings of what happens and who comes and goes: each hears exactly what they should, in order, once."""

import asyncio
import random
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from typing import Any

import pytest
from bson import ObjectId

from app.accounts.roles import Role
from app.events.catalog import EventType
from app.events.replay import Logged
from app.platform.wire import Row
from app.realtime.feed import Feed, Resync
from app.realtime.protocol import Options
from app.realtime.ring import Broadcast
from tests.callers import Caller, Callers
from tests.factories.events import add_event, event_row
from tests.factories.tickets import add_tickets, ticket_row
from tests.live import eventually
from tests.realtime.relaying import CURSORS, Relay

STEPS = 200
# How often of each kind.
KINDS = {"happen": 8, "follow": 6, "come or go": 4, "pause or go on": 4, "lose the place": 0.1}
TYPES = [EventType.TICKET_UPDATED, EventType.TICKET_ASSIGNED]


@dataclass
class Story:
    """What a client has heard since a cursor, up to the next `resync`."""

    since: str
    heard: list[ObjectId] = field(default_factory=list)


class Client:
    """Somebody who follows, drops out at any moment, and comes back with the last cursor that they have seen."""

    def __init__(self, relay: Relay, who: Caller, wishes: Row, chance: random.Random) -> None:
        self.relay = relay
        self.who = who
        self.wishes = wishes
        self.chance = chance
        self.stories: list[Story] = []
        self.cursor: str | None = None
        self.is_there = False
        self.is_reading = True

    async def come(self) -> None:
        self.listener = await self.relay.enter(self.who)
        # As a WebSocket, or as an event stream.
        sink = self.take if self.chance.random() < 0.5 else None
        options = Options.parse(self.wishes | ({"since": self.cursor} if self.cursor else {}))
        feed, cursor, resync = await self.relay.hub.open_feed(self.listener, options, sink)
        assert resync is None
        if self.cursor is None:
            self.begin(cursor)
        self.is_there = True
        self.reading = asyncio.create_task(self.read(feed))

    async def leave(self) -> None:
        self.is_there = False
        self.reading.cancel()
        self.relay.hub.leave(self.listener)
        with suppress(asyncio.CancelledError):
            await self.reading

    def begin(self, cursor: str) -> None:
        self.stories.append(Story(cursor))
        self.cursor = cursor

    def hear(self, item: Broadcast) -> None:
        self.stories[-1].heard.append(item.row["_id"])
        self.cursor = item.cursor

    def take(self, item: Broadcast) -> bool:
        if self.is_reading:
            self.hear(item)
        return self.is_reading

    async def read(self, feed: Feed) -> None:
        while True:
            news = await feed.next()
            if isinstance(news, Resync):
                self.begin(news.cursor)
            else:
                for item in news:
                    self.hear(item)
            await eventually(lambda: self.is_reading or not self.is_there)

    def may_hear(self, row: Row) -> bool:
        """The rule, said once more."""
        actor, wishes = self.who.actor, self.wishes
        is_theirs = row["ticket"]["requester"] == actor.id and not row["internal"]
        return (
            (is_theirs or actor.role is not Role.CUSTOMER)
            and (row["type"] in wishes.get("types", TYPES))
            and ("ticketId" not in wishes or str(row["ticketId"]) == wishes["ticketId"])
        )


class World:
    """Tickets, what happens to them, and clients of several kinds."""

    def __init__(self, callers: Callers, seed: int) -> None:
        self.chance = random.Random(seed)
        self.relay = Relay()
        owners = [callers.customer, callers.customer, callers.other_customer, None]
        self.tickets = {ObjectId(): owner.actor.id if owner else None for owner in owners}
        self.version = 0
        one = str(next(iter(self.tickets)))
        wishes: list[Row] = [{}, {"ticketId": one}, {"types": ["ticket.assigned"]}]
        everybody = [callers.customer, callers.other_customer, callers.agent]
        self.clients = [Client(self.relay, who, wish, self.chance) for who in everybody for wish in wishes]

    async def start(self) -> None:
        await add_tickets(*(ticket_row(_id=key, requester=requester) for key, requester in self.tickets.items()))
        await add_event()
        await self.relay.start()
        self.start_position = self.relay.position
        for client in self.clients:
            await client.come()

    async def step(self) -> None:
        [kind] = self.chance.choices(list(KINDS), list(KINDS.values()))
        match kind:
            case "happen":
                for _ in range(self.chance.randrange(1, 4)):
                    await self.happen()
            case "follow":
                await self.relay.follow(self.chance.choice([1, 2, 100]))
            case "come or go":
                client = self.chance.choice(self.clients)
                await (client.leave() if client.is_there else client.come())
            case "pause or go on":
                client = self.chance.choice(self.clients)
                client.is_reading = not client.is_reading
            case "lose the place":
                await self.relay.start()
        for _ in range(self.chance.randrange(4)):
            await asyncio.sleep(0)

    async def happen(self) -> None:
        self.version += 1
        ticket_id = self.chance.choice(list(self.tickets))
        ticket: dict[str, Any] = {"_id": ticket_id, "version": self.version, "requester": self.tickets[ticket_id]}
        internal = self.chance.random() < 0.2
        await add_event(event_row(self.chance.choice(TYPES), internal=internal, **ticket))

    async def end(self) -> None:
        """Everybody is there and reads, and all has been told."""
        for client in self.clients:
            client.is_reading = True
            if not client.is_there:
                await client.come()
        await self.relay.follow()

    async def log(self) -> list[Logged]:
        return (await self.relay.reader.after(self.start_position, at_most=10_000)).events


def reaches(heard: list[ObjectId], count: int) -> bool:
    return len(heard) >= count


@pytest.mark.filterwarnings("ignore:unclosed:ResourceWarning")
@pytest.mark.parametrize("seed", [1, 2, None])
async def test_everybody_hears_what_they_should_in_order_and_once(
    callers: Callers, monkeypatch: pytest.MonkeyPatch, seed: int | None
) -> None:
    monkeypatch.setattr("app.realtime.ring.MAX_EVENTS", 8)
    monkeypatch.setattr("app.realtime.feed.SCAN", 3)
    monkeypatch.setattr("app.realtime.feed.PIECE_BYTES", 2_000)
    seed = seed or random.randrange(2**32)
    print("seed", seed)  # noqa: T201 - who wants to see it again needs it
    world = World(callers, seed)
    await world.start()
    for _ in range(STEPS):
        await world.step()
    await world.end()

    log = await world.log()
    log_id = await world.relay.reader.log_id()

    def behind(client: Client, cursor: str) -> list[ObjectId]:
        position = CURSORS.decode(log_id, cursor)
        assert position is not None
        return [one.row["_id"] for one in log if one.position.token > position.token and client.may_hear(one.row)]

    for client in world.clients:
        last = client.stories[-1]
        expected = behind(client, last.since)
        await eventually(partial(reaches, last.heard, len(expected)))
        await client.leave()
        assert last.heard == expected
        for story, following in pairwise(client.stories):
            assert story.heard == behind(client, story.since)[: len(story.heard)]
            assert set(story.heard).isdisjoint(behind(client, following.since))
    assert sum(len(story.heard) for client in world.clients for story in client.stories) > STEPS
