"""Reads that are shared: everybody gets what they may see, as it is."""

import asyncio
from typing import Any

from bson import ObjectId
from httpx import AsyncClient

from app.accounts.documents import Session
from app.platform.mongo import collection_of
from app.platform.wire import Row
from app.tickets.documents import Ticket
from app.tickets.schemas import TicketList, TicketOut
from tests.callers import Caller, Callers
from tests.conftest import COMMANDS
from tests.factories.tickets import add_tickets, open_ticket, ticket_row
from tests.graphql.asking import post

QUERY = "{ tickets { id title requester { username } } }"
TIMES = 6


async def titles(client: AsyncClient, path: str = "/api/tickets") -> set[str]:
    answer = await client.get(path)
    assert answer.status_code == 200, answer.text
    return {ticket["title"] for ticket in answer.json()["items"]}


async def graphql_titles(client: AsyncClient) -> set[str]:
    answer = await post(client, QUERY)
    return {ticket["title"] for ticket in answer.json()["data"]["tickets"]}


class TestRights:
    async def test_callers_of_all_kinds_at_once_get_their_own(self, callers: Callers) -> None:
        people = {"customer": callers.customer, "other": callers.other_customer}
        for name, person in people.items():
            await open_ticket(person, title=name)
        expected = {
            "customer": {"customer"},
            "other": {"other"},
            "agent": {"customer", "other"},
            "admin": {"customer", "other"},
        }
        people |= {"agent": callers.agent, "admin": callers.admin}

        for read in (titles, graphql_titles):
            for _ in range(3):  # the later times, answers that are kept may be given
                asked = [name for _ in range(TIMES) for name in people]
                answers = await asyncio.gather(*(read(people[name]) for name in asked))
                assert answers == [expected[name] for name in asked]

    async def test_me_is_everybody_s_own(self, callers: Callers) -> None:
        for name, person in (("a", callers.agent), ("b", callers.admin)):
            await open_ticket(person, title=name, assignedTo=person.user_id)

        for _ in range(3):
            asked = [(callers.agent, {"a"}), (callers.admin, {"b"})] * TIMES
            path = "/api/tickets?assignedTo=me"
            answers = await asyncio.gather(*(titles(person, path) for person, _ in asked))
            assert answers == [mine for _, mine in asked]

    async def test_a_single_ticket_is_shared_with_nobody_who_may_not_see_it(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.customer)
        path = f"/api/tickets/{ticket['id']}"

        asked = [(callers.customer, 200), (callers.other_customer, 404), (callers.agent, 200)] * TIMES
        answers = await asyncio.gather(*(person.get(path) for person, _ in asked))

        assert [answer.status_code for answer in answers] == [status for _, status in asked]

    async def test_who_may_not_call_hears_that_and_nothing_of_the_ticket(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.agent)
        await collection_of(Session).delete_many({"userId": ObjectId(callers.agent.user_id)})

        for reference in (ticket["id"], str(ticket["number"]), str(ObjectId()), "nonsense"):
            answer = await callers.agent.get(f"/api/tickets/{reference}")

            assert (answer.status_code, answer.json()["code"]) == (403, "invalid_token")

    async def test_strangers_cost_the_database_nothing(self, callers: Callers) -> None:
        ticket = await open_ticket(callers.agent)
        path = f"/api/tickets/{ticket['id']}"
        COMMANDS.names.clear()

        for header, status in (("", 401), ("Bearer forged", 403)):
            assert (await callers.agent.get(path, headers={"Authorization": header})).status_code == status
        assert COMMANDS.names == []

    async def test_an_error_names_each_one_s_own_request(self, agent: Caller) -> None:
        query = f'{{ ticket(id: "{ObjectId()}") {{ id }} }}'

        answers = await asyncio.gather(*(post(agent, query) for _ in range(TIMES)))

        for answer in answers:
            [error] = answer.json()["errors"]
            assert error["extensions"]["requestId"] == answer.headers["X-Request-ID"]


class TestCurrent:
    async def test_what_was_written_is_in_every_list_that_is_asked_for_after_it(self, agent: Caller) -> None:
        """By REST, by GraphQL, and by somebody else who has nothing to do with this process."""
        for number in range(8):
            await open_ticket(agent, title=f"rest {number}")
            await add_tickets(ticket_row(title=f"shell {number}"))
            expected = {f"{how} {n}" for n in range(number + 1) for how in ("rest", "shell")}

            answers = await asyncio.gather(*(read(agent) for read in (titles, graphql_titles) * TIMES))

            assert answers == [expected] * 2 * TIMES

    async def test_a_ticket_that_is_deleted_is_gone_for_all(self, admin: Caller, agent: Caller) -> None:
        ticket = await open_ticket(agent)
        await asyncio.gather(*(titles(agent) for _ in range(3 * TIMES)))
        await admin.delete(f"/api/tickets/{ticket['id']}")

        assert await asyncio.gather(*(titles(agent) for _ in range(TIMES))) == [set()] * TIMES


class TestCost:
    async def test_many_who_ask_at_once_cost_a_few_commands(self, agent: Caller) -> None:
        await open_ticket(agent)
        ticket = (await agent.get("/api/tickets")).json()["items"][0]
        for path in ("/api/tickets", f"/api/tickets/{ticket['id']}"):
            COMMANDS.names.clear()

            answers = await asyncio.gather(*(agent.get(path) for _ in range(40)))

            assert {answer.text for answer in answers} == {answers[0].text}
            assert len(COMMANDS.names) <= 12  # 80 if each asked for itself


class TestModels:
    async def test_hot_answers_fit_what_is_documented(self, agent: Caller) -> None:
        rows: list[Row] = [ticket_row(tags=["a"], watchers=[ObjectId()]), ticket_row(assignedTo=ObjectId())]
        old: Row = {"_id": ObjectId(), "title": "Old", "description": "Row", "__v": 0}
        await collection_of(Ticket).insert_many([*rows, old])
        answer = await agent.get("/api/tickets?limit=2")
        body: dict[str, Any] = answer.json()

        TicketList.model_validate(body)
        assert body["nextCursor"] in answer.headers["Link"]
        for row in [*rows, old]:
            TicketOut.model_validate((await agent.get(f"/api/tickets/{row['_id']}")).json())
        TicketOut.model_validate(await open_ticket(agent))
