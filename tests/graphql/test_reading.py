"""Tickets with their people and their history: who sees what of whom, and what it costs in commands."""

from typing import Any

import pytest
from bson import ObjectId

from app.accounts.actor import Actor
from app.accounts.documents import User
from app.accounts.roles import Role
from app.accounts.schemas import KNOWN_TO_ALL, user_out, user_seen_by
from app.events.log import Event
from app.platform.mongo import collection_of
from app.tickets.documents import Ticket
from tests.callers import Caller
from tests.conftest import COMMANDS
from tests.factories.accounts import add_user
from tests.factories.tickets import add_tickets, open_ticket, ticket_row
from tests.graphql.asking import data, refusal

AUTHENTICATION = ["aggregate"]
PERSON = "{ id username role name email active mfaEnabled createdAt }"
PEOPLE = "{ tickets { requester %s assignedTo %s watchers %s } }" % ((PERSON,) * 3)


@pytest.fixture
def commands() -> list[str]:
    """The names of the commands sent while the test runs."""
    return COMMANDS.names


class TestPeople:
    async def test_customers_learn_of_others_who_they_are_and_no_more(self, customer: Caller, agent: Caller) -> None:
        watcher = await add_user(name="Wanda", email="wanda@example.com", mfaEnabled=True)
        await open_ticket(
            agent,
            requester=customer.user_id,
            assignedTo=agent.user_id,
            watchers=[str(watcher["_id"]), customer.user_id],
        )

        [ticket] = (await data(customer, PEOPLE))["tickets"]

        nothing = {"email": None, "active": None, "mfaEnabled": None, "createdAt": None}
        assert ticket["assignedTo"] == {
            "id": agent.user_id, "username": "agent", "role": "Agent", "name": None, **nothing
        }  # fmt: skip
        assert ticket["watchers"][0] == {
            "id": str(watcher["_id"]), "username": watcher["username"], "role": "Customer", "name": "Wanda", **nothing
        }  # fmt: skip
        me = (await customer.get("/api/me")).json()
        assert ticket["requester"] == ticket["watchers"][1] == me

    async def test_agents_learn_all_that_rest_tells_them(self, customer: Caller, agent: Caller, admin: Caller) -> None:
        await open_ticket(agent, requester=customer.user_id, assignedTo=admin.user_id, watchers=[agent.user_id])

        for caller in (agent, admin):
            [ticket] = (await data(caller, PEOPLE))["tickets"]
            for user in (ticket["requester"], ticket["assignedTo"], *ticket["watchers"]):
                assert user == (await caller.get(f"/api/users/{user['id']}")).json()

    async def test_those_who_are_gone_are_null(self, customer: Caller, agent: Caller) -> None:
        gone, there = await add_user(), await add_user()
        row = ticket_row(
            requester=gone["_id"], assignedTo=gone["_id"], watchers=[gone["_id"], there["_id"], ObjectId()]
        )
        await add_tickets(row, ticket_row())
        await collection_of(User).delete_one({"_id": gone["_id"]})

        with_people, without = (
            await data(agent, "{ tickets { requester { id } assignedTo { id } watchers { id } } }")
        )["tickets"]

        assert with_people == {"requester": None, "assignedTo": None, "watchers": [{"id": str(there["_id"])}]}
        assert without == {"requester": None, "assignedTo": None, "watchers": []}

    async def test_customers_own_account_is_theirs(self, customer: Caller) -> None:
        assert (await data(customer, f"{{ me {PERSON} }}"))["me"] == (await customer.get("/api/me")).json()

    @pytest.mark.parametrize("role", Role)
    def test_the_rule(self, role: Role) -> None:
        user_id = ObjectId()
        row = {"_id": user_id, "username": "u", "email": "e", "name": "n", "active": True, "createdAt": None}
        myself = Actor(user_id, "u", role, ObjectId())
        other = Actor(ObjectId(), "o", role, ObjectId())

        assert user_seen_by(myself, row) == user_out(row)
        seen = user_seen_by(other, row)
        hidden = {name for name in seen if seen[name] is None and user_out(row)[name] is not None}
        assert hidden == ({"email", "active", "mfaEnabled"} if role is Role.CUSTOMER else set())
        assert seen.keys() == user_out(row).keys()
        assert seen.keys() >= KNOWN_TO_ALL


