"""Who hears of what, live and in replays from memory and from the log."""

from typing import Any

from bson import ObjectId

from tests.callers import Callers
from tests.factories.events import add_event, event_row
from tests.factories.tickets import open_ticket
from tests.live import Live
from tests.realtime.conftest import Forget
from tests.realtime.doors import Door, Source, events_of, listening
from tests.realtime.polling import present, told

# A version that the service itself does not come to.
INTERNAL = 1_000


async def heard(source: Source, marker: dict[str, Any]) -> list[tuple[str, str, int]]:
    """All that is told before the marker, a ticket's creation."""
    events = []
    while (event := events_of([await source.frame()])[0])["ticketId"] != marker["id"]:
        events.append(event)
    return told(events)


async def internal_event(ticket: dict[str, Any]) -> None:
    """Something among agents, about somebody's ticket."""
    whose: dict[str, Any] = {"_id": ObjectId(ticket["id"]), "requester": ObjectId(ticket["requester"])}
    await add_event(event_row(internal=True, version=INTERNAL, **whose))


class TestCustomers:
    async def test_hear_of_their_own_tickets_alone_deletion_included(
        self, live: Live, callers: Callers, door: Door
    ) -> None:
        source = await listening(door, live, callers.customer.token)

        expected = await self.what_happens(callers)

        assert await heard(source, await open_ticket(callers.customer)) == expected

    async def test_replay_the_same(self, live: Live, callers: Callers, door: Door, forget: Forget) -> None:
        start = await present(callers.agent)
        expected = await self.what_happens(callers)
        await forget()

        source = await listening(door, live, callers.customer.token, since=start)

        assert await heard(source, await open_ticket(callers.customer)) == expected

    async def what_happens(self, callers: Callers) -> list[tuple[str, str, int]]:
        """To tickets of several people; answers what of it is for the customer."""
        mine = await open_ticket(callers.customer)
        others = await open_ticket(callers.other_customer)
        await open_ticket(callers.agent)
        watched = await open_ticket(callers.agent, watchers=[callers.customer.user_id])
        for_me = await open_ticket(callers.agent, requester=callers.customer.user_id)
        await internal_event(mine)
        await internal_event(others)
        for ticket in (others, mine, watched):
            await callers.admin.delete(f"/api/tickets/{ticket['id']}")
        await callers.admin.post(f"/api/tickets/{others['id']}/restore")
        return [
            (mine["id"], "ticket.created", 1),
            (for_me["id"], "ticket.created", 1),
            (mine["id"], "ticket.deleted", 2),
        ]


class TestAgents:
    async def test_hear_of_everything(self, live: Live, callers: Callers, door: Door) -> None:
        source = await listening(door, live, callers.agent.token)
        mine = await open_ticket(callers.customer)
        await internal_event(mine)
        await callers.admin.delete(f"/api/tickets/{mine['id']}")

        events = events_of(await source.frames(3))

        assert told(events) == [
            (mine["id"], "ticket.created", 1),
            (mine["id"], "ticket.updated", INTERNAL),
            (mine["id"], "ticket.deleted", 2),
        ]
        assert [event["internal"] for event in events] == [False, True, False]

    async def test_replay_everything(self, live: Live, callers: Callers, door: Door, forget: Forget) -> None:
        start = await present(callers.agent)
        tickets = [await open_ticket(who) for who in (callers.customer, callers.other_customer, callers.admin)]
        await internal_event(tickets[0])
        await forget()

        source = await listening(door, live, callers.agent.token, since=start)

        assert told(events_of(await source.frames(4))) == [
            *((ticket["id"], "ticket.created", 1) for ticket in tickets),
            (tickets[0]["id"], "ticket.updated", INTERNAL),
        ]


class TestHandover:
    """A ticket passes from one customer to another."""

    async def hand_over(self, callers: Callers, former: Source | None = None) -> dict[str, Any]:
        """Answers the ticket, which has three events.

        `former` hears of its creation first: whoever reads on in the ring a moment late is told by whose it is then.
        """
        ticket = await open_ticket(callers.customer)
        if former is not None:
            assert told(events_of(await former.frames(1))) == [(ticket["id"], "ticket.created", 1)]
        for patch in ({"requester": callers.other_customer.user_id}, {"title": "Not for the former one"}):
            answer = await callers.agent.patch(f"/api/tickets/{ticket['id']}", json=patch)
            assert answer.status_code == 200
        return ticket

    async def test_is_where_the_one_stops_to_hear_and_the_other_begins(
        self, live: Live, callers: Callers, door: Door
    ) -> None:
        former = await listening(door, live, callers.customer.token)
        present_one = await listening(door, live, callers.other_customer.token)
        agent = await listening(door, live, callers.agent.token)

        ticket = await self.hand_over(callers, former)

        ones = [(ticket["id"], "ticket.created", 1)]
        others = [(ticket["id"], "ticket.updated", version) for version in (2, 3)]
        assert await heard(former, await open_ticket(callers.customer)) == []
        assert await heard(present_one, await open_ticket(callers.other_customer)) == others
        assert told(events_of(await agent.frames(3))) == ones + others

    async def test_moves_the_whole_story_in_replays(
        self, live: Live, callers: Callers, door: Door, forget: Forget
    ) -> None:
        start = await present(callers.agent)
        ticket = await self.hand_over(callers)
        await forget()
        whole = [(ticket["id"], "ticket.created", 1), *((ticket["id"], "ticket.updated", n) for n in (2, 3))]

        former = await listening(door, live, callers.customer.token, since=start)
        present_one = await listening(door, live, callers.other_customer.token, since=start)
        agent = await listening(door, live, callers.agent.token, since=start)

        assert await heard(former, await open_ticket(callers.customer)) == []
        assert await heard(present_one, await open_ticket(callers.other_customer)) == whole
        assert told(events_of(await agent.frames(3))) == whole

    async def test_back_gives_it_back(self, live: Live, callers: Callers, door: Door, forget: Forget) -> None:
        start = await present(callers.agent)
        ticket = await self.hand_over(callers)
        await callers.agent.patch(f"/api/tickets/{ticket['id']}", json={"requester": callers.customer.user_id})
        await forget()

        source = await listening(door, live, callers.customer.token, since=start)
        other = await listening(door, live, callers.other_customer.token, since=start)

        assert await heard(source, await open_ticket(callers.customer)) == [
            (ticket["id"], "ticket.created", 1),
            *((ticket["id"], "ticket.updated", version) for version in (2, 3, 4)),
        ]
        assert await heard(other, await open_ticket(callers.other_customer)) == []

    async def test_to_nobody_leaves_it_to_the_agents(
        self, live: Live, callers: Callers, door: Door, forget: Forget
    ) -> None:
        start = await present(callers.agent)
        former = await listening(door, live, callers.customer.token)
        ticket = await open_ticket(callers.customer)
        assert told(events_of(await former.frames(1))) == [(ticket["id"], "ticket.created", 1)]
        answer = await callers.agent.patch(f"/api/tickets/{ticket['id']}", json={"requester": None})
        assert answer.status_code == 200
        await forget()

        replaying = await listening(door, live, callers.customer.token, since=start)

        marker = await open_ticket(callers.customer)
        assert await heard(former, marker) == []
        assert await heard(replaying, marker) == []
