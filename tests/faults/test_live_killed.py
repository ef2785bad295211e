"""While a process and the database die, each subscriber is told all that is for it, in order, once; figures hold."""

import asyncio
from collections import Counter
from collections.abc import Sequence

from app.accounts.roles import Role
from tests.faults.changes import Writer
from tests.faults.conftest import connected
from tests.faults.figures import check_figures
from tests.faults.live import Audience, Event, Subscriber, present, walked
from tests.services import PATIENCE_S, Mongod, Person, Rows, Service, person, until

# 2,000 changes and 200 subscribers were tried, too.
CHANGES = 400
WRITERS = 8
# Each person with each wish.
SUBSCRIBERS = 52
AGENTS = 4
CUSTOMERS = 8
# Events that a subscriber hears on average before it drops out.
STAY = 40


def subscribers_of(people: Sequence[Person], ticket_id: str, since: str) -> list[Subscriber]:
    """All follow from the same place, each third by a stream of events, half of them with a filter."""
    wishes = [{}, {"types": "ticket.created,ticket.deleted"}, {}, {"ticketId": ticket_id}]
    return [
        Subscriber(
            people[number % len(people)],
            "stream" if number % 3 == 0 else "websocket",
            wishes[number // len(people) % len(wishes)],
            since=since,
            stay=STAY,
        )
        for number in range(SUBSCRIBERS)
    ]


def wanted(events: Sequence[Event], options: dict[str, str]) -> list[Event]:
    types = options.get("types", "").split(",")
    return [
        event
        for event in events
        if ("types" not in options or event["type"] in types)
        and event["ticketId"] == options.get("ticketId", event["ticketId"])
    ]


async def test_all_is_told_to_all(mongod: Mongod, twins: tuple[Service, Service], twin_rows: Rows) -> None:
    admin = person(twin_rows, Role.ADMIN)
    customers = [person(twin_rows, Role.CUSTOMER) for _ in range(CUSTOMERS)]
    people = [admin, *(person(twin_rows, Role.AGENT) for _ in range(AGENTS)), *customers]
    writers = [Writer(twins, admin, customers) for _ in range(WRITERS)]
    acknowledged: Counter[str] = Counter()
    tickets: list[str] = []
    async with connected(twins[0], {}) as client:
        start = await present(client, admin.headers)
        await writers[0].write(tickets, acknowledged, WRITERS)
        subscribers = subscribers_of(people, tickets[0], start)
        async with Audience(subscribers, twins) as audience:
            writing = asyncio.gather(*(writer.write(tickets, acknowledged, CHANGES) for writer in writers))
            await audience.until(lambda: acknowledged.total() > CHANGES // 4)
            twins[1].kill()
            twins[1].launch()
            await until(twins[1].is_ready)
            await audience.until(lambda: acknowledged.total() > CHANGES // 2)
            await asyncio.to_thread(mongod.kill)
            await asyncio.to_thread(mongod.start)
            await asyncio.wait_for(writing, 2 * PATIENCE_S)

            walks = await asyncio.gather(*(walked(client, start, one.headers) for one in people))
            events = {one.id: walk for one, walk in zip(people, walks, strict=True)}
            expected = [wanted(events[one.who.id], one.options) for one in subscribers]
            await audience.until(
                lambda: all(len(one.told) >= len(theirs) for one, theirs in zip(subscribers, expected, strict=True))
            )
        client.headers.update(admin.headers)
        await check_figures(client, twins, twin_rows)

    assert len(events[admin.id]) >= CHANGES
    for one, theirs in zip(subscribers, expected, strict=True):
        assert one.told == theirs, one
        assert one.resyncs == 0, one
    ends: Counter[str] = sum((one.ends for one in subscribers), Counter())
    assert ends["left"] > SUBSCRIBERS, ends
    # Nobody was refused or sent away, but by a process without a database.
    assert {end for end in ends if end.startswith(("close", "status"))} <= {"close None", "close 1013", "status 503"}