class TestHistory:
    HISTORY = """query ($id: ID!, $first: Int, $after: String) {
      ticket(id: $id) {
        history(first: $first, after: $after) { edges { cursor node { type } } pageInfo { endCursor } }
      }
    }"""

    async def test_customers_see_its_public_part(self, customer: Caller, agent: Caller) -> None:
        ticket = await open_ticket(customer)
        await agent.patch(f"/api/tickets/{ticket['id']}", json={"priority": "High"})
        await collection_of(Event).update_one({"type": "ticket.updated"}, {"$set": {"internal": True}})

        for caller, count in ((customer, 1), (agent, 2)):
            history = (await data(caller, self.HISTORY, id=ticket["id"]))["ticket"]["history"]
            assert len(history["edges"]) == count
            after = history["edges"][0]["cursor"]
            rest = (await data(caller, self.HISTORY, id=ticket["id"], after=after))["ticket"]["history"]
            assert len(rest["edges"]) == count - 1

    @pytest.mark.parametrize(
        ("given", "code"),
        [
            ({"first": 0}, "invalid_input"),
            ({"first": 101}, "invalid_input"),
            ({"after": "x"}, "invalid_cursor"),
            ({"after": ""}, "invalid_cursor"),
        ],
    )
    async def test_takes_what_rest_takes(self, agent: Caller, given: dict[str, Any], code: str) -> None:
        ticket = await open_ticket(agent)

        assert (await refusal(agent, self.HISTORY, id=ticket["id"], **given))["code"] == code

    async def test_a_cursor_of_one_ticket_is_none_of_another(self, agent: Caller) -> None:
        one, other = [await open_ticket(agent) for _ in range(2)]
        found = await data(agent, self.HISTORY, id=one["id"])
        cursor = found["ticket"]["history"]["pageInfo"]["endCursor"]

        assert (await data(agent, self.HISTORY, id=one["id"], after=cursor))["ticket"]["history"]["edges"] == []
        assert (await refusal(agent, self.HISTORY, id=other["id"], after=cursor))["code"] == "invalid_cursor"

    async def test_of_many_tickets_reads_their_index(self, agent: Caller) -> None:
        for _ in range(3):
            await open_ticket(agent)
        ids = await collection_of(Ticket).distinct("_id")
        joined = {"from": "events", "localField": "_id", "foreignField": "ticketId", "as": "events"}
        pipeline = [
            {"$match": {"_id": {"$in": ids}}},
            {"$lookup": {**joined, "pipeline": [{"$match": {}}, {"$sort": {"version": 1}}, {"$limit": 2}]}},
        ]

        explained = await collection_of(Ticket).database.command(
            "explain",
            {"aggregate": "tickets", "pipeline": pipeline, "cursor": {}},
            verbosity="executionStats",
        )

        [lookup] = [stage for stage in explained["stages"] if "$lookup" in stage]
        assert lookup["indexesUsed"] == ["history"]
        assert lookup["totalDocsExamined"] == 3


class TestCommands:
    """What an answer costs, however many tickets are in it."""

    async def prepare(self, agent: Caller) -> None:
        people = [await add_user() for _ in range(60)]
        rows = [
            ticket_row(
                requester=people[n]["_id"], assignedTo=agent.actor.id, watchers=[people[-n]["_id"], people[n]["_id"]]
            )
            for n in range(50)
        ]
        await add_tickets(*rows)
        for _ in range(10):
            await open_ticket(agent)

    async def cost(self, commands: list[str], caller: Caller, text: str, **variables: Any) -> list[str]:
        commands.clear()
        await data(caller, text, **variables)
        return list(commands)

    async def test_lists(self, commands: list[str], agent: Caller) -> None:
        await self.prepare(agent)
        nodes = "requester { username } assignedTo { username }"
        everybody = f"{nodes} watchers {{ username }}"
        history = "history(first: 5) { edges { node { id actor { username } } } }"

        for text, expected in (
            ("{ tickets { id } }", ["find"]),
            (f"{{ tickets {{ {nodes} }} }}", ["find", "find"]),
            (f"{{ tickets(limit: 60) {{ {everybody} }} }}", ["find", "find"]),
            (f"{{ ticketConnection(first: 60) {{ edges {{ node {{ {everybody} }} }} }} }}", ["find", "find"]),
            (f"{{ tickets {{ a: {nodes} b: requester {{ id }} }} }}", ["find", "find"]),
        ):
            assert await self.cost(commands, agent, text) == [*AUTHENTICATION, *expected], text
        with_history = await self.cost(commands, agent, f"{{ tickets {{ {everybody} {history} }} }}")
        assert sorted(with_history) == sorted([*AUTHENTICATION, "find", "find", "aggregate"])

    async def test_one_ticket(self, commands: list[str], agent: Caller) -> None:
        ticket = await open_ticket(agent)
        text = "query ($id: ID!) { ticket(id: $id) { requester { id } history { edges { cursor } } } }"

        assert sorted(await self.cost(commands, agent, text, id=ticket["id"])) == sorted(
            [*AUTHENTICATION, "find", "find", "aggregate"]
        )

    async def test_nothing_is_asked_for_what_is_not_wanted(self, commands: list[str], agent: Caller) -> None:
        assert await self.cost(commands, agent, "{ __typename __schema { queryType { name } } }") == AUTHENTICATION
        assert await self.cost(commands, agent, "{ me { id } }") == [*AUTHENTICATION, "find"]
        await add_tickets(ticket_row())
        assert await self.cost(commands, agent, PEOPLE) == [*AUTHENTICATION, "find"]

    async def test_changes(self, commands: list[str], agent: Caller) -> None:
        create = 'mutation { createTicket(ticketInput: {title: "T", description: "D"}) { id requester { id } } }'
        inserts = ["insert", "insert", "commitTransaction"]

        assert await self.cost(commands, agent, create) == [*AUTHENTICATION, "findAndModify", *inserts, "find"]

    async def test_passwords_are_not_even_read(self, agent: Caller) -> None:
        await open_ticket(agent)
        profile = collection_of(User).database
        await profile.command("profile", 2)
        try:
            await data(agent, PEOPLE)
        finally:
            await profile.command("profile", 0)
        reads = await profile["system.profile"].find({"ns": f"{profile.name}.users", "op": "query"}).to_list()
        await profile.drop_collection("system.profile")

        assert reads
        assert all("password" not in read["command"]["projection"] for read in reads)


async def test_the_event_cursor_is_where_following_begins(agent: Caller) -> None:
    await open_ticket(agent)
    cursor = (await data(agent, "{ eventCursor }"))["eventCursor"]
    ticket = await open_ticket(agent)

    news = (await agent.get("/api/events", params={"since": cursor})).json()["items"]
    assert [event["ticketId"] for event in news] == [ticket["id"]]
