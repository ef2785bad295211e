"""`GET /api/events`: what happened since, in commit order, as far as it is for the caller's ears."""

from dataclasses import replace

import pytest
from bson import ObjectId
from pymongo.asynchronous.client_session import AsyncClientSession

from app.accounts.tokens import derive_key
from app.events.cursor import Cursors, LogPosition
from app.events.log import Event
from app.events.replay import EventReader
from app.platform.mongo import collection_of
from tests.callers import Caller, Callers
from tests.conftest import SECRET, Started
from tests.factories.tickets import open_ticket
from tests.realtime.polling import news, present, told, walked

CURSORS = Cursors(derive_key(SECRET, "event-cursor"))


class TestOrder:
    async def test_without_since_there_is_only_the_present(self, agent: Caller) -> None:
        await open_ticket(agent)

        first = await news(agent)
        assert first["items"] == []
        assert (await news(agent, first["nextCursor"]))["items"] == []

    async def test_each_change_is_told_once_with_its_own_cursor(self, agent: Caller, customer: Caller) -> None:
        start = await present(agent)
        ticket = await open_ticket(customer)
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "In Progress"})
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"status": "In Progress"})

        items = (await news(agent, start))["items"]
        assert told(items) == [(ticket["id"], "ticket.created", 1), (ticket["id"], "ticket.status_changed", 2)]
        history = (await agent.get(f"/api/tickets/{ticket['id']}/events")).json()["items"]
        assert [{**item, "cursor": None} for item in items] == history
        assert (await news(agent, items[0]["cursor"]))["items"] == items[1:]
        assert (await news(agent, items[1]["cursor"]))["items"] == []

    @pytest.mark.parametrize("limit", [1, 3, 100])
    async def test_pages_leave_nothing_out(self, agent: Caller, customer: Caller, limit: int) -> None:
        start = await present(agent)
        tickets = [await open_ticket(customer) for _ in range(4)]
        ids = [ticket["id"] for ticket in tickets]
        await agent.post("/api/tickets/bulk", json={"ids": ids, "patch": {"priority": "Low"}})

        for caller in (agent, customer):
            assert told(await walked(caller, start, limit)) == [
                *((ticket_id, "ticket.created", 1) for ticket_id in ids),
                *((ticket_id, "ticket.updated", 2) for ticket_id in ids),
            ]

    async def test_a_transaction_that_began_later_and_ended_earlier_comes_first(self, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        start = await present(agent)
        events = collection_of(Event)
        client = events.database.client

        async def insert(version: int, session: AsyncClientSession) -> None:
            row = await events.find_one({"ticketId": ObjectId(ticket["id"]), "version": 1})
            assert row is not None
            changed = {**row, "_id": ObjectId(), "version": version, "ticket": {**row["ticket"], "version": version}}
            await events.insert_one(changed, session=session)

        async with client.start_session() as first, client.start_session() as second:
            await first.start_transaction()
            await insert(2, first)
            await second.start_transaction()
            await insert(3, second)
            await second.commit_transaction()
            between = await news(agent, start)
            await first.commit_transaction()

        assert [version for _, _, version in told(between["items"])] == [3]
        assert [version for _, _, version in told((await news(agent, between["nextCursor"]))["items"])] == [2]
        assert [version for _, _, version in told((await news(agent, start))["items"])] == [3, 2]


class TestAudience:
    async def test_customers_hear_of_their_own_tickets_only(self, callers: Callers) -> None:
        start = await present(callers.customer)
        mine = await open_ticket(callers.customer)
        await open_ticket(callers.other_customer)
        await callers.admin.delete(f"/api/tickets/{mine['id']}")

        assert told((await news(callers.customer, start))["items"]) == [
            (mine["id"], "ticket.created", 1),
            (mine["id"], "ticket.deleted", 2),
        ]
        assert len((await news(callers.agent, start))["items"]) == 3

    async def test_internal_events_are_not_for_customers(self, agent: Caller, customer: Caller) -> None:
        start = await present(customer)
        ticket = await open_ticket(customer)
        internal = {"$set": {"internal": True}}
        await collection_of(Event).update_one({"ticketId": ObjectId(ticket["id"])}, internal)
        row = await collection_of(Event).find_one({"ticketId": ObjectId(ticket["id"])})
        assert row is not None
        await collection_of(Event).insert_one({**row, "_id": ObjectId(), "version": 2})

        assert [event["internal"] for event in (await news(agent, start))["items"]] == [False, True]
        assert [event["internal"] for event in (await news(customer, start))["items"]] == [False]

    async def test_a_former_requester_replays_nothing(self, callers: Callers) -> None:
        start = await present(callers.customer)
        ticket = await open_ticket(callers.customer)
        body = {"requester": callers.other_customer.user_id}
        await callers.agent.patch(f"/api/tickets/{ticket['id']}", json=body)

        assert (await news(callers.customer, start))["items"] == []
        heard = (await news(callers.other_customer, start))["items"]
        assert [version for _, _, version in told(heard)] == [1, 2]

    async def test_the_cursor_passes_over_what_is_not_heard(self, callers: Callers) -> None:
        start = await present(callers.customer)
        await open_ticket(callers.other_customer)
        after = (await news(callers.customer, start))["nextCursor"]
        mine = await open_ticket(callers.customer)

        assert after != start
        assert told((await news(callers.customer, after))["items"]) == [(mine["id"], "ticket.created", 1)]


class TestResync:
    async def lost(self, caller: Caller, cursor: str) -> None:
        """The cursor is refused, and the one that comes with the refusal is good."""
        answer = await caller.get("/api/events", params={"since": cursor})
        assert (answer.status_code, answer.json()["code"]) == (410, "resync_required")

        ticket = await open_ticket(caller)
        items = (await news(caller, answer.json()["cursor"]))["items"]
        assert told(items) == [(ticket["id"], "ticket.created", 1)]

    async def position(self, caller: Caller) -> LogPosition:
        await open_ticket(caller)
        position = CURSORS.decode(await EventReader(CURSORS).log_id(), await present(caller))
        assert position is not None
        return position

    async def test_forged(self, agent: Caller) -> None:
        cursor = await present(agent)
        for forged in (cursor[:-4] + "AAAA", cursor[4:], "garbage", "é", "A" * 3000):
            await self.lost(agent, forged)

    async def test_from_the_future(self, agent: Caller) -> None:
        position = await self.position(agent)
        token = position.token
        seconds = int.from_bytes(token[1:5]) + 3600
        coming = replace(position, token=token[:1] + seconds.to_bytes(4) + token[5:])

        await self.lost(agent, CURSORS.encode(await EventReader(CURSORS).log_id(), coming))

    async def test_from_a_past_that_was_undone(self, agent: Caller) -> None:
        position = replace(await self.position(agent), known_event=ObjectId())

        await self.lost(agent, CURSORS.encode(await EventReader(CURSORS).log_id(), position))

    async def test_from_another_database(self, agent: Caller) -> None:
        cursor = await present(agent)
        await collection_of(Event).rename("events_elsewhere")
        try:
            await collection_of(Event).insert_one({"_id": ObjectId(), "ticketId": ObjectId(), "version": 1})
            answer = await agent.get("/api/events", params={"since": cursor})
        finally:
            await collection_of(Event).drop()
            await collection_of(Event).database["events_elsewhere"].rename(Event.Settings.name)

        assert (answer.status_code, answer.json()["code"]) == (410, "resync_required")


async def test_while_there_is_no_log_the_database_is_away(app: Started, agent: Caller) -> None:
    """As in the middle of a restore."""
    reader: EventReader = app.state["events"]
    since = await present(agent)
    events = collection_of(Event)
    elsewhere = events.database["events_elsewhere"]
    await events.rename(elsewhere.name)
    try:
        reader.doubt_log()  # as the follower does as soon as it hears of that
        answers = [await agent.get("/api/events"), await agent.get("/api/events", params={"since": since})]
        asked = await agent.post("/graphql", json={"query": "{ eventCursor }"})
    finally:
        await elsewhere.rename(events.name)

    assert [(answer.status_code, answer.json()["code"]) for answer in answers] == [(503, "database_unavailable")] * 2
    assert asked.json()["errors"][0]["extensions"]["code"] == "database_unavailable"
    assert (await agent.get("/api/events", params={"since": since})).status_code == 410


@pytest.mark.parametrize("parameter", ["limit=0", "limit=x", "cursor=x", "sinse=x"])
async def test_wrong_parameters_are_refused(agent: Caller, parameter: str) -> None:
    answer = await agent.get(f"/api/events?{parameter}")

    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")
