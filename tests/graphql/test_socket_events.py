"""`subscription { ticketEvents }`: what every other stream tells, to the same ears, in the same order."""

import asyncio

import pytest
from bson import ObjectId

from app.events.catalog import EventType
from app.graphql.cost import MAX_COST
from app.graphql.socket import MAX_SUBSCRIPTIONS
from app.platform.metrics import EVENTS_DELIVERED
from app.realtime.hub import Hub
from tests.callers import Caller, Callers
from tests.conftest import settle
from tests.factories.tickets import open_ticket, ticket_row
from tests.graphql.asking import BODY, CREATE
from tests.graphql.conversation import Conversation
from tests.graphql.following import (
    FOLLOW,
    HEARD,
    WHOLE,
    a_story,
    as_elsewhere,
    change,
    forget,
    listener_of,
    log_event,
    polled,
    present,
    relayed,
    told,
)
from tests.live import Live

# With it, one event fills all buffers between here and a reader who does not read.
BIG = "x" * 1_000_000
BIG_FOLLOW = FOLLOW.replace("version", "version " + " ".join(f"a{number}: description" for number in range(12)))


class TestEvents:
    async def test_are_those_of_the_other_socket(self, live: Live, callers: Callers) -> None:
        streams = {}
        for name in HEARD:
            caller = callers.by_kind()[name]
            assert isinstance(caller, Caller)
            socket = await live.connect(caller.token)
            await socket.until("ready")
            conversation = await Conversation.begin(live, caller)
            await conversation.subscribe(WHOLE)
            await conversation.silence()
            streams[name] = (socket, conversation)

        await a_story(callers)

        for name, (socket, conversation) in streams.items():
            events = [frame["event"] for frame in await socket.frames(HEARD[name])]
            assert [as_elsewhere(event) for event in await conversation.events(HEARD[name])] == events
            await conversation.silence()

    @pytest.mark.parametrize("kind", ["customer", "other customer", "agent"])
    @pytest.mark.parametrize("is_at_hand", [True, False])
    async def test_that_were_missed_come_first(
        self, live: Live, callers: Callers, hub: Hub, kind: str, is_at_hand: bool
    ) -> None:
        caller = callers.by_kind()[kind]
        assert isinstance(caller, Caller)
        start = await present(caller)
        await a_story(callers)
        await settle(hub)
        missed = await polled(caller, start)
        if not is_at_hand:
            forget(hub)
        conversation = await Conversation.begin(live, caller)

        await conversation.subscribe(WHOLE, since=start)
        assert [as_elsewhere(event) for event in await conversation.events(len(missed))] == missed
        for number, event in enumerate(missed, 1):
            await conversation.subscribe(FOLLOW, "rest", since=event["cursor"])
            assert told(await conversation.events(len(missed) - number, "rest")) == told(missed[number:])
            await conversation.complete("rest")
        await conversation.silence()

        ticket = await open_ticket(callers.admin, requester=caller.user_id)
        assert told([await conversation.event()]) == [(ticket["id"], "ticket.created", 1)]

    async def test_begin_at_once(self, live: Live, customer: Caller) -> None:
        """What is changed by the next message is told already."""
        conversation = await Conversation.begin(live, customer)
        for _ in range(10):
            await conversation.subscribe(FOLLOW, "follower")
            await conversation.subscribe(CREATE, "mutation", ticketInput=BODY)

            frames = [await conversation.frame() for _ in range(3)]
            assert sorted(frame["id"] for frame in frames) == ["follower", "mutation", "mutation"]
            await conversation.complete("follower")

    async def test_of_long_ago_give_others_their_turn(self, live: Live, agent: Caller, hub: Hub) -> None:
        start = await present(agent)
        ticket = ticket_row()
        for version in range(1, 101):
            await log_event({**ticket, "version": version})
        await settle(hub)
        conversation = await Conversation.begin(live, agent)
        turns = 0

        async def take_turns() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        other = asyncio.create_task(take_turns())
        await conversation.subscribe(FOLLOW, since=start)
        assert [version for _, _, version in told(await conversation.events(100))] == list(range(1, 101))
        other.cancel()

        assert turns >= 100

    async def test_are_counted(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW)
        await conversation.silence()
        before = EVENTS_DELIVERED._value.get()
        await open_ticket(agent)
        await conversation.event()

        assert EVENTS_DELIVERED._value.get() == before + 1

    async def test_come_in_one_order_to_all_subscriptions(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        for operation in "abc":
            await conversation.subscribe(FOLLOW, operation)
        await conversation.silence()
        tickets = [await open_ticket(agent) for _ in range(5)]

        frames = [await conversation.frame() for _ in range(15)]
        for operation in "abc":
            events = [frame["payload"]["data"]["ticketEvents"] for frame in frames if frame["id"] == operation]
            assert told(events) == [(ticket["id"], "ticket.created", 1) for ticket in tickets]


class TestFilters:
    async def test_by_ticket_and_type(self, live: Live, callers: Callers, hub: Hub) -> None:
        agent, customer = callers.agent, callers.customer
        start = await present(agent)
        ticket, other = await open_ticket(customer), await open_ticket(customer)
        live_one = await Conversation.begin(live, agent)
        await live_one.subscribe(FOLLOW, ticketId=ticket["id"], types=["ticket.updated", "ticket.deleted"])
        await live_one.silence()
        for one in (other, ticket):
            await change(agent, one, title="Another")
            await change(agent, one, status="In Progress")
            await callers.admin.delete(f"/api/tickets/{one['id']}")
        await relayed(hub, ticket)
        everything = [(ticket["id"], "ticket.created", 1), (ticket["id"], "ticket.updated", 2)]
        everything += [(ticket["id"], "ticket.status_changed", 3), (ticket["id"], "ticket.deleted", 4)]

        assert told(await live_one.events(2)) == [everything[1], everything[3]]
        await live_one.silence()
        for given, expected in (
            ({"ticketId": ticket["id"]}, everything),
            ({"ticketId": ticket["id"].upper(), "types": None}, everything),
            ({"ticketId": ticket["id"], "types": ["ticket.status_changed"]}, everything[2:3]),
            ({"ticketId": ticket["id"], "types": list(EventType)}, everything),
            ({"ticketId": str(ObjectId())}, []),
        ):
            await live_one.subscribe(FOLLOW, "replay", since=start, **given)
            assert told(await live_one.events(len(expected), "replay")) == expected
            await live_one.complete("replay")
        await live_one.silence()

    async def test_by_a_ticket_of_somebody_else_tells_nothing(self, live: Live, callers: Callers, hub: Hub) -> None:
        start = await present(callers.customer)
        ticket = await open_ticket(callers.other_customer)
        await relayed(hub, ticket)
        conversation = await Conversation.begin(live, callers.customer)

        await conversation.subscribe(FOLLOW, since=start, ticketId=ticket["id"])
        await change(callers.other_customer, ticket, title="Another")
        await relayed(hub, ticket)

        await conversation.silence()

    async def test_null_counts_as_absent(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        await conversation.subscribe(FOLLOW, since=None, ticketId=None, types=None)
        await conversation.silence()

        ticket = await open_ticket(agent)
        assert told([await conversation.event()]) == [(ticket["id"], "ticket.created", 1)]

    async def test_fields_are_left_out_by_variables(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        text = """subscription ($all: Boolean!) {
          ticketEvents { type @include(if: $all) ticket { title @skip(if: $all) ...f @include(if: $all) } }
        }
        fragment f on Ticket { requester { role } }"""
        await conversation.subscribe(text, "all", all=True)
        await conversation.subscribe(text, "some", all=False)
        await conversation.silence()

        ticket = await open_ticket(agent)

        frames = [await conversation.frame() for _ in range(2)]
        assert {frame["id"]: frame["payload"]["data"]["ticketEvents"] for frame in frames} == {
            "all": {"type": "ticket.created", "ticket": {"requester": {"role": "Agent"}}},
            "some": {"ticket": {"title": ticket["title"]}},
        }


class TestSeveral:
    async def test_end_one_by_one(self, live: Live, agent: Caller, hub: Hub) -> None:
        conversation = await Conversation.begin(live, agent)
        for operation in "abc":
            await conversation.subscribe(FOLLOW, operation)
        await conversation.silence()
        listener = listener_of(hub, agent)
        assert len(listener.feeds) == 3

        for operation in "ac":
            await conversation.complete(operation)
        await conversation.silence()
        assert len(listener.feeds) == 1
        assert sum(map(len, hub._feeds.values())) == 1

        await open_ticket(agent)
        assert (await conversation.event("b"))["type"] == "ticket.created"
        await conversation.silence()

    async def test_may_be_20(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        for number in range(MAX_SUBSCRIPTIONS):
            await conversation.subscribe(FOLLOW, str(number))
        for _ in range(2):
            await conversation.subscribe(FOLLOW, "more")
            assert (await conversation.refusal("more"))["code"] == "too_many_requests"

        assert "data" in await conversation.answer("{ me { id } }", "query")
        await open_ticket(agent)
        frames = [await conversation.frame() for _ in range(MAX_SUBSCRIPTIONS)]
        assert {(frame["type"], frame["id"]) for frame in frames} == {
            ("next", str(number)) for number in range(MAX_SUBSCRIPTIONS)
        }
        await conversation.complete("7")
        await conversation.subscribe(FOLLOW, "more")
        await conversation.silence()

    async def test_may_together_cost_as_much_as_one_query(self, live: Live, agent: Caller) -> None:
        conversation = await Conversation.begin(live, agent)
        text = "subscription { ticketEvents { ticket { history(first: 100) { edges { node { %s } } } } } }"
        dear = text % " ".join(f"a{number}: id" for number in range(30))
        await conversation.subscribe(dear, "0")
        await open_ticket(agent)
        cost = (await conversation.next("0"))["extensions"]["cost"]
        room = MAX_COST // cost
        assert 1 < room < MAX_SUBSCRIPTIONS

        for number in range(1, room):
            await conversation.subscribe(dear, str(number))
        await conversation.subscribe(dear, "more")
        extensions = await conversation.refusal("more")
        assert extensions["code"] == "graphql_too_costly"
        assert (extensions["cost"], extensions["maxCost"]) == (cost * (room + 1), MAX_COST)

        await conversation.complete("0")
        await conversation.subscribe(dear, "more")
        await conversation.silence()
