"""A change of role holds for open streams from the event on that comes after it."""

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from app.accounts.documents import User
from app.accounts.roles import Role
from app.events.log import Event
from app.platform.mongo import collection_of
from tests.callers import Caller, Callers
from tests.factories.events import event_row
from tests.factories.tickets import open_ticket
from tests.live import Live
from tests.realtime.doors import Door, events_of, listening
from tests.realtime.polling import present, told, walked

Change = Callable[[Callers, Caller, Role], Awaitable[None]]


async def by_an_admin(callers: Callers, who: Caller, role: Role) -> None:
    answer = await callers.admin.patch(f"/api/users/{who.user_id}", json={"role": role})
    assert answer.status_code == 200


async def by_another_process(_callers: Callers, who: Caller, role: Role) -> None:
    await collection_of(User).update_one({"_id": who.actor.id}, {"$set": {"role": role}})


@pytest.mark.parametrize("change", [by_an_admin, by_another_process])
class TestFromTheNextEventOn:
    async def test_a_customer_who_becomes_an_agent_hears_all(
        self, live: Live, callers: Callers, door: Door, change: Change
    ) -> None:
        customer, other = callers.customer, callers.other_customer
        source = await listening(door, live, customer.token)
        await open_ticket(other)
        mine = await open_ticket(customer)

        await change(callers, customer, Role.AGENT)
        later = await open_ticket(other), await open_ticket(customer), await open_ticket(other)

        heard = [event["ticketId"] for event in events_of(await source.frames(4))]
        assert heard == [ticket["id"] for ticket in (mine, *later)]

    async def test_an_agent_who_becomes_a_customer_hears_of_their_own(
        self, live: Live, callers: Callers, door: Door, change: Change
    ) -> None:
        agent, customer = callers.agent, callers.customer
        source = await listening(door, live, agent.token)
        before = await open_ticket(customer), await open_ticket(agent)

        await change(callers, agent, Role.CUSTOMER)
        await open_ticket(customer)
        await callers.admin.patch(f"/api/tickets/{before[0]['id']}", json={"title": "Another"})
        mine = await open_ticket(agent)

        heard = [event["ticketId"] for event in events_of(await source.frames(3))]
        assert heard == [ticket["id"] for ticket in (*before, mine)]

    async def test_an_agent_who_becomes_an_admin_notices_nothing(
        self, live: Live, callers: Callers, door: Door, change: Change
    ) -> None:
        source = await listening(door, live, callers.agent.token)

        await change(callers, callers.agent, Role.ADMIN)

        tickets = [await open_ticket(callers.customer) for _ in range(2)]
        heard = [event["ticketId"] for event in events_of(await source.frames(2))]
        assert heard == [ticket["id"] for ticket in tickets]

    async def test_a_replay_is_by_the_new_role(self, live: Live, callers: Callers, door: Door, change: Change) -> None:
        agent, customer = callers.agent, callers.customer
        start = await present(agent)
        tickets = [await open_ticket(customer), await open_ticket(agent), await open_ticket(customer)]

        await change(callers, agent, Role.CUSTOMER)
        await change(callers, customer, Role.AGENT)

        for who, expected in ((agent, tickets[1:2]), (customer, tickets)):
            source = await listening(door, live, who.token, since=start)
            heard = [event["ticketId"] for event in events_of(await source.frames(len(expected)))]
            assert heard == [ticket["id"] for ticket in expected]


async def test_holds_to_the_event_while_others_write(live: Live, callers: Callers, door: Door) -> None:
    """The role changes in one transaction with an event, so the log itself tells which came before and which after."""
    customer, admin = callers.customer, callers.admin
    start = await present(admin)
    source = await listening(door, live, customer.token)
    marks = []

    async def write() -> None:
        for _ in range(15):
            await open_ticket(callers.other_customer)

    async def change_roles() -> None:
        for role in (Role.AGENT, Role.CUSTOMER, Role.AGENT, Role.CUSTOMER):
            await open_ticket(admin)
            mark = event_row(version=1, requester=customer.actor.id)
            client = collection_of(User).database.client
            async with client.start_session() as session, await session.start_transaction():
                await collection_of(User).update_one(
                    {"_id": customer.actor.id}, {"$set": {"role": role}}, session=session
                )
                await collection_of(Event).insert_one(mark, session=session)
            marks.append(str(mark["_id"]))

    await asyncio.gather(write(), write(), change_roles())
    last = await open_ticket(customer)

    expected = []
    may_hear_all = False
    for item in await walked(admin, start):
        if item["id"] in marks:
            may_hear_all = not may_hear_all
        if may_hear_all or item["ticket"]["requester"] == customer.user_id:
            expected.append(item)
    heard = [(await source.frame())["event"] for _ in expected]
    assert told(heard) == told(expected)
    assert heard[-1]["ticketId"] == last["id"]
